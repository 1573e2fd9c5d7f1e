import csv
import functools
import hashlib
import http.server
import json
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperq_core.errors import AudioError, Cancelled, EvalSetError
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.speech.evaluation_sets import (
    by_name,
    from_folder,
    from_openslr,
    read_audio,
    shipped,
)

JFK = shipped()["jfk"].utterances[0]


def short(count: int = 3) -> list[evaluation_sets.Utterance]:
    utterances = shipped()["test-clean-excerpt"].utterances
    return sorted(utterances, key=lambda u: u.duration_s)[:count]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, without their words."""
    made = tmp_path / "mine"
    made.mkdir()
    for name, utterance in zip(("a.flac", "b.flac"), short(), strict=False):
        shutil.copyfile(utterance.audio, made / name)
    return made


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The shortest shipped recordings in OpenSLR's layout."""
    root = tmp_path / "LibriSpeech" / "test-clean"
    for utterance in short():
        speaker, chapter, _ = utterance.id.split("-")
        place = root / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(utterance.audio, place / f"{utterance.id}.flac")
        with (place / f"{speaker}-{chapter}.trans.txt").open("a") as transcript:
            transcript.write(f"{utterance.id} {utterance.reference}\n")
    return root


class TestShipped:
    def test_names_and_sizes(self):
        assert {name: len(s.utterances) for name, s in shipped().items()} == {
            "quick-look": 8,
            "test-clean-excerpt": 22,
            "test-other-excerpt": 74,
            "dev-clean-excerpt": 13,
            "jfk": 1,
            "fleurs-de-example": 1,
        }
        assert all(name == s.name for name, s in shipped().items())
        assert {*evaluation_sets.EVALUATION, evaluation_sets.CALIBRATION} <= set(shipped())

    def test_manifest_tells_the_truth(self):
        for evaluation_set in shipped().values():
            for u in evaluation_set.utterances:
                content = u.audio.read_bytes()
                assert hashlib.sha256(content).hexdigest() == u.sha256, u.id
                assert soundfile.info(u.audio).duration == pytest.approx(u.duration_s, abs=1e-3)
                assert u.reference.strip() == u.reference != ""

    def test_every_recording_is_in_the_manifest(self):
        manifest = (evaluation_sets.SPEECH / "manifest.jsonl").read_text("utf-8").splitlines()
        listed = Counter(json.loads(line)["file"] for line in manifest)
        here = {
            p.relative_to(evaluation_sets.SPEECH).as_posix()
            for p in evaluation_sets.SPEECH.rglob("*.flac")
        }
        assert set(listed) == here and set(listed.values()) == {1}

    def test_quick_look_is_typical_and_varied(self):
        quick = shipped()["quick-look"]
        assert len({u.speaker for u in quick.utterances}) == 8
        assert all(5 <= u.duration_s <= 9 for u in quick.utterances)
        assert quick.audio_s == pytest.approx(56, abs=1)
        for name in ("test-clean-excerpt", "test-other-excerpt"):
            assert len(set(quick.utterances) & set(shipped()[name].utterances)) == 4

    def test_calibration_is_apart_from_evaluation(self):
        held_out = {u.sha256 for u in shipped()[evaluation_sets.CALIBRATION].utterances}
        speakers = {u.speaker for u in shipped()[evaluation_sets.CALIBRATION].utterances}
        for name in evaluation_sets.EVALUATION:
            assert held_out.isdisjoint(u.sha256 for u in shipped()[name].utterances)
            assert speakers.isdisjoint(u.speaker for u in shipped()[name].utterances)

    def test_languages_and_attribution(self):
        assert shipped()["fleurs-de-example"].languages == ("de",)
        assert shipped()["quick-look"].languages == ("en",)
        for name, evaluation_set in shipped().items():
            assert "CC BY 4.0" in evaluation_set.attribution or name == "jfk"


class TestDigest:
    def test_names_paths_and_order_do_not_count(self, tmp_path):
        original = shipped()["test-clean-excerpt"]
        moved = tuple(replace(u, audio=tmp_path / "x") for u in reversed(original.utterances))
        assert replace(original, name="other", utterances=moved).digest == original.digest

    @pytest.mark.parametrize("key", ["id", "reference", "language", "sha256"])
    def test_data_counts(self, key):
        altered = replace(JFK, **{key: "changed"})
        assert replace(shipped()["jfk"], utterances=(altered,)).digest != shipped()["jfk"].digest

    def test_unknown_hash_is_computed(self):
        unhashed = replace(JFK, sha256=None)
        assert replace(shipped()["jfk"], utterances=(unhashed,)).digest == shipped()["jfk"].digest

    def test_sets_need_distinct_utterances(self):
        with pytest.raises(EvalSetError, match="no recordings"):
            replace(shipped()["jfk"], utterances=())
        with pytest.raises(EvalSetError, match="the id jfk twice"):
            replace(shipped()["jfk"], utterances=(JFK, JFK))


