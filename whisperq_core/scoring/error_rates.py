"""Error counts, rates and alignments: pure functions over texts.

Counts are stored and added up; rates are derived from sums, never averaged.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.loops import is_looped
from whisperq_core.scoring.normalizers import normalizer


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
    """Counts of one utterance. normaliser: the normalizer's id (stored under this name).

    words: in the unit of the language, which is characters for those written without spaces.
    """

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


def normalizer_id(language: str) -> str:
    """Name and version of the normalizer that `score` uses for `language`."""
    chosen = normalizer(language)
    return f"{chosen.name}@{chosen.version}"


def tokens_of(text: str, language: str) -> list[str]:
    """What errors are counted in: words of a normalized text, or its characters.

    Characters, spaces left out, are the unit of languages written without spaces between words.
    """
    words = text.split()
    return list("".join(words)) if unit_of(language) == "characters" else words


def score(reference: str, hypothesis: str, language: str = "en") -> Score:
    """Word and character counts of one utterance after normalization.

    An empty reference, or one without words such as "[music]", makes every word of the hypothesis
    an insertion: it is hallucinated. Two empty texts score zero.
    """
    normalize = normalizer(language).apply
    ref, hyp = normalize(reference), normalize(hypothesis)
    words = tokens_of(ref, language), tokens_of(hyp, language)
    characters = words if unit_of(language) == "characters" else (list(ref), list(hyp))
    return Score(
        words=_counts(*words),
        characters=_counts(*characters),
        looped=is_looped(hypothesis),
        normaliser=normalizer_id(language),
    )


def _counts(ref: list[str], hyp: list[str]) -> Counts:
    # jiwer refuses empty references; their counts need no alignment.
    if not ref:
        return Counts(insertions=len(hyp))
    if not hyp:
        return Counts(deletions=len(ref))
    aligned: jiwer.WordOutput | jiwer.CharacterOutput
    if all(len(token) == 1 for token in (*ref, *hyp)):
        aligned = jiwer.process_characters("".join(ref), "".join(hyp))
    else:
        aligned = jiwer.process_words(" ".join(ref), " ".join(hyp))
    return Counts(aligned.hits, aligned.substitutions, aligned.deletions, aligned.insertions)


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over utterances."""
    rows = [(c.hits, c.substitutions, c.deletions, c.insertions) for c in counts]
    return Counts(*map(sum, zip(*rows, strict=True)))


def align(reference: str, hypothesis: str, language: str = "en") -> list[Edit]:
    """Alignment of two normalized texts word by word (or character by character; `tokens_of`)."""
    normalize = normalizer(language).apply
    return edits(*(tokens_of(normalize(text), language) for text in (reference, hypothesis)))


def edits(ref: list[str], hyp: list[str]) -> list[Edit]:
    """The fewest edits from one list of words to another, in reading order."""
    if not ref or not hyp:
        return [Edit("delete", w, "") for w in ref] + [Edit("insert", "", w) for w in hyp]
    aligned = []
    for chunk in jiwer.process_words(" ".join(ref), " ".join(hyp)).alignments[0]:
        left = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        size = max(len(left), len(right))
        left, right = left + [""] * (size - len(left)), right + [""] * (size - len(right))
        aligned += [Edit(chunk.type, a, b) for a, b in zip(left, right, strict=True)]
    return aligned
