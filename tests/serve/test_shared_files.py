"""What several processes, foreign files and hostile records do to recordings, sets and history."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from whisperq_core.errors import EvalSetError, StoreError
from whisperq_core.evaluate import history
from whisperq_core.evaluate.records import utc_now
from whisperq_core.evaluate.store import Store
from whisperq_core.file_storage import exclusive, read_file
from whisperq_core.quantize import model_export
from whisperq_core.serve import quota
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.settings import PROJECT
from whisperq_core.speech.isolated_decoder import AudioSummary, decode_files

ADDS = """
import sys
from pathlib import Path
from tests.serve.test_shared_files import recording
from whisperq_core.serve.user_sets import UserSets
root, first = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 12):
    UserSets(root).add("calls", recording(number), root / "talk.wav", "en")
"""
REMOVES = """
import sys
from pathlib import Path
from tests.serve.test_shared_files import recording
from whisperq_core.serve.user_sets import UserSets, _id_of
root = Path(sys.argv[1])
sets = UserSets(root)
print("ready", flush=True)
sys.stdin.readline()
for number in range(20, 60):
    sets.add("calls", recording(number), root / "talk.wav", "en")
    sets.remove("calls", _id_of(recording(number)))
"""
EXPORTS = """
import io, json, sys, zipfile
from pathlib import Path
from whisperq_core.serve.user_sets import UserSets
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    archive = zipfile.ZipFile(io.BytesIO(UserSets(Path(sys.argv[1])).export("calls")))
    rows = [json.loads(line) for line in archive.read("calls/manifest.jsonl").splitlines()]
    missing = {f"calls/{row['audio']}" for row in rows} - set(archive.namelist())
    assert not missing, missing
"""
COUNTS = """
import sys
from pathlib import Path
from whisperq_core.file_storage import exclusive, write_atomically
folder = Path(sys.argv[1]) / "counters"
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    with exclusive(folder):
        path = folder / "count"
        write_atomically(path, str(int(path.read_text()) + 1 if path.exists() else 1))
"""


def recording(number: int) -> Recording:
    sound = AudioSummary(duration_s=1.0, silent=False, outline=())
    return Recording(
        id=f"{number:016x}"[::-1], name=f"{number}.wav", added_at=utc_now(), sound=sound,
        reference="ask not",
    )  # fmt: skip


def side_by_side(root: Path, *codes: tuple[str, int]) -> None:
    """Runs each code, with its number, in a process of its own; all begin together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(number)],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for code, number in codes
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0


@pytest.fixture
def talk(tmp_path, jfk) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(jfk.audio.read_bytes())
    return path


def test_processes_that_add_to_one_set_lose_nothing(tmp_path, talk):
    side_by_side(tmp_path, (ADDS, 0), (ADDS, 100))
    assert len(UserSets(tmp_path).rows("calls")) == 24


def test_a_set_is_exported_as_a_whole_while_it_is_changed(tmp_path, talk):
    UserSets(tmp_path).add("calls", recording(1), talk, "en")
    side_by_side(tmp_path, (REMOVES, 0), (EXPORTS, 0))


def test_processes_that_change_one_file_count_every_change(tmp_path):
    side_by_side(tmp_path, *((COUNTS, number) for number in range(3)))
    assert (tmp_path / "counters" / "count").read_text() == "120"


def test_a_folder_that_cannot_be_locked_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="could not be changed"),
        exclusive(tmp_path / "file" / "x"),
    ):
        pass


MANY = {
    "a result": json.dumps({"measures": "accuracy", "utterances": [{}] * 800_000}),
    "other members": "{" + ",".join(f'"a{n}":1' for n in range(300_000)) + "}",
    "a list of lists": "[" * 50 + "[]," * 500_000,
}


