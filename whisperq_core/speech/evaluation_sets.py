"""Evaluation sets: recordings with the words that are spoken in them."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from whisperq_core.errors import AudioError, EvalSetError
from whisperq_core.file_storage import clean_path
from whisperq_core.speech import (
    conditions,
    decode,
    isolated_decoder,
    joined_recordings,
    librispeech,
    manifests,
    no_speech,
    shipped_speech,
)
from whisperq_core.speech.conditions import Condition
from whisperq_core.speech.manifests import Skipped
from whisperq_core.speech.shipped_speech import SPEECH

EVALUATION_SETS = (
    "quick-look",
    "test-clean-34-speakers",
    "test-other-25-speakers",
    "test-other-15-minutes",
    "test-clean-excerpt",
    "test-other-excerpt",
)
CALIBRATION_SET = "dev-clean-excerpt"
# The sets of each kind of speech, best first: a whole LibriSpeech split, or an excerpt of it.
SETS_OF_KIND = {
    "clean": (
        *("test-clean", "librispeech-test-clean"),
        *("test-clean-34-speakers", "test-clean-excerpt"),
    ),
    "other": (
        *("test-other", "librispeech-test-other"),
        *("test-other-25-speakers", "test-other-excerpt"),
    ),
}
# Other speech that is as hard, by other speakers.
MORE_SETS_OF_KIND = {"clean": ("librispeech-dev-clean-mp3",), "other": ()}

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
    conditions: tuple[Condition, ...] = ()
    """What is done to the samples after they were decoded, in order."""


@dataclass(frozen=True)
class EvalSet:
    """Utterances to be transcribed and scored together; at least one, with distinct ids."""

    name: str
    title: str
    utterances: tuple[Utterance, ...]
    attribution: str
    note: str = ""
    layout: str = ""
    """What was read of a folder: a manifest's name, "Kaldi", …; empty for shipped sets."""
    skipped: tuple[Skipped, ...] = ()
    """Files of a folder that are not among the utterances, and why."""

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
        """SHA-256 in hex of ids, audio with its conditions, references and languages.

        What the set is called does not matter.
        """
        rows = sorted(
            [
                *(u.id, u.sha256 or _file_sha256(u.audio), u.reference, u.language),
                *(condition.identity for condition in u.conditions),
            ]
            for u in self.utterances
        )
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def audio_s(self) -> float:
        """Length of all recordings in seconds."""
        return sum(u.duration_s for u in self.utterances)

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Distinct speakers that are named, sorted."""
        return tuple(sorted({u.speaker for u in self.utterances if u.speaker}))

    @cached_property
    def without_speech(self) -> int:
        """Utterances whose reference is empty on purpose."""
        return sum(not u.reference for u in self.utterances)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Distinct language codes, sorted."""
        return tuple(sorted({u.language for u in self.utterances}))


SHIPPED_TITLES = {
    "test-clean-34-speakers": ("LibriSpeech test-clean, 34 speakers", librispeech.CREDIT),
    "test-other-25-speakers": ("LibriSpeech test-other, 25 speakers", librispeech.CREDIT),
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
    rows = shipped_speech.rows()
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
            if name in row["sets"]
        )
        sets[name] = EvalSet(name, title, utterances, attribution, "An excerpt, not the whole set.")
    sets["jfk"] = replace(sets["jfk"], note="")
    sets[CALIBRATION_SET] = replace(sets[CALIBRATION_SET], note="An excerpt, for calibration only.")
    other = sets["test-other-25-speakers"]
    quarter_of_an_hour = EvalSet(
        "test-other-15-minutes",
        "LibriSpeech test-other, 25 speakers, 15 minutes",
        _balanced(other, 36.0),
        librispeech.CREDIT,
        "Half of the larger excerpt: each speaker's first utterances, until there are 36 s.",
    )
    quick = EvalSet(
        "quick-look",
        "Quick look: LibriSpeech, 8 recordings",
        _typical(sets["test-clean-excerpt"]) + _typical(sets["test-other-excerpt"]),
        librispeech.CREDIT,
        "Four recordings of each LibriSpeech excerpt: a first impression, not a measurement.",
    )
    for_batches = EvalSet(
        "quick-look-32",
        "LibriSpeech, 32 recordings for times in large batches",
        _typical(sets["test-clean-34-speakers"], 16) + _typical(sets["test-other-25-speakers"], 16),
        librispeech.CREDIT,
        "Sixteen recordings of each LibriSpeech set: for times, not for accuracy.",
    )
    return {s.name: s for s in (quick, *sets.values(), quarter_of_an_hour, for_batches)}


