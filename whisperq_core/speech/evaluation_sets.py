"""Evaluation sets: recordings with the words that are spoken in them."""

import csv
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pooch
import requests
import soundfile

from whisperq_core import settings
from whisperq_core.errors import AudioError, EvalSetError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode

SPEECH = PROJECT / "speech"

EVALUATION = ("quick-look", "test-clean-excerpt", "test-other-excerpt")
CALIBRATION = "dev-clean-excerpt"
# The sets of each kind of speech, best first: a whole LibriSpeech split, or an excerpt of it.
SETS_OF_KIND = {
    "clean": ("test-clean", "librispeech-test-clean", "test-clean-excerpt"),
    "other": ("test-other", "librispeech-test-other", "test-other-excerpt"),
}
# Other speech that is as hard, and more of it: for what an excerpt cannot decide.
LARGER_SETS_OF_KIND = {"clean": ("librispeech-dev-clean-mp3",), "other": ()}

LIBRISPEECH_CREDIT = "LibriSpeech, Panayotov et al. 2015, OpenSLR 12, CC BY 4.0"
FLEURS_CREDIT = "FLEURS, Conneau et al. 2022, CC BY 4.0"

# LibriSpeech's largest part has half as many.
MOST_FILES = 200_000
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm"}


@dataclass(frozen=True)
class Utterance:
    """One recording and its reference, the words spoken in it."""

    id: str
    audio: Path
    reference: str
    duration_s: float
    language: str = "en"
    speaker: str | None = None
    sha256: str | None = None
    """Of the audio file; None means that it is not checked."""


