"""Read a folder's manifest, in any layout that people have, into rows.

Layouts: JSON lines and lists (WhisperQ, NeMo, Hugging Face, SpeechBrain), CSV and TSV with a header
(WhisperQ, Hugging Face AudioFolder, Common Voice, DeepSpeech, SpeechBrain), LJSpeech, Kaldi, and a
.txt next to each recording. A new table of named columns needs its names in `_COLUMNS`, another
layout a reader in `_read`.
"""

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from whisperq_core.errors import EvalSetError, InputError
from whisperq_core.file_storage import read_file
from whisperq_core.scoring.languages import code_of
from whisperq_core.speech.audio_formats import AUDIO_SUFFIXES

# LibriSpeech's largest part has half as many.
MAX_FILES = 200_000

# What each column may be called, in any case; the first that has a value counts.
_COLUMNS = {
    "audio": (
        *("audio", "file", "path", "audio_filepath", "file_name", "filename", "audio_path"),
        *("audio_file", "wav_filename", "wav", "clip", "file_path", "filepath", "wav_path"),
    ),
    "text": (
        *("text", "reference", "transcript", "transcription", "sentence", "normalized_text"),
        *("raw_transcription", "wrd", "words", "txt"),
    ),
    "id": ("id", "utt_id", "utterance_id"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id"),
}
# Tables in the order in which they are looked for; of Common Voice, the test split first.
_TABLES = (
    *("manifest.jsonl", "manifest.csv", "manifest.tsv", "manifest.json"),
    *("metadata.jsonl", "metadata.csv", "metadata.tsv"),
    *("test.tsv", "validated.tsv", "dev.tsv"),
)
# Of parts of a recording.
_SEGMENT_COLUMNS = {"start", "begin", "onset", "end", "start_time", "end_time", "offset", "segment"}
_TABLE_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv"}
_BYPRODUCTS = {"__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"}


@dataclass(frozen=True)
class Row:
    """One utterance as a manifest describes it.

    where: file and line, for messages. duration_s, sha256: of the recording, where a manifest of
    WhisperQ has both; the length counts only for a file with that sha256.
    """

    where: str
    audio: Path
    id: str
    reference: str
    language: str = "en"
    speaker: str | None = None
    duration_s: float | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A file or line that is not in the set, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The rows of a folder. layout: what was read, such as "manifest.csv" or "Kaldi"."""

    layout: str
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = ()


# The place of an utterance for messages, and its fields by column.
_Raw = tuple[str, dict[str, Any]]


def read(folder: Path) -> Manifest:
    """Read the manifest of a folder; audio must lie inside the folder.

    An empty reference stands for a recording without speech. It has to be explicit: `"text": ""` in
    JSON lines, an id without words in Kaldi's text.

    Raises:
        EvalSetError: nothing usable in the folder; the message names the line that is wrong.
    """
    root = folder.resolve()
    index = _FileIndex(root)
    layout, table, raw_rows = _read(index)
    rows: list[Row] = []
    seen: dict[str | Path, str] = {}
    for where, fields in raw_rows:
        _refuse_segments(where, fields)
        path = index.find(where, _field(where, fields, "audio"))
        default_id = path.relative_to(root).with_suffix("").as_posix()
        id = _field(where, fields, "id", default=default_id)
        for key, what in ((path, path.name), (id, f"the id {id}")):
            if key in seen:
                parts = any(column in fields for column in _SEGMENT_COLUMNS)
                do = "Cut it into a file for each utterance" if parts else "Remove one of them"
                raise EvalSetError(f"{where} repeats {what} from {seen[key]}. {do}.")
            seen[key] = where
        rows.append(
            Row(
                where,
                path,
                id,
                _reference(where, fields),
                _language(where, _field(where, fields, "language", default="en")),
                _field(where, fields, "speaker", default="") or None,
                *_known_length(fields),
            )
        )
    return Manifest(layout, tuple(rows), _skipped(index, {row.audio for row in rows}, table))


def has_own(folder: Path) -> bool:
    """Whether a folder has a manifest of WhisperQ's, which counts before any other layout."""
    return any((folder / name).is_file() for name in _TABLES[:2])


def files(folder: Path) -> list[Path]:
    """All below a folder in order; EvalSetError where it is a whole disk rather than a set."""
    files: list[Path] = []
    for root, _, names in os.walk(folder):
        files += [Path(root, name) for name in names]
        if len(files) > MAX_FILES:
            raise EvalSetError(
                f"{folder} has more than {MAX_FILES} files in it. Choose the folder that holds the"
                " recordings and nothing else."
            )
    return sorted(files)


def is_byproduct(path: Path | PurePosixPath) -> bool:
    """Whether a path inside a set or an archive is what a system leaves there, no one's data."""
    return any(part.startswith(".") or part in _BYPRODUCTS for part in path.parts)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16. Raises EvalSetError for anything else, or no file."""
    try:
        data = read_file(path)
    except OSError as error:
        raise EvalSetError(
            f"{path.name} cannot be read ({error.strerror or error}). Check the file."
        ) from error
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        raise EvalSetError(f"{path.name} is not UTF-8 text. Save it as UTF-8 (Unicode).") from error


def decode_text(data: bytes) -> str:
    """The text of bytes in UTF-8 or UTF-16. Raises UnicodeDecodeError for anything else."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    # Latin script without a byte order mark.
    if b"\0" in data[:2] and data[:2] != b"\0\0":
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    return data.decode("utf-8-sig")


class _FileIndex:
    """The files of a folder, found by the names that people and systems write for them.

    A name is matched as it is; then whatever its Unicode normalization, case, backslashes and
    missing suffix are; then as the end of one path, for absolute paths of another machine and for
    folders that a layout leaves out (Common Voice's clips, LJSpeech's wavs).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Pipes and devices are no files: reading one may never end.
        self.files = [
            p for p in files(root) if not is_byproduct(p.relative_to(root)) and _is_file(p)
        ]
        self._by_key: dict[str, list[Path]] = {}
        for path in self.files:
            relative = path.relative_to(root)
            keys = {_key(relative.as_posix()), _key(path.name)}
            if path.suffix.lower() in AUDIO_SUFFIXES:
                keys |= {_key(relative.with_suffix("").as_posix()), _key(path.stem)}
            for key in keys:
                self._by_key.setdefault(key, []).append(path)

    def has_sibling(self, path: Path, suffix: str) -> bool:
        """Whether a file of that suffix, in any case, is next to `path` under the same name."""
        siblings = self._by_key.get(_key(f"{path.stem}{suffix}"), ())
        return any(sibling.parent == path.parent for sibling in siblings)

    @property
    def recordings(self) -> list[Path]:
        """Those with the suffix of an audio format."""
        return [path for path in self.files if path.suffix.lower() in AUDIO_SUFFIXES]

    def named(self, name: str) -> Path | None:
        """A file directly in the folder, in any case."""
        return next((p for p in self._by_key.get(_key(name), ()) if p.parent == self.root), None)

    def find(self, where: str, name: str) -> Path:
        """The existing file that a manifest names, which must not lead out of its folder."""
        try:
            path = (self.root / name).resolve()
            exists = path.is_file()
        except (OSError, ValueError, RuntimeError):
            raise EvalSetError(f"{where}: {name!r} is not a file name.") from None
        inside = path.is_relative_to(self.root)
        if inside and exists:
            return path
        if not (self.root / name).is_symlink():
            # Addresses, as Label Studio and browsers write them, have %20 for a space.
            for reading in dict.fromkeys((name, unquote(name))):
                if found := self._by_end(where, reading.replace("\\", "/").split("/")):
                    return found
        if not inside:
            raise EvalSetError(
                f"{where}: {name} is outside the folder. Move the recording into it."
            )
        raise EvalSetError(f"{where}: {name} does not exist. Add the recording or remove the line.")

    def _by_end(self, where: str, parts: list[str]) -> Path | None:
        """The one file whose path ends as this one does, with as many of its parts as possible."""
        if ".." in parts:
            return None
        for first in range(len(parts)):
            key = _key("/".join(parts[first:]))
            ends = [p for p in self._by_key.get(_key(parts[-1]), ()) if _ends_with(p, key)]
            if len(ends) == 1 and ends[0].resolve().is_relative_to(self.root):
                return ends[0].resolve()
            if len(ends) > 1:
                raise EvalSetError(
                    f"{where}: {'/'.join(parts)} may be {ends[0].relative_to(self.root)} or "
                    f"{ends[1].relative_to(self.root)}. Write its folder, too."
                )
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a loop of links
        return False


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().removeprefix("./")


def _ends_with(path: Path, key: str) -> bool:
    whole, bare = _key(path.as_posix()), _key(path.with_suffix("").as_posix())
    return whole.endswith(f"/{key}") or bare.endswith(f"/{key}")


def _read(index: _FileIndex) -> tuple[str, Path | None, Iterator[_Raw]]:
    """The layout's name, its table if it has one, and its rows."""
    # Those of one's own first; where each recording has its .txt, no other table is looked for.
    for name in _TABLES[:2]:
        if table := index.named(name):
            return name, table, _table_rows(table, index)
    texts = {_key(p.with_suffix("").as_posix()): p for p in index.files if _suffix(p) == ".txt"}
    with_text = [p for p in index.recordings if _key(p.with_suffix("").as_posix()) in texts]
    if with_text and len(with_text) == len(index.recordings):
        return "a .txt next to each recording", None, _text_rows(index, texts)
    for name in _TABLES[2:]:
        if table := index.named(name):
            return name, table, _table_rows(table, index)
    if (scp := index.named("wav.scp")) and (text := index.named("text")):
        return "Kaldi", scp, _kaldi_rows(index, scp, text)
    if with_text:
        return "a .txt next to each recording", None, _text_rows(index, texts)
    tables = [p for p in index.files if p.parent == index.root and _suffix(p) in _TABLE_SUFFIXES]
    if len(tables) == 1 and index.recordings:
        return tables[0].name, tables[0], _table_rows(tables[0], index)
    if len(tables) > 1 and index.recordings:
        names = ", ".join(p.name for p in tables[:5])
        raise EvalSetError(
            f"{index.root.name} has several tables: {names}. Name the one to use manifest.csv, or "
            "manifest.jsonl if it is JSON."
        )
    return "a .txt next to each recording", None, _text_rows(index, texts)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _table_rows(table: Path, index: _FileIndex) -> Iterator[_Raw]:
    text = read_text(table)
    if _suffix(table) in (".jsonl", ".json"):
        return _jsonl_rows(table.name, text)
    first = text.lstrip("\r\n").partition("\n")[0]
    if "|" in first and not _columns_in(first.split("|")):
        return _ljspeech_rows(table.name, text)
    return _csv_rows(table.name, text)


def _jsonl_rows(name: str, text: str) -> Iterator[_Raw]:
    if (entries := _document_rows(text)) is not None:
        numbered = [(f"{name}, entry {number}", row) for number, row in enumerate(entries, 1)]
    else:
        # not splitlines(), which would also split inside texts, at U+2028 for example
        lines = enumerate(text.split("\n"), 1)
        numbered = [(f"{name}, line {at}", _json(line)) for at, line in lines if line.strip()]
    for number, (where, row) in enumerate(numbered, 1):
        if not isinstance(row, dict):
            raise EvalSetError(
                f'{where} is not JSON. Write it like {{"audio": "a.wav", "text": "hello"}}.'
            )
        fields = {_column(str(key)): value for key, value in row.items()}
        if isinstance(audio := fields.get("audio"), dict):  # as Hugging Face's datasets have it
            fields["audio"] = audio.get("path")
        if number == 1 or not any(c in fields for c in _COLUMNS["audio"]):
            _check_columns(where, list(fields), ("audio",))
        yield where, fields | {"_empty_is_meant": True}


def _json(text: str) -> Any:
    """The value of JSON text; None for anything else."""
    try:
        value = json.loads(text)
        # An escaped half of a surrogate pair is JSON, and no text that can be written.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _document_rows(text: str) -> list[Any] | None:
    """The rows of a file that is one JSON document; None for JSON lines.

    A list of rows, an object with one such list, or an object with a row under each id.
    """
    document = _json(text)
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or {key.lower() for key in document} & set(_COLUMNS["audio"]):
        return None
    rows = list(document.values())
    if rows and all(isinstance(row, dict) for row in rows):
        return [{"id": id} | row for id, row in document.items()]
    lists = [value for value in rows if isinstance(value, list)]
    return lists[0] if len(lists) == 1 else None


def _column(name: str) -> str:
    """A column's name as `_COLUMNS` spells it: "File Name" is file_name."""
    return re.sub(r"[ -]+", "_", name.strip().lower())


def _columns_in(header: Sequence[str]) -> bool:
    """Whether a header names both an audio and a text column."""
    names = {_column(name) for name in header}
    return all(names & set(_COLUMNS[kind]) for kind in ("audio", "text"))


def _check_columns(where: str, names: list[str], kinds: Sequence[str] = ("audio", "text")) -> None:
    """Raise EvalSetError with the columns there are and those wanted, where one is missing."""
    for kind in kinds:
        if not set(names) & set(_COLUMNS[kind]):
            there = ", ".join(name[:40] or "(no name)" for name in names[:12])
            wanted = ", ".join(_COLUMNS[kind])
            raise EvalSetError(
                f"{where} has no {kind} column. Its columns are: {there}; one of these is needed:"
                f" {wanted}. The first line of a CSV or TSV must name them."
            )


def _csv_rows(name: str, text: str) -> Iterator[_Raw]:
    text, told = re.subn(r"^sep=.\r?\n", "", text)  # as Excel wants its separator told
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = next((d for d in ",;\t|" if _columns_in(_split(header, d))), None)
    if delimiter is None:
        delimiter = max(",;\t", key=header.count)
    # Texts of a TSV have quotes of their own: Common Voice and others never quote a field.
    lines, unquoted = io.StringIO(text, newline=""), delimiter == "\t"
    reader = csv.DictReader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL,
        strict=not unquoted,
        skipinitialspace=True,
    )
    try:
        names = [_column(column or "") for column in reader.fieldnames or ()]
        reader.fieldnames = names
        if names:
            _check_columns(name, names)
        for row in reader:
            where = f"{name}, line {reader.line_num + told}"
            if None in row:
                raise EvalSetError(
                    f"{where} has more columns than the first line. "
                    "Put texts that contain commas in double quotes."
                )
            yield where, row
    except csv.Error as error:
        raise EvalSetError(
            f"{name}, line {reader.line_num + told or 1} is not valid CSV. Check its double quotes."
        ) from error


