"""The three people of WhisperQ, each from start to end, in headless Chromium on real speech."""

import re
import zipfile

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.accessibility import violations
from tests.support.served_app import LOADED_MS, WORK_MS, open_page, wait_until_drawn
from tests.support.shipped_runs import runs_of
from whisperq_core.evaluate import history
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets

pytestmark = pytest.mark.browser


def multiselect(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMultiSelect").filter(has=page.get_by_text(label, exact=True))


def test_an_engineer_goes_from_the_front_to_the_words_and_shares_the_view(page, app, browser):
    # The front, a point of it, and the utterances behind the point.
    open_page(page, "Trade-offs")
    wait_until_drawn(page)
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    spot = plot.locator(".scatterlayer .point").first.bounding_box()
    page.mouse.click(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    expect(page.get_by_text("have errors")).to_be_visible(timeout=LOADED_MS)
    page.wait_for_url(re.compile("run="), timeout=LOADED_MS)
    wait_until_drawn(page)
    # The same link in a browser that was never here.
    other = browser.new_page(viewport={"width": 1440, "height": 1000})
    other.goto(page.url)
    wait_until_drawn(other)
    facts = page.get_by_text("have errors").inner_text()
    expect(other.get_by_text("have errors")).to_have_text(facts, timeout=LOADED_MS)
    wrong = page.url.replace("run=", "run=%3Cscript%3E")
    other.goto(wrong)
    expect(other.get_by_text("The link contains values that are not available here")).to_be_visible(
        timeout=LOADED_MS
    )
    other.close()
    # How it differs from fp32, and what the advisor makes of the needs.
    chosen = runs_of("base")["torch-int8"]
    page.goto(f"{app.address}/utterances?run={chosen.key}")
    wait_until_drawn(page)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Compare with fp32").click()
    heading = opened.value.get_by_role("heading", name="Where they differ")
    expect(heading).to_be_visible(timeout=LOADED_MS)
    opened.value.close()
    open_page(page, "Advisor")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("base", timeout=LOADED_MS)


@pytest.mark.timeout(1500)  # a slow and busy CPU takes six minutes to transcribe alone
def test_a_colleague_compares_recordings_and_makes_a_set_of_them(page, app, browser, jfk, tmp_path):
    page.goto(
        f"{app.address}/recordings?model=tiny.en&recipes=whole-int8-dynamic&recipes=whole-int8"
    )
    wait_until_drawn(page)
    differing = an_utterance_that_differs()
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam")
    page.locator("input[type=file]").first.set_input_files(
        [str(jfk.audio), str(differing.audio), str(tmp_path / "letter.wav")]
    )
    # The file that is no sound is one sentence; the others are there.
    expect(page.get_by_role("alert").first).to_contain_text("letter.wav", timeout=LOADED_MS)
    for name in (jfk.audio.name, differing.audio.name):
        expect(page.get_by_role("heading", name=name)).to_be_visible(timeout=LOADED_MS)
    # Another browser does not list them.
    stranger = browser.new_context().new_page()
    stranger.goto(f"{app.address}/recordings")
    wait_until_drawn(stranger, timeout_ms=120_000)
    expect(stranger.get_by_text("No recordings yet")).to_be_visible(timeout=LOADED_MS)
    stranger.context.close()
    recipes = multiselect(page, "Recipes to compare with fp32")
    for _ in range(3):  # what is typed may go where the page is drawn again
        if recipes.get_by_text("quanto-int4").count():
            break
        recipes.get_by_role("combobox").fill("quanto-int4")
        page.get_by_role("option", name=re.compile(r"^quanto-int4 · \d+ MB$")).click()
        wait_until_drawn(page)
        page.wait_for_timeout(2000)
    expect(recipes.get_by_text("quanto-int4").first).to_be_visible()
    page.get_by_text("Upload or record speech").click(force=True)  # closes the list
    page.get_by_role("button", name="Transcribe", exact=True).click()
    sheets = page.get_by_role("table", name="Transcripts side by side")
    for place in (0, 1):
        headings = sheets.nth(place).get_by_role("columnheader").filter(has_text="RTF")
        expect(headings).to_have_count(4, timeout=WORK_MS)
    # The divergences come after the transcripts; until then the page is drawn again and again.
    running = page.get_by_test_id("stSidebar").get_by_test_id("stProgress")
    expect(running).to_have_count(0, timeout=WORK_MS)
    spoken = re.compile("fellow americans.*fellow americans", re.I | re.S)
    expect(sheets.filter(has_text=spoken)).to_have_count(1, timeout=LOADED_MS)
    # A click on a word plays the recording from there.
    sheet = sheets.filter(has_text=spoken)
    sheet.locator(".word", has_text="country").first.click()
    expect(sheet.locator(".word.now").first).to_be_visible(timeout=LOADED_MS)
    at = page.evaluate(
        "() => Math.max(...[...document.querySelectorAll('audio')].map(a => a.currentTime))"
    )
    assert 4 < at < 9  # he says it at about 5.8 s
    # What is typed is scored at once, and a reload loses nothing.
    for utterance in (jfk, differing):
        type_reference(page, utterance)
    expect(page.get_by_text("WER", exact=False).first).to_be_visible(timeout=LOADED_MS)
    page.reload()
    wait_until_drawn(page)
    expect(sheets).to_have_count(2, timeout=LOADED_MS)
    assert {kept.reference != "" for kept in RecordingStore(app.cache).all()} == {True}
    assert violations(page) == []
    # A set of the two, run, judged, taken away, deleted.
    for utterance in (jfk, differing):
        add_to_set(page, utterance.audio.name, "calls")
    open_page(page, "My speech")
    expect(page.get_by_text("2 recordings", exact=True).first).to_be_visible(timeout=LOADED_MS)
    page.get_by_role("button", name="Evaluate on this set").click()
    expect(page.get_by_role("heading", name="Run evaluations", level=1)).to_be_visible()
    recipes = multiselect(page, "Recipes")
    recipes.get_by_role("combobox").fill("quanto-int4")
    page.get_by_role("option", name="quanto-int4", exact=True).click()
    wait_until_drawn(page)
    page.get_by_text("Choose models, recipes and evaluation sets").click(
        force=True
    )  # closes the list
    page.get_by_text("Measure speed relative to fp32").click()
    wait_until_drawn(page)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("finished").first).to_be_visible(timeout=LOADED_MS)
    open_page(page, "My speech")  # it goes on
    blind = page.get_by_role("button", name="No difference")
    while_running(page, blind)
    assert violations(page) == []
    blind.click()
    expect(page.get_by_text("Votes", exact=True)).to_be_visible(timeout=LOADED_MS)
    (vote, *_) = UserSets(app.cache).votes("calls")
    assert vote.chosen == "same"
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    with zipfile.ZipFile(download.value.path()) as packed:
        assert "calls/manifest.jsonl" in packed.namelist()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the set").click()
    expect(page.get_by_text("No set yet")).to_be_visible(timeout=LOADED_MS)
    assert UserSets(app.cache).names() == []
    # What was run is in the history, with how long it took.
    open_page(page, "History")
    wait_until_drawn(page)
    assert len(history.read(app.cache).entries) >= 2


def test_a_stakeholder_is_shown_what_to_choose_and_why(page, app):
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Presentation").click()
    expect(page.get_by_text("Which Whisper should we run")).to_be_visible(timeout=LOADED_MS)
    seen = []
    for _ in range(5):
        wait_until_drawn(page)
        seen.append(page.get_by_test_id("stMain").inner_text())
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)
    assert len(set(seen)) == 5 and "screen=5" in page.url
    assert any("WER" in text for text in seen)
    page.goto(f"{app.address}/report")
    wait_until_drawn(page)
    with page.expect_download(timeout=LOADED_MS) as download:
        page.get_by_role("button", name="Download HTML").click()
    assert "WhisperQ" in download.value.path().read_text("utf-8")


