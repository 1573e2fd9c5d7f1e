"""Who ran what, when, and for how long: one small file for each piece of work that ended.

    cache/history/<when>_<id>.json

Entries are written by the process that does the work, once, when it ends, and never changed.
Nothing is read from them but this history: results stand in the store, with or without an entry.
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

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisperq_core.errors import Cancelled, StoreError, WhisperQError
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.file_storage import write_atomically
from whisperq_core.machine import Machine, this_machine
from whisperq_core.whisper.protocols import STUDY

FOLDER = "history"
DONE, FAILED, STOPPED = "done", "failed", "stopped"
OUTCOMES = (DONE, FAILED, STOPPED)
EVALUATION, EXPORT = "evaluation", "export"
# The layout of an entry; an older program skips what a newer one wrote.
_SCHEMA = 1


class WorkItem(BaseModel):
    """What is done: names as a user gives them; eval_set and measures are an evaluation's only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["evaluation", "export"]
    model: str
    recipe: str
    eval_set: str | None = None
    measures: str | None = None
    protocol: str = STUDY.name
    device: str = "cpu"
    threads: int | None = None


class Entry(BaseModel):
    """One piece of work that ended. took_s: wall time, loading included. key: of its result."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = _SCHEMA
    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    who: str
    work: WorkItem
    started_at: datetime
    took_s: float
    outcome: Literal["done", "failed", "stopped"]
    message: str = ""
    key: str | None = None
    machine: Machine


@dataclass(frozen=True)
class History:
    """Entries, newest first, and what could not be read: a sentence by file."""

    entries: tuple[Entry, ...]
    unreadable: dict[Path, str]


@dataclass
class PendingEntry:
    """What the work under way has to say for its entry."""

    key: str | None = None


def current_user() -> str:
    """Who runs this process, by name; “unknown” where the system does not tell."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def write_entry(root: Path, entry: Entry) -> None:
    """Stores an entry below root. A disk that is full costs the entry, never the work: it warns."""
    name = f"{entry.started_at:%Y%m%dT%H%M%S%f}_{entry.id}.json"
    try:
        write_atomically(root / FOLDER / name, entry.model_dump_json(indent=1))
    except StoreError as error:
        warnings.warn(f"The history has no entry of this: {error}", stacklevel=2)


@contextmanager
def record(root: Path, work: WorkItem, who: str | None = None) -> Iterator[PendingEntry]:
    """Writes an entry when the block ends, however it ends; what it raises is raised on."""
    note, started_at, start = PendingEntry(), datetime.now(UTC), time.perf_counter()
    outcome, message = DONE, ""
    try:
        yield note
    except (Cancelled, KeyboardInterrupt):
        outcome, message = STOPPED, "Finished pieces are kept."
        raise
    except WhisperQError as error:
        outcome, message = FAILED, str(error)
        raise
    except BaseException as error:
        outcome, message = FAILED, f"Something unexpected happened ({type(error).__name__})."
        raise
    finally:
        entry = Entry(
            who=who or current_user(),
            work=work,
            started_at=started_at,
            took_s=round(time.perf_counter() - start, 3),
            outcome=outcome,
            message=message,
            key=note.key,
            machine=this_machine(),
        )
        write_entry(root, entry)


def read(root: Path) -> History:
    """All entries below root; files that are none are named, and skipped."""
    found, unreadable = [], {}
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found.append(Entry.model_validate_json(path.read_bytes()))
        except OSError as error:
            unreadable[path] = f"It cannot be read ({error.strerror})."
        except ValidationError:
            unreadable[path] = "It is damaged, or of another version of WhisperQ."
    found.sort(key=lambda entry: entry.started_at, reverse=True)
    return History(tuple(found), unreadable)


def runs_without_entry(
    runs: Iterable[AccuracyRun | SpeedRun], entries: Iterable[Entry]
) -> list[AccuracyRun | SpeedRun]:
    """Results that no entry speaks of, newest first: those shipped, or older than the history."""
    known = {entry.key for entry in entries}
    found = [run for run in runs if run.key not in known]
    return sorted(found, key=lambda run: run.created_at, reverse=True)


def format_duration(seconds: float) -> str:
    """A duration as one would say it."""
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
            what.append(work.protocol)
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
