import csv
import json
import shutil
import unicodedata
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile

from tests.support.small_sets import recordings_folder, shortest, write_jsonl
from whisperq_core.errors import EvalSetError
from whisperq_core.speech import decode, manifests
from whisperq_core.speech.evaluation_sets import by_name, from_folder, preview, shipped_sets

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

    @pytest.mark.parametrize(
        "document",
        [
            [A, B],
            {"version": 1, "utterances": [A, B]},
            {"a": {"wav": "{data_root}/a.flac", "words": "hello"}, "b": B},  # SpeechBrain's
            [{"audio": {"path": "a.flac", "bytes": None}, "sentence": "hello"}, B],
        ],
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_one_json_document(self, folder, document, indent):
        (folder / "manifest.json").write_text(json.dumps(document, indent=indent))
        found = from_folder(folder).utterances
        assert [(u.id, u.audio.name, u.reference) for u in found] == [
            ("a", "a.flac", "hello"),
            ("b", "b.flac", "world"),
        ]

    def test_timed_words_of_one_line_are_no_document(self, folder):
        write_jsonl(folder, {**self.A, "segments": [{"start": 0.0, "word": "hello"}]})
        assert [u.reference for u in from_folder(folder).utterances] == ["hello"]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("manifest.json", json.dumps([A, 5]), "manifest.json, entry 2 is not JSON"),
            ("manifest.json", json.dumps([A, {"text": "x"}]), "entry 2 has no audio"),
            ("manifest.json", "[]", "has no recordings"),
            ("manifest.json", '[{"audio": "a.flac"', "line 1 is not JSON"),
            ("data.parquet", "PAR1", "data.parquet is a table that cannot be read here"),
            (
                "manifest.csv",
                "file,text,start,end\na.flac,one,0,1\na.flac,two,1,2\n",
                "line 2. Cut it into a file for each utterance.",
            ),
        ],
    )
    def test_bad_tables(self, folder, name, content, message):
        (folder / name).write_text(content)
        with pytest.raises(EvalSetError) as caught:
            from_folder(folder)
        assert message in str(caught.value)

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
            ([A, {**B, "language": "xx"}], "line 2: 'xx' is not a language that Whisper knows"),
            ([A, {**B, "offset": 1.5}], "line 2: an offset into a longer recording"),
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
            ("clip_name,words\na.flac,hello\n", "Its columns are: clip_name, words"),
            ("audio;said\na.flac;hello\n", "has no text column. Its columns are: audio, said"),
            ("audio,text\na.flac,\n", 'without speech, write "text": "" in a manifest.jsonl'),
            ("audio,text,lang\na.flac,hi,Klingon\n", "line 2: 'Klingon' is not a language"),
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


