"""Word confusions: which errors were made, in which utterances, and where two runs differ."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from whisperq_core.analyze import paired_comparisons
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.error_rates import Edit

# Kinds of error that an utterance can have; exact is no error.
ERROR_KINDS = ("substitutions", "deletions", "insertions", "loops", "exact")
# Kinds of edit, as `error_rates.align` names them.
_ORDER = ("substitute", "delete", "insert")


@lru_cache(maxsize=50_000)
def _aligned(reference: str, hypothesis: str, language: str) -> tuple[Edit, ...]:
    return tuple(error_rates.align(reference, hypothesis, language))


def aligned(utterance: UtteranceResult) -> tuple[Edit, ...]:
    """The alignment of its transcript with its reference, cached."""
    return _aligned(utterance.reference, utterance.hypothesis, utterance.language)


def edit_text(edit: Edit) -> str:
    """An error as text: transcript → reference, with a dash where there is no word."""
    return f"{edit.hypothesis or '–'} → {edit.reference or '–'}"


def confusions(utterances: Iterable[UtteranceResult]) -> Counter[Edit]:
    """How often each error occurs: words substituted, by pair, deleted and inserted."""
    return Counter(e for u in utterances for e in aligned(u) if e.kind != "equal")


def most_frequent(counts: Counter[Edit]) -> list[tuple[Edit, int]]:
    """The errors with their counts, the most frequent first; then by kind and by word."""

    def rank(item: tuple[Edit, int]) -> tuple[int, int, str, str]:
        edit, count = item
        return -count, _ORDER.index(edit.kind), edit.reference, edit.hypothesis

    return sorted(counts.items(), key=rank)


def has_error(utterance: UtteranceResult, kind: str) -> bool:
    """Whether the utterance has an error of that kind of KINDS, or for exact has none."""
    words = utterance.score.words
    if kind == "exact":
        return utterance.score.exact
    return utterance.score.looped if kind == "loops" else getattr(words, kind) > 0


@dataclass(frozen=True)
class UtteranceFilter:
    """Which utterances to show: what is empty or None does not filter.

    speakers: any of these. shortest_s, longest_s: of the audio. kinds: any of KINDS. confusion: an
    error that the utterance has. ids: any of these, as of those with notes.
    """

    speakers: Collection[str] = ()
    shortest_s: float = 0.0
    longest_s: float = float("inf")
    kinds: Collection[str] = ()
    confusion: Edit | None = None
    ids: Collection[str] | None = None

    def includes(self, utterance: UtteranceResult) -> bool:
        """Whether the utterance is one of them."""
        return (
            (not self.speakers or (utterance.speaker or "") in self.speakers)
            and self.shortest_s <= utterance.duration_s <= self.longest_s
            and (not self.kinds or any(has_error(utterance, kind) for kind in self.kinds))
            and (self.ids is None or utterance.id in self.ids)
            and (self.confusion is None or self.confusion in aligned(utterance))
        )


def worst_first(
    utterances: Iterable[UtteranceResult], only: UtteranceFilter | None = None
) -> list[UtteranceResult]:
    """The utterances that pass the filter, those with most errors first."""
    chosen = (u for u in utterances if only is None or only.includes(u))
    return sorted(chosen, key=lambda u: (-u.score.words.errors, u.id))


def other_recipes(run: AccuracyRun, runs: Iterable[AccuracyRun]) -> list[AccuracyRun]:
    """Other recipes' newest runs of the same model, speech and protocol, by name."""
    newest = {
        other.spec.recipe.name: other
        for other in sorted(runs, key=lambda run: run.created_at)
        if other.spec.weights_digest == run.spec.weights_digest
        and other.spec.eval_set_digest == run.spec.eval_set_digest
        and other.spec.protocol == run.spec.protocol
        and other.spec.recipe.name != run.spec.recipe.name
    }
    return [newest[name] for name in sorted(newest, key=lambda n: (n != "fp32", n))]


@dataclass(frozen=True)
class ErrorContribution:
    """What an utterance, or all of a speaker's, adds to the difference between two runs.

    name: of the utterance or the speaker. fewer is negative: errors and points of WER, second minus
    first; points add up to the difference in WER (or CER). ids: of the utterances in it.
    """

    name: str
    errors: int
    points: float
    ids: tuple[str, ...]


def error_contributions(
    first: AccuracyRun, second: AccuracyRun, by_speaker: bool = False
) -> list[ErrorContribution]:
    """What drives the difference, the largest change first; what changes nothing is left out.

    Raises NotComparable where the runs are not of the same speech. Utterances of unknown speakers
    are one group.
    """
    unit = paired_comparisons.unit_of_run(first)
    length = getattr(first, unit).reference_length
    grouped: dict[str, list[tuple[str, int]]] = {}
    for a, b in paired_comparisons.differing(first, second):
        name = (a.speaker or "unknown") if by_speaker else a.id
        more = paired_comparisons.more_errors(a, b, unit)
        grouped.setdefault(name, []).append((a.id, more))
    contributions = [
        ErrorContribution(
            name,
            total := sum(more for _, more in parts),
            100 * total / length if length else 0.0,
            tuple(id for id, _ in parts),
        )
        for name, parts in grouped.items()
    ]
    return sorted((c for c in contributions if c.errors), key=lambda c: (-abs(c.errors), c.name))


def unique_errors(first: AccuracyRun, second: AccuracyRun) -> list[tuple[Edit, int, int]]:
    """Errors that only one of the two makes, with their counts in the first and in the second."""
    of_first, of_second = confusions(first.utterances), confusions(second.utterances)
    unique = Counter({e: n for e, n in of_first.items() if e not in of_second})
    unique |= Counter({e: n for e, n in of_second.items() if e not in of_first})
    return [(edit, of_first[edit], of_second[edit]) for edit, _ in most_frequent(unique)]
