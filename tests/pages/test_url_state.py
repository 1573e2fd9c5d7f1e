"""When a page follows its URL: links and the back button, but not a URL that is late."""

import math

from pages._url_state import LATE_S, Memory, Reading, read, remember

EMPTY, A, AB = {}, {"margin": ["1.5"]}, {"margin": ["1.5"], "model": ["base"]}


def step(url, last, now, written, *, entered=False, changed=False):
    reading = read(url, last, now, entered=entered, changed=changed)
    return reading, remember(reading, written, last, now)


def test_a_first_link_is_followed():
    reading, memory = step(A, Memory(), 0.0, A, entered=True)
    assert reading == Reading(A, True)
    assert memory == Memory(A, 0.0, (EMPTY,))


def test_coming_back_by_the_navigation_shows_the_page_as_it_was_left():
    last = Memory(A, 0.0)
    assert read(EMPTY, last, 9.0, entered=True, changed=False) == Reading(A, True)
    # A link to it wins.
    assert read(AB, last, 9.0, entered=True, changed=False) == Reading(AB, True)


def test_what_the_page_wrote_itself_is_no_link():
    assert not read(A, Memory(A, 0.0), 9.0, entered=False, changed=True).follow


def test_a_new_url_is_a_link_even_when_a_widget_changed_at_once():
    assert read(AB, Memory(A, 0.0), 0.1, entered=False, changed=True).follow


def test_an_earlier_url_with_a_changed_widget_is_late():
    last = Memory(A, 0.0, (EMPTY,))
    assert not read(EMPTY, last, 60.0, entered=False, changed=True).follow


def test_an_earlier_url_without_a_changed_widget_is_late_at_first_and_back_afterwards():
    last = Memory(A, 10.0, (EMPTY,))
    for seconds, follow in ((0.0, False), (LATE_S - 0.01, False), (LATE_S, True), (60.0, True)):
        assert read(EMPTY, last, 10.0 + seconds, entered=False, changed=False).follow is follow


def test_toggle_before_the_browser_has_the_url_of_the_choice_before_it():
    _, memory = step(EMPTY, Memory(), 0.0, EMPTY, entered=True)
    _, memory = step(EMPTY, memory, 1.0, A, changed=True)
    # The browser still shows the URL without the margin.
    reading, memory = step(EMPTY, memory, 1.2, AB, changed=True)
    assert not reading.follow
    # It has caught up by one, and a button without a value is pressed.
    reading, memory = step(A, memory, 1.4, AB)
    assert not reading.follow and memory.written == AB
    # Back, a while later; and forward again.
    reading, memory = step(A, memory, 10.0, A)
    assert reading == Reading(A, True)
    assert read(AB, memory, 20.0, entered=False, changed=False).follow


def test_an_invalid_link_that_was_corrected_is_an_earlier_url():
    bad = {"margin": ["nope"]}
    _, memory = step(bad, Memory(), 0.0, EMPTY, entered=True)
    assert bad in memory.earlier
    assert memory.written_at == -math.inf  # nothing was written
    assert not read(bad, memory, 9.0, entered=False, changed=True).follow


def test_memory_is_bounded():
    memory = Memory()
    for number in range(50):
        url = {"page": [str(number)]}
        _, memory = step(url, memory, float(number), url)
    assert len(memory.earlier) == 8 and memory.earlier[-1] == {"page": ["48"]}
