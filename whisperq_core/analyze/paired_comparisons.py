"""Runs compared on the same utterances: differences with their uncertainty, verdicts, agreement."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from whisperq_core.analyze.family_cache import compare_family
from whisperq_core.analyze.mapsswe import SegmentTest, mapsswe
from whisperq_core.analyze.paired_tests import Comparison, compare
from whisperq_core.analyze.significance import (
    ErrorCounts,
    Estimate,
    Unit,
    minus,
    rate,
    rates,
)
from whisperq_core.analyze.verdicts import MARGIN, require_margin
from whisperq_core.derived_values import DerivedValues
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.languages import unit_of
from whisperq_core.whisper.protocols import Protocol

# Runs resampled at once, which bounds the memory, and results cached: each is a few numbers, and
# the runs that they are of.
_BATCH, _CACHED = 64, 100_000

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Agreement:
    """How a recipe's transcripts compare with the baseline's, whatever the reference is.

    no_worse_pct: utterances with no more errors than the baseline's (WhisperKit's quality of
    inference). disagreement_pct: word edits between the two transcripts per word of the baseline's;
    None where the baseline's is empty. identical: utterances whose words are the same.
    """

    utterances: int
    no_worse_pct: float
    disagreement_pct: float | None
    identical: int


@lru_cache(maxsize=10_000)
def unit_of_run(run: AccuracyRun) -> Unit:
    """What verdicts on a run count: characters where most of its audio is in such languages.

    Those are the languages written without spaces, whose words depend on a segmentation. Counted as
    characters the rate is the CER.
    """
    columns = zip(run.columns.durations_s, run.columns.languages, strict=True)
    in_characters = sum(duration for duration, lang in columns if unit_of(lang) == "characters")
    return "characters" if in_characters > run.audio_s / 2 else "words"


@lru_cache(maxsize=2 * _CACHED)
def error_counts(run: AccuracyRun, unit: Unit = "words") -> ErrorCounts:
    """Counts of a run's utterances, in the order of their ids, so that two runs line up."""
    counts = getattr(run.columns, unit)
    missed = np.array([counts.substitutions, counts.deletions], dtype=float).sum(axis=0)
    errors = missed + np.array(counts.insertions, dtype=float)
    lengths = missed + np.array(counts.hits, dtype=float)
    return ErrorCounts(errors, lengths, run.columns.speakers, unit)


def estimate(run: AccuracyRun, unit: Unit = "words") -> Estimate:
    """WER or CER with its 95% interval, percent."""
    return estimates([run], unit)[0]


def estimates(runs: Iterable[AccuracyRun], unit: Unit = "words") -> list[Estimate]:
    """`estimate` of each run; those on the same speech are resampled together, and cached."""

    def resample(
        missing: list[tuple[AccuracyRun, Unit]],
    ) -> dict[tuple[AccuracyRun, Unit], Estimate]:
        computed: dict[tuple[AccuracyRun, Unit], Estimate] = {}
        for batch in _batches(missing, lambda key: resampling_key(*key)):
            batch_rates = rates([error_counts(*key) for key in batch])
            computed |= zip(batch, batch_rates, strict=True)
        return computed

    return _cached(_ESTIMATES, [(run, unit) for run in runs], resample)


def resampling_key(run: AccuracyRun, unit: Unit = "words") -> Hashable:
    """Equal for runs whose counts can be resampled together: same speech, lengths and speakers."""
    counts = error_counts(run, unit)
    return run.speech_digest, counts.lengths.tobytes(), counts.speakers


