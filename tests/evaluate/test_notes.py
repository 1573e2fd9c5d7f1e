"""Readers' notes: append-only files next to the results, of which each author's newest counts."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from tests.support.sample_runs import accuracy_run
from whisperq_core.errors import InputError
from whisperq_core.evaluate import notes as notes_module
from whisperq_core.evaluate.merging import merge
from whisperq_core.evaluate.notes import MAX_CHARACTERS, Note
from whisperq_core.evaluate.store import Store, UserStore

RUN = accuracy_run("bf16", eval_set="calls")
OTHER = accuracy_run("fp32", eval_set="calls")
PUBLIC = accuracy_run("bf16", eval_set="test-other-excerpt")


def note(comment="", author="ann", run=RUN, **fields) -> Note:
    return Note(run=run.key, comment=comment, author=author, **fields)


@pytest.fixture
def theirs(tmp_path) -> Store:
    return Store(tmp_path / "theirs")


def test_the_newest_note_of_each_author_on_each_target_counts(store):
    of_utterance = {"utterance": "utterance-0"}
    store.add_note(note("draft", **of_utterance), RUN)
    store.add_note(note("hears “five”"), RUN)
    store.add_note(note("fine", "ben", **of_utterance), RUN)
    store.add_note(note("a loop", starred=True, **of_utterance), RUN)
    store.add_note(note("noisy"), RUN)
    assert [(n.author, n.utterance, n.comment) for n in store.notes()] == [
        ("ben", "utterance-0", "fine"),
        ("ann", "utterance-0", "a loop"),
        ("ann", None, "noisy"),
    ]
    assert len(store.every_note()) == 5
    assert Store(store.root).notes() == store.notes()
    store.add_note(note(), RUN)
    assert [n.utterance for n in store.notes()] == ["utterance-0"] * 2


def test_a_clock_that_is_set_back_loses_no_note(store):
    future = datetime.now(UTC) + timedelta(days=30)
    store.add_note(note("early", at=future), RUN)
    store.add_note(note("late"), RUN)
    [kept] = store.notes()
    assert kept.comment == "late" and kept.at > future


def test_readers_who_write_at_once_lose_nothing(store):
    def write(author):
        for number in range(10):
            Store(store.root).add_note(note(f"{number}", author), RUN)

    writers = [threading.Thread(target=write, args=(a,)) for a in ("ann", "ben", "cleo")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.every_note()) == 30
    assert [n.comment for n in store.notes()] == ["9"] * 3


def test_damaged_and_foreign_files_are_left_out(store):
    store.add_note(note("fine"), RUN)
    [path] = (store.root / "notes").iterdir()
    content = json.loads(path.read_text())
    for number, change in enumerate(
        ({"schema_version": 2}, {"run": "../../x"}, {"comment": "x" * 9999}, {"colour": "red"})
    ):
        name = path.name.replace("_", f"{number}_")
        path.with_name(name).write_text(json.dumps(content | change))
    path.with_name("20260101T000000_0123456789ab.json").write_text("{")
    path.with_name("package.json").write_text("{}")
    assert [n.comment for n in Store(store.root).notes()] == ["fine"]


def test_limits(store, monkeypatch):
    with pytest.raises(ValidationError):
        note("x" * (MAX_CHARACTERS + 1))
    store.add_note(note("\U0001f3a4" * MAX_CHARACTERS), RUN)
    assert len(store.notes()) == 1
    monkeypatch.setattr(notes_module, "MAX_NOTES", 1)
    with pytest.raises(InputError, match=r"1 notes in .*, which is the most"):
        store.add_note(note("one more"), RUN)


def test_an_address_is_not_shown_to_others():
    assert note(author="ann@example.org").signature == "ann"


def test_notes_on_a_users_own_speech_are_theirs_and_on_public_speech_everybodys(store):
    ann, ben = (UserStore(store, user, lambda name: name != "calls") for user in ("ann", "ben"))
    ann.add_note(note("mine"), RUN)
    ann.add_note(note("for all", run=PUBLIC), PUBLIC)
    assert [n.comment for n in ann.notes()] == ["mine", "for all"]
    assert [n.comment for n in ben.notes()] == [n.comment for n in store.notes()] == ["for all"]


def test_notes_travel_with_results(store, theirs):
    for one in (RUN, OTHER):
        theirs.put(one)
    store.put(OTHER)
    theirs.add_note(note("<script>alert(1)</script>", "ben", starred=True), RUN)
    theirs.add_note(note("of another result", "ben", run=PUBLIC), PUBLIC)
    store.add_note(note("ours", run=OTHER), OTHER)
    report = merge(str(theirs.root), store)
    assert (len(report.added), report.known, report.notes) == (1, 1, 1)
    assert {n.comment for n in store.notes()} == {"ours", "<script>alert(1)</script>"}
    [reason] = report.refused.values()
    assert PUBLIC.key in reason
    again = merge(str(theirs.root), store)
    assert (again.notes, again.refused) == (0, report.refused)
    assert len(store.every_note()) == 2