@lru_cache(maxsize=4)
def without_speech(name: str) -> EvalSet:
    """A set of noises and silence, one of `no_speech.SETS`; references are empty.

    The noises in a recording are its speaker: what they have in common is what speakers have.
    """
    made = no_speech.recordings(no_speech.SETS[name])
    return EvalSet(
        name,
        f"Noise and silence, {len(made) * no_speech.LENGTH_S / 60:.0f} minutes without speech",
        tuple(
            Utterance(
                *(one.id, one.file.path, "", no_speech.LENGTH_S),
                speaker=one.source,
                sha256=one.file.sha256,
                conditions=(one.condition,),
            )
            for one in made
        ),
        no_speech.attribution(),
        "Shipped noises, alone and in pairs, at three levels, and silence: for hallucinations.",
    )


def _balanced(source: EvalSet, speaker_s: float) -> tuple[Utterance, ...]:
    """Each speaker's first utterances, in order of id, until there are so many seconds."""
    spoken_s: dict[str | None, float] = defaultdict(float)
    chosen = []
    for utterance in sorted(source.utterances, key=lambda u: u.id):
        if spoken_s[utterance.speaker] < speaker_s:
            chosen.append(utterance)
            spoken_s[utterance.speaker] += utterance.duration_s
    return tuple(chosen)


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
    """Load an utterance under its conditions as float32 mono 16 kHz, shape (samples,).

    Raises:
        AudioError: the file is missing, too large or unreadable.
        EvalSetError: the file is not the one that the set was made with, or it is silent and noise
            is to be added.
    """
    path = utterance.audio
    if utterance.sha256 and path.is_file() and _file_sha256(path) != utterance.sha256:
        raise EvalSetError(
            f"{path.name} was altered after its evaluation set was made. "
            "Restore the file, or choose the set again."
        )
    samples = decode.load(path, limits=limits)
    for condition in utterance.conditions:
        samples = condition.apply(samples, utterance.id, utterance.speaker)
    return samples


def under_conditions(eval_set: EvalSet, text: str) -> EvalSet:
    """The same utterances under conditions, such as "+noise:coffee-shop@5dB+telephone".

    With "+joined:5min" first, they are joined into long recordings, and these are under the others.

    Raises:
        EvalSetError: what `conditions.parse` raises, or too little speech to be joined.
    """
    added = conditions.parse(text)
    if added[0].joined_min:
        eval_set, added = _joined(eval_set, added[0], added[0].joined_min), added[1:]
    credits = (c.attribution for c in added if c.attribution)
    return replace(
        eval_set,
        name="+".join([eval_set.name, *(c.name for c in added)]),
        title=", ".join([eval_set.title, *(c.label for c in added)]),
        utterances=tuple(
            replace(u, conditions=(*u.conditions, *added)) for u in eval_set.utterances
        ),
        attribution="; ".join(dict.fromkeys([eval_set.attribution, *credits])),
    )


def _joined(eval_set: EvalSet, condition: Condition, minutes: int) -> EvalSet:
    """Recordings of about so many minutes, made of the utterances when they are read."""
    if eval_set.audio_s < joined_recordings.LEAST_ALONE * 60 * minutes:
        raise EvalSetError(
            f"{eval_set.name} has {eval_set.audio_s / 60:.1f} minutes of speech, too little for"
            f" recordings of {minutes}. Choose a larger set or fewer minutes."
        )
    groups = joined_recordings.groups(eval_set.utterances, 60 * minutes)
    return replace(
        eval_set,
        name=f"{eval_set.name}+{condition.name}",
        title=f"{eval_set.title}, {condition.label}",
        utterances=tuple(_recording(parts, condition) for parts in groups),
    )


def _recording(parts: tuple[Utterance, ...], condition: Condition) -> Utterance:
    """One recording. Of the others than the first part, the condition has digest and samples."""
    joining = replace(
        condition,
        change=partial(joined_recordings.join, parts, read_audio),
        sources=tuple(_audio_digest(part) for part in parts),
    )
    return Utterance(
        f"{parts[0].id}-to-{parts[-1].id}",
        parts[0].audio,
        joined_recordings.reference_of(parts),
        joined_recordings.seconds(parts),
        parts[0].language,
        joined_recordings.speaker_of(parts),
        parts[0].sha256,
        (joining,),
    )


def _audio_digest(utterance: Utterance) -> str:
    """Of the file, and of what is done to its samples."""
    file = utterance.sha256 or _file_sha256(utterance.audio)
    if not utterance.conditions:
        return file
    changes = json.dumps([file, utterance.id, *(c.identity for c in utterance.conditions)])
    return hashlib.sha256(changes.encode()).hexdigest()


