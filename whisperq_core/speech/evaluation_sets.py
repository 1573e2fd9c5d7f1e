"""Evaluation sets: recordings with the words that are spoken in them."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from whisperq_core.errors import AudioError, EvalSetError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode, librispeech, manifests

SPEECH = PROJECT / "speech"

EVALUATION_SETS = ("quick-look", "test-clean-excerpt", "test-other-excerpt")
CALIBRATION_SET = "dev-clean-excerpt"
# The sets of each kind of speech, best first: a whole LibriSpeech split, or an excerpt of it.
SETS_OF_KIND = {
    "clean": ("test-clean", "librispeech-test-clean", "test-clean-excerpt"),
    "other": ("test-other", "librispeech-test-other", "test-other-excerpt"),
}
# Other speech that is as hard, and more of it: for what an excerpt cannot decide.
LARGER_SETS_OF_KIND = {"clean": ("librispeech-dev-clean-mp3",), "other": ()}

FLEURS_CREDIT = "FLEURS, Conneau et al. 2022, CC BY 4.0"


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


SHIPPED_TITLES = {
    "test-clean-excerpt": ("LibriSpeech test-clean, excerpt", librispeech.CREDIT),
    "test-other-excerpt": ("LibriSpeech test-other, excerpt", librispeech.CREDIT),
    "dev-clean-excerpt": ("LibriSpeech dev-clean, excerpt", librispeech.CREDIT),
    "jfk": ("John F. Kennedy, one sentence", "Inaugural address, 1961, public domain"),
    "fleurs-de-example": ("FLEURS German, one recording", FLEURS_CREDIT),
}


@lru_cache(maxsize=1)
def shipped_sets() -> dict[str, EvalSet]:
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
    sets[CALIBRATION_SET] = replace(sets[CALIBRATION_SET], note="An excerpt, for calibration only.")
    quick = EvalSet(
        "quick-look",
        "Quick look: LibriSpeech, 8 recordings",
        _typical(sets["test-clean-excerpt"]) + _typical(sets["test-other-excerpt"]),
        librispeech.CREDIT,
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


def read_audio(
    utterance: Utterance, limits: decode.Limits = decode.DEFAULT_LIMITS
) -> npt.NDArray[np.float32]:
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


def from_librispeech(folder: Path) -> EvalSet:
    """An unpacked LibriSpeech split.

    Raises:
        EvalSetError: no transcripts, a transcript without audio, or audio without transcript.
    """
    split = folder.resolve().name
    utterances = tuple(_utterance(row) for row in librispeech.rows(folder))
    return EvalSet(f"librispeech-{split}", f"LibriSpeech {split}", utterances, librispeech.CREDIT)


def from_folder(
    folder: Path,
    name: str | None = None,
    durations_of: Callable[[Sequence[Path]], Sequence[float]] | None = None,
) -> EvalSet:
    """A user's own recordings with their transcripts.

    The folder holds `manifest.jsonl` or `manifest.csv` with audio (or file, path) and text (or
    reference, transcript), optionally id, language and speaker; or a .txt next to each recording.
    Audio files must lie inside the folder. durations_of: gives the recordings' lengths in seconds,
    where they must not be decoded in this process.

    Raises:
        EvalSetError: nothing usable in the folder; the message names the line that is wrong.
    """
    if not folder.is_dir():
        raise EvalSetError(f"{folder} is not a folder. Check the path.")
    rows = manifests.rows(folder)
    durations_s: Sequence[float | None] = [None] * len(rows)
    if durations_of:
        durations_s = durations_of([row.audio for row in rows])
    utterances = tuple(_utterance(row, s) for row, s in zip(rows, durations_s, strict=True))
    name = name or folder.resolve().name
    return EvalSet(name, name, utterances, "Your own recordings")


def download_librispeech(
    split: str, folder: Path, progress: Callable[[int, int], None] | None = None
) -> EvalSet:
    """Download "test-clean" or "test-other" (about 340 MB), see `librispeech.download`.

    Raises:
        EvalSetError: unknown split, no connection, wrong checksum, no space, or incomplete.
    """
    return _complete_split(split, librispeech.download(split, folder, progress))


def by_name(name_or_path: str) -> EvalSet:
    """A shipped set, a downloaded LibriSpeech split or a folder, in OpenSLR's layout or your own.

    Raises:
        EvalSetError: no such set, not downloaded yet, or not usable.
    """
    sets = shipped_sets()
    if name_or_path in sets:
        return sets[name_or_path]
    split = name_or_path.removeprefix("librispeech-")
    if split in librispeech.SPLITS and (downloaded := librispeech.split_folder(split)):
        return _complete_split(split, downloaded)
    folder = Path(name_or_path)
    try:
        is_folder = name_or_path != "" and folder.is_dir()
    except OSError:  # too long a name
        is_folder = False
    if is_folder:
        return _from_folder_once(folder.resolve(), _stamp(folder))
    if split in librispeech.SPLITS:
        raise EvalSetError(
            f"{split} is not on this computer yet. Download it first, "
            f"or choose one of: {', '.join(sets)}."
        )
    raise EvalSetError(
        f"There is no evaluation set or folder {name_or_path!r}. "
        f"Choose a folder or one of: {', '.join([*sets, *librispeech.SPLITS])}."
    )


def is_public(name: str) -> bool:
    """Whether a set of that name comes with WhisperQ or from LibriSpeech, and is nobody's own."""
    return name in shipped_sets() or name.removeprefix("librispeech-") in librispeech.SPLITS


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a file of the folder does."""
    stats = ((path, path.stat()) for path in manifests.files(folder) if path.is_file())
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)


@lru_cache(maxsize=8)
def _from_folder_once(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> EvalSet:
    """Reads and hashes a folder once for each state it is in."""
    return from_librispeech(folder) if librispeech.is_split(folder) else from_folder(folder)


def _utterance(row: manifests.Row, duration_s: float | None = None) -> Utterance:
    try:
        duration_s = duration_s or _duration_s(row.audio)
    except AudioError as error:
        raise EvalSetError(f"{row.where}: {error}") from error
    sha256 = _file_sha256(row.audio)
    return Utterance(
        row.id, row.audio, row.reference, duration_s, row.language, row.speaker, sha256
    )


def _duration_s(path: Path) -> float:
    """Length by the file's header where it tells, else by decoding."""
    try:
        length_s = float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, TypeError):
        length_s = 0.0
    # a streamed FLAC has no length in its header
    if 0 < length_s <= decode.DEFAULT_LIMITS.max_duration_s:
        return length_s
    return sum(len(block) for block in decode.AudioStream(path)) / decode.SAMPLE_RATE


def _complete_split(split: str, folder: Path) -> EvalSet:
    eval_set = from_librispeech(folder)
    expected = librispeech.SPLITS[split].utterances
    if len(eval_set.utterances) != expected:
        raise EvalSetError(
            f"{folder} has {len(eval_set.utterances)} of {expected} recordings. "
            "Delete that folder and download the set again."
        )
    return eval_set


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
