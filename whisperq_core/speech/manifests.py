"""Read a folder's manifest, or the transcripts next to its recordings, into rows."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperq_core.errors import EvalSetError
from whisperq_core.speech.audio_formats import AUDIO_SUFFIXES

# LibriSpeech's largest part has half as many.
MAX_FILES = 200_000


@dataclass(frozen=True)
class Row:
    """One utterance as a manifest describes it. where: file and line, for messages."""

    where: str
    audio: Path
    id: str
    reference: str
    language: str = "en"
    speaker: str | None = None


def rows(folder: Path) -> list[Row]:
    """The rows of a folder's manifest.jsonl or manifest.csv, or of the .txt next to each recording.

    Raises:
        EvalSetError: nothing usable in the folder; the message names the line that is wrong.
    """
    root = folder.resolve()
    found: list[Row] = []
    seen: dict[str | Path, str] = {}
    for where, row in _raw_rows(root):
        path = _inside(root, where, _field(where, row, "audio", "file", "path"))
        id = _field(where, row, "id", default=path.relative_to(root).with_suffix("").as_posix())
        reference = " ".join(_field(where, row, "text", "reference", "transcript").split())
        for key, what in ((path, path.name), (id, f"the id {id}")):
            if key in seen:
                raise EvalSetError(f"{where} repeats {what} from {seen[key]}. Remove one of them.")
            seen[key] = where
        language = _field(where, row, "language", default="en").lower()
        speaker = _field(where, row, "speaker", default="") or None
        found.append(Row(where, path, id, reference, language, speaker))
    return found


def files(folder: Path) -> list[Path]:
    """All below a folder in order; EvalSetError where it is a whole disk rather than a set."""
    found: list[Path] = []
    for root, _, names in os.walk(folder):
        found += [Path(root, name) for name in names]
        if len(found) > MAX_FILES:
            raise EvalSetError(
                f"{folder} has more than {MAX_FILES} files in it. Choose the folder that holds the"
                " recordings and nothing else."
            )
    return sorted(found)


def _raw_rows(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a folder's manifest, each with its place for messages."""
    if (root / "manifest.jsonl").is_file():
        yield from _jsonl_rows(root / "manifest.jsonl")
    elif (root / "manifest.csv").is_file():
        yield from _csv_rows(root / "manifest.csv")
    else:
        yield from _text_rows(root)


def _jsonl_rows(manifest: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # not splitlines(), which would also split inside texts, at U+2028 for example
    for number, line in enumerate(read_text(manifest).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{manifest.name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise EvalSetError(
                f'{where} is not JSON. Write it like {{"audio": "a.wav", "text": "hello"}}.'
            )
        yield where, row


def _csv_rows(manifest: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(manifest), newline=""), strict=True)
    try:
        for row in reader:
            where = f"{manifest.name}, line {reader.line_num}"
            if None in row:
                raise EvalSetError(
                    f"{where} has more columns than the first line. "
                    "Put texts that contain commas in double quotes."
                )
            yield where, row
    except csv.Error as error:
        raise EvalSetError(
            f"{manifest.name}, line {reader.line_num} is not valid CSV. Check its double quotes."
        ) from error


def _text_rows(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    recordings = [
        path
        for path in files(root)
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
    ]
    if not recordings:
        raise EvalSetError(
            f"{root.name} contains no recordings. Add audio files, each with a .txt file of the "
            "same name that holds its words, or a manifest.csv."
        )
    for path in recordings:
        text = path.with_suffix(".txt")
        where = path.relative_to(root).as_posix()
        if not text.is_file():
            raise EvalSetError(
                f"{where} has no {text.name} beside it. Add it with the words spoken."
            )
        yield where, {"audio": where, "text": read_text(text)}


def _field(where: str, row: dict[str, Any], *keys: str, default: str | None = None) -> str:
    """The first of `keys` that has a value, as text."""
    for key in keys:
        value = row.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int):
            raise EvalSetError(f"{where}: {key} must be text.")
        if text := str(value).strip():
            return text
    if default is None:
        raise EvalSetError(f"{where} has no {keys[0]}. Fill it in, or remove the line.")
    return default


def _inside(root: Path, where: str, file: str) -> Path:
    """The existing file that a manifest names, which must not lead out of its folder."""
    try:
        path = (root / file).resolve()
        exists = path.is_file()
    except (OSError, ValueError, RuntimeError):
        raise EvalSetError(f"{where}: {file!r} is not a file name.") from None
    if not path.is_relative_to(root):
        raise EvalSetError(f"{where}: {file} is outside the folder. Move the recording into it.")
    if not exists:
        raise EvalSetError(f"{where}: {file} does not exist. Add the recording or remove the line.")
    return path


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises EvalSetError for another encoding or no file."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise EvalSetError(f"{path.name} cannot be read. Check the file.") from error
    except UnicodeDecodeError as error:
        raise EvalSetError(f"{path.name} is not UTF-8 text. Save it as UTF-8 (Unicode).") from error
