"""What several users do to one cache at the same time, for `benchmarks.soak`.

    python -m benchmarks.soak_users add|import|export|expire CACHE [ARGUMENT]

Each action is a process of its own. What it prints, line by line, is a promise that the soak holds
the cache to: `added ID SHA256`, `whole`. What came out otherwise is `altered NAME`.
"""

# Imported here, as it is when a name is looked up: nobody may not read root's Python.
import encodings.idna  # noqa: F401
import hashlib
import http.client
import json
import os
import pickle
import socket
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import psutil

from benchmarks.networks import PROJECT
from whisperq_core.errors import WhisperQError
from whisperq_core.serve import retention
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets

SET = "calls"
# Recordings that a user adds, imports of an archive, and exports of a set.
ADDS, IMPORTS, EXPORTS = 6, 8, 8
NOBODY = 65_534


def start(action: str, cache: Path, argument: str = "", **environment: str) -> subprocess.Popen:
    """The action in a process of its own, whose output is read at its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_users", action, str(cache), argument],
        cwd=PROJECT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def add(cache: Path, first: str) -> None:
    """Uploads recordings, beginning with that one of the shortest, and adds them to the set."""
    store, sets = RecordingStore(cache), UserSets(cache)
    chosen = sorted(
        evaluation_sets.by_name("test-clean-excerpt").utterances, key=lambda u: u.duration_s
    )
    for utterance in chosen[int(first) : int(first) + ADDS]:
        (stored,) = store.add([(f"{utterance.id}.flac", utterance.audio.read_bytes())])
        if not isinstance(stored, Recording):
            raise stored
        recording = store.set_reference(stored.id, utterance.reference)
        original = store.original_path(recording.id)
        sets.add(SET, recording, original, "en")
        print(f"added {recording.id[:8]} {_digest(utterance.audio.read_bytes())}", flush=True)


def import_(cache: Path, archive: str) -> None:
    """Imports an archive under new names, and deletes all but the last of them."""
    sets, data = UserSets(cache), Path(archive).read_bytes()
    for number in range(IMPORTS):
        name = sets.import_zip(data, f"imported {number}")
        print("whole" if digests(sets, name) == archived(data) else f"altered {name}", flush=True)
        if number < IMPORTS - 1:
            sets.delete(name)


def export(cache: Path, expected: str) -> None:
    """Exports the set again and again; each archive has to have what the file says."""
    wanted = archived(Path(expected).read_bytes())
    for _ in range(EXPORTS):
        packed = archived(UserSets(cache).export(SET))
        print("whole" if packed == wanted else f"altered {SET}", flush=True)


def expire(cache: Path, _: str) -> None:
    """Deletes the recordings whose time is over, as the app does every hour."""
    print(f"deleted {retention.delete_expired(cache)}")


def digests(sets: UserSets, name: str) -> dict[str, str]:
    """The sha256 of each recording of a set, as its file is now, by id."""
    folder, rows = sets.folder(name), sets.rows(name)
    return {row["id"]: _digest((folder / row["audio"]).read_bytes()) for row in rows}


def archived(data: bytes) -> dict[str, str]:
    """The same of an exported set."""
    archive = zipfile.ZipFile(BytesIO(data))
    (manifest,) = (name for name in archive.namelist() if name.endswith("/manifest.jsonl"))
    rows = [json.loads(line) for line in archive.read(manifest).splitlines()]
    folder = manifest.rpartition("/")[0]
    return {row["id"]: _digest(archive.read(f"{folder}/{row['audio']}")) for row in rows}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seen_by_another_user(cache: Path, processes: Iterable[psutil.Process]) -> list[str]:
    """What a process of the system's user nobody can read, change or be told of.

    processes: of the app, whose ports it tries. Only the system's root can ask this.
    """
    ports = set()
    for process in processes:
        with suppress(psutil.Error):
            ports |= {c.laddr.port for c in process.net_connections() if c.status == "LISTEN"}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer = _seen(cache, ports)
        except Exception as error:
            answer = RuntimeError(f"Looking as another user failed: {error!r}")
        os.write(writing, pickle.dumps(answer)[: 1 << 16])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _seen(cache: Path, ports: set[int]) -> list[str]:
    """As the user that this process is."""
    private = [cache / name for name in ("recordings", "sets", "users")]
    keys: list[Path] = []
    for folder in Path(tempfile.gettempdir()).glob("whisperq-*"):
        with suppress(OSError):  # another app's, which has just ended
            keys += folder.glob("*.key")
    tries: list[tuple[str, Callable[[], object]]] = [
        *((f"reads {path.name}", lambda path=path: [*path.iterdir()]) for path in private),
        *((f"reads {path}", lambda path=path: path.read_bytes()) for path in keys),
        *((f"writes to {path}", lambda path=path: _write(path)) for path in (cache, *private)),
        *((f"writes to {n}", lambda n=n: _write(cache / n)) for n in ("results", "pieces")),
        *((f"is told by port {port}", lambda port=port: _ask(port)) for port in sorted(ports)),
    ]
    seen = []
    for name, attempt in tries:
        with suppress(OSError, http.client.HTTPException):
            attempt()
            seen.append(name)
    return seen


def _write(folder: Path) -> None:
    (folder / "of-nobody").write_text("")


def _ask(port: int) -> None:
    """Raises OSError or HTTPException where the port tells somebody without a key nothing."""
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with suppress(OSError, http.client.HTTPException):
        plain.request("GET", "/")
        if plain.getresponse().status == http.HTTPStatus.OK:
            return
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=2) as raw,
        context.wrap_socket(raw) as connection,
    ):
        # Dask's workers and schedulers greet whoever may connect.
        if not connection.recv(1):
            raise ConnectionError("closed")


def main() -> None:
    """Does one action; what WhisperQ refuses is a sentence."""
    action, cache, argument = sys.argv[1:]
    actions = {"add": add, "import": import_, "export": export, "expire": expire}
    try:
        actions[action](Path(cache), argument)
    except WhisperQError as error:
        print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    main()
