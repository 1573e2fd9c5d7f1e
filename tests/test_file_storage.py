"""Results at a URL: fsspec's own memory, and its local files as a place where files grow."""

import pickle

import pytest

from tests.support.sample_runs import accuracy_run
from whisperq_core.cli.main import main
from whisperq_core.errors import StoreError
from whisperq_core.evaluate.store import Store
from whisperq_core.file_storage import open_folder

RUN = accuracy_run("fp32")


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    return f"{request.param}://{tmp_path}/far"


def test_results_and_pieces_come_back_from_a_url(url, tmp_path):
    store = Store(tmp_path / "cache", url)
    assert (store.keys(), store.runs(), store.get(RUN.key)) == (set(), [], None)
    store.put_piece(RUN.key, "batch-0000", {"hypotheses": ["a"]})
    other = pickle.loads(pickle.dumps(store))  # as a worker gets it
    assert other.piece(RUN.key, "batch-0000") == {"hypotheses": ["a"]}
    assert other.count_pieces(RUN.key, "batch-") == 1
    other.put(RUN)
    again = Store(tmp_path / "cache", url)
    assert again.keys() == {RUN.key} and again.runs() == [RUN] and again.get(RUN.key) == RUN
    assert again.count_pieces(RUN.key, "") == 0 and again.piece(RUN.key, "batch-0000") is None
    assert not (tmp_path / "cache").exists()


def test_what_another_machine_wrote_is_seen_and_what_is_damaged_is_named(url, tmp_path):
    Store(tmp_path / "a", url).put(RUN)
    here, there = Store(tmp_path / "a", url), Store(tmp_path / "b", url)
    assert here.runs() == [RUN]
    later = accuracy_run("bf16", minutes=3)
    there.put(later)
    damaged = "base_x_0123456789abcdef.json"
    open_folder(url).subfolder("results").write(damaged, "cut")
    fresh = Store(tmp_path / "c", url)
    assert fresh.runs() == [RUN, later] and list(fresh.unreadable) == [damaged]
    assert set(open_folder(url).subfolder("results").json_names()) == {
        *(f"{run.slug}.json" for run in (RUN, later)),
        damaged,
    }


def test_a_result_that_was_replaced_is_read_again(url, tmp_path):
    store = Store(tmp_path, url)
    store.put(RUN)
    assert store.runs() == [RUN]
    slower = RUN.model_copy(update={"quantize_s": 9.75})
    store.put(slower)
    assert store.runs() == [slower]


def test_a_place_that_cannot_be_opened_is_a_sentence(tmp_path, capsys):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path, "nothing://bucket/x")
    assert main(["--results", "nothing://bucket", "results"]) == 1
    assert "pip install s3fs" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "far").write_text("a file, where the folder should be")
    with pytest.raises(StoreError, match="could not be written"):
        open_folder(f"file://{tmp_path}/far/results").write("x.json", "{}")
