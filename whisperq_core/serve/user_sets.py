"""Evaluation sets of users' own recordings: <cache>/sets/<name>/, a folder that `manifests` reads.

manifest.jsonl   audio, text, id, language, speaker of each recording
votes/*.json     readers' votes of blind tests, see blind_test.py
"""

import hashlib
import io
import json
import os
import re
import shutil
import struct
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path, PurePath, PurePosixPath
from stat import S_ISREG
from typing import Any

from whisperq_core.errors import AudioError, EvalSetError, StoreError
from whisperq_core.file_storage import (
    exclusive,
    make_private,
    read_file,
    read_record,
    write_atomically,
)
from whisperq_core.serve import quota
from whisperq_core.serve.blind_test import Vote
from whisperq_core.serve.recording_store import Recording
from whisperq_core.speech import conditions, evaluation_sets, manifests
from whisperq_core.speech.audio_formats import AUDIO_SUFFIXES, HEAD_BYTES, usable_suffix
from whisperq_core.speech.evaluation_sets import EvalSet, SetPreview, Utterance
from whisperq_core.speech.isolated_decoder import decode_files

_MANIFEST, _VOTES = "manifest.jsonl", "votes"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
# Limits of an imported set, whatever its archive says.
MAX_FILES, MAX_BYTES = 20_000, 4_000_000_000
MAX_TEXT_BYTES = 20_000_000  # of a manifest or a transcript
# Of a vote: its texts have 1,100 characters at most, each of 6 bytes at most.
_MAX_VOTE_BYTES = 10_000
_MAX_DEPTH, _MAX_NAME = 20, 200
# How each entry of an archive's list of files begins.
_ENTRY = b"PK\x01\x02"


