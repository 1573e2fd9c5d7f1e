import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.support.small_sets import recordings_folder, shortest, write_jsonl
from whisperq_core.errors import EvalSetError
from whisperq_core.speech import manifests
from whisperq_core.speech.evaluation_sets import by_name, from_folder, shipped_sets

JFK = shipped_sets()["jfk"].utterances[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return recordings_folder(tmp_path)


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
        assert b.duration_s == pytest.approx(shortest()[1].duration_s, abs=1e-3)
        assert b.sha256 == shortest()[1].sha256
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
        assert found.duration_s == pytest.approx(shortest()[0].duration_s, abs=1e-3)

    def test_a_whole_disk_is_no_set(self, folder, monkeypatch):
        monkeypatch.setattr(manifests, "MAX_FILES", 2)
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
            (
                [A, {"audio": "note.txt", "text": "x"}],
                "line 2: note.txt is a text file, not a recording",
            ),
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
