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
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.evaluate.store import USERS_FOLDER
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_sets import UserSets

_EVERY_S = 3600.0
_MAX_DAYS = 36_500
# Temporary folders this old are from uploads that were cut off.
_MAX_UPLOAD = timedelta(hours=6)


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

    A clock that was set back deletes nothing early: a recording from the future is kept.
    """
    at, gone = at or utc_now(), 0
    for owner in [root, *(root / USERS_FOLDER).glob("*")]:
        store = RecordingStore(owner)
        for folder in [*store.folder.glob("*"), *UserSets(owner).root.glob(".*.tmp")]:
            ends = _ends_at(store, folder)
            if ends is not None and ends <= at:
                shutil.rmtree(folder, ignore_errors=True)
                gone += not folder.exists()
    return gone


def _ends_at(store: RecordingStore, folder: Path) -> datetime | None:
    if recording := store.get(folder.name):
        return expires_at(recording)
    # Damaged: nobody sees it, so nobody could delete it.
    after = (
        _MAX_UPLOAD if folder.suffix == ".tmp" else timedelta(days=retention_days() or _MAX_DAYS)
    )
    try:
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC) + after
    except FileNotFoundError:  # meanwhile
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
    while True:
        try:
            delete_expired(root, clock())
        except (InputError, OSError) as error:
            # The pages say it, too; nothing is deleted by a guess.
            print(f"Old recordings are not deleted: {error}", flush=True)
        time.sleep(_EVERY_S)