class UserSets:
    """The sets below one folder, the cache."""

    def __init__(self, root: Path):
        self.cache = root
        self.root = root / quota.SETS

    def folder(self, name: str) -> Path:
        """The folder of the set of that name. Raises EvalSetError for an invalid name."""
        if not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise EvalSetError(
                f"{name[:60]!r} cannot be a set's name. Use up to 60 letters, digits, spaces, dots"
                " and dashes, and begin with a letter or a digit."
            )
        if evaluation_sets.is_public(name):
            raise EvalSetError(f"{name} is a set that comes with WhisperQ. Choose another name.")
        return self.root / name

    def names(self) -> list[str]:
        """Of all sets, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{_MANIFEST}"))

    def path_of(self, name: str) -> str:
        """The set as a request names it: one's own by its folder, any other by its name."""
        base, condition = conditions.split(name)
        return str(self.root / base) + condition if base in self.names() else name

    def name_of(self, path: str) -> str:
        """The opposite of `path_of`."""
        return Path(path).name if Path(path).parent == self.root else path

    def get(self, name: str) -> EvalSet:
        """The set. Raises EvalSetError where it is damaged or gone."""
        return evaluation_sets.by_name(str(self.folder(name)))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The lines of its manifest; none for a set that does not exist."""
        manifest = self.folder(name) / _MANIFEST
        if not manifest.is_file():
            return []
        try:
            lines = read_file(manifest, MAX_TEXT_BYTES).decode().split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        except (OSError, ValueError, RecursionError) as error:
            raise EvalSetError(
                f"{manifest} is damaged. Correct it, or delete the set {name}."
            ) from error
        return [row for row in rows if isinstance(row, dict)]

    def add(
        self, name: str, recording: Recording, original: Path, language: str, speaker: str = ""
    ) -> None:
        """Adds a recording with its reference to a set; creates the set if there is none.

        A recording that is in the set gets its new reference.
        Raises EvalSetError without a reference, StoreError where the disk cannot take it.
        """
        if not recording.reference:
            raise EvalSetError(f"{recording.name} has no reference transcript. Enter one first.")
        folder = self.folder(name)
        id = _id_of(recording)
        row: dict[str, Any] = {"id": id, "audio": f"{id}{_suffix_of(original)}"}
        row |= {"text": recording.reference}
        row |= {"language": language} | ({"speaker": speaker.strip()} if speaker.strip() else {})
        row |= {"duration_s": float(recording.sound.duration_s)}
        with exclusive(self.root):
            if original.stat().st_size > quota.free_bytes(self.cache):
                raise EvalSetError(quota.refusal(recording.name))
            is_new = not folder.exists()
            try:
                row |= {"sha256": self._copy(original, folder / row["audio"])}
                others = (r for r in self.rows(name) if r.get("audio") != row["audio"])
                self._write(name, [*others, row])
            except OSError as error:
                raise _write_error(folder, error) from error
            finally:
                if is_new and not (folder / _MANIFEST).exists():
                    shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, original: Path, target: Path) -> str:
        """Copies a recording as a whole or not at all; returns its sha256."""
        make_private(self.root)
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            shutil.copyfile(original, temporary)
            with temporary.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def remove(self, name: str, id: str) -> None:
        """Removes one recording; a set without any is deleted."""
        folder = self.folder(name)
        with exclusive(self.root):
            rows = self.rows(name)
            remaining = [row for row in rows if row.get("id") != id]
            if not remaining:
                shutil.rmtree(folder, ignore_errors=True)
                return
            self._write(name, remaining)
            for row in rows:
                path = (folder / str(row.get("audio"))).resolve()
                if row not in remaining and path.is_relative_to(folder.resolve()):
                    path.unlink(missing_ok=True)

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        write_atomically(self.folder(name) / _MANIFEST, "\n".join(lines) + "\n")

    def delete(self, name: str) -> None:
        """Removes a set, its copies of recordings and its votes."""
        folder = self.folder(name)
        with exclusive(self.root):
            shutil.rmtree(folder, ignore_errors=True)

    def export(self, name: str) -> bytes:
        """The folder as a ZIP archive, votes included; links are left out.

        Nobody changes it meanwhile. Raises StoreError where others do so for a minute.
        """
        folder, buffer = self.folder(name), io.BytesIO()
        # Where nobody can write, no lock can be made, and none is needed.
        unchanged = exclusive(self.root) if os.access(self.cache, os.W_OK) else nullcontext()
        with unchanged, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in manifests.files(folder):
                if _is_own_file(path) and not path.name.startswith("."):
                    archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")
        return buffer.getvalue()

    def preview_zip(self, data: bytes) -> SetPreview:
        """What `import_zip` would import from an archive; raises as that does, stores nothing."""
        temporary = self.root / f".{uuid.uuid4().hex}.tmp"
        try:
            make_private(self.root)
            name = _unpack(data, temporary, self._most_bytes())
            return SetPreview.of(evaluation_sets.from_folder(temporary, name, _durations_s))
        except OSError as error:
            raise _write_error(self.root, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def import_zip(self, data: bytes, name: str = "") -> str:
        """Unpacks an exported set, or any folder with a manifest; returns its name.

        name: of the set; the archive's folder's where that is empty. Only the manifest, the
        recordings in it and the votes are stored. Recordings are decoded as uploads are.
        Raises EvalSetError for what is no such archive, or is too large, or has a name that exists,
        AudioError for a recording that cannot be used.
        """
        temporary = self.root / f".{uuid.uuid4().hex}.tmp"
        try:
            make_private(self.root)
            own_name = _unpack(data, temporary, self._most_bytes())
            name = name.strip() or own_name
            target = self.folder(name)
            if target.exists():
                raise _already(name)
            # Its manifest may have any format that is read; ours is written.
            eval_set = evaluation_sets.from_folder(temporary, name, _durations_s)
            rows = [
                {"id": u.id, "audio": u.audio.relative_to(temporary.resolve()).as_posix()}
                | {"text": u.reference, "language": u.language}
                | {"duration_s": float(u.duration_s), "sha256": u.sha256}
                | ({"speaker": u.speaker} if u.speaker else {})
                for u in eval_set.utterances
            ]
            used = {u.audio for u in eval_set.utterances}
            for path in temporary.resolve().rglob("*"):
                if path.is_file() and path not in used and not _is_vote(path, temporary.resolve()):
                    path.unlink()
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            write_atomically(temporary / _MANIFEST, "\n".join(lines) + "\n")
            with exclusive(self.root):
                if target.exists():  # meanwhile
                    raise _already(name)
                if quota.free_bytes(self.cache) < 0:
                    raise EvalSetError(quota.refusal(name))
                temporary.rename(target)
        except OSError as error:
            raise _write_error(self.root, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return name

    def _most_bytes(self) -> int:
        """The most that an archive may unpack to."""
        free_bytes = quota.free_bytes(self.cache)
        if free_bytes <= 0:
            raise EvalSetError(quota.refusal("The set"))
        return min(MAX_BYTES, free_bytes)

    def add_vote(self, name: str, vote: Vote) -> None:
        """Stores a reader's vote with the set."""
        path = self.folder(name) / _VOTES / f"{uuid.uuid4().hex[:16]}.json"
        write_atomically(path, vote.model_dump_json())

    def votes(self, name: str) -> list[Vote]:
        """All readers' votes, the oldest first; what cannot be read is left out."""
        paths = (self.folder(name) / _VOTES).glob("*.json")
        votes = filter(None, (read_record(Vote, path, _MAX_VOTE_BYTES) for path in paths))
        return sorted(votes, key=lambda vote: vote.at)


