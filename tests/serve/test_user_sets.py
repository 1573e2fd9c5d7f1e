import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whisperq_core.errors import EvalSetError, WhisperQError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.serve import user_sets
from whisperq_core.serve.blind_test import Vote
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.evaluation_sets import read_audio


@pytest.fixture
def shelf(tmp_path):
    return RecordingStore(tmp_path)


@pytest.fixture
def kept(shelf, jfk):
    one = shelf.add([("My speech!.flac", jfk.audio.read_bytes())])[0]
    return shelf.set_reference(one.id, jfk.reference)


@pytest.fixture
def sets(tmp_path, shelf, kept):
    found = UserSets(tmp_path)
    found.add("calls", kept, shelf.original_path(kept.id), "en", "Ann")
    return found


def a_vote() -> Vote:
    names = {"left_name": "base fp32", "right_name": "base bf16"}
    return Vote(utterance="u", left="1", right="2", **names, chosen="left", who="me", at=utc_now())


def archive(files: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return packed.getvalue()


def test_a_recording_with_its_reference_becomes_a_set(sets, kept, jfk):
    found = sets.get("calls")
    (utterance,) = found.utterances
    assert (utterance.reference, utterance.speaker) == (jfk.reference, "Ann")
    assert utterance.id == f"My-speech-{kept.id[:8]}" and sets.names() == ["calls"]
    assert sets.path_of("calls") == str(sets.root / "calls") and sets.path_of("jfk") == "jfk"


def test_added_again_it_has_its_new_reference(sets, shelf, kept):
    corrected = shelf.set_reference(kept.id, "ask not")
    sets.add("calls", corrected, shelf.original_path(kept.id), "en")
    assert [u.reference for u in sets.get("calls").utterances] == ["ask not"]


def test_without_a_reference_it_is_refused(sets, shelf, kept):
    with pytest.raises(EvalSetError, match="no reference"):
        sets.add("calls", shelf.set_reference(kept.id, ""), shelf.original_path(kept.id), "en")


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "jfk", "test-clean", "x" * 61, "a."]
)
def test_what_cannot_be_a_name_is_a_sentence(sets, shelf, kept, name):
    with pytest.raises(EvalSetError, match=r"^.{20,}$"):
        sets.add(name, kept, shelf.original_path(kept.id), "en")
    assert sets.names() == ["calls"]


def test_exported_and_imported_it_is_the_same_set_with_its_votes(sets, tmp_path):
    sets.add_vote("calls", a_vote())
    other = UserSets(tmp_path / "elsewhere")
    assert other.import_zip(sets.export("calls")) == "calls"
    assert other.get("calls").digest == sets.get("calls").digest
    assert other.votes("calls") == sets.votes("calls") != []
    with pytest.raises(EvalSetError, match="already"):
        other.import_zip(sets.export("calls"))
    assert other.import_zip(sets.export("calls"), "more calls") == "more calls"


def test_any_folder_with_a_manifest_can_be_imported(sets, jfk):
    data = jfk.audio.read_bytes()
    manifest = f"audio,text\na/jfk.flac,{jfk.reference.replace(',', ' ')}\n"
    sets.import_zip(archive({"manifest.csv": manifest, "a/jfk.flac": data}), "plain")
    assert [u.id for u in sets.get("plain").utterances] == ["a/jfk"]
    sets.remove("plain", "a/jfk")
    assert sets.names() == ["calls"]


