"""Values that are slow to derive from results, stored in one file for the next process.

Each is stored under a digest of all that it depends on: what it is derived from, and the code that
derives it. So an outdated one is never asked for, and nothing has to be invalidated. Whatever
happens to the file (it is deleted, cut, altered, locked by another process, or in a folder that
cannot be written), values are only missing, and are derived again.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

FILE_NAME = "derived.sqlite"
# Above this the older half is removed; what is still needed of it is derived and stored again.
MAX_BYTES = 200 * 10**6
_KEYS_PER_QUERY = 500
# How long a process that writes is waited for. To derive a value again takes about as long.
_LOCKED_TIMEOUT_S = 1.0
_TABLE = """CREATE TABLE IF NOT EXISTS derived
    (key TEXT PRIMARY KEY, seal BLOB NOT NULL, value BLOB NOT NULL)"""
# Rows are numbered in the order in which they came.
_OLDER_HALF = """SELECT position FROM (
    SELECT rowid AS position, SUM(LENGTH(value)) OVER (ORDER BY rowid DESC) AS bytes FROM derived
    ) WHERE bytes > ? ORDER BY position DESC LIMIT 1"""


def digest_of(*parts: bytes | str) -> str:
    """A key: the SHA-256 in hex of the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()


@cache
def code_digest(*modules: ModuleType) -> str:
    """A digest of the modules' files, as a part of keys: other code derives other values."""
    return digest_of(*(Path(str(module.__file__)).read_bytes() for module in modules))


class DerivedValues:
    """The values in a folder's file, by key.

    shared: others that may be read as well, but are not written, as those of all users are for one.
    """

    def __init__(self, folder: Path, shared: "DerivedValues | None" = None):
        self.path, self.shared = folder / FILE_NAME, shared

    def get(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The stored values of these keys."""
        wanted = list(dict.fromkeys(keys))
        values = self.shared.get(wanted) if self.shared else {}
        missing = (key for key in wanted if key not in values)
        with suppress(sqlite3.Error, OSError):
            if self.path.is_file():
                with closing(self._connect("ro")) as database:
                    while some := list(islice(missing, _KEYS_PER_QUERY)):
                        values |= _selected(database, some)
        return values

    def put(self, values: Mapping[str, bytes]) -> None:
        """Stores values, where that is possible."""
        for _ in range(2 if values else 0):
            try:
                self._write(values)
                return
            except (sqlite3.OperationalError, OSError):  # locked, read-only, full
                return
            except sqlite3.DatabaseError:  # damaged, or no database
                for path in (self.path, self.path.with_name(f"{FILE_NAME}-journal")):
                    with suppress(OSError):
                        path.unlink()

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=_LOCKED_TIMEOUT_S)

    def _write(self, values: Mapping[str, bytes]) -> None:
        with closing(self._connect("rwc")) as database, database:
            # What a power failure leaves half written is told by its seal.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_TABLE)
            rows = [(key, _seal(key, value), value) for key, value in values.items()]
            database.executemany("INSERT OR REPLACE INTO derived VALUES (?, ?, ?)", rows)
            [stored_bytes] = database.execute("SELECT SUM(LENGTH(value)) FROM derived").fetchone()
            if stored_bytes > MAX_BYTES:
                older = database.execute(_OLDER_HALF, [MAX_BYTES // 2]).fetchone() or (0,)
                database.execute("DELETE FROM derived WHERE rowid <= ?", older)


def _selected(database: sqlite3.Connection, keys: list[str]) -> dict[str, bytes]:
    marks = ", ".join("?" * len(keys))
    rows = database.execute(f"SELECT key, seal, value FROM derived WHERE key IN ({marks})", keys)
    return {
        key: value
        for key, seal, value in rows
        if isinstance(value, bytes) and seal == _seal(key, value)
    }


def _seal(key: str, value: bytes) -> bytes:
    return hashlib.sha256(key.encode() + value).digest()