def an_utterance_that_differs() -> evaluation_sets.Utterance:
    """The shortest one whose transcripts by fp32 and quanto-int4 differ."""
    transcripts = {
        name: {u.id: u.hypothesis for u in run.utterances}
        for name, run in runs_of("tiny.en").items()
    }
    utterances = evaluation_sets.shipped_sets()["test-other-excerpt"].utterances
    first, second = transcripts["fp32"], transcripts["quanto-int4"]
    return min((u for u in utterances if first[u.id] != second[u.id]), key=lambda u: u.duration_s)


def type_reference(page: Page, utterance: evaluation_sets.Utterance) -> None:
    box = panel_of(page, utterance.audio.name).get_by_label("Reference", exact=True)
    box.fill(utterance.reference)
    box.press("Control+Enter")
    wait_until_drawn(page)


def panel_of(page: Page, name: str) -> Locator:
    """The innermost bordered container with that recording."""
    heading = page.get_by_role("heading", name=name)
    return (
        page.get_by_test_id("stVerticalBlock")
        .filter(has=heading)
        .filter(has=page.locator("audio"))
        .last
    )


def add_to_set(page: Page, recording: str, name: str) -> None:
    """Through the popover, which stays open while the page is drawn again as jobs end."""
    panel_of(page, recording).get_by_role("button", name="Add to a set").click()
    body = page.get_by_test_id("stPopoverBody")
    new = body.get_by_role("textbox", name="Name of the new evaluation set")
    submit = body.get_by_role("button", name="Add", exact=True)
    expect(submit).to_be_visible(timeout=LOADED_MS)  # the popover is empty at first
    if new.count():  # afterwards the first set is the one that is offered
        new.fill(name)
    submit.click()
    sentence = page.get_by_text(f"{recording} is in {name}", exact=False)
    expect(sentence).to_be_visible(timeout=LOADED_MS)
    page.keyboard.press("Escape")


def while_running(page: Page, wanted: Locator) -> None:
    """Reloads until the work's result is there."""
    for _ in range(WORK_MS // 5000):
        if wanted.count():
            return
        page.wait_for_timeout(5000)
        page.reload()
        wait_until_drawn(page)
    raise TimeoutError("The evaluation did not come to its end.")