class TestReadAudio:
    def test_samples(self):
        samples = read_audio(JFK)
        assert samples.shape == (11 * 16_000,) and samples.dtype == np.float32

    def test_altered_file(self, tmp_path):
        path = tmp_path / "jfk.flac"
        path.write_bytes(short(1)[0].audio.read_bytes())
        with pytest.raises(EvalSetError, match=r"jfk\.flac was altered"):
            read_audio(replace(JFK, audio=path))
        assert len(read_audio(replace(JFK, audio=path, sha256=None)))

    def test_missing_file_and_limits(self, tmp_path):
        with pytest.raises(AudioError, match="does not exist"):
            read_audio(replace(JFK, audio=tmp_path / "gone.flac"))
        with pytest.raises(AudioError, match="longer than"):
            read_audio(JFK, decode.Limits(max_duration_s=10))


class TestFromOpenslr:
    def test_reads_the_split(self, split):
        found = from_openslr(split)
        assert found.name == "librispeech-test-clean"
        expected = {u.id: u for u in short()}
        assert {u.id for u in found.utterances} == set(expected)
        for u in found.utterances:
            shipped_one = expected[u.id]
            assert replace(u, audio=shipped_one.audio) == shipped_one

    def test_missing_audio(self, split):
        next(split.rglob("*.flac")).unlink()
        with pytest.raises(EvalSetError, match=r"trans\.txt, line 1: .*\.flac does not exist"):
            from_openslr(split)

    def test_missing_transcript(self, split):
        extra = next(split.rglob("*.flac"))
        shutil.copyfile(extra, extra.with_name("9-9-0009.flac"))
        with pytest.raises(EvalSetError, match=r"9-9-0009\.flac has no transcript"):
            from_openslr(split)

    @pytest.mark.parametrize("line", ["2830-3980-0043", "", "../../../secret TEXT"])
    def test_bad_line(self, split, line):
        transcript = next(split.rglob("*.trans.txt"))
        transcript.write_text(f"{line}\n")
        with pytest.raises(EvalSetError, match=r"trans\.txt, line 1 is not"):
            from_openslr(split)

    def test_not_a_split(self, split, tmp_path):
        for folder in (split.parent, tmp_path / "gone"):
            with pytest.raises(EvalSetError, match="not a LibriSpeech split"):
                from_openslr(folder)


def write_jsonl(folder: Path, *rows: dict | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines), "utf-8")


