"""Users' recordings and their transcriptions, until they are deleted.

<cache>/recordings/<id>/original.*   the file as it was uploaded
<cache>/recordings/<id>/played.flac  a copy that browsers can play
<cache>/recordings/<id>/about.json   its name, a summary of its audio, its reference
<cache>/recordings/<id>/<key>.json   the transcription of the configuration with that key
"""

import hashlib
import re
import shutil
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from whisperq_core.errors import AudioError, InputError, StoreError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.file_storage import exclusive, make_private, read_record, write_atomically
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.serve import quota
from whisperq_core.speech.audio_formats import usable_suffix
from whisperq_core.speech.isolated_decoder import AudioSummary, decode_files

# Of one recording; for all of a user see `quota`.
MAX_BYTES = 200_000_000
# Two hours of fast speech have 120,000.
MAX_REFERENCE_CHARACTERS = 200_000
# Of what is read: about.json, with such a reference, and a transcription with its words' times.
_MAX_ABOUT_BYTES, _MAX_TRANSCRIPTION_BYTES = 2_000_000, 20_000_000
_ID = re.compile(r"[0-9a-f]{16}")


class Recording(BaseModel, frozen=True):
    """A recording. sound: a summary of its audio. reference: empty where there is none yet."""

    id: str
    name: str
    added_at: datetime
    sound: AudioSummary
    reference: str = ""


class RecordingStore:
    """The recordings below one folder, the cache."""

    def __init__(self, root: Path):
        self.root = root
        self.folder = root / quota.RECORDINGS

    def _folder_of(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise InputError(
                f"{id[:40]!r} is not a recording's id. Select a recording on the page."
            )
        return self.folder / id

    def add(self, files: Sequence[tuple[str, bytes]]) -> list[Recording | AudioError]:
        """Stores files, each a name and its bytes; for each its recording, or why there is none.

        A file that is stored already stays as it is, with its reference.
        """
        new: dict[int, tuple[str, str, Path]] = {}
        try:
            # Two uploads at once must not both take what is left.
            with exclusive(self.folder):
                results = self._write_new(files, new)
            results |= self._store_decodable(new)
        finally:
            # Stored recordings have been renamed by now.
            for _, _, temporary in new.values():
                shutil.rmtree(temporary, ignore_errors=True)
        return [results[place] for place in range(len(files))]

    def _write_new(
        self, files: Sequence[tuple[str, bytes]], new: dict[int, tuple[str, str, Path]]
    ) -> dict[int, Recording | AudioError]:
        """Writes to temporary folders, which it puts into `new`; returns what the others are."""
        results: dict[int, Recording | AudioError] = {}
        free_bytes = quota.free_bytes(self.root)
        for place, (name, data) in enumerate(files):
            name, id = _display_name(name), _id_of(data)
            if existing := self.get(id):
                results[place] = existing
            elif len(data) > MAX_BYTES:
                limit = f"{MAX_BYTES / 1e6:.0f} MB"
                results[place] = AudioError(f"{name} is larger than {limit}. Cut it into pieces.")
            elif (free_bytes := free_bytes - len(data)) < 0:
                results[place] = AudioError(quota.refusal(name))
            else:
                new[place] = name, id, self._write_temporary(name, data)
        return results

    def _store_decodable(
        self, new: dict[int, tuple[str, str, Path]]
    ) -> dict[int, Recording | AudioError]:
        """Stores what can be decoded. new: name, id and temporary folder, by place."""
        results: dict[int, Recording | AudioError] = {}
        files = [(_original(folder), folder / "played.flac") for _, _, folder in new.values()]
        for (place, (name, id, temporary)), sound in zip(
            new.items(), decode_files(files), strict=True
        ):
            if isinstance(sound, AudioError):
                results[place] = AudioError(str(sound).replace(_original(temporary).name, name))
                continue
            recording = Recording(id=id, name=name, added_at=utc_now(), sound=sound)
            results[place] = recording
            write_atomically(temporary / "about.json", recording.model_dump_json())
            # Renamed last, so that a recording is stored as a whole or not at all.
            with exclusive(self.folder):
                if not self._folder_of(id).exists():
                    temporary.rename(self._folder_of(id))
        return results

    def _write_temporary(self, name: str, data: bytes) -> Path:
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            make_private(self.folder)
            temporary.mkdir()
            path = temporary / f"original{usable_suffix(name, data)}"
            path.write_bytes(data)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise StoreError(
                f"{name} could not be stored in {self.folder} ({error.strerror or error})."
                " Free some space or set WHISPERQ_CACHE to a folder that can be written."
            ) from error
        return temporary

    def get(self, id: str) -> Recording | None:
        """The recording of that id, or None; a damaged one counts as none."""
        if not _ID.fullmatch(id):
            return None
        # Browsers are sent the copy, and a pipe in its place would never end.
        if not self.playback_path(id).is_file():
            return None
        return read_record(Recording, self._folder_of(id) / "about.json", _MAX_ABOUT_BYTES)

    def all(self) -> list[Recording]:
        """All recordings, the newest first."""
        stored = filter(None, (self.get(path.name) for path in self.folder.glob("*")))
        return sorted(stored, key=lambda one: (one.added_at, one.id), reverse=True)

    def original_path(self, id: str) -> Path:
        """The file as it was uploaded."""
        return _original(self._folder_of(id))

    def playback_path(self, id: str) -> Path:
        """The copy for browsers."""
        return self._folder_of(id) / "played.flac"

    def set_reference(self, id: str, reference: str) -> Recording:
        """Sets the reference of a recording. Raises InputError if it was deleted, or too long."""
        reference = " ".join(reference.split())
        if len(reference) > MAX_REFERENCE_CHARACTERS:
            raise InputError(
                f"A reference may have up to {MAX_REFERENCE_CHARACTERS:,} characters. Cut the"
                " recording into pieces."
            )
        with exclusive(self.folder):
            recording = self.get(id)
            if recording is None:
                raise InputError("The recording was deleted. Upload it again.")
            recording = recording.model_copy(update={"reference": reference})
            write_atomically(self._folder_of(id) / "about.json", recording.model_dump_json())
        return recording

    def transcription(self, id: str, config: TranscriptionConfig) -> Transcription | None:
        """The stored transcription by a configuration, or None."""
        path = self._folder_of(id) / f"{config.key}.json"
        return read_record(Transcription, path, _MAX_TRANSCRIPTION_BYTES)

    def put_transcription(
        self, id: str, config: TranscriptionConfig, transcription: Transcription
    ) -> None:
        """Stores a transcription, unless the recording was deleted meanwhile."""
        path = self._folder_of(id) / f"{config.key}.json"
        with exclusive(self.folder):  # else it could bring back what is being deleted
            if path.parent.is_dir():
                write_atomically(path, transcription.model_dump_json())

    def delete(self, id: str) -> None:
        """Deletes a recording and its transcriptions."""
        folder = self._folder_of(id)
        with exclusive(self.folder):
            shutil.rmtree(folder, ignore_errors=True)


def _display_name(name: str) -> str:
    """A file's name without folders and unprintable characters, on one line."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c if c.isprintable() else " " for c in last)[:200].strip() or "recording"


def _id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _original(folder: Path) -> Path:
    return next(folder.glob("original*"), folder / "original")
