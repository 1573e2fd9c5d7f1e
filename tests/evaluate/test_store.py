import json
import os
import threading
from pathlib import Path

import pytest

from tests.support.sample_runs import accuracy_run, speed_run
from whisperq_core import file_storage
from whisperq_core.derived_values import FILE_NAME
from whisperq_core.errors import StoreError
from whisperq_core.evaluate.records import SCHEMA_VERSION
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import PROJECT, SHIPPED_CACHE

RUN = accuracy_run("quanto-int8", minutes=2)
LATER = speed_run("quanto-int8", [2.0, 3.0], [4.0, 5.0], minutes=3)
EARLIER = accuracy_run("fp32", minutes=1)


@pytest.fixture
def filled(store) -> Store:
    for run in (RUN, LATER, EARLIER):
        store.put(run)
    return store


def test_an_empty_store_has_nothing(store):
    assert (store.runs(), store.keys(), store.get(RUN.key)) == ([], set(), None)
    assert (store.piece(RUN.key, "batch-0000"), store.count_pieces(RUN.key, "batch-")) == (None, 0)
    assert store.unreadable == {}
    assert not store.root.exists()


def test_what_is_put_is_got(filled):
    assert filled.keys() == {RUN.key, LATER.key, EARLIER.key}
    assert filled.runs() == [EARLIER, RUN, LATER]
    for run in (RUN, LATER, EARLIER):
        assert filled.get(run.key) == run
        assert (filled.results / f"{run.slug}.json").is_file()
    assert filled.get("0" * 16) is None
    assert filled.unreadable == {}


def test_another_store_on_the_same_folder_sees_the_same(filled):
    assert Store(filled.root).runs() == filled.runs()
    assert Store(str(filled.root)).get(RUN.key) == RUN


def test_putting_again_replaces_and_is_read_again(filled):
    assert filled.get(RUN.key) == RUN
    again = RUN.model_copy(update={"quantize_s": 99.0})
    filled.put(again)
    assert again.key == RUN.key
    assert filled.get(RUN.key).quantize_s == 99.0
    assert len(filled.runs()) == 3


def test_nothing_but_results_and_their_summaries_is_left_behind(filled):
    files = {p.name for p in filled.root.rglob("*") if p.is_file()}
    assert files == {FILE_NAME} | {f"{run.slug}.json" for run in (RUN, LATER, EARLIER)}


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def overwritten(path: Path) -> None:
    path.write_bytes(os.urandom(500))


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def newer(path: Path) -> None:
    path.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))


def falsified(path: Path) -> None:
    content = json.loads(path.read_text())
    content["spec"]["threads"] += 1
    path.write_text(json.dumps(content))


def swapped(path: Path) -> None:
    path.write_text(LATER.model_dump_json())


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize(
    "damage",
    [emptied, truncated, overwritten, zeroed, newer, falsified, swapped, made_a_folder],
)
@pytest.mark.parametrize("read_before", [False, True])
def test_a_damaged_file_is_reported_and_does_no_harm(filled, damage, read_before):
    if read_before:
        assert filled.get(RUN.key) == RUN
    path = filled.results / f"{RUN.slug}.json"
    damage(path)
    assert filled.get(RUN.key) is None
    assert filled.runs() == [EARLIER, LATER]
    assert list(filled.unreadable) == [path.name]
    assert len(filled.unreadable[path.name]) > 10


@pytest.mark.parametrize("damage", [emptied, truncated, overwritten, newer, falsified])
def test_a_damaged_file_is_healed_by_putting_again(filled, damage):
    damage(filled.results / f"{RUN.slug}.json")
    assert filled.runs() == [EARLIER, LATER]
    filled.put(RUN)
    assert filled.runs() == [EARLIER, RUN, LATER]
    assert filled.unreadable == {}


def test_a_newer_record_says_so(filled):
    path = filled.results / f"{RUN.slug}.json"
    newer(path)
    filled.runs()
    assert "Update WhisperQ" in filled.unreadable[path.name]