@pytest.mark.parametrize("content", MANY.values(), ids=MANY.keys())
def test_records_of_megabytes_take_no_gigabytes(tmp_path, content):
    """In a process with 600 MB, where each used to end the app."""
    folder = tmp_path / "artefacts" / "x"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("")
    votes = tmp_path / "sets" / "calls" / "votes"
    votes.mkdir(parents=True)
    places = [folder / "recipe.json", votes / "a.json", tmp_path / "history" / "a.json"]
    places += [tmp_path / "results" / "x_0123456789abcdef.json"]
    places += [
        tmp_path / "recordings" / ("0" * 16) / name for name in ("about.json", "played.flac")
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    code = f"""
import resource
from pathlib import Path
from whisperq_core.evaluate import history
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import model_export
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech.isolated_decoder import _limit_memory
_limit_memory(600 << 20)
root = Path({str(tmp_path)!r})
store = Store(root)
assert store.runs() == [] and len(store.unreadable) == 1
assert model_export.exported_models(root) == {{}}
assert UserSets(root).votes("calls") == []
assert RecordingStore(root).all() == []
assert not history.read(root).entries
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_pipes_devices_and_loops_are_not_read(tmp_path):
    vote = tmp_path / "sets" / "calls" / "votes" / "a.json"
    about = tmp_path / "recordings" / ("0" * 16) / "about.json"
    entry = tmp_path / "history" / "a.json"
    exported = tmp_path / "artefacts" / "x" / "recipe.json"
    for path in (vote, about, entry, exported):
        path.parent.mkdir(parents=True)
    (about.parent / "played.flac").write_bytes(b"")
    (exported.parent / "SHA256SUMS").write_text("")
    for make in (os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to(p)):
        for path in (vote, about, entry, exported):
            make(path)
        assert UserSets(tmp_path).votes("calls") == []
        assert RecordingStore(tmp_path).all() == []
        assert list(history.read(tmp_path).unreadable) == [entry]
        assert model_export.exported_models(tmp_path) == {}
        for path in (vote, about, entry, exported):
            with pytest.raises(OSError):
                read_file(path)
            path.unlink()


def test_sets_count_toward_what_a_user_may_store(tmp_path, talk, monkeypatch):
    sets = UserSets(tmp_path)
    sets.add("calls", recording(1), talk, "en")
    packed = sets.export("calls")
    used = quota.MAX_BYTES - quota.free_bytes(tmp_path)
    assert used > talk.stat().st_size
    monkeypatch.setattr(quota, "MAX_BYTES", used + 1000)
    with pytest.raises(EvalSetError, match=r"larger|may take up to"):
        sets.import_zip(packed, "again")
    with pytest.raises(EvalSetError, match="may take up to"):
        sets.add("more", recording(2), talk, "en")
    (refused,) = RecordingStore(tmp_path).add([("a.wav", talk.read_bytes())])
    assert "may take up to" in str(refused)
    assert sets.names() == ["calls"] and sorted(p.name for p in sets.root.iterdir()) == ["calls"]


def test_a_set_is_read_without_decoding(tmp_path, talk, monkeypatch):
    sets = UserSets(tmp_path)
    sets.add("calls", recording(1), talk, "en")
    sets.import_zip(sets.export("calls"), "imported")

    def decoded(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("whisperq_core.speech.isolated_decoder.IsolatedDecoder.decode", decoded)
    monkeypatch.setattr("whisperq_core.speech.decode.file_duration_s", decoded)
    assert [u.duration_s for u in sets.get("calls").utterances] == [1.0]
    assert sets.get("imported").utterances[0].duration_s == pytest.approx(11, abs=0.1)


def test_an_export_leaves_out_what_links_lead_to(tmp_path, talk):
    sets = UserSets(tmp_path)
    sets.add("calls", recording(1), talk, "en")
    (tmp_path / "secret").write_text("secret")
    folder = sets.folder("calls")
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    (folder / "b").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    names = zipfile.ZipFile(io.BytesIO(sets.export("calls"))).namelist()
    assert sorted(Path(name).suffix for name in names) == [".jsonl", ".wav"]


def test_half_a_surrogate_pair_is_a_sentence(tmp_path, talk):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(talk, "a.wav")
        archive.writestr("manifest.jsonl", '{"audio": "a.wav", "text": "\\ud800"}')
    with pytest.raises(EvalSetError, match="is not JSON"):
        UserSets(tmp_path).import_zip(packed.getvalue(), "calls")


def test_a_full_disk_is_not_the_recordings_fault(talk):
    with pytest.raises(StoreError, match="Free some space"):
        decode_files([(talk, Path("/dev/full"))])


def test_a_failed_add_leaves_nothing(tmp_path, talk, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    sets = UserSets(tmp_path)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StoreError, match="No space left"):
        sets.add("calls", recording(1), talk, "en")
    assert list(sets.root.iterdir()) == []


def test_other_users_of_the_machine_cannot_read_recordings(tmp_path, talk):
    before = os.umask(0o022)
    RecordingStore(tmp_path).add([("a.wav", talk.read_bytes())])
    UserSets(tmp_path).add("calls", recording(1), talk, "en")
    os.umask(before)
    for folder in (tmp_path / "recordings", tmp_path / "sets"):
        assert folder.stat().st_mode & 0o077 == 0


def test_the_pieces_that_another_process_is_writing_stay(store: Store):
    store.put_piece("0" * 16, "batch-0000", {})
    writing = store.root / "pieces" / ("0" * 16) / ".batch-0001.json.0.tmp"
    writing.write_text("half")
    store.drop_pieces("0" * 16)
    assert writing.exists() and store.count_pieces("0" * 16, "batch") == 0
    store.put_piece("0" * 16, "batch-0001", {})
    assert store.count_pieces("0" * 16, "batch") == 1