def recording_of(utterance: Utterance, recordings: Iterable[Recording]) -> Recording | None:
    """The recording that `UserSets.add` made the utterance of; None where it is stored no more."""
    return next((r for r in recordings if _id_of(r) == utterance.id), None)


def _id_of(recording: Recording) -> str:
    """Of the utterance that is made of a recording."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(recording.name).stem).strip("-")[:40]
    return "-".join(filter(None, (readable, recording.id[:8])))


def _suffix_of(recording: Path) -> str:
    try:
        with recording.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise _write_error(recording.parent, error) from error
    return usable_suffix(recording.name, head)


def _is_own_file(path: Path) -> bool:
    """Whether it is a file in its folder, and no link, pipe or device."""
    return S_ISREG(path.lstat().st_mode)


def _already(name: str) -> EvalSetError:
    return EvalSetError(f"There is already a set {name}. Choose another name.")


def _unpack(data: bytes, target: Path, most_bytes: int) -> str:
    """Extracts the files that a set may have, without their top folder, whose name is returned.

    most_bytes: of all files together.
    """
    bad = EvalSetError(
        "The file is not an exported set. Choose the ZIP archive of a folder with recordings and a"
        " manifest."
    )
    # Counted before they are read: a list of millions would fill memory.
    if data.count(_ENTRY) > MAX_FILES:
        raise bad
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise bad from error
    encoding = _encoding_of_names(archive)
    entries = [(i, _entry_name(i, encoding)) for i in archive.infolist() if not i.is_dir()]
    entries = [(i, name) for i, name in entries if not manifests.is_byproduct(name)]
    names = [name for _, name in entries]
    if not names:
        raise bad
    if any(
        name.is_absolute() or ".." in name.parts or name.parts[0].endswith(":") for name in names
    ):
        raise EvalSetError("The archive has files outside its folder. It was not unpacked.")
    if any(len(n.parts) > _MAX_DEPTH or any(len(p) > _MAX_NAME for p in n.parts) for n in names):
        raise EvalSetError(
            "The archive has file names that are too long. Shorten them and pack it again."
        )
    tops = {name.parts[0] for name in names if len(name.parts) > 1}
    top = tops.pop() if len(tops) == 1 and all(len(n.parts) > 1 for n in names) else ""
    remaining = most_bytes
    for info, name in entries:
        inner = name.relative_to(top) if top else name
        is_audio = inner.suffix.lower() in AUDIO_SUFFIXES
        is_text = inner.suffix.lower() in _TEXT_SUFFIXES or inner.name in _KALDI_FILES
        is_vote = _is_vote(inner, PurePosixPath())
        if not (is_audio or is_text or is_vote):
            continue
        # Other compression methods reserve as much memory as the archive asks for.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise bad
        path = target.joinpath(*inner.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        most = MAX_BYTES if is_audio else _MAX_VOTE_BYTES if is_vote else MAX_TEXT_BYTES
        allowed = min(remaining, most)
        with path.open("wb") as file:
            for block in _contents(archive, info, bad):
                allowed, remaining = allowed - len(block), remaining - len(block)
                if allowed < 0:
                    limit = f"{most_bytes / 1e9:.1f} GB, or {inner.name[:80]} is too large"
                    raise EvalSetError(f"The set is larger than {limit}. Split it.")
                file.write(block)
    return top or "imported"


# Of manifests and references; WRD and PHN tell TIMIT's .TXT from others.
_TEXT_SUFFIXES = {".txt", ".csv", ".tsv", ".jsonl", ".json", ".scp", ".wrd", ".phn"}
_TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".scp"}
_KALDI_FILES = {"text", "utt2spk", "segments"}


# Encodings of names that do not say theirs: of Macs and Linux, of Windows' own ZIP folders, and of
# other programs on Windows. Without a table that names the files, only Western ones are tried.
_WESTERN = ("utf-8", "cp437", "cp850", "cp1252")
_ENCODINGS = (*_WESTERN, "cp1250", "cp852", "cp1251", "cp866", "cp932", "gbk", "big5", "cp949")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_SAYS_UTF_8 = 0x800
# As many names tell the encoding, in so many bytes of tables.
_MOST_NAMES, _MOST_TABLE_BYTES = 20, 2_000_000


def _encoding_of_names(archive: zipfile.ZipFile) -> str:
    """The encoding of the names that do not say theirs, of one program's archive.

    The one in which most names are those that a table in the archive has. Where there is no such
    table, the first in which each character that is not ASCII is a letter.
    """
    raw = map(_raw_name, archive.infolist())
    foreign = [name for name in raw if name is not None and not name.isascii()]
    readings = {}
    for encoding in _ENCODINGS:
        with suppress(UnicodeError):
            parts = (PurePosixPath(_slashes(n.decode(encoding))).parts for n in foreign)
            stems = dict.fromkeys(
                _folded(part.rpartition(".")[0] or part) for p in parts for part in p
            )
            readings[encoding] = [stem for stem in stems if not stem.isascii()][:_MOST_NAMES]
    if not foreign or "utf-8" in readings:
        return "utf-8"
    tables = _tables_of(archive)
    named = {encoding: sum(s in tables for s in stems) for encoding, stems in readings.items()}
    if any(named.values()):
        return max(named, key=lambda encoding: named[encoding])
    plain = (e for e in _WESTERN if e in readings and _are_letters("".join(readings[e])))
    return next(plain, "cp437")


def _tables_of(archive: zipfile.ZipFile) -> str:
    """The beginning of the tables in an archive, to look names up in."""
    text, left = "", _MOST_TABLE_BYTES
    for info in archive.infolist():
        if (
            PurePosixPath(_slashes(info.filename)).suffix.lower() not in _TABLE_SUFFIXES
            or left <= 0
        ):
            continue
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with suppress(*_BROKEN), archive.open(info) as source:
                data = source.read(left)
                left -= len(data)
                data = data if left else data[: data.rfind(b"\n") + 1]
                text += manifests.decode_text(data)
    return _folded(_ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), text))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _are_letters(text: str) -> bool:
    return all(c.isascii() or unicodedata.category(c)[0] in "LM" for c in text)


def _raw_name(info: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a name that does not say its encoding; None for one that does."""
    if info.flag_bits & _SAYS_UTF_8:
        return None
    try:
        return info.filename.encode("cp437")  # as `zipfile` decoded it
    except UnicodeEncodeError:  # from an entry's field for its name in Unicode
        return None