class TestFromFolder:
    A = {"audio": "a.flac", "text": "hello"}  # noqa: RUF012
    B = {"audio": "b.flac", "text": "world"}  # noqa: RUF012

    def test_jsonl(self, folder):
        (folder / "b.flac").rename(folder / "ü.flac")
        full = {"file": "ü.flac", "reference": " größer \n als ", "id": 7}
        write_jsonl(folder, self.A, "", {**full, "language": "DE", "speaker": "eva"})
        found = from_folder(folder)
        a, b = found.utterances
        assert (found.name, a.id, a.reference, a.language, a.speaker) == (
            ("mine", "a", "hello", "en", None)
        )
        assert (b.id, b.reference, b.language, b.speaker) == ("7", "größer als", "de", "eva")
        assert b.duration_s == pytest.approx(short()[1].duration_s, abs=1e-3)
        assert b.sha256 == short()[1].sha256
        assert found.languages == ("de", "en")
        assert from_folder(folder, "other").name == "other"

    def test_unusual_line_separator_stays_in_the_text(self, folder):
        write_jsonl(folder, '{"audio": "a.flac", "text": "one\u2028two"}')
        assert from_folder(folder).utterances[0].reference == "one two"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_csv(self, folder, encoding):
        with (folder / "manifest.csv").open("w", encoding=encoding, newline="") as file:
            csv.writer(file).writerows(
                [("path", "transcript"), ("a.flac", "well, hello"), ("b.flac", "größer")]
            )
        assert [u.reference for u in from_folder(folder).utterances] == ["well, hello", "größer"]

    def test_byte_order_mark_in_jsonl(self, folder):
        (folder / "manifest.jsonl").write_text(json.dumps(self.A), "utf-8-sig")
        assert len(from_folder(folder).utterances) == 1

    def test_text_beside_audio(self, folder):
        (folder / "deep").mkdir()
        (folder / "b.flac").rename(folder / "deep" / "b.flac")
        (folder / "._a.flac").write_bytes(b"what a Mac leaves behind")
        (folder / "a.txt").write_text("hello\n")
        (folder / "deep" / "b.txt").write_text("wide\nworld\n")
        found = from_folder(folder)
        assert {u.id: u.reference for u in found.utterances} == {
            "a": "hello",
            "deep/b": "wide world",
        }

    def test_length_by_decoding_where_the_header_does_not_tell(self, folder):
        flac = bytearray((folder / "a.flac").read_bytes())
        flac[21] &= 0xF0  # the 36 bits of the sample count in STREAMINFO
        flac[22:26] = bytes(4)
        (folder / "a.flac").write_bytes(flac)
        write_jsonl(folder, self.A)
        found = from_folder(folder).utterances[0]
        assert found.duration_s == pytest.approx(short()[0].duration_s, abs=1e-3)

    def test_a_whole_disk_is_no_set(self, folder, monkeypatch):
        monkeypatch.setattr(evaluation_sets, "MOST_FILES", 2)
        for name in ("1.txt", "2.txt", "3.txt"):
            (folder / name).touch()
        with pytest.raises(EvalSetError, match="more than 2 files"):
            by_name(str(folder))

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([A, '{"audio": '], "manifest.jsonl, line 2 is not JSON"),
            ([A, "", "[1, 2]"], "manifest.jsonl, line 3 is not JSON"),
            ([A, {"audio": "b.flac"}], "line 2 has no text"),
            ([A, {"audio": "b.flac", "text": "  "}], "line 2 has no text"),
            ([{"text": "hello"}], "line 1 has no audio"),
            ([A, {"audio": "b.flac", "text": ["no"]}], "line 2: text must be text"),
            ([A, {"audio": "gone.flac", "text": "x"}], "line 2: gone.flac does not exist"),
            ([{"audio": ".", "text": "x"}], "line 1: . does not exist"),
            ([{"audio": "../out.flac", "text": "x"}], "line 1: ../out.flac is outside"),
            ([{"audio": str(JFK.audio), "text": "x"}], "jfk.flac is outside"),
            ([{"audio": "link.flac", "text": "x"}], "link.flac is outside"),
            ([{"audio": "a\0.flac", "text": "x"}], "is not a file name"),
            ([A, B, A], "line 3 repeats a.flac from manifest.jsonl, line 1"),
            ([A, {**B, "id": "a"}], "line 2 repeats the id a from manifest.jsonl, line 1"),
            ([A, {"audio": "note.txt", "text": "x"}], "line 2: note.txt is not a recording"),
            ([], "has no recordings"),
        ],
    )
    def test_bad_manifest(self, folder, rows, message):
        shutil.copyfile(JFK.audio, folder.parent / "out.flac")
        (folder / "link.flac").symlink_to(folder.parent / "out.flac")
        (folder / "note.txt").write_text("not a sound")
        write_jsonl(folder, *rows)
        with pytest.raises(EvalSetError) as caught:
            from_folder(folder)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("audio,text\na.flac,well, hello\n", "manifest.csv, line 2 has more columns"),
            ("audio,text\na.flac\n", "line 2 has no text"),
            ('audio,text\na.flac,"hello\n', "not valid CSV"),
            ("audio;text\na.flac;hello\n", "line 2 has no audio"),
            ("", "has no recordings"),
        ],
    )
    def test_bad_csv(self, folder, text, message):
        (folder / "manifest.csv").write_text(text)
        with pytest.raises(EvalSetError) as caught:
            from_folder(folder)
        assert message in str(caught.value)

    def test_wrong_encoding(self, folder):
        (folder / "manifest.csv").write_bytes("audio,text\na.flac,größer\n".encode("latin-1"))
        with pytest.raises(EvalSetError, match=r"manifest\.csv is not UTF-8"):
            from_folder(folder)

    def test_text_missing(self, folder):
        (folder / "a.txt").write_text("hello")
        with pytest.raises(EvalSetError, match=r"b\.flac has no b\.txt"):
            from_folder(folder)

    def test_empty_or_missing_folder(self, tmp_path):
        with pytest.raises(EvalSetError, match="contains no recordings"):
            from_folder(tmp_path)
        with pytest.raises(EvalSetError, match="is not a folder"):
            from_folder(tmp_path / "gone")


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
    source = evaluation_sets.Archive(f"http://127.0.0.1:{port}/{packed.name}", md5, 3)
    monkeypatch.setitem(evaluation_sets.LIBRISPEECH, "test-clean", source)


