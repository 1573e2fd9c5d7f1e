"""Who ran what, when, and for how long: one small file for each evaluation or export that ended.

    cache/history/<time>_<id>.json

The process that does the work writes its entry once, when the work ends. Entries are only for this
history: results are in the store, with or without an entry.
"""

import getpass
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from whisperq_core.errors import Cancelled, StoreError, WhisperQError
from whisperq_core.evaluate.records import Run
from whisperq_core.file_storage import check_json, read_file, write_atomically
from whisperq_core.machine import Machine, this_machine
from whisperq_core.whisper.protocols import STUDY, protocol_label

FOLDER = "history"
Outcome = Literal["done", "failed", "stopped"]
DONE: Outcome = "done"
FAILED: Outcome = "failed"
STOPPED: Outcome = "stopped"
Kind = Literal["evaluation", "export"]
EVALUATION: Kind = "evaluation"
EXPORT: Kind = "export"
# The layout of an entry; an older program skips what a newer one wrote.
_SCHEMA: Literal[1] = 1
_MAX_ENTRY_BYTES = 100_000


class WorkItem(BaseModel):
    """An evaluation or an export, by the names the user gave; an export has no eval_set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    model: str
    recipe: str
    eval_set: str | None = None
    measures: str | None = None
    protocol: str = STUDY.name
    device: str = "cpu"
    threads: int | None = None


class Entry(BaseModel):
    """The entry of one work item.

    who: the user. took_s: wall time in seconds, loading included. message: why it failed. key: of
    the result, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = _SCHEMA
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    who: str
    work: WorkItem
    started_at: datetime
    took_s: float
    outcome: Outcome
    message: str = ""
    key: str | None = None
    machine: Machine


@dataclass(frozen=True)
class History:
    """Entries, newest first, and why a file could not be read, by its path."""

    entries: tuple[Entry, ...]
    unreadable: dict[Path, str]


@dataclass
class PendingEntry:
    """What the work under way contributes to its entry: the key of its result."""

    key: str | None = None


def current_user() -> str:
    """The login name of the process's user; “unknown” where the system does not provide one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def write_entry(root: Path, entry: Entry) -> None:
    """Stores an entry below root; warns where it cannot: a full disk must not fail the work."""
    name = f"{entry.started_at:%Y%m%dT%H%M%S%f}_{entry.id}.json"
    try:
        write_atomically(root / FOLDER / name, entry.model_dump_json(indent=1))
    except StoreError as error:
        warnings.warn(f"This job could not be added to the history: {error}", stacklevel=2)


@contextmanager
def record(root: Path, work: WorkItem, who: str | None = None) -> Iterator[PendingEntry]:
    """Writes an entry when the block ends, however it ends; exceptions are raised again.

    The block sets the yielded entry's key. who: the user; None is `current_user`.
    """
    pending, started_at, start = PendingEntry(), datetime.now(UTC), time.perf_counter()
    outcome: Outcome = DONE
    message = ""
    try:
        yield pending
    except (Cancelled, KeyboardInterrupt):
        outcome, message = STOPPED, "Finished pieces are kept."
        raise
    except WhisperQError as error:
        outcome, message = FAILED, str(error)
        raise
    except BaseException as error:
        outcome, message = FAILED, f"Unexpected error ({type(error).__name__})."
        raise
    finally:
        entry = Entry(
            who=who or current_user(),
            work=work,
            started_at=started_at,
            took_s=round(time.perf_counter() - start, 3),
            outcome=outcome,
            message=message,
            key=pending.key,
            machine=this_machine(),
        )
        write_entry(root, entry)


def read(root: Path) -> History:
    """All entries below root; files that are not entries are skipped, and named in the result."""
    entries, unreadable = [], {}
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            content = read_file(path, _MAX_ENTRY_BYTES)
            check_json(content)
            entries.append(Entry.model_validate_json(content))
        except OSError as error:
            unreadable[path] = f"It cannot be read ({error.strerror})."
        except (ValueError, RecursionError):
            unreadable[path] = "It is damaged, or was written by another version of WhisperQ."
    entries.sort(key=lambda entry: entry.started_at, reverse=True)
    return History(tuple(entries), unreadable)


def runs_without_entry(runs: Iterable[Run], entries: Iterable[Entry]) -> list[Run]:
    """Runs whose key is in no entry, newest first: shipped ones, or older than the history."""
    recorded = {entry.key for entry in entries}
    others = [run for run in runs if run.key not in recorded]
    return sorted(others, key=lambda run: run.created_at, reverse=True)


def format_duration(seconds: float) -> str:
    """A duration to about two digits: seconds, minutes or hours, such as "12 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def as_text(log: History) -> str:
    """A line for each entry, newest first, for the command line."""
    lines = []
    for entry in log.entries:
        work = entry.work
        what = [work.kind, work.model, work.recipe, work.eval_set, work.measures]
        if work.protocol != STUDY.name:
            what.append(protocol_label(work.protocol))
        line = (
            f"{entry.started_at:%Y-%m-%d %H:%M}  {entry.who:12s} {entry.outcome:8s}"
            f" {format_duration(entry.took_s):>7s}  {' · '.join(filter(None, what))}"
        )
        if entry.key:
            line += f"  {entry.key}"
        lines.append(f"{line}  {entry.message}" if entry.outcome == FAILED else line)
    for path, why in log.unreadable.items():
        lines.append(f"Left out: {path.name}. {why}")
    return "\n".join(lines) or (
        "Nothing has run on this machine yet. Start with: python -m whisperq_core run"
    )