def from_librispeech(folder: Path) -> EvalSet:
    """An unpacked LibriSpeech split.

    Raises:
        EvalSetError: no transcripts, a transcript without audio, or audio without transcript.
    """
    split = folder.resolve().name
    utterances = _utterances(librispeech.rows(folder))
    return EvalSet(f"librispeech-{split}", f"LibriSpeech {split}", utterances, librispeech.CREDIT)


def from_folder(
    folder: Path,
    name: str | None = None,
    durations_of: Callable[[Sequence[Path]], Sequence[float]] | None = None,
) -> EvalSet:
    """A user's own recordings with their references, in any layout of `manifests`.

    LibriSpeech's layout is read, too. What is left out is in `skipped`. durations_of: gives the
    recordings' lengths in seconds; by default, and for recordings whose length the manifest does
    not tell, another process finds them.

    Raises:
        EvalSetError: nothing usable in the folder; the message names the line that is wrong.
    """
    if not folder.is_dir():
        raise EvalSetError(f"{folder} is not a folder. Check the path.")
    if librispeech.transcripts(folder) and not manifests.has_own(folder):
        manifest = manifests.Manifest("LibriSpeech", tuple(librispeech.rows(folder.resolve())))
    else:
        manifest = manifests.read(folder)
    utterances = _utterances(manifest.rows, durations_of)
    name = name or folder.resolve().name
    return EvalSet(
        name,
        name,
        utterances,
        "Your own recordings",
        layout=manifest.layout,
        skipped=manifest.skipped,
    )


@dataclass(frozen=True)
class SetPreview:
    """What a folder or an archive would be as an evaluation set, for a user to check.

    layout: what was read. languages, speakers: utterances of each; those without a speaker are not
    in speakers. without_speech: utterances whose reference is empty. skipped: what was left out.
    """

    name: str
    layout: str
    utterances: int
    audio_s: float
    languages: dict[str, int]
    speakers: dict[str, int]
    without_speech: int
    skipped: tuple[Skipped, ...]

    @classmethod
    def of(cls, eval_set: EvalSet) -> "SetPreview":
        """The preview of a set that was read."""
        return cls(
            eval_set.name,
            eval_set.layout,
            len(eval_set.utterances),
            eval_set.audio_s,
            dict(Counter(u.language for u in eval_set.utterances).most_common()),
            dict(Counter(u.speaker for u in eval_set.utterances if u.speaker).most_common()),
            eval_set.without_speech,
            eval_set.skipped,
        )

    @property
    def sentences(self) -> list[str]:
        """The preview in words: first what is in the set, then what is not."""
        languages = ", ".join(f"{code} ({n})" for code, n in self.languages.items())
        sentences = [
            f"{self.utterances} utterances, {self.audio_s / 60:.1f} minutes, read from "
            f"{self.layout}. Languages: {languages}. Speakers: {len(self.speakers) or 'not named'}."
        ]
        if self.without_speech:
            sentences.append(
                f"{self.without_speech} have an empty reference: recordings without speech."
            )
        reasons = Counter(one.reason for one in self.skipped)
        for reason, count in reasons.items():
            names = [one.name for one in self.skipped if one.reason == reason][:3]
            more = ", …" if count > len(names) else ""
            sentences.append(f"{count} skipped, {reason}: {', '.join(names)}{more}.")
        return sentences


