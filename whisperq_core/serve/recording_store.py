"""Users' recordings and their transcriptions, until they are deleted.

<cache>/recordings/<id>/original.*   the file as it was uploaded
<cache>/recordings/<id>/played.flac  a copy that browsers can play
<cache>/recordings/<id>/about.json   its name, a summary of its audio, its reference
<cache>/recordings/<id>/spoken.json  the language that was detected in it
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
from whisperq_core.quantize.spoken_language import SpokenLanguage
from whisperq_core.serve import quota
from whisperq_core.speech.audio_formats import usable_suffix
from whisperq_core.speech.isolated_decoder import AudioSummary, decode_files

# Of one recording; for all of a user see `quota`.
MAX_BYTES = 200_000_000
# Two hours of fast speech have 120,000.
MAX_REFERENCE_CHARACTERS = 200_000
# Of what is read: about.json, with such a reference and a draft; a transcription with its times.
_MAX_ABOUT_BYTES, _MAX_TRANSCRIPTION_BYTES = 4_000_000, 20_000_000
_SPOKEN = "spoken.json"
_ID = re.compile(r"[0-9a-f]{16}")


class Recording(BaseModel, frozen=True):
    """A recording.

    sound: a summary of its audio. reference: empty where there is none yet. reference_from: the
    recipe whose transcript it was started from. draft: a reference that is not saved yet, so that
    nothing is scored against it. owner: who lists it; empty is everybody.
    """

    id: str
    name: str
    added_at: datetime
    sound: AudioSummary
    reference: str = ""
    reference_from: str = ""
    draft: str = ""
    owner: str = ""


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

    def add(
        self, files: Sequence[tuple[str, bytes]], owner: str = ""
    ) -> list[Recording | AudioError]:
        """Stores files, each a name and its bytes; for each its recording, or why there is none.

        A file that its owner has stored already stays as it is, with its reference.
        """
        new: dict[int, tuple[str, str, Path]] = {}
        try:
            # Two uploads at once must not both take what is left.
            with exclusive(self.folder):
                results = self._write_new(files, owner, new)
            results |= self._store_decodable(new, owner)
        finally:
            # Stored recordings have been renamed by now.
            for _, _, temporary in new.values():
                shutil.rmtree(temporary, ignore_errors=True)
        return [results[place] for place in range(len(files))]

    def _write_new(
        self,
        files: Sequence[tuple[str, bytes]],
        owner: str,
        new: dict[int, tuple[str, str, Path]],
    ) -> dict[int, Recording | AudioError]:
        """Writes to temporary folders, which it puts into `new`; returns what the others are."""
        results: dict[int, Recording | AudioError] = {}
        free_bytes = quota.free_bytes(self.root)
        for place, (name, data) in enumerate(files):
            name, id = _display_name(name), _id_of(data, owner)
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
        self, new: dict[int, tuple[str, str, Path]], owner: str
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
            recording = Recording(id=id, name=name, added_at=utc_now(), sound=sound, owner=owner)
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

    def all(self, owner: str | None = None) -> list[Recording]:
        """All recordings, the newest first; with an owner, those that they list."""
        found = filter(None, (self.get(path.name) for path in self.folder.glob("*")))
        stored = [one for one in found if owner is None or one.owner in ("", owner)]
        return sorted(stored, key=lambda one: (one.added_at, one.id), reverse=True)

    def original_path(self, id: str) -> Path:
        """The file as it was uploaded."""
        return _original(self._folder_of(id))

    def playback_path(self, id: str) -> Path:
        """The copy for browsers."""
        return self._folder_of(id) / "played.flac"

    def set_reference(self, id: str, reference: str, started_from: str = "") -> Recording:
        """Sets the reference of a recording, and drops its draft.

        started_from: the recipe whose transcript it was started from; what was said of that before
        stays for as long as there is a reference. Raises InputError if the recording was deleted,
        or the reference is too long.
        """
        changes = {"reference": _checked(reference), "draft": ""}
        if started_from or not changes["reference"]:
            changes["reference_from"] = started_from
        return self._update(id, changes)

    def set_draft(self, id: str, draft: str) -> Recording:
        """Sets a reference that is not saved yet; raises InputError as `set_reference` does."""
        return self._update(id, {"draft": _checked(draft)})

    def _update(self, id: str, changes: dict[str, str]) -> Recording:
        with exclusive(self.folder):
            recording = self.get(id)
            if recording is None:
                raise InputError("The recording was deleted. Upload it again.")
            recording = recording.model_copy(update=changes)
            write_atomically(self._folder_of(id) / "about.json", recording.model_dump_json())
        return recording

    def spoken_language(self, id: str) -> SpokenLanguage | None:
        """The language that was detected in it; None where that was not asked."""
        return read_record(SpokenLanguage, self._folder_of(id) / _SPOKEN, _MAX_ABOUT_BYTES)

    def put_spoken_language(self, id: str, spoken: SpokenLanguage) -> None:
        """Stores the language, unless the recording was deleted meanwhile."""
        with exclusive(self.folder):
            if self._folder_of(id).is_dir():
                write_atomically(self._folder_of(id) / _SPOKEN, spoken.model_dump_json())

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


def _checked(reference: str) -> str:
    reference = " ".join(reference.split())
    if len(reference) > MAX_REFERENCE_CHARACTERS:
        raise InputError(
            f"A reference may have up to {MAX_REFERENCE_CHARACTERS:,} characters. Cut the"
            " recording into pieces."
        )
    return reference


def _id_of(data: bytes, owner: str) -> str:
    # Two owners of one file have a recording each, and only they can tell its id from the file.
    return hashlib.sha256(owner.encode() + data).hexdigest()[:16]


def _original(folder: Path) -> Path:
    return next(folder.glob("original*"), folder / "original")