HOSTILE = {
    "no archive": b"PK\x03\x04 nothing",
    "empty": archive({}),
    "outside": archive({"../evil.wav": b"x"}),
    "absolute": archive({"/etc/evil.wav": b"x"}),
    "backslash": archive({"..\\evil.wav": b"x"}),
    "no recordings": archive({"manifest.jsonl": "{}"}),
    "manifest outside": archive(
        {"manifest.jsonl": json.dumps({"audio": "../../x.wav", "text": "a"})}
    ),
    "no audio": archive(
        {"manifest.jsonl": json.dumps({"audio": "a.wav", "text": "a"}), "a.wav": b"x"}
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives_are_a_sentence_and_leave_nothing(sets, data):
    before = sorted(sets.root.rglob("*"))
    with pytest.raises(WhisperQError, match=r"^[^\n]{20,300}$"):
        sets.import_zip(data, "new")
    assert sorted(sets.root.rglob("*")) == before


def packed_with(method: int, files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


def linked(target: str) -> bytes:
    """An archive in which a recording is a symbolic link."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        link = zipfile.ZipInfo("a.wav")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        opened.writestr(link, target)
        opened.writestr("a.txt", "hello")
    return made.getvalue()


def test_what_archives_can_be_made_to_do_is_a_sentence_and_leaves_nothing(sets, jfk):
    flac = jfk.audio.read_bytes()
    damaged = bytearray(packed_with(zipfile.ZIP_DEFLATED, {"a.txt": b"ask not " * 99}))
    damaged[45:60] = b"\xff" * 15
    hostile = {
        "a list of millions": b"PK\x01\x02" * 30_000,
        "deeper than folders go": archive({"/".join(["a"] * 1500) + "/a.wav": b"x"}),
        "a long name": archive({f"{'a' * 3000}.wav": b"x"}),
        "packed with LZMA": packed_with(zipfile.ZIP_LZMA, {"a.flac": flac, "a.txt": b"ask"}),
        "damaged": bytes(damaged),
        "a link": linked("/etc/hostname"),
        "a playlist": archive({"a.wav": b"#EXTM3U\nhttp://127.0.0.1:9/x.mp3\n", "a.txt": "a"}),
        "a file as a folder": archive({"a.wav": b"x", "a.wav/b.wav": b"x"}),
        "deep JSON": archive({"manifest.jsonl": "[" * 100_000, "a.wav": b"x"}),
        "a manifest of gigabytes": packed_with(
            zipfile.ZIP_DEFLATED, {"manifest.jsonl": b" " * (user_sets.MAX_TEXT_BYTES + 1)}
        ),
    }
    before = sorted(sets.root.rglob("*"))
    for what, data in hostile.items():
        with pytest.raises(WhisperQError, match=r"^[^\n]{20,300}$"):
            sets.import_zip(data, "new")
        assert sorted(sets.root.rglob("*")) == before, what


def test_nothing_is_kept_of_an_archive_that_its_manifest_does_not_name(sets, jfk):
    # In OpenSLR's layout, which would be read instead of the manifest.
    files = {"1/2/1-2.trans.txt": "1-2-3 evil", "1/2/1-2-3.flac": b"x", "votes/a.wav": b"x"}
    manifest = json.dumps({"audio": "jfk.flac", "text": jfk.reference})
    sets.import_zip(
        archive(files | {"manifest.jsonl": manifest, "jfk.flac": jfk.audio.read_bytes()}), "new"
    )
    assert [u.id for u in sets.get("new").utterances] == ["jfk"]
    kept = [p.name for p in (sets.root / "new").rglob("*") if p.is_file()]
    assert sorted(kept) == ["jfk.flac", "manifest.jsonl"]


def test_an_archive_that_grows_too_large_is_stopped(sets, monkeypatch):
    monkeypatch.setattr(user_sets, "MAX_BYTES", 1000)
    with pytest.raises(EvalSetError, match="larger"):
        sets.import_zip(archive({"a.wav": b"\0" * 100_000}), "bomb")
    assert sets.names() == ["calls"]


def test_deleting_leaves_nothing(sets):
    sets.delete("calls")
    assert sets.names() == [] and list(sets.root.iterdir()) == []
    with pytest.raises(EvalSetError):
        sets.get("calls")


def test_archives_of_macs_and_of_powershell_are_imported(sets, jfk):
    data, manifest = jfk.audio.read_bytes(), json.dumps({"audio": "a.flac", "text": "ask not"})
    mac = {"set/a.flac": data, "set/manifest.jsonl": manifest, "set/.DS_Store": b"x"}
    mac |= {"__MACOSX/set/._a.flac": b"x", "__MACOSX/._set": b"x", ".DS_Store": b"x"}
    assert sets.import_zip(archive(mac)) == "set"
    powershell = {"pack\\a.flac": data, "pack\\manifest.jsonl": manifest}
    assert sets.import_zip(archive(powershell)) == "pack"
    for name in ("set", "pack"):
        assert [u.id for u in sets.get(name).utterances] == ["a"]


@pytest.mark.parametrize(
    ("word", "encoding"),
    [
        *[("größe", "utf-8"), ("größe", "cp850"), ("größe", "cp1252"), ("naïve été", "cp1252")],
        *[("łódź", "cp852"), ("привет", "cp866"), ("日本語ソ", "cp932")],
    ],
)
def test_names_that_do_not_say_their_encoding_are_those_of_the_manifest(
    tmp_path, jfk, word, encoding
):
    raw, sets, flac = word.encode(encoding), UserSets(tmp_path), jfk.audio.read_bytes()
    stands_for_it = b"@" * len(raw)
    name = stands_for_it.decode()
    row = {"audio": f"{word}.flac", "text": "ask not"}
    manifest = json.dumps(row, ensure_ascii=encoding.startswith("cp85"))
    packed = archive({f"x/{name}.flac": flac, "x/manifest.jsonl": manifest})
    assert sets.preview_zip(packed.replace(stands_for_it, raw)).utterances == 1
    if word in ("größe", "naïve été"):  # letters of the West are known without a table
        packed = archive({f"{name}.flac": flac, f"{name}.txt": "ask not"})
        sets.import_zip(packed.replace(stands_for_it, raw), "own")
        assert [u.id for u in sets.get("own").utterances] == [word]


def test_a_preview_of_an_archive_keeps_nothing(sets, jfk):
    before = sorted(sets.root.rglob("*"))
    files = {"x/a.flac": jfk.audio.read_bytes(), "x/b.aiff": b"x"}
    manifest = json.dumps({"audio": "a.flac", "text": "ask not", "language": "en-US"})
    preview = sets.preview_zip(archive(files | {"x/manifest.jsonl": manifest}))
    assert (preview.name, preview.utterances, preview.languages) == ("x", 1, {"en": 1})
    assert preview.audio_s == pytest.approx(11, abs=0.1)
    assert [s.name for s in preview.skipped] == ["b.aiff"]
    assert sorted(sets.root.rglob("*")) == before


@pytest.mark.parametrize("name", ["talk.aiff", "talk.caf", "talk.mov", "talk", "talk.raw"])
def test_what_is_uploaded_survives_set_export_import_and_play(tmp_path, jfk, name):
    samples, rate_hz = soundfile.read(jfk.audio, dtype="float32")
    data = io.BytesIO()
    kind = {".caf": "CAF", ".mov": "WAV"}.get(Path(name).suffix, "AIFF")
    soundfile.write(data, samples[:32_000], rate_hz, format=kind)
    recordings, own = RecordingStore(tmp_path), UserSets(tmp_path)
    (kept,) = recordings.add([(name, data.getvalue())])
    kept = recordings.set_reference(kept.id, "ask not")
    own.add("calls", kept, recordings.original_path(kept.id), "en")
    packed = own.export("calls")
    own.delete("calls")
    assert own.import_zip(packed) == "calls"
    (utterance,) = own.get("calls").utterances
    assert utterance.audio.read_bytes() == data.getvalue()
    np.testing.assert_allclose(read_audio(utterance), samples[:32_000], atol=1e-4)


def test_ones_own_set_can_be_put_under_a_condition(sets, shelf, kept):
    sets.add("calls", kept, shelf.original_path(kept.id), "en")
    named = sets.path_of("calls+noise:train@5dB")
    assert named == str(sets.root / "calls") + "+noise:train@5dB"
    assert sets.name_of(named) == "calls+noise:train@5dB"
    noisy = evaluation_sets.by_name(named)
    assert noisy.name == "calls+noise:train@5dB" and noisy.digest != sets.get("calls").digest
    assert sets.path_of("jfk+telephone") == "jfk+telephone"
