"""Immutable results on disk.

    cache/results/<slug>_<key>.json   a finished run; its presence means complete
    cache/pieces/<key>/<name>.json    what is finished of a run that goes on, or was interrupted

Everything is written to a temporary name and renamed, so a reader sees a whole file or none, and
two writers of one piece write the same thing. Nothing is locked.
"""

import json
import os
import re
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path

from whisperq_core.errors import StoreError
from whisperq_core.records import AccuracyRun, SpeedRun, parse

DEFAULT_ROOT = Path(__file__).parent.parent / "cache"
_RESULT = re.compile(r".+_([0-9a-f]{16})\.json")


class Store:
    """Results and pieces below one folder."""

    def __init__(self, root: Path | str | None = None):
        self.root = Path(root or os.environ.get("WHISPERQ_CACHE") or DEFAULT_ROOT)
        self._parsed: dict[Path, tuple[tuple[int, int], AccuracyRun | SpeedRun]] = {}
        self.unreadable: dict[Path, str] = {}
        self._listed: dict[str, tuple[int, int]] = {}
        self._found: list[AccuracyRun | SpeedRun] = []
        # One reader at a time: two sessions that open together would each read everything.
        self._reading = threading.Lock()
        # Rises when `runs` finds something else than before.
        self.version = 0

    @property
    def results(self) -> Path:
        """Where finished runs are."""
        return self.root / "results"

    def _pieces(self, key: str) -> Path:
        return self.root / "pieces" / key

    def keys(self) -> set[str]:
        """Keys of all finished runs, by file name."""
        names = (_RESULT.fullmatch(path.name) for path in self.results.glob("*.json"))
        return {match[1] for match in names if match}

    def get(self, key: str) -> AccuracyRun | SpeedRun | None:
        """The finished run of that key, or None; a damaged file counts as none."""
        for path in self.results.glob(f"*_{key}.json"):
            with suppress(StoreError):
                return self._load(path)
        return None

    def runs(self) -> list[AccuracyRun | SpeedRun]:
        """All finished runs, oldest first; files that cannot be read are named in `unreadable`.

        Only files that changed are read again.
        """
        with self._reading:
            files = self._files()
            if files != self._listed:
                found, unreadable = [], {}
                for name in sorted(files):
                    path = self.results / name
                    try:
                        found.append(self._load(path))
                    except StoreError as error:
                        unreadable[path] = str(error)
                # Replaced as a whole: another session may be looking at them.
                self._found = sorted(found, key=lambda run: (run.created_at, run.key))
                self.unreadable = unreadable
                self._listed, self.version = files, self.version + 1
            return list(self._found)

    def _files(self) -> dict[str, tuple[int, int]]:
        """Names of the results with the time of their last change and their size."""
        found = {}
        with suppress(OSError), os.scandir(self.results) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    found[entry.name] = 0, 0
                    # One that cannot be looked at is named when it cannot be read.
                    with suppress(OSError):
                        stat = entry.stat()
                        found[entry.name] = stat.st_mtime_ns, stat.st_size
        return found

    def _load(self, path: Path) -> AccuracyRun | SpeedRun:
        try:
            stat = path.stat()
            stamp = stat.st_mtime_ns, stat.st_size
            known = self._parsed.get(path)
            if known is None or known[0] != stamp:
                known = stamp, parse(path.read_bytes())
        except OSError as error:
            raise StoreError(f"It cannot be read ({error.strerror}).") from error
        if not path.name.endswith(f"_{known[1].key}.json"):
            raise StoreError("Its contents are not those of its name: it was altered.")
        self._parsed[path] = known
        return known[1]

    def put(self, run: AccuracyRun | SpeedRun) -> Path:
        """Stores a finished run, then removes its pieces."""
        path = self.results / f"{run.slug}.json"
        write(path, run.model_dump_json(indent=1))
        self.drop_pieces(run.key)
        return path

    def drop_pieces(self, key: str) -> None:
        """Removes the pieces of what is finished."""
        shutil.rmtree(self._pieces(key), ignore_errors=True)

    def piece(self, key: str, name: str) -> dict | None:
        """A finished piece of a run, or None; a damaged one counts as none and is made again."""
        try:
            content = json.loads((self._pieces(key) / f"{name}.json").read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def put_piece(self, key: str, name: str, content: dict) -> None:
        """Stores a finished piece of a run."""
        write(self._pieces(key) / f"{name}.json", json.dumps(content))

    def count_pieces(self, key: str, prefix: str) -> int:
        """How many pieces whose name starts with prefix are finished."""
        return len(list(self._pieces(key).glob(f"{prefix}*.json")))


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises StoreError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"The result could not be written to {path.parent} ({error.strerror or error})."
            " Free some space or set WHISPERQ_CACHE to a folder that can be written."
        ) from error
