"""Transcripts of one recording aligned with each other: one row of slots that all of them share.

The first transcript is the pivot: the reference, or fp32's transcript. Every other one is aligned
to it word by word; what others have between two of its words is aligned among them, so that words
that several recipes add share a slot.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from whisperq_core.scoring import error_rates
from whisperq_core.scoring.error_rates import Edit, tokens_of
from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.normalizers import normalizer

# Words that fp32 finds less probable are often wrong: `python -m benchmarks.unlikely_words`.
_UNLIKELY = 0.2
# A phrase ends in a pause of this many seconds, or after this many words.
_PAUSE_S = 0.6
_PHRASE_WORDS = 12


@dataclass(frozen=True)
class Word:
    """A word as scored (normalised), and as the model wrote it; when it starts, if that is known.

    One scored word may be several written ones ("twenty five" is 25), which are then in `written`.
    Where one written word is several scored ones ("I'm" is I am), the first has it, and `written`
    of the others is empty. probability: of the least probable of the written words, where that is
    known.
    """

    scored: str
    written: str
    start_s: float | None = None
    probability: float | None = None

    @property
    def is_unlikely(self) -> bool:
        """Whether it is probably wrong, without any reference to tell."""
        return self.probability is not None and self.probability < _UNLIKELY


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


def words_of(
    text: str,
    language: str,
    starts_s: Sequence[float] = (),
    probabilities: Sequence[float | None] = (),
) -> tuple[Word, ...]:
    """The words of a transcript as they are scored, each with what the model wrote there.

    They are characters for languages written without spaces. Together, `written` has the whole
    text: what scoring leaves out (fillers, "[music]") is with the word before it. A text without
    any scored word has no words. starts_s, probabilities: of each written word, or nothing.
    """
    written = _written(text, language)
    scored = tokens_of(normalizer(language).apply(text), language)
    times = _of_each(written, starts_s)
    chances = _of_each(written, probabilities)
    joint = "" if unit_of(language) == "characters" else " "
    words: list[Word] = []
    for first, end, tokens in _units(written, scored, language):
        chance = min((p for p in chances[first:end] if p is not None), default=None)
        words.append(Word(tokens[0], joint.join(written[first:end]), times[first], chance))
        words += [Word(token, "") for token in tokens[1:]]
    return tuple(words)


def _of_each(written: Sequence[str], values: Sequence[float | None]) -> Sequence[float | None]:
    return values if len(values) == len(written) else [None] * len(written)


def _written(text: str, language: str) -> list[str]:
    return list("".join(text.split())) if unit_of(language) == "characters" else text.split()


def _units(
    written: Sequence[str], scored: list[str], language: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Bounds of the written words that became each shortest run of scored words, with that run.

    Normalizing joins words ("twenty five") and splits them ("I'm"). Each written word normalized
    by itself says where the scored ones come from; where the two differ, they differ as a whole.
    """
    alone = [(token, i) for i, word in enumerate(written) for token in _alone(word, language)]
    runs: list[tuple[set[int], list[str]]] = []
    for a1, a2, b1, b2 in _blocks([token for token, _ in alone], scored):
        sources, tokens = {i for _, i in alone[a1:a2]}, scored[b1:b2]
        # A run with nothing scored, or nothing written, belongs to the one beside it.
        joins = runs and (not tokens or not sources or not all(runs[-1]) or runs[-1][0] & sources)
        if joins:
            runs[-1][0].update(sources)
            runs[-1][1].extend(tokens)
        else:
            runs.append((sources, tokens))
    runs = [run for run in runs if run[1]]
    start = 0
    for place, (_, tokens) in enumerate(runs):
        last = place + 1 == len(runs)
        end = len(written) if last else max(start, min(runs[place + 1][0], default=start))
        yield start, end, tokens
        start = end


def _blocks(a: list[str], b: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Bounds in a and b: a pair of equal tokens each, or all between two such pairs."""
    a1 = b1 = 0
    for kind, start_a, end_a, start_b, end_b in [
        *_opcodes(a, b),
        ("equal", len(a), len(a), len(b), len(b)),
    ]:
        if kind != "equal":
            continue
        if start_a > a1 or start_b > b1:
            yield a1, start_a, b1, start_b
        yield from (
            (start_a + i, start_a + i + 1, start_b + i, start_b + i + 1)
            for i in range(end_a - start_a)
        )
        a1, b1 = end_a, end_b


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


def as_written(slots: Iterable[Slot]) -> list[Slot]:
    """The slots for readers: what one transcript wrote as one word or number is in one slot.

    There the others have all their words of the same place, so "I'm" is next to "I am". A slot
    differs where any word in it does.
    """
    shown: list[list[Slot]] = []
    open_until: dict[int, int] = {}  # the last slot of each column's written word
    listed = list(slots)
    for column in range(len(listed[0].words) if listed else 0):
        begun = 0
        for place, slot in enumerate(listed):
            word = slot.words[column]
            if word is None:
                continue
            if word.written:
                begun = place
            elif place > begun:
                open_until[begun] = max(open_until.get(begun, 0), place)
    end = -1
    for place, slot in enumerate(listed):
        if place > end:
            shown.append([])
        shown[-1].append(slot)
        end = max(end, open_until.get(place, place))
    return [_merged(group) for group in shown]


def _merged(group: Sequence[Slot]) -> Slot:
    if len(group) == 1:
        return group[0]
    columns: list[Word | None] = []
    for words in zip(*(slot.words for slot in group), strict=True):
        present = [word for word in words if word is not None]
        columns.append(
            Word(
                " ".join(word.scored for word in present),
                " ".join(word.written for word in present if word.written),
                next((word.start_s for word in present if word.start_s is not None), None),
                min((w.probability for w in present if w.probability is not None), default=None),
            )
            if present
            else None
        )
    return Slot(tuple(columns))


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
