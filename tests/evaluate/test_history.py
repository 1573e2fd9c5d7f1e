"""The history: an entry for whatever ends, however it ends."""

import os
import warnings
from datetime import timedelta

import pytest

from tests.support.sample_runs import accuracy_run
from whisperq_core.cli.main import main
from whisperq_core.errors import Cancelled, RecipeUnsupported
from whisperq_core.evaluate import history
from whisperq_core.evaluate.requests import Request, work_item
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.quantize.recipes import recipe

# Most of these tests load real weights.
pytestmark = pytest.mark.model


WORK = history.WorkItem(kind="evaluation", model="base", recipe="fp32", eval_set="quick-look")


def recorded(store, error: BaseException | None = None, who: str | None = None) -> history.Entry:
    try:
        with history.record(store.root, WORK, who) as note:
            note.key = "ab" * 8
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    return history.read(store.root).entries[0]


def test_what_ends_well_is_remembered_with_who_when_and_how_long(store):
    entry = recorded(store, who="ada@example.org")
    assert (entry.who, entry.outcome, entry.work) == ("ada@example.org", history.DONE, WORK)
    assert entry.key == "ab" * 8 and 0 <= entry.took_s < 5 and entry.machine.cores >= 1
    assert recorded(store).who == history.current_user() != ""


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        (RecipeUnsupported("It has no kernels."), history.FAILED, "It has no kernels."),
        (Cancelled("It was stopped."), history.STOPPED, "Finished pieces are kept."),
        (KeyboardInterrupt(), history.STOPPED, "Finished pieces are kept."),
        (ZeroDivisionError("secret path"), history.FAILED, "(ZeroDivisionError)"),
    ],
)
def test_what_fails_or_is_stopped_is_remembered_and_raised(store, error, outcome, said):
    entry = recorded(store, error)
    assert entry.outcome == outcome and said in entry.message
    assert "secret" not in entry.message


def test_entries_are_newest_first_and_none_is_ever_replaced(store):
    first = recorded(store)
    again = first.model_copy(update={"started_at": first.started_at + timedelta(hours=1)})
    history.write_entry(store.root, again)
    log = history.read(store.root)
    assert [e.started_at for e in log.entries] == [again.started_at, first.started_at]
    assert len(list((store.root / history.FOLDER).glob("*.json"))) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', "[" * 5000])
def test_what_cannot_be_read_is_named_and_skipped(store, text):
    entry = recorded(store)
    (store.root / history.FOLDER / "20260101_x.json").write_text(text)
    log = history.read(store.root)
    assert log.entries == (entry,)
    assert [path.name for path in log.unreadable] == ["20260101_x.json"]
    assert "20260101_x.json" in history.as_text(log)


@pytest.mark.skipif(os.name != "posix", reason="a file in the folder's place")
def test_a_history_that_cannot_be_written_never_costs_the_work(store):
    store.root.mkdir(parents=True)
    (store.root / history.FOLDER).write_text("in the way")
    with warnings.catch_warnings(record=True) as said, history.record(store.root, WORK) as note:
        note.key = "cd" * 8
        warnings.simplefilter("always")
    assert "could not be added" in str(said[0].message)


def test_results_without_an_entry_are_told_apart(store):
    mine, shipped = accuracy_run("fp32"), accuracy_run("bf16")
    with history.record(store.root, WORK) as note:
        note.key = mine.key
    entries = history.read(store.root).entries
    assert history.runs_without_entry([mine, shipped], entries) == [shipped]


def test_the_command_line_remembers_its_runs_and_tells_them(store, capsys):
    assert main(["history"]) == 0
    assert "Start with: python -m whisperq_core run" in capsys.readouterr().out
    run = ["run", "--models", "tiny.en", "--recipes", "torch-int8", "--only", "accuracy"]
    assert main([*run, "--sets", "jfk"]) == main([*run, "--sets", "jfk"]) == 0
    (entry,) = history.read(store.root).entries  # what is cached is not run, and has no entry
    request = Request("tiny.en", recipe("torch-int8"), "jfk")
    assert entry.work == work_item(request)
    assert entry.key == resolve(request).key and store.get(entry.key)
    capsys.readouterr()
    assert main(["history"]) == 0
    assert f"tiny.en · torch-int8 · jfk · accuracy  {entry.key}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")]
)
def test_durations_are_said_as_one_would(seconds, said):
    assert history.format_duration(seconds) == said
