import functools
import hashlib
import http.server
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.small_sets import librispeech_split, shortest
from whisperq_core.errors import Cancelled, EvalSetError
from whisperq_core.speech import librispeech
from whisperq_core.speech.evaluation_sets import (
    by_name,
    download_librispeech,
    from_folder,
    from_librispeech,
    shipped_sets,
)

JFK = shipped_sets()["jfk"].utterances[0]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return librispeech_split(tmp_path)


class TestLayout:
    def test_reads_the_split(self, split):
        found = from_librispeech(split)
        assert found.name == "librispeech-test-clean"
        expected = {u.id: u for u in shortest()}
        assert {u.id for u in found.utterances} == set(expected)
        for u in found.utterances:
            shipped_one = expected[u.id]
            assert replace(u, audio=shipped_one.audio) == shipped_one

    def test_missing_audio(self, split):
        next(split.rglob("*.flac")).unlink()
        with pytest.raises(EvalSetError, match=r"trans\.txt, line 1: .*\.flac does not exist"):
            from_librispeech(split)

    def test_missing_transcript(self, split):
        extra = next(split.rglob("*.flac"))
        shutil.copyfile(extra, extra.with_name("9-9-0009.flac"))
        with pytest.raises(EvalSetError, match=r"9-9-0009\.flac has no transcript"):
            from_librispeech(split)

    @pytest.mark.parametrize("line", ["2830-3980-0043", "", "../../../secret TEXT"])
    def test_bad_line(self, split, line):
        transcript = next(split.rglob("*.trans.txt"))
        transcript.write_text(f"{line}\n")
        with pytest.raises(EvalSetError, match=r"trans\.txt, line 1 is not"):
            from_librispeech(split)

    def test_not_a_split(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "empty", tmp_path / "gone"):
            with pytest.raises(EvalSetError, match="is not a LibriSpeech split"):
                from_librispeech(folder)

    @pytest.mark.parametrize("levels", [-2, -1, 1, 2])
    def test_folders_above_and_below_a_split_are_read(self, split, levels):
        """What holds a split, a speaker or a chapter: people pass any of them."""
        chapter = next(split.rglob("*.trans.txt")).parent
        folder = {-2: split.parent.parent, -1: split.parent, 1: chapter.parent, 2: chapter}[levels]
        whole = {u.id: u for u in from_folder(split).utterances}
        found = from_folder(folder)
        assert found.layout == "LibriSpeech" and found.utterances
        inside = {id for id, u in whole.items() if u.audio.resolve().is_relative_to(folder)}
        assert {u.id for u in found.utterances} == inside
        assert all(replace(u, audio=whole[u.id].audio) == whole[u.id] for u in found.utterances)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def archive(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small test-clean.tar.gz, served at the address in the source table."""
    web = tmp_path / "web"
    web.mkdir()
    packed = web / "test-clean.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(split.parent, "LibriSpeech")
    handler = functools.partial(Quiet, directory=str(web))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serve(monkeypatch, packed, server.server_port)
    yield packed
    server.shutdown()
    thread.join()
    server.server_close()


def serve(monkeypatch: pytest.MonkeyPatch, packed: Path, port: int) -> None:
    md5 = hashlib.md5(packed.read_bytes()).hexdigest()
    source = librispeech.Archive(f"http://127.0.0.1:{port}/{packed.name}", md5, 3)
    monkeypatch.setitem(librispeech.SPLITS, "test-clean", source)


def change(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    source = replace(librispeech.SPLITS["test-clean"], **changes)
    monkeypatch.setitem(librispeech.SPLITS, "test-clean", source)


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


class TestDownload:
    def test_downloads_once(self, archive, tmp_path, monkeypatch):
        data, seen = tmp_path / "data", []
        found = download_librispeech("test-clean", data, lambda *p: seen.append(p))
        assert {u.id for u in found.utterances} == {u.id for u in shortest()}
        size_bytes = archive.stat().st_size
        assert seen[-1] == (size_bytes, size_bytes)
        assert all(0 < done <= total == size_bytes for done, total in seen)
        assert [p.name for p in data.iterdir()] == ["LibriSpeech"]
        archive.unlink()
        again = download_librispeech("test-clean", data)
        assert again.digest == found.digest
        monkeypatch.setattr(librispeech, "data_folder", lambda: data)
        assert by_name("test-clean").digest == found.digest
        assert by_name(found.name).digest == found.digest

    def test_wrong_checksum_leaves_nothing(self, archive, tmp_path, monkeypatch):
        change(monkeypatch, md5="0" * 32)
        with pytest.raises(EvalSetError, match="wrong checksum"):
            download_librispeech("test-clean", tmp_path / "data")
        assert files(tmp_path / "data") == []

    def test_unreachable(self, archive, tmp_path, monkeypatch):
        url = librispeech.SPLITS["test-clean"].url + ".gone"
        for address in (url, "http://127.0.0.1:9/test-clean.tar.gz"):
            change(monkeypatch, url=address)
            with pytest.raises(EvalSetError, match="could not be downloaded") as caught:
                download_librispeech("test-clean", tmp_path / "data")
            assert address in str(caught.value) and str(tmp_path / "data") in str(caught.value)
            assert files(tmp_path / "data") == []

    def test_cancelled(self, archive, tmp_path):
        def stop(done: int, total: int) -> None:
            raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            download_librispeech("test-clean", tmp_path / "data", stop)
        assert files(tmp_path / "data") == []
        assert len(download_librispeech("test-clean", tmp_path / "data").utterances) == 3

    def test_archive_that_leads_outside(self, archive, tmp_path, monkeypatch):
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(JFK.audio, "../../evil.flac")
        change(monkeypatch, md5=hashlib.md5(archive.read_bytes()).hexdigest())
        with pytest.raises(EvalSetError, match="could not be stored"):
            download_librispeech("test-clean", tmp_path / "data")
        assert not list(tmp_path.rglob("evil.flac"))
        assert not (tmp_path / "data" / "LibriSpeech" / "test-clean").exists()

    def test_half_a_split_is_not_taken_for_a_whole_one(self, archive, split, monkeypatch):
        change(monkeypatch, utterances=2620)
        data = split.parent.parent
        monkeypatch.setattr(librispeech, "data_folder", lambda: data)
        with pytest.raises(EvalSetError, match="3 of 2620"):
            download_librispeech("test-clean", data)
        with pytest.raises(EvalSetError, match="3 of 2620"):
            by_name("test-clean")

    def test_unknown_split(self, tmp_path):
        with pytest.raises(EvalSetError, match="test-clean or test-other"):
            download_librispeech("train-clean-100", tmp_path)
