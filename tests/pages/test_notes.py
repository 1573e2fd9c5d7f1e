"""Notes on the page Utterances: written, changed, taken back, filtered, and shown as text."""

import pytest

from tests.support.opened_pages import again, by_label, changed, everything, opened
from tests.support.sample_runs import accuracy_run
from whisperq_core.evaluate.notes import Note

TEXTS = [("a cat sat down", "a cat sat up"), ("yes", "yes")]
RUN = accuracy_run("bf16", TEXTS)
HOSTILE = "<img src=x onerror=alert(1)> [x](https://evil.example) www.evil.example\n# big"


@pytest.fixture
def page(store):
    store.put(RUN)
    return opened("utterances", run=RUN.key)


def key(utterance: str | None) -> str:
    return f"note-{RUN.key}-{utterance}"


def write(page, utterance: str | None, star: bool, comment: str):
    page.toggle(f"{key(utterance)}-star").set_value(star)
    page.text_area(f"{key(utterance)}-comment").set_value(comment)
    page.button(f"{key(utterance)}-save").click()
    return again(page)


def test_an_utterance_and_the_run_are_starred_and_commented(page, store):
    write(page, "utterance-0", True, "a preposition")
    write(page, None, False, "noisy room")
    saved = {note.utterance: note for note in store.notes()}
    assert saved["utterance-0"].starred and saved["utterance-0"].comment == "a preposition"
    assert saved[None].comment == "noisy room" and saved[None].run == RUN.key
    shown = everything(page)
    assert ":material/star: a preposition" in shown and "noisy room" in shown
    again_later = everything(opened("utterances", run=RUN.key))
    assert "a preposition" in again_later
    write(page, None, False, "")
    assert [note.utterance for note in store.notes()] == ["utterance-0"]


def test_only_utterances_with_notes_are_listed(page, store):
    store.add_note(Note(run=RUN.key, utterance="utterance-1", starred=True), RUN)
    page = again(page)
    page = changed(by_label(page.toggle, "With notes"), True)
    shown = everything(page)
    assert "**utterance\\-1**" in shown and "**utterance\\-0**" not in shown


def test_a_note_is_text(page, store):
    store.add_note(Note(run=RUN.key, comment=HOSTILE, author=f"{HOSTILE}@x"), RUN)
    shown = everything(again(page))
    assert "\\<img" in shown and "<img" not in shown.replace("\\<img", "")
    assert "](https" not in shown and "\n# big" not in shown
