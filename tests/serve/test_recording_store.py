import pytest

from whisperq_core.errors import AudioError, InputError, StoreError
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import quota
from whisperq_core.serve.recording_store import RecordingStore, _display_name

FP32 = TranscriptionConfig("tiny.en", recipe("fp32"), "en")


@pytest.fixture
def shelf(tmp_path):
    return RecordingStore(tmp_path)


@pytest.fixture
def kept(shelf, jfk):
    return shelf.add([("jfk.flac", jfk.audio.read_bytes())])[0]


def heard(text: str) -> Transcription:
    return Transcription(
        text=text,
        words=(),
        language="en",
        detected=False,
        audio_s=11.0,
        wall_s=1.0,
        weights_bytes=10,
        fp32_bytes=20,
        silent=False,
        looped=False,
    )


def test_what_is_given_is_kept_once_and_bad_files_say_why(shelf, jfk):
    data = jfk.audio.read_bytes()
    files = [("jfk.flac", data), ("../notes.mp3", b"no sound"), ("again.flac", data)]
    first, bad, again = shelf.add(files[:2]) + shelf.add(files[2:])
    assert first == again and shelf.all() == [first]
    assert isinstance(bad, AudioError) and str(bad).startswith("notes.mp3")
    assert shelf.original_path(first.id).read_bytes() == data
    assert shelf.playback_path(first.id).is_file()
    # Nothing is left of what was refused.
    assert [path.name for path in shelf.folder.iterdir()] == [first.id]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\talks\\\\a.wav", "a.wav"),
        ("a\n\x00\u202egnp.wav\udcff", "a   gnp.wav"),
        ("/", "recording"),
        ("x" * 500, "x" * 200),
    ],
)
def test_a_name_is_one_line_without_folders(name, shown):
    assert _display_name(name) == shown


def test_two_of_the_same_file_at_once_are_one(shelf, jfk):
    data = jfk.audio.read_bytes()
    found = shelf.add([("a.flac", data), ("b.flac", data)])
    assert {one.id for one in found} == {shelf.all()[0].id} and len(shelf.all()) == 1


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded(shelf, monkeypatch):
    monkeypatch.setattr("whisperq_core.serve.recording_store.MAX_BYTES", 3)
    assert "larger" in str(shelf.add([("long.wav", b"four")])[0]) and not shelf.all()


def test_references_and_what_was_heard_stay(shelf, kept):
    shelf.set_reference(kept.id, "  ask not\nwhat ")
    shelf.put_transcription(kept.id, FP32, heard("ask"))
    after = RecordingStore(shelf.folder.parent)
    assert after.get(kept.id).reference == "ask not what"
    assert after.transcription(kept.id, FP32).text == "ask"
    assert (
        after.transcription(kept.id, TranscriptionConfig("tiny.en", recipe("bf16"), "en")) is None
    )


def test_each_owner_lists_their_own_and_those_of_nobody(shelf, kept, jfk):
    data = [("mine.flac", jfk.audio.read_bytes())]
    (mine,), (other,) = shelf.add(data, "me"), shelf.add(data, "another")
    assert len({kept.id, mine.id, other.id}) == 3  # deleting one leaves the others
    assert {one.id for one in shelf.all("me")} == {kept.id, mine.id}
    assert len(shelf.all()) == 3 and shelf.get(other.id).owner == "another"


def test_a_draft_is_no_reference_and_goes_when_one_is_saved(shelf, kept):
    assert shelf.set_draft(kept.id, " ask  not ").draft == "ask not"
    assert shelf.get(kept.id).reference == ""
    saved = shelf.set_reference(kept.id, "ask not", "fp32")
    assert (saved.reference, saved.draft, saved.reference_from) == ("ask not", "", "fp32")
    assert shelf.set_reference(kept.id, "ask not what").reference_from == "fp32"
    assert shelf.set_reference(kept.id, "").reference_from == ""
    with pytest.raises(InputError):
        shelf.set_draft("0" * 16, "gone")


def test_what_is_deleted_is_gone_and_late_transcripts_do_not_bring_it_back(shelf, kept):
    shelf.delete(kept.id)
    shelf.put_transcription(kept.id, FP32, heard("ask"))
    assert shelf.all() == [] and list(shelf.folder.iterdir()) == []
    with pytest.raises(InputError, match="deleted"):
        shelf.set_reference(kept.id, "ask")


@pytest.mark.parametrize("id", ["../results", "", "0" * 15, "/etc", "0" * 16 + "/.."])
def test_what_is_no_id_reaches_no_other_folder(shelf, id):
    assert shelf.get(id) is None
    with pytest.raises(InputError):
        shelf.delete(id)


def test_a_damaged_recording_is_left_out(shelf, kept):
    (shelf.folder / kept.id / "about.json").write_text("{")
    assert shelf.all() == []


def test_every_choice_of_a_listener_counts():
    others = [
        TranscriptionConfig("base", recipe("fp32"), "en"),
        TranscriptionConfig("tiny.en", recipe("bf16"), "en"),
        TranscriptionConfig("tiny.en", recipe("fp32")),
        TranscriptionConfig("tiny.en", recipe("fp32"), "en", "translate"),
        TranscriptionConfig("tiny.en", recipe("fp32"), "en", device="cuda"),
    ]
    assert len({one.key for one in (FP32, *others)}) == 6


def test_recordings_have_an_end(shelf, kept, jfk, monkeypatch):
    other = [("b.flac", jfk.audio.read_bytes() + b" ")]
    used = quota.MAX_BYTES - quota.free_bytes(shelf.root)
    monkeypatch.setattr(quota, "MAX_BYTES", used + 1)
    (refused,) = shelf.add(other)
    assert "b.flac is not stored" in str(refused) and shelf.all() == [kept]
    shelf.delete(kept.id)
    assert shelf.add(other) == shelf.all() != []


def test_a_full_disk_leaves_nothing_half_kept(shelf, jfk, monkeypatch):
    def full(*_):
        raise StoreError("The disk is full.")

    monkeypatch.setattr("whisperq_core.serve.recording_store.write_atomically", full)
    with pytest.raises(StoreError):
        shelf.add([("jfk.flac", jfk.audio.read_bytes()), ("bad.wav", b"no sound")])
    assert list(shelf.folder.iterdir()) == []
