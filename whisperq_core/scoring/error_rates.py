"""Error counts, rates, alignments and loops: pure functions over texts.

Counts are stored and added up; rates are derived from sums, never averaged.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from whisperq_core.scoring.normalizers import normaliser

# Whisper's own threshold for a text that repeats itself (decoding option of the same name).
COMPRESSION_RATIO_THRESHOLD = 2.4
# A phrase said this many times in a row is a loop even where the text is too short to compress.
LOOP_REPEATS = 4
# About what is said in 30 s.
_WINDOW_CHARACTERS = 800


@dataclass(frozen=True)
class Counts:
    """Edits that turn references into hypotheses, in words or in characters."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def reference_length(self) -> int:
        """Words (or characters) of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per reference word (WER) or character (CER), in percent.

        None where the references are empty: there is nothing to divide by, however many insertions
        there are.
        """
        return 100 * self.errors / self.reference_length if self.reference_length else None


@dataclass(frozen=True)
class Score:
    """Counts of one utterance under one normaliser."""

    words: Counts
    characters: Counts
    looped: bool
    normaliser: str

    @property
    def exact(self) -> bool:
        """Whether the hypothesis has no word error."""
        return self.words.errors == 0


@dataclass(frozen=True)
class Edit:
    """One step of an alignment: `kind` is equal, substitute, delete or insert."""

    kind: str
    reference: str
    hypothesis: str


def normaliser_id(language: str) -> str:
    """Name and version of the normaliser that `score` uses for `language`."""
    chosen = normaliser(language)
    return f"{chosen.name}@{chosen.version}"


def score(reference: str, hypothesis: str, language: str = "en") -> Score:
    """Word and character counts of one utterance after normalisation.

    An empty reference makes every hypothesis word an insertion; two empty texts score zero.
    """
    normalise = normaliser(language).apply
    ref, hyp = normalise(reference), normalise(hypothesis)
    return Score(
        words=_counts(ref.split(), hyp.split(), jiwer.process_words),
        characters=_counts(list(ref.strip()), list(hyp.strip()), jiwer.process_characters),
        looped=is_looped(hypothesis),
        normaliser=normaliser_id(language),
    )


def _counts(ref: list[str], hyp: list[str], process) -> Counts:
    # jiwer refuses empty references; their counts need no alignment.
    if not ref:
        return Counts(insertions=len(hyp))
    if not hyp:
        return Counts(deletions=len(ref))
    joint = " " if process is jiwer.process_words else ""
    out = process(joint.join(ref), joint.join(hyp))
    return Counts(out.hits, out.substitutions, out.deletions, out.insertions)


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over utterances."""
    return sum(counts, Counts())


def align(reference: str, hypothesis: str, language: str = "en") -> list[Edit]:
    """Word by word alignment of two normalised texts, in reading order."""
    normalise = normaliser(language).apply
    return edits(normalise(reference).split(), normalise(hypothesis).split())


def edits(ref: list[str], hyp: list[str]) -> list[Edit]:
    """The fewest edits from one list of words to another, in reading order."""
    if not ref or not hyp:
        return [Edit("delete", w, "") for w in ref] + [Edit("insert", "", w) for w in hyp]
    found = []
    for chunk in jiwer.process_words(" ".join(ref), " ".join(hyp)).alignments[0]:
        left = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        size = max(len(left), len(right))
        left, right = left + [""] * (size - len(left)), right + [""] * (size - len(right))
        found += [Edit(chunk.type, a, b) for a, b in zip(left, right, strict=True)]
    return found


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of its zlib compression, as in Whisper's decoding."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def is_looped(text: str) -> bool:
    """Whether the transcript repeats itself as a decoder does that is caught in a loop.

    True where a part as long as a 30 s window's text compresses better than Whisper's own threshold
    (any long text would, as a whole), or where a phrase of one to eight words stands `LOOP_REPEATS`
    times or more in a row at its end.
    """
    starts = range(0, max(1, len(text) - _WINDOW_CHARACTERS // 2), _WINDOW_CHARACTERS // 2)
    parts = (text[start : start + _WINDOW_CHARACTERS] for start in starts)
    if any(compression_ratio(part) > COMPRESSION_RATIO_THRESHOLD for part in parts):
        return True
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    for size in range(1, 9):
        tail = words[-size * LOOP_REPEATS :]
        if len(tail) == size * LOOP_REPEATS and tail == tail[:size] * LOOP_REPEATS:
            return True
    return False
