"""Readers' notes on a run or on one of its utterances: a star, a comment, or both.

    notes/<time>_<id>.json   next to results/

Each note is a file that is never changed: who changes a note adds a newer one, which counts. So
nothing is locked, and notes of two machines are merged by copying files.
"""

import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from whisperq_core.errors import InputError, StoreError
from whisperq_core.file_storage import Folder, check_json

NOTES_FOLDER = "notes"
MAX_CHARACTERS = 2000
# Of one folder: whoever can reach an app without a login could fill the disk otherwise.
MAX_NOTES = 20_000
# A comment's characters have six bytes each at most.
_MAX_BYTES = 20_000
# The layout of a note; an older program leaves out what a newer one wrote.
_SCHEMA: Literal[1] = 1
_NAME = re.compile(r"[0-9T]{1,30}_[0-9a-f]{12}\.json")


class Note(BaseModel):
    """What a reader thinks of a run, or of an utterance of it.

    run: its key. utterance: its id; None is the run. author: the name of who signed in, mostly an
    address; without a login the process's user@machine. One without a star and a comment takes back
    the author's earlier ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = _SCHEMA
    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")] = Field(
        default_factory=lambda: uuid.uuid4().hex[:12]
    )
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    author: Annotated[str, Field(max_length=200)] = ""
    run: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    utterance: Annotated[str, Field(max_length=500)] | None = None
    starred: bool = False
    comment: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""

    @property
    def target(self) -> tuple[str, str | None, str]:
        """What it is about, and who wrote it: of each, the newest note counts."""
        return self.run, self.utterance, self.author

    @property
    def file_name(self) -> str:
        """Sorts by time."""
        return f"{self.at:%Y%m%dT%H%M%S%f}_{self.id}.json"

    @property
    def signature(self) -> str:
        """The author as others see it: of an address what is before the @."""
        return self.author.partition("@")[0]

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not self.starred and not self.comment.strip()


class Notes:
    """The notes in a folder, read again where files were added."""

    def __init__(self, folder: Folder):
        self._folder = folder
        self._read: dict[str, Note | None] = {}

    def all(self) -> list[Note]:
        """Every note that was ever made, oldest first; damaged files are left out."""
        names = sorted(filter(_NAME.fullmatch, self._folder.json_names()))[:MAX_NOTES]
        self._read = {
            name: self._read[name] if name in self._read else self._load(name) for name in names
        }
        return [note for note in self._read.values() if note is not None]

    def _load(self, name: str) -> Note | None:
        try:
            return read_note(self._folder, name)
        except StoreError:
            return None

    def add(self, note: Note) -> None:
        """Stores a note as its author's newest. Raises InputError where there are too many."""
        if len(self._folder.json_names()) >= MAX_NOTES:
            raise InputError(
                f"There are {MAX_NOTES} notes in {self._folder}, which is the most. Delete old"
                " ones."
            )
        # A clock may have been set back.
        latest = max((n.at for n in self.all() if n.target == note.target), default=note.at)
        if latest >= note.at:
            note = note.model_copy(update={"at": latest + timedelta(microseconds=1)})
        self.copy(note)

    def copy(self, note: Note) -> None:
        """Stores a note as it is."""
        self._folder.write(note.file_name, note.model_dump_json(indent=1))


def read_note(folder: Folder, name: str) -> Note:
    """The note in a file. Raises StoreError for what is none, or is of a newer WhisperQ."""
    try:
        content = folder.read(name, _MAX_BYTES)
        check_json(content)
        note = Note.model_validate_json(content)
    except OSError as error:
        raise StoreError(f"It cannot be read ({error.strerror}).") from error
    except (ValueError, ValidationError, RecursionError) as error:
        raise StoreError(
            "It is no note, was altered, or was written by a newer WhisperQ."
        ) from error
    if name != note.file_name:
        raise StoreError("Its contents do not match its name: it was altered.")
    return note


def current(notes: Iterable[Note]) -> list[Note]:
    """The newest note of each author on each run and utterance, oldest first; no empty ones."""
    newest = {note.target: note for note in sorted(notes, key=_age)}
    return sorted((note for note in newest.values() if not note.is_empty), key=_age)


def _age(note: Note) -> tuple[datetime, str]:
    return note.at, note.id