@pytest.mark.parametrize(
    "name", ["notes.json", f"x_{'0' * 16}.json", f"{EARLIER.slug}.json", f"{RUN.slug} (1).json"]
)
def test_a_renamed_file_is_reported_and_not_found(store, name):
    store.put(RUN)
    path = store.results / f"{RUN.slug}.json"
    renamed = path.rename(path.with_name(name))
    assert store.runs() == []
    assert "altered" in store.unreadable[renamed.name]
    assert store.get(RUN.key) is None
    assert store.get(EARLIER.key) is None
    assert store.keys().isdisjoint({RUN.key})


def test_a_readable_name_may_change_as_long_as_the_key_stays(store):
    store.put(RUN)
    path = store.results / f"{RUN.slug}.json"
    path.rename(path.with_name(f"mine_{RUN.key}.json"))
    assert store.get(RUN.key) == RUN
    assert store.runs() == [RUN]


def test_alien_files_are_reported_and_others_not_looked_at(filled):
    alien = filled.results / "package.json"
    alien.write_text('{"name": "not-ours"}')
    (filled.results / "README.md").write_text("# Results")
    (filled.results / f".{RUN.slug}.json.0123abcd.tmp").write_text("{")
    assert len(filled.runs()) == 3
    assert list(filled.unreadable) == [alien.name]
    assert filled.keys() == {RUN.key, LATER.key, EARLIER.key}


def test_reports_end_with_their_cause(filled):
    alien = filled.results / "package.json"
    alien.write_text("{}")
    filled.runs()
    alien.unlink()
    filled.runs()
    assert filled.unreadable == {}


def test_pieces_are_kept_counted_and_removed_with_the_run(store):
    for i in range(3):
        store.put_piece(RUN.key, f"batch-{i:04d}", {"hypotheses": ["für dich"], "n": i})
    store.put_piece(RUN.key, "model", {"modules": ["proj_out"]})
    store.put_piece(LATER.key, "pass-0-fp32", {})
    assert store.piece(RUN.key, "batch-0001") == {"hypotheses": ["für dich"], "n": 1}
    assert store.count_pieces(RUN.key, "batch-") == 3
    assert store.count_pieces(RUN.key, "pass-") == 0
    assert store.runs() == []
    store.put(RUN)
    assert store.piece(RUN.key, "batch-0001") is None
    assert store.count_pieces(RUN.key, "") == 0
    assert store.count_pieces(LATER.key, "") == 1
    assert [p.name for p in (store.root / "pieces").iterdir()] == [LATER.key]


@pytest.mark.parametrize("damage", [emptied, truncated, overwritten, zeroed, made_a_folder, nested])
def test_a_damaged_piece_counts_as_none_and_is_made_again(store, damage):
    store.put_piece(RUN.key, "batch-0000", {"hypotheses": ["a", "b"]})
    damage(store.root / "pieces" / RUN.key / "batch-0000.json")
    assert store.piece(RUN.key, "batch-0000") is None
    if damage is not made_a_folder:
        store.put_piece(RUN.key, "batch-0000", {"hypotheses": ["a", "b"]})
        assert store.piece(RUN.key, "batch-0000") == {"hypotheses": ["a", "b"]}


@pytest.mark.parametrize("alien", ["null", "[]", "3", '"text"'])
def test_a_piece_that_is_no_object_counts_as_none(store, alien):
    store.put_piece(RUN.key, "model", {})
    (store.root / "pieces" / RUN.key / "model.json").write_text(alien)
    assert store.piece(RUN.key, "model") is None


def test_a_piece_that_is_not_json_leaves_nothing(store):
    with pytest.raises(TypeError):
        store.put_piece(RUN.key, "model", {"modules": object()})
    assert store.piece(RUN.key, "model") is None
    assert not store.root.exists()


