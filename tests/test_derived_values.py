import sqlite3
import subprocess
import sys
import time

import pytest

from whisperq_core import derived_values, errors, plurals
from whisperq_core.derived_values import DerivedValues, code_digest, digest_of

VALUES = {digest_of(str(number)): bytes([number]) * 1000 for number in range(40)}


@pytest.fixture
def filled(tmp_path) -> DerivedValues:
    derived = DerivedValues(tmp_path)
    derived.put(VALUES)
    return derived


def test_what_one_stores_another_gets(filled):
    another = DerivedValues(filled.path.parent)
    assert another.get(VALUES) == VALUES
    assert another.get([*list(VALUES)[:2], "unknown"]) == dict(list(VALUES.items())[:2])
    first = next(iter(VALUES))
    another.put({first: b"other"})
    assert filled.get(VALUES) == VALUES | {first: b"other"}


def test_nothing_is_there_before_it_is_stored_and_nothing_is_made_by_asking(tmp_path):
    assert DerivedValues(tmp_path).get(["a"]) == {}
    DerivedValues(tmp_path).put({})
    assert list(tmp_path.iterdir()) == []


def test_keys_depend_on_where_parts_end_and_on_the_code():
    assert digest_of("ab", "c") != digest_of("a", "bc") != digest_of("abc")
    assert digest_of("a", b"b") == digest_of(b"a", "b")
    assert code_digest(errors) != code_digest(plurals) != code_digest(errors, plurals)


@pytest.mark.parametrize("where", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_an_altered_file_gives_right_values_or_none(filled, where):
    content = bytearray(filled.path.read_bytes())
    position = int(where * len(content))
    for i in range(position, min(position + 64, len(content))):
        content[i] ^= 0xA5
    filled.path.write_bytes(content)
    got = filled.get(VALUES)
    assert got.items() <= VALUES.items()
    filled.put({key: value for key, value in VALUES.items() if key not in got})
    filled.put({"more": b"more"})
    assert filled.get(["more"]) == {"more": b"more"}


def test_a_value_under_another_key_counts_as_none(filled):
    first, second = list(VALUES)[:2]
    with sqlite3.connect(filled.path) as database:
        database.execute("DELETE FROM derived WHERE key = ?", [first])
        database.execute("UPDATE derived SET key = ? WHERE key = ?", [first, second])
    database.close()
    assert filled.get([first, second]) == {}


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(5000)])
def test_what_is_no_database_is_replaced(tmp_path, content):
    derived = DerivedValues(tmp_path)
    derived.path.write_bytes(content)
    assert derived.get(VALUES) == {}
    derived.put(VALUES)
    assert derived.get(VALUES) == VALUES


@pytest.mark.parametrize("folder", ["/proc", "/dev/null", "nowhere"])
def test_a_folder_that_cannot_be_written_holds_nothing(tmp_path, folder):
    derived = DerivedValues(tmp_path / folder)
    derived.put(VALUES)
    assert derived.get(VALUES) == {}
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_cannot_be_written_is_still_read(filled):
    filled.path.chmod(0o400)
    assert filled.get(VALUES) == VALUES


def test_a_locked_file_is_not_waited_for_long(filled):
    holder = sqlite3.connect(filled.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    start = time.monotonic()
    assert filled.get(VALUES) == {}
    filled.put({"more": b"more"})
    assert time.monotonic() - start < 10
    holder.close()
    assert filled.get([*VALUES, "more"]) == VALUES


STORE_SOME = """
import sys
from pathlib import Path
from whisperq_core.derived_values import DerivedValues
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 25):
    DerivedValues(Path(sys.argv[1])).put({str(number): b"%d" % number})
"""


def test_processes_that_store_at_once_lose_nothing(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", STORE_SOME, str(tmp_path), str(first)])
        for first in (0, 25, 50)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    wanted = {str(number): b"%d" % number for number in range(75)}
    assert DerivedValues(tmp_path).get(wanted) == wanted


def test_the_older_half_goes_when_there_is_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(derived_values, "MAX_BYTES", 20_000)
    derived, keys = DerivedValues(tmp_path), list(VALUES)
    for key, value in VALUES.items():
        derived.put({key: value})
        assert len(derived.get(VALUES)) <= 20
    assert derived.get(keys[-10:]).keys() == set(keys[-10:])
    assert derived.path.stat().st_size < 60_000


def test_shared_values_are_read_and_not_written(filled, tmp_path):
    (tmp_path / "own").mkdir()
    own = DerivedValues(tmp_path / "own", filled)
    own.put({"more": b"more"})
    assert own.get([*VALUES, "more"]) == VALUES | {"more": b"more"}
    assert filled.get(["more"]) == {}