def _split(line: str, delimiter: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(delimiter)]


def _ljspeech_rows(name: str, text: str) -> Iterator[_Raw]:
    """`id|text` or `id|text|normalized text`, without a header or quotes."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        id, *texts = line.strip("\r").split("|")
        if not 1 <= len(texts) <= 2:
            raise EvalSetError(f"{where} is not `id|text` or `id|text|normalized text`.")
        yield where, {"audio": id.strip(), "id": id.strip(), "text": texts[-1].strip() or texts[0]}


def _kaldi_rows(index: _FileIndex, scp: Path, text: Path) -> Iterator[_Raw]:
    """wav.scp: `utterance file`, text: `utterance words`, utt2spk: `utterance speaker`."""
    if index.named("segments"):
        raise EvalSetError(
            f"{index.root.name} has utterances that are segments of recordings. "
            "Cut them into a file each (Kaldi: extract-segments)."
        )
    references, speakers = _kaldi_table(text), {}
    if utt2spk := index.named("utt2spk"):
        speakers = _kaldi_table(utt2spk)
    for number, line in enumerate(read_text(scp).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{scp.name}, line {number}"
        id, audio = [*line.split(maxsplit=1), ""][:2]
        if audio.rstrip().endswith("|"):
            raise EvalSetError(
                f"{where} is a command, not a file. Run it and name the file that it makes."
            )
        if id not in references:
            raise EvalSetError(f"{where}: {id} is not in {text.name}. Add its words.")
        fields = {"audio": audio.strip(), "id": id, "text": references[id]}
        yield where, fields | {"speaker": speakers.get(id, ""), "_empty_is_meant": True}


def _kaldi_table(path: Path) -> dict[str, str]:
    lines = (re.split(r"\s+", line.strip(), maxsplit=1) for line in read_text(path).split("\n"))
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines if line[0]}


def _text_rows(index: _FileIndex, texts: dict[str, Path]) -> Iterator[_Raw]:
    if not index.recordings:
        others = ", ".join(p.name for p in index.files[:3])
        raise EvalSetError(
            f"{index.root.name} contains no recordings{f', only {others}' if others else ''}. Add "
            "audio files, each with a .txt file of the same name that holds its words, or a "
            "manifest.csv."
        )
    unread = next((p for p in index.files if _suffix(p) in _OTHER_TABLES), None)
    if unread and not texts:
        raise EvalSetError(
            f"{unread.name} is a table that cannot be read here. Save it as {unread.stem}.csv."
        )
    tables = (p for p in index.files if p.name.lower() in (*_TABLES, "wav.scp"))
    if not texts and (table := next((p for p in tables if p.parent != index.root), None)):
        raise EvalSetError(
            f"{table.relative_to(index.root).as_posix()} is a table of a folder below. Give its"
            f" folder, {table.parent}, or move it up to the recordings."
        )
    for path in index.recordings:
        key = _key(path.with_suffix("").as_posix())
        where = path.relative_to(index.root).as_posix()
        if key not in texts:
            raise EvalSetError(
                f"{where} has no {path.with_suffix('.txt').name} next to it. Add that file, with"
                " the words spoken."
            )
        text = read_text(texts[key])
        # TIMIT's .TXT begins with the first and the last sample of the sentence.
        if any(index.has_sibling(path, suffix) for suffix in (".wrd", ".phn")):
            text = re.sub(r"^\s*\d+ +\d+ +", "", text)
        yield where, {"audio": where, "text": text}


def _skipped(index: _FileIndex, used: set[Path], table: Path | None) -> tuple[Skipped, ...]:
    """Files that look like recordings or tables and are not in the set."""
    skipped = []
    for path in index.files:
        name = path.relative_to(index.root).as_posix()
        if path.resolve() in used or path == table:
            continue
        if path.suffix.lower() in AUDIO_SUFFIXES:
            skipped.append(Skipped(name, f"not in {table.name}" if table else "not read"))
        elif path.suffix.lower() in _OTHER_MEDIA:
            skipped.append(Skipped(name, f"{path.suffix} files cannot be decoded"))
        elif path.parent == index.root and path.suffix.lower() in _TABLE_SUFFIXES:
            used_table = table.name if table else "the .txt files"
            skipped.append(Skipped(name, f"another table; {used_table} is used"))
    return tuple(skipped)


_OTHER_TABLES = {".parquet", ".arrow", ".xlsx", ".xls", ".ods", ".feather"}
# What looks like a recording to its owner and is none that can be decoded.
_OTHER_MEDIA = {".ape", ".tta", ".mpc", ".shn", ".dsf", ".dff", ".mid", ".midi", ".aax", ".m4p"}
_OTHER_MEDIA |= {".g722", ".g729", ".gsm", ".raw", ".pcm", ".qcp", ".swf", ".zip"}


def _refuse_segments(where: str, fields: dict[str, Any]) -> None:
    """NeMo's offset makes one file many utterances."""
    if fields.get("offset") not in (None, "", 0, 0.0, "0", "0.0"):
        raise EvalSetError(
            f"{where}: an offset into a longer recording cannot be used. Cut the recording into a "
            "file for each utterance."
        )