def test_a_reader_never_sees_half_a_file(store):
    long = [("a cat sat down", f"a cat sat {i}") for i in range(300)]
    versions = [accuracy_run("fp32", long[: 300 - 250 * (i % 2)], minutes=i) for i in range(2)]
    store.put(versions[0])
    assert len({version.key for version in versions}) == 1
    stop, failures = threading.Event(), []

    def write():
        writer, i = Store(store.root), 0
        try:
            while not stop.is_set():
                i += 1
                writer.put_piece("0" * 16, "model", {"texts": ["so"] * (20_000 * (i % 2))})
                writer.put(versions[i % 2])
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        for _ in range(400):
            run = Store(store.root).get(versions[0].key)
            assert run in versions
            seen.add(run.created_at)
            assert len(store.piece("0" * 16, "model") or {"texts": []}) == 1
            assert len(store.runs()) == 1
            assert store.unreadable == {}
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(seen) == 2, "the writer never got a turn, so nothing was tested"


@pytest.mark.parametrize("below", ["", "cache", "cache/deeper"])
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path, below):
    # A file in the way stops even root, which no permission does.
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    store = Store(blocker / below)
    writes = (lambda: store.put(RUN), lambda: store.put_piece(RUN.key, "model", {}))
    for write in writes:
        with pytest.raises(StoreError, match=r"could not be written.*WHISPERQ_CACHE") as refusal:
            write()
        assert str(blocker) in str(refusal.value)
    assert (store.keys(), store.runs(), store.get(RUN.key)) == (set(), [], None)
    assert store.piece(RUN.key, "model") is None
    assert blocker.read_text() == "in the way"


def test_a_failed_write_leaves_no_temporary_file_and_no_loss_of_pieces(store):
    store.put_piece(RUN.key, "model", {})
    path = store.results / f"{RUN.slug}.json"
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="could not be written"):
        store.put(RUN)
    assert list(store.results.iterdir()) == [path]
    assert store.piece(RUN.key, "model") == {}


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WHISPERQ_CACHE", str(tmp_path / "elsewhere"))
    assert Store().root == tmp_path / "elsewhere"
    assert Store(tmp_path).root == tmp_path
    for unset in ("", None):
        monkeypatch.delenv("WHISPERQ_CACHE") if unset is None else monkeypatch.setenv(
            "WHISPERQ_CACHE", unset
        )
        assert Store().root == SHIPPED_CACHE == PROJECT / "cache"


def test_a_result_whose_contents_were_altered_is_measured_again(store):
    """Valid JSON, of the right key, but not what was written."""
    store.put(RUN)
    path = store.results / f"{RUN.slug}.json"
    text = path.read_text()
    said = RUN.utterances[0].hypothesis
    path.write_text(text.replace(json.dumps(said), json.dumps(f"{said} and more"), 1))
    assert path.read_text() != text
    fresh = Store(store.root)
    assert fresh.get(RUN.key) is None and fresh.runs() == []
    assert "altered" in fresh.unreadable[path.name]


def test_a_piece_whose_contents_were_altered_is_made_again(store):
    store.put_piece(RUN.key, "batch-0000", {"hypotheses": ["a cat", "b"]})
    (path,) = (store.root / "pieces" / RUN.key).glob("*.json")
    path.write_text(path.read_text().replace("a cat", "a dog"))
    assert store.piece(RUN.key, "batch-0000") is None


def test_a_pipe_and_a_file_without_end_among_the_results_keep_nobody_waiting(store, monkeypatch):
    store.put(RUN)
    os.mkfifo(store.results / "base_pipe_0123456789abcdef.json")
    (store.results / "base_folder_0123456789abcdef.json").mkdir()
    with (store.results / "base_huge_0123456789abcdef.json").open("wb") as file:
        file.truncate(file_storage.MAX_BYTES + 1)
    assert store.runs() == [RUN] and len(store.unreadable) == 3
    assert "not a file" in store.unreadable["base_pipe_0123456789abcdef.json"]
    assert store.get("0123456789abcdef") is None


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_is_not(store):
    store.put(RUN)
    old, new = (store.results / f".{n}.json.0123abcd.tmp" for n in ("old", "new"))
    for path in (old, new):
        path.write_text("{")
    os.utime(old, (0, 0))
    store.put(LATER)
    assert not old.exists() and new.exists()
