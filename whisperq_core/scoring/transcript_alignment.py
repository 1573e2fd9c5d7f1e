"""Transcripts of one recording aligned with each other: one row of slots that all of them share.

The first transcript is the pivot: the reference, or fp32's transcript. Every other one is aligned
to it word by word; what others have between two of its words is aligned among them, so that words
that several recipes add share a slot.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from whisperq_core.scoring import error_rates
from whisperq_core.scoring.error_rates import Edit, tokens_of
from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.normalizers import normalizer

# A phrase ends in a pause of this many seconds, or after this many words.
_PAUSE_S = 0.6
_PHRASE_WORDS = 12


@dataclass(frozen=True)
class Word:
    """A word as scored (normalised), as it was written, and when it starts, if that is known."""

    scored: str
    written: str
    start_s: float | None = None


@dataclass(frozen=True)
class Slot:
    """A place in the speech and the word that each transcript has there; None for no word."""

    words: tuple[Word | None, ...]

    @property
    def start_s(self) -> float | None:
        """When it starts, in seconds: of the first transcript that has a time."""
        return next((w.start_s for w in self.words if w and w.start_s is not None), None)

    @property
    def differs(self) -> bool:
        """Whether the transcripts do not all have the same word."""
        return len({word and word.scored for word in self.words}) > 1

    def kind(self, column: int) -> str:
        """What a transcript does here to the pivot's word: equal, substitute, delete, insert.

        "" where neither has a word.
        """
        pivot, word = self.words[0], self.words[column]
        if word is None:
            return "delete" if pivot else ""
        if pivot is None:
            return "insert"
        return "equal" if word.scored == pivot.scored else "substitute"


def words_of(text: str, language: str, starts_s: Sequence[float] = ()) -> tuple[Word, ...]:
    """The words of a transcript as they are scored. starts_s: of each written word, or nothing.

    They are characters for languages written without spaces. Normalizing splits words and joins
    them ("I'm", "twenty five"): such words are shown as scored, with the time of the written word
    at their place.
    """
    normalize = normalizer(language).apply
    written = list("".join(text.split())) if unit_of(language) == "characters" else text.split()
    whole = tokens_of(normalize(text), language)
    parts = [_alone(one, language) for one in written]
    sources = [(word, i) for i, part in enumerate(parts) for word in part]
    times: list[float | None] = (
        list(starts_s) if len(starts_s) == len(written) else [None] * len(written)
    )
    alone = [word for word, _ in sources]
    scored: list[Word] = []
    for kind, a1, a2, b1, b2 in _opcodes(alone, whole):
        for offset, word in enumerate(whole[b1:b2]):
            at = min(a1 + offset, a2 - 1) if a2 > a1 else min(a1, len(sources) - 1)
            source = sources[at][1] if sources else None
            if source is None:
                scored.append(Word(word, word))
                continue
            same = kind == "equal" and len(parts[source]) == 1
            scored.append(Word(word, written[source] if same else word, times[source]))
    return tuple(scored)


def _opcodes(a: list[str], b: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Kind of edit, and the bounds of what it concerns in a and in b."""
    return [
        (str(one.tag), one.src_start, one.src_end, one.dest_start, one.dest_end)
        for one in Levenshtein.opcodes(a, b)
    ]


@lru_cache(maxsize=50_000)
def _alone(word: str, language: str) -> tuple[str, ...]:
    return tuple(tokens_of(normalizer(language).apply(word), language))


def align(transcripts: Sequence[Sequence[Word]]) -> list[Slot]:
    """Slots in reading order, as many words in each as there are transcripts, the pivot first.

    Its errors are as many as those of `error_rates.align`; which of two alignments with as many
    errors is taken does not matter.
    """
    pivot, others = transcripts[0], transcripts[1:]
    gaps: list[list[dict[int, Word]]] = [[] for _ in range(len(pivot) + 1)]
    at_pivot: list[dict[int, Word]] = [{0: word} for word in pivot]
    for column, words in enumerate(others, 1):
        inserted: list[list[Word]] = [[] for _ in gaps]
        place = position = 0
        for edit in _edits(pivot, words):
            if edit.kind == "insert":
                inserted[place].append(words[position])
            elif edit.kind != "delete":
                at_pivot[place][column] = words[position]
            place += edit.kind != "insert"
            position += edit.kind != "delete"
        for gap, added in zip(gaps, inserted, strict=True):
            _merge(gap, column, added)
    count = len(transcripts)
    return [
        Slot(tuple(slot.get(column) for column in range(count)))
        for place, gap in enumerate(gaps)
        for slot in (*gap, *at_pivot[place : place + 1])
    ]


def _edits(pivot: Sequence[Word], words: Sequence[Word]) -> list[Edit]:
    return error_rates.edits([w.scored for w in pivot], [w.scored for w in words])


def _merge(gap: list[dict[int, Word]], column: int, added: list[Word]) -> None:
    """Adds one transcript's inserted words to the slots of a gap, with the same words of others."""
    present = [next(iter(slot.values())).scored for slot in gap]
    slots: list[dict[int, Word]] = []
    for kind, a1, a2, b1, b2 in _opcodes(present, [w.scored for w in added]):
        others, new = gap[a1:a2], added[b1:b2]
        # Words that differ share a slot one by one: they are in the same place of the speech.
        for index in range(max(len(others), len(new)) if kind != "equal" else len(new)):
            slot = others[index] if index < len(others) else {}
            if index < len(new):
                slot[column] = new[index]
            slots.append(slot)
    gap[:] = slots


def phrases(slots: Iterable[Slot]) -> list[list[Slot]]:
    """The slots in lines to read: up to a pause, the end of a sentence, or twelve words."""
    lines: list[list[Slot]] = []
    before: Slot | None = None
    for slot in slots:
        if before is None or _is_break(lines[-1], before, slot):
            lines.append([])
        lines[-1].append(slot)
        before = slot
    return lines


def _is_break(line: list[Slot], before: Slot, slot: Slot) -> bool:
    if slot.words[0] is None or before.words[0] is None:
        # Words that the pivot does not have stay with the words around them, up to a loop's length.
        return len(line) >= 2 * _PHRASE_WORDS
    if before.words[0].written.endswith((".", "?", "!", "…", "。", "？", "！")):
        return True
    start_s, end_s = before.start_s, slot.start_s
    paused = start_s is not None and end_s is not None and end_s - start_s > 2 * _PAUSE_S
    return paused or len(line) >= _PHRASE_WORDS


def disagreement_pct(pivot: Sequence[Word], words: Sequence[Word]) -> float | None:
    """Edits between two transcripts per word of the pivot; None where that has no words."""
    edits = sum(edit.kind != "equal" for edit in _edits(pivot, words))
    return 100 * edits / len(pivot) if pivot else None