def _batches(items: Iterable[Item], group_of: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    """The items of each group, at most _BATCH at a time."""
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[group_of(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), _BATCH):
            yield group[start : start + _BATCH]


_ESTIMATES: dict[tuple[AccuracyRun, Unit], Estimate] = {}


def _cached(
    cache: dict[Key, Value],
    keys: Sequence[Key],
    compute: Callable[[list[Key]], dict[Key, Value]],
) -> list[Value]:
    """The values of the keys; those that are not in the cache are computed in one call."""
    values = {key: cache[key] for key in keys if key in cache}
    values |= compute([key for key in dict.fromkeys(keys) if key not in values])
    if len(cache) > _CACHED:
        cache.clear()
    cache |= values
    return [values[key] for key in keys]


def robustness_gap(harder: AccuracyRun, easier: AccuracyRun) -> Estimate:
    """WER on one set minus WER on another of one recipe, in points; the sets are independent."""
    return minus(estimate(harder), estimate(easier))


def without_loops(run: AccuracyRun, unit: Unit = "words") -> Estimate:
    """The rate with its interval over the utterances that did not loop, without the others."""
    looped = np.array(run.columns.looped, dtype=bool)
    return rate(error_counts(run, unit).only(~looped))


def compare_runs(
    baseline: AccuracyRun,
    candidate: AccuracyRun,
    unit: Unit | None = None,
    margin: float = MARGIN,
    loops: bool = True,
) -> Comparison:
    """The candidate's rate minus the baseline's, in points, with its uncertainty.

    unit: by default that of the speech, see `unit_of_run`. loops: False leaves out utterances in
    which either looped. Raises NotComparable where the runs are not of the same speech, InputError
    for a margin that is none.
    """
    pairs = _pairs(baseline, candidate)
    unit = unit or unit_of_run(baseline)
    first, second = error_counts(baseline, unit), error_counts(candidate, unit)
    if not loops:
        keep = np.array([not (a.score.looped or b.score.looped) for a, b in pairs], dtype=bool)
        first, second = first.only(keep), second.only(keep)
    return compare(first, second, margin)


def differing(
    baseline: AccuracyRun, candidate: AccuracyRun
) -> list[tuple[UtteranceResult, UtteranceResult]]:
    """Pairs of utterances with different numbers of errors, the largest difference first."""
    unit = unit_of_run(baseline)
    pairs = [(a, b) for a, b in _pairs(baseline, candidate) if more_errors(a, b, unit)]
    return sorted(pairs, key=lambda pair: (-abs(more_errors(pair[0], pair[1], unit)), pair[0].id))


def more_errors(first: UtteranceResult, second: UtteranceResult, unit: Unit) -> int:
    """Errors of the second transcript of an utterance minus those of the first."""
    errors: int = getattr(second.score, unit).errors - getattr(first.score, unit).errors
    return errors


def segment_test(baseline: AccuracyRun, candidate: AccuracyRun) -> SegmentTest:
    """MAPSSWE of the two runs; see `mapsswe.mapsswe`."""
    pairs = _pairs(baseline, candidate)
    return mapsswe([_edit_kinds(a) for a, _ in pairs], [_edit_kinds(b) for _, b in pairs])


def _edit_kinds(utterance: UtteranceResult) -> list[str]:
    edits = error_rates.align(utterance.reference, utterance.hypothesis, utterance.language)
    return [edit.kind for edit in edits]


def agreement(baseline: AccuracyRun, candidate: AccuracyRun) -> Agreement:
    """How the candidate's transcripts agree with the baseline's on the same speech."""
    pairs = _pairs(baseline, candidate)
    unit = unit_of_run(baseline)
    no_worse = [more_errors(a, b, unit) <= 0 for a, b in pairs]
    counts = [_disagreement(a.hypothesis, b.hypothesis, a.language) for a, b in pairs]
    return Agreement(
        utterances=len(pairs),
        no_worse_pct=100 * sum(no_worse) / len(pairs),
        disagreement_pct=error_rates.total(counts).rate,
        identical=sum(count.errors == 0 for count in counts),
    )


@lru_cache(maxsize=20_000)
def _disagreement(baseline: str, candidate: str, language: str) -> error_rates.Counts:
    return error_rates.score(baseline, candidate, language).words


def condition(run: AccuracyRun) -> str:
    """Everything that two runs must share for their difference to be the recipe's.

    Neither the processor nor its threads: they change no more than the rounding of sums.
    """
    spec = run.spec
    work = (spec.weights_digest, spec.eval_set_digest, protocol_identity(spec.protocol))
    # Older results under a fitted window have long utterances in whole windows.
    cutting = () if spec.cutting is None else (spec.cutting,)
    return json.dumps((*work, spec.device, *cutting))


@lru_cache(maxsize=100)
def protocol_identity(protocol: Protocol) -> str:
    """What a protocol does, as text: equal for protocols that differ in name only."""
    return json.dumps(protocol.identity(), sort_keys=True)


def verdicts(
    runs: Iterable[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
    derived: DerivedValues | None = None,
) -> dict[str, Comparison]:
    """Each run compared with the baseline recipe's newest run under the same condition, by key.

    Corrected for all runs that share a baseline: pass all that there are on an evaluation set, not
    those that happen to be shown. Runs without a baseline and of other utterances, and the baseline
    itself, are left out. derived: where comparisons are stored, see `family_cache`. Raises
    InputError for a margin that is none.
    """
    require_margin(margin)
    families: dict[str, list[AccuracyRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.created_at):
        families[condition(run)].append(run)
    comparisons: dict[str, Comparison] = {}
    for family in families.values():
        base = next((run for run in reversed(family) if run.spec.recipe.name == baseline), None)
        if base is None:
            continue
        candidates = {
            run.key: run
            for run in family
            if run.spec.recipe.name != baseline and run.speech_digest == base.speech_digest
        }
        if candidates:
            unit = unit_of_run(base)
            counts = [error_counts(run, unit) for run in candidates.values()]
            compared = compare_family(error_counts(base, unit), counts, margin, derived)
            comparisons |= dict(zip(candidates, compared, strict=True))
    return comparisons


def baseline_run(
    run: AccuracyRun, runs: Iterable[AccuracyRun], baseline: str = "fp32"
) -> AccuracyRun | None:
    """The baseline recipe's newest run under the run's condition; None where there is none."""
    wanted = condition(run)
    alike = (r for r in runs if r.spec.recipe.name == baseline and condition(r) == wanted)
    return max(alike, key=lambda r: r.created_at, default=None)


def _pairs(a: AccuracyRun, b: AccuracyRun) -> list[tuple[UtteranceResult, UtteranceResult]]:
    if a.speech_digest != b.speech_digest:
        raise NotComparable(
            f"{a.spec.recipe.name} on {a.eval_set} and {b.spec.recipe.name} on {b.eval_set} are not"
            " results of the same utterances. Compare runs of one evaluation set."
        )
    return list(zip(a.by_id, b.by_id, strict=True))