def _slashes(name: str) -> str:
    return name.replace("\\", "/")  # as PowerShell's Compress-Archive packs


def _entry_name(info: zipfile.ZipInfo, encoding: str) -> PurePosixPath:
    """The name in an archive, with the separators and the encoding that it was meant to have."""
    raw = _raw_name(info)
    return PurePosixPath(_slashes(info.filename if raw is None else raw.decode(encoding)))


# Raised by `zipfile` for damaged archives and those with a password.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    RuntimeError,
    EOFError,
    OSError,
    struct.error,
)


def _is_vote(path: PurePath, folder: PurePath) -> bool:
    return path.parent == folder / _VOTES and path.suffix == ".json"


def _contents(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, bad: EvalSetError
) -> Iterator[bytes]:
    try:
        with archive.open(info) as source:
            while block := source.read(1 << 20):
                yield block
    except _BROKEN as error:
        raise bad from error


def _durations_s(recordings: Sequence[Path]) -> list[float]:
    """Durations in seconds, decoded in isolation; raises the AudioError of the first bad file."""
    durations_s = []
    for summary in decode_files([(path, None) for path in recordings]):
        if isinstance(summary, AudioError):
            raise summary
        durations_s.append(summary.duration_s)
    return durations_s


def _write_error(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The set could not be written to {folder} ({error.strerror or error}). Free some space or"
        " set WHISPERQ_CACHE to a folder that can be written."
    )
