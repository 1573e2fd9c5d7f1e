"""Recordings that users gave, and what was heard in them, until they delete them.

<cache>/recordings/<id>/original.*   the file as it was given
<cache>/recordings/<id>/played.flac  what browsers play
<cache>/recordings/<id>/about.json   its name, its sound, what is said in it
<cache>/recordings/<id>/<key>.json   what a listener heard
"""

import hashlib
import re
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from whisperq_core.errors import AudioError, InputError, StoreError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.file_storage import write_atomically
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.speech.audio_formats import usable_suffix
from whisperq_core.speech.isolated_decoder import AudioSummary, decode_files

# Of a recording, and of all that one user may have.
MAX_BYTES, MAX_ALL_BYTES = 200_000_000, 10_000_000_000
Record = TypeVar("Record", bound=BaseModel)
_ID = re.compile(r"[0-9a-f]{16}")


class Recording(BaseModel, frozen=True):
    """A recording on the shelf. reference: the words said in it, empty where nobody knows yet."""

    id: str
    name: str
    added_at: datetime
    sound: AudioSummary
    reference: str = ""


class RecordingStore:
    """The recordings below one folder, the cache."""

    def __init__(self, root: Path):
        self.folder = root / "recordings"

    def _of(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise InputError(f"{id[:40]!r} is not a recording's id. Choose it on the page.")
        return self.folder / id

    def add(self, files: Sequence[tuple[str, bytes]]) -> list[Recording | AudioError]:
        """Keeps files, each a name and its bytes; for what is no usable audio, why not.

        A file that is there already stays as it is, with its reference.
        """
        found: dict[int, Recording | AudioError] = {}
        new: dict[int, tuple[str, str, Path]] = {}
        room = MAX_ALL_BYTES - self.total_bytes()
        try:
            for place, (name, data) in enumerate(files):
                name, id = _shown(name), _id_of(data)
                if known := self.get(id):
                    found[place] = known
                elif len(data) > MAX_BYTES:
                    limit = f"{MAX_BYTES / 1e6:.0f} MB"
                    found[place] = AudioError(f"{name} is larger than {limit}. Cut it into pieces.")
                elif (room := room - len(data)) < 0:
                    found[place] = AudioError(
                        f"{name} is not kept: the recordings here take {MAX_ALL_BYTES / 1e9:.0f} GB"
                        " already. Delete some, and upload it again."
                    )
                else:
                    new[place] = name, id, self._put_aside(name, data)
            found |= self._taken(new)
        finally:
            # What is kept has another name by now.
            for _, _, aside in new.values():
                shutil.rmtree(aside, ignore_errors=True)
        return [found[place] for place in range(len(files))]

    def _taken(self, new: dict[int, tuple[str, str, Path]]) -> dict[int, Recording | AudioError]:
        """Keeps what can be decoded: name, id and folder aside, by place."""
        found: dict[int, Recording | AudioError] = {}
        files_of = [(_original(aside), aside / "played.flac") for _, _, aside in new.values()]
        for (place, (name, id, aside)), sound in zip(
            new.items(), decode_files(files_of), strict=True
        ):
            if isinstance(sound, AudioError):
                found[place] = AudioError(str(sound).replace(_original(aside).name, name))
                continue
            found[place] = kept = Recording(id=id, name=name, added_at=utc_now(), sound=sound)
            write_atomically(aside / "about.json", kept.model_dump_json())
            # Renamed at last, so a recording is there as a whole or not at all.
            if not self._of(id).exists():
                aside.rename(self._of(id))
        return found

    def total_bytes(self) -> int:
        """What all recordings take, with the copies that browsers play."""
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                total += path.stat().st_size
        return total

    def _put_aside(self, name: str, data: bytes) -> Path:
        aside = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            aside.mkdir(parents=True)
            path = aside / f"original{usable_suffix(name, data)}"
            path.write_bytes(data)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise StoreError(
                f"{name} could not be stored in {self.folder} ({error.strerror or error})."
                " Free some space or set WHISPERQ_CACHE to a folder that can be written."
            ) from error
        return aside

    def get(self, id: str) -> Recording | None:
        """The recording of that id, or None; a damaged one counts as none."""
        return _read(Recording, self._of(id) / "about.json") if _ID.fullmatch(id) else None

    def all(self) -> list[Recording]:
        """All recordings, the newest first."""
        kept = (self.get(path.name) for path in self.folder.glob("*"))
        return sorted(filter(None, kept), key=lambda k: (k.added_at, k.id), reverse=True)

    def original_path(self, id: str) -> Path:
        """The file as it was given."""
        return _original(self._of(id))

    def playback_path(self, id: str) -> Path:
        """The copy that browsers play."""
        return self._of(id) / "played.flac"

    def set_reference(self, id: str, reference: str) -> Recording:
        """Says what is said in a recording. Raises InputError where it is gone."""
        kept = self.get(id)
        if kept is None:
            raise InputError("The recording was deleted. Upload it again.")
        kept = kept.model_copy(update={"reference": " ".join(reference.split())})
        write_atomically(self._of(id) / "about.json", kept.model_dump_json())
        return kept

    def transcription(self, id: str, listener: TranscriptionConfig) -> Transcription | None:
        """What the listener heard, if it was asked before."""
        return _read(Transcription, self._of(id) / f"{listener.key}.json")

    def put_transcription(
        self, id: str, listener: TranscriptionConfig, heard: Transcription
    ) -> None:
        """Keeps what the listener heard; nothing where the recording was deleted meanwhile."""
        if self._of(id).is_dir():
            write_atomically(self._of(id) / f"{listener.key}.json", heard.model_dump_json())

    def delete(self, id: str) -> None:
        """Removes a recording and all that was heard in it."""
        shutil.rmtree(self._of(id), ignore_errors=True)


def _shown(name: str) -> str:
    """A file's name as it can be shown: without folders, on one line, in its own direction."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c if c.isprintable() else " " for c in last)[:200].strip() or "recording"


def _id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _original(folder: Path) -> Path:
    return next(folder.glob("original*"), folder / "original")


def _read(kind: type[Record], path: Path) -> Record | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