def place(folder: Path, *names: str) -> None:
    """Puts the shortest recordings into a folder under these names."""
    for name, utterance in zip(names, shortest(len(names)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(utterance.audio, folder / name)


class TestLayouts:
    """Each as its own tools write it."""

    def test_nemo(self, tmp_path):
        place(tmp_path, "audio/a.wav", "audio/b.wav")
        rows = [
            {"audio_filepath": "/data/test/audio/a.wav", "duration": 1.5, "text": "hello"},
            {"audio_filepath": "audio/b.wav", "duration": 1.5, "text": "", "lang": "en-US"},
        ]
        (tmp_path / "manifest.json").write_text("\n".join(map(json.dumps, rows)))
        found = from_folder(tmp_path)
        assert [(u.id, u.reference) for u in found.utterances] == [
            ("audio/a", "hello"),
            ("audio/b", ""),
        ]
        assert found.without_speech == 1 and found.languages == ("en",)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
    def test_hugging_face_audio_folder(self, tmp_path, encoding):
        place(tmp_path, "a.flac", "b.flac")
        text = 'File_Name,Transcription\r\na.flac,größer\r\nb.flac,"well, hello"\r\n'
        (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
        assert [u.reference for u in from_folder(tmp_path).utterances] == ["größer", "well, hello"]

    def test_common_voice(self, tmp_path):
        place(tmp_path, "clips/cv_1.mp3", "clips/cv_2.mp3", "clips/cv_3.mp3")
        head = "client_id\tpath\tsentence\tup_votes\tlocale\n"
        (tmp_path / "test.tsv").write_text(
            head + 'x1\tcv_1.mp3\tSag "ja".\t2\tde\nx2\tcv_2.mp3\t"Nein", sagt er\t2\tsv-SE\n'
        )
        (tmp_path / "train.tsv").write_text(head + "x1\tcv_3.mp3\tgut\t2\tde\n")
        found = from_folder(tmp_path)
        assert [(u.reference, u.language, u.speaker) for u in found.utterances] == [
            ('Sag "ja".', "de", "x1"),
            ('"Nein", sagt er', "sv", "x2"),
        ]
        assert {(s.name, s.reason) for s in found.skipped} == {
            ("clips/cv_3.mp3", "not in test.tsv"),
            ("train.tsv", "another table; test.tsv is used"),
        }

    def test_ljspeech(self, tmp_path):
        place(tmp_path, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav")
        (tmp_path / "metadata.csv").write_text(
            'LJ001-0001|in 1990, "so"|in nineteen ninety, "so"\nLJ001-0002|only one\n'
        )
        found = from_folder(tmp_path).utterances
        assert [(u.id, u.reference) for u in found] == [
            ("LJ001-0001", 'in nineteen ninety, "so"'),
            ("LJ001-0002", "only one"),
        ]

    def test_kaldi(self, tmp_path):
        place(tmp_path, "wav/a.wav", "wav/b.wav")
        (tmp_path / "wav.scp").write_text("ann-1 /corpora/x/wav/a.wav\nbob-1 wav/b.wav\n")
        (tmp_path / "text").write_text("ann-1 HELLO THERE\nbob-1\n")
        (tmp_path / "utt2spk").write_text("ann-1 ann\nbob-1 bob\n")
        found = from_folder(tmp_path)
        assert [(u.id, u.reference, u.speaker) for u in found.utterances] == [
            ("ann-1", "HELLO THERE", "ann"),
            ("bob-1", "", "bob"),
        ]
        assert (found.layout, found.speakers) == ("Kaldi", ("ann", "bob"))
        (tmp_path / "segments").write_text("ann-1 a 0 1\n")
        with pytest.raises(EvalSetError, match="segments of recordings"):
            from_folder(tmp_path)
        (tmp_path / "segments").unlink()
        (tmp_path / "wav.scp").write_text("ann-1 sph2pipe -f wav a.sph |\n")
        with pytest.raises(EvalSetError, match=r"wav\.scp, line 1 is a command"):
            from_folder(tmp_path)

    def test_timit(self, tmp_path):
        place(tmp_path, "DR1/SA1.WAV", "DR1/SA2.WAV")
        (tmp_path / "DR1" / "SA1.TXT").write_text("0 46797 She had your dark suit.\n")
        (tmp_path / "DR1" / "SA1.PHN").write_text("0 9640 h#\n")
        (tmp_path / "DR1" / "SA2.TXT").write_text("2 0 0 1\n")
        found = from_folder(tmp_path).utterances
        assert [(u.id, u.reference) for u in found] == [
            ("DR1/SA1", "She had your dark suit."),
            ("DR1/SA2", "2 0 0 1"),
        ]

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_names_in_either_unicode_form_and_with_backslashes(self, tmp_path, form):
        other = {"NFC": "NFD", "NFD": "NFC"}[form]
        place(tmp_path, f"x/{unicodedata.normalize(form, 'grün')}.flac")
        write_jsonl(tmp_path, {"audio": unicodedata.normalize(other, "x\\Grün.FLAC"), "text": "a"})
        (found,) = from_folder(tmp_path).utterances
        assert unicodedata.normalize("NFC", found.id) == "x/grün"

    def test_a_name_that_two_files_have_is_refused(self, tmp_path):
        place(tmp_path, "x/a.flac", "y/a.flac")
        write_jsonl(tmp_path, {"audio": "a.flac", "text": "a"})
        with pytest.raises(EvalSetError, match=r"a\.flac may be x/a\.flac or y/a\.flac"):
            from_folder(tmp_path)

    def test_semicolons_of_a_spreadsheet(self, tmp_path):
        place(tmp_path, "a.flac")
        (tmp_path / "manifest.csv").write_text("audio;text\na.flac;well, hello\n")
        assert from_folder(tmp_path).utterances[0].reference == "well, hello"

    @pytest.mark.parametrize(
        ("name", "content", "encoding"),
        [
            ("manifest.csv", "sep=;\r\naudio;text\r\nA.FLAC;grün\r\n", "utf-8-sig"),
            ("manifest.csv", 'audio, text\na.flac, "grün"\n', "utf-8"),
            ("METADATA.CSV", "File Name,Raw-Transcription\na.flac,grün\n", "utf-8"),
            ("manifest.jsonl", '{"audio": "file:///data/%61.flac ", "text": "grün"}', "utf-8"),
            ("manifest.jsonl", '{"audio": "C:\\\\x\\\\a.flac", "text": "grün"}', "utf-8"),
            ("manifest.csv", "audio,text\ra.flac,grün\r", "utf-8"),
            ("manifest.jsonl", '{"audio": ".\\\\a.flac", "text": "grün"}\r\n', "utf-8-sig"),
            ("manifest.jsonl", '{"audio": "a.flac", "text": "grün", "duration": "2,0"}', "utf-8"),
            ("a.txt", "grün\r\n", "utf-16"),
            ("a.txt", "grün\r\n", "utf-16-le"),
            ("a.txt", "grün\r\n", "utf-16-be"),
        ],
    )
    def test_what_spreadsheets_and_windows_write(self, tmp_path, name, content, encoding):
        place(tmp_path, "a.flac")
        (tmp_path / name).write_bytes(content.encode(encoding))
        assert [(u.audio.name, u.reference) for u in from_folder(tmp_path).utterances] == [
            ("a.flac", "grün")
        ]

    @pytest.mark.parametrize(
        ("content", "where"),
        [("sep=,\naudio,text\na.flac,\n", "line 3"), ('"audio" , "text"\n', "line 1")],
    )
    def test_a_line_is_named_as_an_editor_counts_it(self, tmp_path, content, where):
        place(tmp_path, "a.flac")
        (tmp_path / "manifest.csv").write_text(content)
        with pytest.raises(EvalSetError, match=f"manifest.csv, {where} "):
            from_folder(tmp_path)

    def test_kaldi_tables_with_tabs(self, tmp_path):
        place(tmp_path, "a.flac")
        (tmp_path / "wav.scp").write_text("u1\ta.flac\n")
        (tmp_path / "text").write_text("u1\tgood morning\n")
        assert [(u.id, u.reference) for u in from_folder(tmp_path).utterances] == [
            ("u1", "good morning")
        ]

    def test_a_table_of_a_folder_below_is_named(self, tmp_path):
        place(tmp_path, "test/a.flac")
        (tmp_path / "test" / "metadata.csv").write_text("file_name,transcription\na.flac,hi\n")
        with pytest.raises(EvalSetError, match=r"test/metadata\.csv is a table of a folder below"):
            from_folder(tmp_path)
        assert from_folder(tmp_path / "test").layout == "metadata.csv"

    def test_several_unknown_tables_are_named(self, tmp_path):
        place(tmp_path, "a.flac")
        for name in ("one.csv", "two.csv"):
            (tmp_path / name).write_text("audio,text\na.flac,hi\n")
        with pytest.raises(EvalSetError, match=r"several tables: one\.csv, two\.csv\. Name the"):
            from_folder(tmp_path)
        (tmp_path / "two.csv").unlink()
        assert from_folder(tmp_path).layout == "one.csv"


class TestWhatIsLeftOut:
    def test_is_counted_and_named(self, folder):
        write_jsonl(folder, {"audio": "a.flac", "text": "hi", "language": "English"})
        for name in (".DS_Store", "Thumbs.db", "__MACOSX/a.flac", "._a.flac", "README.md"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")
        for name in ("old.ape", "song.mid", "other.csv"):
            (folder / name).write_bytes(b"x")
        seen = preview(folder)
        assert (seen.utterances, seen.languages, seen.layout) == (1, {"en": 1}, "manifest.jsonl")
        assert {(s.name, s.reason) for s in seen.skipped} == {
            ("b.flac", "not in manifest.jsonl"),
            ("old.ape", ".ape files cannot be decoded"),
            ("song.mid", ".mid files cannot be decoded"),
            ("other.csv", "another table; manifest.jsonl is used"),
        }
        assert seen.sentences[0].startswith("1 utterances, 0.0 minutes, read from manifest.jsonl")
        assert "1 skipped, not in manifest.jsonl: b.flac." in seen.sentences

    def test_every_decodable_suffix_is_read(self, tmp_path):
        names = [f"{number}.{s}" for number, s in enumerate(("aiff", "mov", "wav"))]
        place(tmp_path, *names)
        for name in names:
            (tmp_path / name).with_suffix(".TXT").write_text("hi")
        assert len(from_folder(tmp_path).utterances) == 3


def test_a_cut_mp3_counts_with_its_decoded_length(tmp_path):
    samples, rate_hz = soundfile.read(JFK.audio, dtype="float32")
    whole = tmp_path / "a.mp3"
    soundfile.write(whole, np.tile(samples, 4), rate_hz)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "a.txt").write_text("ask not")
    found = from_folder(tmp_path)
    assert found.audio_s == pytest.approx(len(decode.load(whole)) / 16_000) and found.audio_s < 23


def test_a_folder_as_it_is_typed_or_pasted(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    folder = folder.rename(folder.with_name("my own"))
    write_jsonl(folder, TestFromFolder.A)
    plain, quoted = str(folder), quote(str(folder))
    for typed in (
        *("~/my own", f" '{plain}' ", f'"{plain}"', f"{plain} ", f"{plain}/", f"“{plain}”"),
        *(f"file://{quoted}", f"file://localhost{quoted}", f"file://{plain}", quoted),
        *(plain.replace(" ", "\\ "), plain.replace("/", "\\"), f"\u202a{plain}", f"<{plain}>"),
    ):
        assert by_name(typed).name == "my own", typed
    # A name that has such characters is itself.
    odd = folder.rename(folder.with_name("100%20’"))
    assert by_name(str(odd)).name == "100%20’"
    with pytest.raises(EvalSetError, match=r"is a file\. Give the folder that it is in"):
        by_name(f"{odd}/manifest.jsonl")