def _field(where: str, fields: dict[str, Any], kind: str, default: str | None = None) -> str:
    """The first column of a kind that has a value, as text."""
    for key in _COLUMNS[kind]:
        value = fields.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int):
            raise EvalSetError(f"{where}: {key} must be text.")
        if text := str(value).strip():
            return text
    if default is None:
        raise EvalSetError(f"{where} has no {kind}. Fill it in, or remove the line.")
    return default


def _known_length(fields: dict[str, Any]) -> tuple[float | None, str | None]:
    """The length in seconds and the sha256 that `user_sets` wrote, where both are usable."""
    length_s, sha256 = fields.get("duration_s"), fields.get("sha256")
    if not isinstance(length_s, float) or not isinstance(sha256, str):
        return None, None
    return (length_s, sha256) if 0 < length_s < math.inf else (None, None)


def _reference(where: str, fields: dict[str, Any]) -> str:
    if fields.get("_empty_is_meant") and "" in [fields.get(key) for key in _COLUMNS["text"]]:
        return " ".join(_field(where, fields, "text", default="").split())
    try:
        return " ".join(_field(where, fields, "text").split())
    except EvalSetError as error:
        if "must be" in str(error):
            raise
        raise EvalSetError(
            f"{where} has no text. Fill it in, or remove the line; for a recording without speech,"
            ' write "text": "" in a manifest.jsonl.'
        ) from None


def _language(where: str, text: str) -> str:
    try:
        return code_of(text)
    except InputError as error:
        raise EvalSetError(f"{where}: {error}") from error
