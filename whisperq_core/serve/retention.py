"""Deletes recordings WHISPERQ_KEEP_DAYS after their upload; 0 keeps them.

Evaluation sets of such recordings stay until a user deletes them.
"""

import math
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from whisperq_core import settings
from whisperq_core.errors import InputError, WhisperQError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.evaluate.store import USERS_FOLDER
from whisperq_core.file_storage import read_file, write_atomically
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_sets import UserSets

_EVERY_S = 3600.0
_MAX_DAYS = 36_500
# Temporary folders this old are from uploads that were cut off.
_MAX_UPLOAD = timedelta(hours=6)
_DAY = timedelta(days=1)
# When a recording was first seen to be near its end: a file each, by the recording's id.
_SIGHTINGS = ".expiring"
# What processes that were killed leave below a user's folder.
_TEMPORARIES = (
    "artefacts/.*.new",
    "artefacts/.*.old",
    "speech/.unpacking-*",
    "pieces/*/.*.tmp",
    "results/.*.tmp",
    "history/.*.tmp",
    "sets/*/.*.tmp",
    "recordings/*/.*.tmp",
)


def retention_days() -> float | None:
    """For how many days recordings are kept; None for ever. InputError where it is no number."""
    value = settings.current().keep_days.strip()
    try:
        days = float(value)
    except ValueError:
        days = math.nan
    if not 0 <= days <= _MAX_DAYS:
        raise InputError(
            f"WHISPERQ_KEEP_DAYS is {value!r}. Set it to a number of days, such as 30, or to 0 to"
            " keep recordings until they are deleted."
        )
    return days or None


def expires_at(recording: Recording) -> datetime | None:
    """When a recording is deleted; None for never."""
    days = retention_days()
    return None if days is None else recording.added_at + timedelta(days=days)


def delete_expired(root: Path, at: datetime | None = None) -> int:
    """Deletes what is over at that time (now) in the shelves of all users; returns how many.

    A recording is deleted where a look at least a day earlier found that its end was near, too: a
    clock that is set forward by a year deletes nothing for a day. A clock that was set back deletes
    nothing early: a recording from the future is kept.
    """
    at, gone = at or utc_now(), 0
    for owner in [root, *(root / USERS_FOLDER).glob("*")]:
        store = RecordingStore(owner)
        for folder in [*store.folder.glob("*"), *UserSets(owner).root.glob(".*.tmp")]:
            ends, sightings = _ends_at(store, folder), owner / _SIGHTINGS
            if ends is not None and _is_due(folder, ends, at, sightings):
                shutil.rmtree(folder, ignore_errors=True)
                gone += not folder.exists()
        _remove_left_behind(owner, at)
    return gone


def _is_due(folder: Path, ends: datetime, at: datetime, sightings: Path) -> bool:
    """Whether it is over, and a day ago was known to be over by now."""
    if folder.suffix == ".tmp":
        return ends <= at
    sighting = sightings / folder.name
    if at < ends - _DAY:
        sighting.unlink(missing_ok=True)
        return False
    try:
        first = datetime.fromisoformat(read_file(sighting, 100).decode())
    except (OSError, ValueError):
        first = None
    if first is None or first > at:
        write_atomically(sighting, at.isoformat())
        return False
    if ends <= at and at - first >= _DAY:
        sighting.unlink(missing_ok=True)
        return True
    return False


def forget_sightings(root: Path) -> None:
    """Makes every recording wait for another day, as after a change of the clock."""
    for owner in [root, *(root / USERS_FOLDER).glob("*")]:
        shutil.rmtree(owner / _SIGHTINGS, ignore_errors=True)


def _remove_left_behind(owner: Path, at: datetime) -> None:
    """Removes temporary files and folders that are hours old: of processes that were killed."""
    for pattern in _TEMPORARIES:
        for path in owner.glob(pattern):
            try:
                if datetime.fromtimestamp(path.lstat().st_mtime, UTC) + _MAX_UPLOAD > at:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            except OSError:
                continue


def _ends_at(store: RecordingStore, folder: Path) -> datetime | None:
    if recording := store.get(folder.name):
        return expires_at(recording)
    # Damaged: nobody sees it, so nobody could delete it.
    after = (
        _MAX_UPLOAD if folder.suffix == ".tmp" else timedelta(days=retention_days() or _MAX_DAYS)
    )
    try:
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC) + after
    except OSError:  # deleted meanwhile, or a loop of links
        return None


@lru_cache
def start_hourly_deletion(root: Path, clock: Callable[[], datetime] = utc_now) -> None:
    """Deletes now and every hour, as long as this process runs, whether or not anybody looks.

    clock: tells the time that recordings are judged by.
    """
    threading.Thread(
        target=_delete_hourly, args=(root, clock), name="retention", daemon=True
    ).start()


def _delete_hourly(root: Path, clock: Callable[[], datetime]) -> None:
    offset_s = None
    while True:
        try:
            at = clock()
            # Of the clock, relative to one that nobody can set.
            last_s, offset_s = offset_s, at.timestamp() - _running_s()
            if last_s is not None and abs(offset_s - last_s) > _EVERY_S:
                forget_sightings(root)
            delete_expired(root, at)
        except (WhisperQError, OSError) as error:
            # The pages say it, too; nothing is deleted by a guess.
            print(f"Old recordings are not deleted: {error}", flush=True)
        time.sleep(_EVERY_S)


def _running_s() -> float:
    """Seconds since the machine started, suspension included where the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