@dataclass(frozen=True)
class EvalSet:
    """Utterances to be transcribed and scored together; at least one, with distinct ids."""

    name: str
    title: str
    utterances: tuple[Utterance, ...]
    attribution: str
    note: str = ""

    def __post_init__(self) -> None:
        if not self.utterances:
            raise EvalSetError(f"{self.name} has no recordings. Choose a set with at least one.")
        repeated = [id for id, n in Counter(u.id for u in self.utterances).items() if n > 1]
        if repeated:
            raise EvalSetError(
                f"{self.name} has the id {repeated[0]} twice. Give each recording its own id."
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of ids, audio, references and languages, whatever the set is called."""
        rows = sorted(
            [u.id, u.sha256 or _file_sha256(u.audio), u.reference, u.language]
            for u in self.utterances
        )
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def audio_s(self) -> float:
        """Length of all recordings in seconds."""
        return sum(u.duration_s for u in self.utterances)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Distinct language codes, sorted."""
        return tuple(sorted({u.language for u in self.utterances}))


@dataclass(frozen=True)
class Archive:
    """A LibriSpeech split to download, and what it must contain."""

    url: str
    md5: str
    utterances: int


LIBRISPEECH = {
    "test-clean": Archive(
        "https://www.openslr.org/resources/12/test-clean.tar.gz",
        "32fa31d27d2e1cad72775fee3f4849a9",
        2620,
    ),
    "test-other": Archive(
        "https://www.openslr.org/resources/12/test-other.tar.gz",
        "fb5a50374b501bb3bac4815ee91d3135",
        2939,
    ),
}

SHIPPED_TITLES = {
    "test-clean-excerpt": ("LibriSpeech test-clean, excerpt", LIBRISPEECH_CREDIT),
    "test-other-excerpt": ("LibriSpeech test-other, excerpt", LIBRISPEECH_CREDIT),
    "dev-clean-excerpt": ("LibriSpeech dev-clean, excerpt", LIBRISPEECH_CREDIT),
    "jfk": ("John F. Kennedy, one sentence", "Inaugural address, 1961, public domain"),
    "fleurs-de-example": ("FLEURS German, one recording", FLEURS_CREDIT),
}


@lru_cache(maxsize=1)
def shipped() -> dict[str, EvalSet]:
    """The sets in the project's `speech` folder by name; reads the manifest, no audio.

    Raises:
        EvalSetError: the folder or its manifest is missing.
    """
    manifest = SPEECH / "manifest.jsonl"
    try:
        with manifest.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise EvalSetError(
            "The speech that comes with WhisperQ is missing or altered. Install WhisperQ again."
        ) from error
    sets = {}
    for name, (title, attribution) in SHIPPED_TITLES.items():
        utterances = tuple(
            Utterance(
                id=row["id"],
                audio=SPEECH / row["file"],
                reference=row["text"],
                duration_s=row["duration_s"],
                language=row["language"],
                speaker=row["speaker"],
                sha256=row["sha256"],
            )
            for row in rows
            if row["set"] == name
        )
        sets[name] = EvalSet(name, title, utterances, attribution, "An excerpt, not the whole set.")
    sets["jfk"] = replace(sets["jfk"], note="")
    sets[CALIBRATION] = replace(sets[CALIBRATION], note="An excerpt, for calibration only.")
    quick = EvalSet(
        "quick-look",
        "Quick look: LibriSpeech, 8 recordings",
        _typical(sets["test-clean-excerpt"]) + _typical(sets["test-other-excerpt"]),
        LIBRISPEECH_CREDIT,
        "Four recordings of each LibriSpeech excerpt: a first impression, not a measurement.",
    )
    return {quick.name: quick, **sets}


def _typical(source: EvalSet, count: int = 4, length_s: float = 7.0) -> tuple[Utterance, ...]:
    """The utterances nearest to `length_s`, about the median of LibriSpeech, one a speaker."""
    chosen: dict[str | None, Utterance] = {}
    for utterance in sorted(
        source.utterances, key=lambda u: (round(abs(u.duration_s - length_s), 3), u.id)
    ):
        chosen.setdefault(utterance.speaker, utterance)
    return tuple(chosen.values())[:count]


def read_audio(utterance: Utterance, limits: decode.Limits = decode.DEFAULT_LIMITS) -> np.ndarray:
    """Load an utterance as float32 mono 16 kHz, shape (samples,).

    Raises:
        AudioError: the file is missing, too large or unreadable.
        EvalSetError: the file is not the one that the set was made with.
    """
    path = utterance.audio
    if utterance.sha256 and path.is_file() and _file_sha256(path) != utterance.sha256:
        raise EvalSetError(
            f"{path.name} was altered after its evaluation set was made. "
            "Restore the file, or choose the set again."
        )
    return decode.load(path, limits=limits)


def from_openslr(folder: Path) -> EvalSet:
    """A LibriSpeech split as OpenSLR packs it: speaker/chapter/*.flac and *.trans.txt.

    Raises:
        EvalSetError: no transcripts, a transcript without audio, or audio without transcript.
    """
    split = folder.resolve().name
    utterances = []
    for transcript in sorted(folder.glob("*/*/*.trans.txt")):
        for number, line in enumerate(_read_text(transcript).splitlines(), 1):
            id, _, reference = line.strip().partition(" ")
            where = f"{transcript.name}, line {number}"
            path = transcript.parent / f"{id}.flac"
            if not reference or not path.resolve().is_relative_to(folder.resolve()):
                raise EvalSetError(f"{where} is not an id and a text. Unpack the set again.")
            speaker = transcript.parent.parent.name
            utterances.append(_utterance(where, path, id, reference, "en", speaker))
    expected = {u.audio for u in utterances}
    extra = next((p for p in sorted(folder.glob("*/*/*.flac")) if p not in expected), None)
    if extra:
        raise EvalSetError(f"{extra.name} has no transcript beside it. Unpack the set again.")
    if not utterances:
        raise EvalSetError(
            f"{folder} is not a LibriSpeech split. Choose the folder that contains "
            "one numbered folder for each speaker, such as LibriSpeech/test-clean."
        )
    return EvalSet(
        f"librispeech-{split}", f"LibriSpeech {split}", tuple(utterances), LIBRISPEECH_CREDIT
    )


def from_folder(
    folder: Path,
    name: str | None = None,
    lengths_of: Callable[[Sequence[Path]], Sequence[float]] | None = None,
) -> EvalSet:
    """A user's own recordings with their transcripts.

    The folder holds `manifest.jsonl` or `manifest.csv` with audio (or file, path) and text (or
    reference, transcript), optionally id, language and speaker; or a .txt beside each recording.
    Audio files must lie inside the folder. lengths_of gives their lengths in seconds, for
    recordings that must not be looked at in this process.

    Raises:
        EvalSetError: nothing usable in the folder; the message names the line that is wrong.
    """
    if not folder.is_dir():
        raise EvalSetError(f"{folder} is not a folder. Check the path.")
    root = folder.resolve()
    rows: list[tuple] = []
    places: dict[str | Path, str] = {}
    for where, row in _rows(root):
        path = _inside(root, where, _field(where, row, "audio", "file", "path"))
        id = _field(where, row, "id", default=path.relative_to(root).with_suffix("").as_posix())
        reference = " ".join(_field(where, row, "text", "reference", "transcript").split())
        for key, what in ((path, path.name), (id, f"the id {id}")):
            if key in places:
                raise EvalSetError(
                    f"{where} repeats {what} from {places[key]}. Remove one of them."
                )
            places[key] = where
        language = _field(where, row, "language", default="en").lower()
        speaker = _field(where, row, "speaker", default="") or None
        rows.append((where, path, id, reference, language, speaker))
    lengths_s = lengths_of([row[1] for row in rows]) if lengths_of else [None] * len(rows)
    utterances = tuple(_utterance(*row, s) for row, s in zip(rows, lengths_s, strict=True))
    name = name or root.name
    return EvalSet(name, name, utterances, "Your own recordings")


def download_librispeech(
    split: str, folder: Path, progress: Callable[[int, int], None] | None = None
) -> EvalSet:
    """Download "test-clean" or "test-other" (about 340 MB) to `folder`/LibriSpeech/`split`.

    A split that is there already is not downloaded again. `progress` is called with the bytes
    done and the bytes in total (0 if unknown); what it raises stops the download.

    Raises:
        EvalSetError: unknown split, no connection, wrong checksum, no space, or incomplete.
    """
    if split not in LIBRISPEECH:
        raise EvalSetError(f"{split} cannot be downloaded. Choose {' or '.join(LIBRISPEECH)}.")
    if not (folder / "LibriSpeech" / split).exists():
        packed = _fetch(split, folder, progress)
        _unpack(packed, split, folder)
        packed.unlink()
    return _downloaded(split, folder)


def data_folder() -> Path:
    """Where downloaded speech is put: in the cache."""
    return settings.current().cache / "speech"


def _folder_of(split: str) -> Path | None:
    """The folder that has the downloaded split: the cache, or the one that WhisperQ came with."""
    places = (data_folder(), settings.SHIPPED_CACHE / "speech")
    return next((place for place in places if (place / "LibriSpeech" / split).is_dir()), None)


def by_name(name_or_path: str) -> EvalSet:
    """A shipped set, a downloaded LibriSpeech split or a folder, in OpenSLR's layout or your own.

    Raises:
        EvalSetError: no such set, not downloaded yet, or not usable.
    """
    sets = shipped()
    if name_or_path in sets:
        return sets[name_or_path]
    split = name_or_path.removeprefix("librispeech-")
    if split in LIBRISPEECH and (found := _folder_of(split)):
        return _downloaded(split, found)
    folder = Path(name_or_path)
    try:
        is_folder = name_or_path != "" and folder.is_dir()
    except OSError:  # too long a name
        is_folder = False
    if is_folder:
        return _from_folder_once(folder.resolve(), _stamp(folder))
    if split in LIBRISPEECH:
        raise EvalSetError(
            f"{split} is not on this computer yet. Download it first, "
            f"or choose one of: {', '.join(sets)}."
        )
    raise EvalSetError(
        f"There is no evaluation set or folder {name_or_path!r}. "
        f"Choose a folder or one of: {', '.join([*sets, *LIBRISPEECH])}."
    )


def is_public(name: str) -> bool:
    """Whether a set of that name comes with WhisperQ or from LibriSpeech, and is nobody's own."""
    return name in shipped() or name.removeprefix("librispeech-") in LIBRISPEECH


def _stamp(folder: Path) -> tuple:
    """Changes whenever a file of the folder does."""
    stats = ((path, path.stat()) for path in _files(folder) if path.is_file())
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _files(folder: Path) -> list[Path]:
    """All below a folder in order; EvalSetError where it is a whole disk rather than a set."""
    found: list[Path] = []
    for root, _, names in os.walk(folder):
        found += [Path(root, name) for name in names]
        if len(found) > MOST_FILES:
            raise EvalSetError(
                f"{folder} has more than {MOST_FILES} files in it. Choose the folder that holds the"
                " recordings and nothing else."
            )
    return sorted(found)


@lru_cache(maxsize=8)
def _from_folder_once(folder: Path, stamp: tuple) -> EvalSet:
    """Reads and hashes a folder once for each state it is in."""
    is_openslr = any(folder.glob("*/*/*.trans.txt"))
    return from_openslr(folder) if is_openslr else from_folder(folder)


def _rows(root: Path) -> Iterator[tuple[str, dict]]:
    """The lines of a folder's manifest, each with its place for messages."""
    if (root / "manifest.jsonl").is_file():
        yield from _jsonl_rows(root / "manifest.jsonl")
    elif (root / "manifest.csv").is_file():
        yield from _csv_rows(root / "manifest.csv")
    else:
        yield from _text_rows(root)


def _jsonl_rows(manifest: Path) -> Iterator[tuple[str, dict]]:
    # not splitlines(), which would also split inside texts, at U+2028 for example
    for number, line in enumerate(_read_text(manifest).split("\n"), 1):
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


def _csv_rows(manifest: Path) -> Iterator[tuple[str, dict]]:
    reader = csv.DictReader(io.StringIO(_read_text(manifest), newline=""), strict=True)
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


def _text_rows(root: Path) -> Iterator[tuple[str, dict]]:
    recordings = [
        path
        for path in _files(root)
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
        yield where, {"audio": where, "text": _read_text(text)}


def _field(where: str, row: dict, *keys: str, default: str | None = None) -> str:
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


def _utterance(
    where: str,
    path: Path,
    id: str,
    reference: str,
    language: str,
    speaker: str | None,
    length_s: float | None = None,
) -> Utterance:
    try:
        length_s = length_s or _duration_s(path)
        return Utterance(id, path, reference, length_s, language, speaker, _file_sha256(path))
    except AudioError as error:
        raise EvalSetError(f"{where}: {error}") from error


def _duration_s(path: Path) -> float:
    """Length by the file's header where it tells, else by decoding."""
    try:
        length_s = soundfile.info(path).duration
    except (soundfile.LibsndfileError, TypeError):
        length_s = 0.0
    # a streamed FLAC has no length in its header
    if 0 < length_s <= decode.DEFAULT_LIMITS.max_duration_s:
        return length_s
    return sum(len(block) for block in decode.blocks(path)) / decode.SAMPLE_RATE


def _fetch(split: str, folder: Path, progress: Callable[[int, int], None] | None) -> Path:
    """The downloaded archive, whose checksum is right."""
    archive = LIBRISPEECH[split]
    by_hand = f"download {archive.url} in a browser and unpack it in {folder}"
    try:
        packed = pooch.retrieve(
            archive.url,
            known_hash=f"md5:{archive.md5}",
            fname=f"{split}.tar.gz",
            path=folder,
            downloader=pooch.HTTPDownloader(
                progressbar=_Progress(progress) if progress else False, chunk_size=1 << 20
            ),
        )
    except requests.RequestException as error:
        raise EvalSetError(
            f"{split} could not be downloaded. Check the connection and retry, or {by_hand}."
        ) from error
    except ValueError as error:
        raise EvalSetError(
            f"The download of {split} has the wrong checksum and was discarded. "
            f"Retry, or {by_hand}."
        ) from error
    except OSError as error:
        raise _no_space(split, folder) from error
    return Path(packed)


def _unpack(packed: Path, split: str, folder: Path) -> None:
    """Unpack aside, then rename, so that half a split is never taken for a whole one."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
            with tarfile.open(packed) as tar:
                tar.extractall(aside, filter="data")
            (folder / "LibriSpeech").mkdir(exist_ok=True)
            (Path(aside) / "LibriSpeech" / split).rename(folder / "LibriSpeech" / split)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _no_space(split, folder) from error


def _no_space(split: str, folder: Path) -> EvalSetError:
    return EvalSetError(
        f"{split} could not be stored in {folder}. Check that the disk has 1 GB free and that "
        "the folder can be written to."
    )


def _downloaded(split: str, folder: Path) -> EvalSet:
    target = folder / "LibriSpeech" / split
    found = from_openslr(target)
    expected = LIBRISPEECH[split].utterances
    if len(found.utterances) != expected:
        raise EvalSetError(
            f"{target} has {len(found.utterances)} of {expected} recordings. "
            "Delete that folder and download the set again."
        )
    return found


class _Progress:
    """What pooch takes for a progress bar."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report, self.done, self.total = report, 0, 0

    def update(self, size_bytes: int) -> None:
        # pooch counts its last chunk as full
        done = self.done + size_bytes
        self.done = min(done, self.total) if self.total else done
        self.report(self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise EvalSetError(f"{path.name} cannot be read. Check the file.") from error
    except UnicodeDecodeError as error:
        raise EvalSetError(f"{path.name} is not UTF-8 text. Save it as UTF-8 (Unicode).") from error


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