def change(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    source = replace(evaluation_sets.LIBRISPEECH["test-clean"], **changes)
    monkeypatch.setitem(evaluation_sets.LIBRISPEECH, "test-clean", source)


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


class TestDownload:
    def test_downloads_once(self, archive, tmp_path):
        data, seen = tmp_path / "data", []
        found = evaluation_sets.download_librispeech("test-clean", data, lambda *p: seen.append(p))
        assert {u.id for u in found.utterances} == {u.id for u in short()}
        size_bytes = archive.stat().st_size
        assert seen[-1] == (size_bytes, size_bytes)
        assert all(0 < done <= total == size_bytes for done, total in seen)
        assert [p.name for p in data.iterdir()] == ["LibriSpeech"]
        archive.unlink()
        again = evaluation_sets.download_librispeech("test-clean", data)
        assert again.digest == found.digest
        assert by_name("test-clean", data).digest == found.digest
        assert by_name(found.name, data).digest == found.digest

    def test_wrong_checksum_leaves_nothing(self, archive, tmp_path, monkeypatch):
        change(monkeypatch, md5="0" * 32)
        with pytest.raises(EvalSetError, match="wrong checksum"):
            evaluation_sets.download_librispeech("test-clean", tmp_path / "data")
        assert files(tmp_path / "data") == []

    def test_unreachable(self, archive, tmp_path, monkeypatch):
        url = evaluation_sets.LIBRISPEECH["test-clean"].url + ".gone"
        for address in (url, "http://127.0.0.1:9/test-clean.tar.gz"):
            change(monkeypatch, url=address)
            with pytest.raises(EvalSetError, match="could not be downloaded") as caught:
                evaluation_sets.download_librispeech("test-clean", tmp_path / "data")
            assert address in str(caught.value) and str(tmp_path / "data") in str(caught.value)
            assert files(tmp_path / "data") == []

    def test_cancelled(self, archive, tmp_path):
        def stop(done: int, total: int) -> None:
            raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            evaluation_sets.download_librispeech("test-clean", tmp_path / "data", stop)
        assert files(tmp_path / "data") == []
        assert (
            len(evaluation_sets.download_librispeech("test-clean", tmp_path / "data").utterances)
            == 3
        )

    def test_archive_that_leads_outside(self, archive, tmp_path, monkeypatch):
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(JFK.audio, "../../evil.flac")
        change(monkeypatch, md5=hashlib.md5(archive.read_bytes()).hexdigest())
        with pytest.raises(EvalSetError, match="could not be stored"):
            evaluation_sets.download_librispeech("test-clean", tmp_path / "data")
        assert not list(tmp_path.rglob("evil.flac"))
        assert not (tmp_path / "data" / "LibriSpeech" / "test-clean").exists()

    def test_half_a_split_is_not_taken_for_a_whole_one(self, archive, split, monkeypatch):
        change(monkeypatch, utterances=2620)
        for use in (evaluation_sets.download_librispeech, by_name):
            with pytest.raises(EvalSetError, match="3 of 2620"):
                use("test-clean", split.parent.parent)

    def test_unknown_split(self, tmp_path):
        with pytest.raises(EvalSetError, match="test-clean or test-other"):
            evaluation_sets.download_librispeech("train-clean-100", tmp_path)


class TestByName:
    def test_shipped(self):
        assert by_name("quick-look") is shipped()["quick-look"]

    def test_folders(self, folder, split):
        write_jsonl(folder, TestFromFolder.A)
        assert by_name(str(folder)).name == "mine"
        assert by_name(str(split)).name == "librispeech-test-clean"

    def test_not_downloaded(self, tmp_path):
        with pytest.raises(EvalSetError, match="test-other is not on this computer"):
            by_name("test-other", tmp_path)

    @pytest.mark.parametrize("name", ["", "nonsense", "/no/such/folder"])
    def test_unknown(self, name, tmp_path):
        with pytest.raises(EvalSetError, match=r"quick-look.*test-other"):
            by_name(name, tmp_path)