def preview(folder: Path) -> SetPreview:
    """What `from_folder` reads of a folder. Raises EvalSetError as that does."""
    return SetPreview.of(from_folder(folder))


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

    Conditions may follow the name, as in "test-clean-excerpt+noise:coffee-shop@5dB", or
    "test-clean-excerpt+joined:2min" for long recordings.

    Raises:
        EvalSetError: no such set or condition, not downloaded yet, or not usable.
    """
    base, added = conditions.split(name_or_path)
    if added and not Path(name_or_path).is_dir():
        return under_conditions(by_name(base), added)
    sets = shipped_sets()
    name_or_path = str(clean_path(name_or_path)) if name_or_path.strip() else ""
    if name_or_path in sets:
        return sets[name_or_path]
    if name_or_path in no_speech.SETS:
        return without_speech(name_or_path)
    split = name_or_path.removeprefix("librispeech-")
    if split in librispeech.SPLITS and (downloaded := librispeech.split_folder(split)):
        return _complete_split(split, downloaded)
    folder = Path(name_or_path)
    try:
        is_folder = name_or_path != "" and folder.is_dir()
        is_file = folder.is_file()
    except OSError:  # too long a name
        is_folder = is_file = False
    if is_folder:
        return _from_folder_once(folder.resolve(), _stamp(folder))
    if is_file:
        raise EvalSetError(f"{folder} is a file. Give the folder that it is in: {folder.parent}.")
    if split in librispeech.SPLITS:
        raise EvalSetError(
            f"{split} is not on this computer yet. Download it first, "
            f"or choose one of: {', '.join(sets)}."
        )
    base, plus, unknown = name_or_path.rpartition("+")
    if plus and base in sets:
        raise EvalSetError(
            f"There is no condition {unknown!r}. Conditions are: {conditions.kinds()}."
        )
    raise EvalSetError(
        f"There is no evaluation set or folder {name_or_path!r}. "
        f"Choose a folder or one of: {', '.join([*sets, *no_speech.SETS, *librispeech.SPLITS])}."
    )


def shipped_with_digest(name: str, digest: str) -> EvalSet | None:
    """The shipped set with this digest: under whatever name, or `name` with its conditions.

    None for others. Raises EvalSetError where the shipped speech is missing.
    """
    sets = shipped_sets()
    if same := next((s for s in sets.values() if s.digest == digest), None):
        return same
    base, added = conditions.split(name)
    if not added or base not in sets or not conditions.is_shipped(added):
        return None
    derived = under_conditions(sets[base], added)
    return derived if derived.digest == digest else None


def is_public(name: str) -> bool:
    """Whether a set of that name comes with WhisperQ or from LibriSpeech, and is nobody's own.

    Of some only the results come with WhisperQ. Conditions are public where their noises are.
    """
    name, added = conditions.split(name)
    if added and not conditions.is_shipped(added):
        return False
    larger = (name for names in MORE_SETS_OF_KIND.values() for name in names)
    is_split = name.removeprefix("librispeech-") in librispeech.SPLITS
    return is_split or name in {**shipped_sets(), **no_speech.SETS} or name in larger


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a file of the folder does."""
    stats = ((path, path.stat()) for path in manifests.files(folder) if path.is_file())
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)


@lru_cache(maxsize=8)
def _from_folder_once(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> EvalSet:
    """Reads and hashes a folder once for each state it is in."""
    return from_librispeech(folder) if librispeech.is_split(folder) else from_folder(folder)


def _utterances(
    rows: Sequence[manifests.Row],
    durations_of: Callable[[Sequence[Path]], Sequence[float]] | None = None,
) -> tuple[Utterance, ...]:
    for row in rows:
        _require_file(row)
    digests = [_file_sha256(row.audio) for row in rows]
    # What the manifest says counts for the very file it was written of.
    known_s = [
        row.duration_s if row.sha256 == digest and durations_of is None else None
        for row, digest in zip(rows, digests, strict=True)
    ]
    unknown = [row for row, known in zip(rows, known_s, strict=True) if known is None]
    found_s = iter(
        durations_of([row.audio for row in unknown]) if durations_of else _durations_s(unknown)
    )
    return tuple(
        Utterance(
            *(r.id, r.audio, r.reference, next(found_s) if known is None else known),
            *(r.language, r.speaker, digest),
        )
        for r, digest, known in zip(rows, digests, known_s, strict=True)
    )


def _durations_s(rows: Sequence[manifests.Row]) -> list[float]:
    """Lengths in seconds, found in another process, which may crash on a file."""
    lengths = isolated_decoder.durations_s([row.audio for row in rows])
    lengths_s = []
    for row, length in zip(rows, lengths, strict=True):
        if isinstance(length, AudioError):
            raise EvalSetError(f"{row.where}: {length}") from length
        lengths_s.append(length)
    return lengths_s


def _complete_split(split: str, folder: Path) -> EvalSet:
    eval_set = from_librispeech(folder)
    expected = librispeech.SPLITS[split].utterances
    if len(eval_set.utterances) != expected:
        raise EvalSetError(
            f"{folder} has {len(eval_set.utterances)} of {expected} recordings. "
            "Delete that folder and download the set again."
        )
    return eval_set


def _require_file(row: manifests.Row) -> None:
    name = row.audio.name
    if not row.audio.exists():
        raise EvalSetError(
            f"{row.where}: {name} does not exist. Add the recording or remove the line."
        )
    if not row.audio.is_file():  # a pipe would never end
        raise EvalSetError(f"{row.where}: {name} is not a file. Remove it from the folder.")


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
