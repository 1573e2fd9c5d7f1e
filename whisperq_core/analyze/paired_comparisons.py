"""Runs beside each other on the same speech: differences, verdicts, agreement, dominance."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from whisperq_core.analyze.significance import (
    Comparison,
    Errors,
    Estimate,
    SegmentTest,
    compare,
    compare_all,
    corrected,
    mapsswe,
    minus,
    rate,
    rates,
)
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.scoring import error_rates
from whisperq_core.whisper.protocols import Protocol

Unit = Literal["words", "characters"]
# Results are resampled so many at once, which bounds the memory, and as many are remembered: each
# is a few numbers, and the runs that they are of.
_AT_ONCE, _REMEMBERED = 64, 100_000


@dataclass(frozen=True)
class Agreement:
    """How a recipe's transcripts compare with the baseline's, whatever the reference says.

    no_worse_pct: utterances with no more word errors than the baseline's (WhisperKit's quality of
    inference). disagreement_pct: word edits between the two transcripts per word of the baseline's;
    None where the baseline heard nothing. identical: utterances whose words are the same.
    """

    utterances: int
    no_worse_pct: float
    disagreement_pct: float | None
    identical: int


@lru_cache(maxsize=2 * _REMEMBERED)
def error_counts(run: AccuracyRun, unit: Unit = "words") -> Errors:
    """Counts of a run's utterances, in the order of their ids, so that two runs line up."""
    ordered = run.by_id
    counts = [getattr(u.score, unit) for u in ordered]
    return Errors(
        np.array([c.errors for c in counts], dtype=float),
        np.array([c.reference_length for c in counts], dtype=float),
        tuple(u.speaker for u in ordered),
    )


def estimate(run: AccuracyRun, unit: Unit = "words") -> Estimate:
    """WER or CER with its 95% interval, percent."""
    return estimates([run], unit)[0]


def estimates(runs: Iterable[AccuracyRun], unit: Unit = "words") -> list[Estimate]:
    """`estimate` of each run; those on the same speech are resampled together, and remembered."""

    def resampled(missing: list[tuple[AccuracyRun, Unit]]) -> dict:
        found = {}
        for group in _alike(missing, lambda one: resampling_key(*one)):
            found |= zip(group, rates([error_counts(*one) for one in group]), strict=True)
        return found

    return _remembered(_ESTIMATES, [(run, unit) for run in runs], resampled)


def resampling_key(run: AccuracyRun, unit: Unit = "words") -> Hashable:
    """What two runs share whose counts can be resampled together: speech, lengths, speakers."""
    counted = error_counts(run, unit)
    return run.speech_digest, counted.lengths.tobytes(), counted.speakers


def _alike(items: Iterable, kind: Callable) -> Iterator[list]:
    """The items in groups of one kind, at most _AT_ONCE in each."""
    groups = defaultdict(list)
    for item in items:
        groups[kind(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), _AT_ONCE):
            yield group[start : start + _AT_ONCE]


_ESTIMATES: dict[tuple[AccuracyRun, Unit], Estimate] = {}
_COMPARISONS: dict[tuple[AccuracyRun, AccuracyRun, float], Comparison] = {}


def _remembered(known: dict, wanted: Sequence, compute: Callable[[list], dict]) -> list:
    """The values of the wanted keys; those that are not known are computed at once."""
    found = {key: known.get(key) for key in wanted}
    found |= compute([key for key, value in found.items() if value is None])
    if len(known) > _REMEMBERED:
        known.clear()
    known |= found
    return [found[key] for key in wanted]


def robustness_gap(harder: AccuracyRun, easier: AccuracyRun) -> Estimate:
    """WER on one set minus WER on another of one recipe, in points; the sets are independent."""
    return minus(estimate(harder), estimate(easier))


def without_loops(run: AccuracyRun) -> Estimate:
    """WER with its interval over the utterances that did not loop; the others are left out."""
    looped = np.array([u.score.looped for u in run.by_id], dtype=bool)
    return rate(error_counts(run).only(~looped))


def compare_runs(
    baseline: AccuracyRun,
    candidate: AccuracyRun,
    unit: Unit = "words",
    margin: float = MARGIN,
    loops: bool = True,
) -> Comparison:
    """The candidate's rate minus the baseline's, in points, with its uncertainty.

    loops: False leaves out utterances in which either looped. Raises NotComparable where the runs
    are not of the same speech.
    """
    pairs = _pairs(baseline, candidate)
    first, second = error_counts(baseline, unit), error_counts(candidate, unit)
    if not loops:
        keep = np.array([not (a.score.looped or b.score.looped) for a, b in pairs], dtype=bool)
        first, second = first.only(keep), second.only(keep)
    return compare(first, second, margin)


def differing(
    baseline: AccuracyRun, candidate: AccuracyRun
) -> list[tuple[UtteranceResult, UtteranceResult]]:
    """Pairs of utterances with different numbers of word errors, the largest difference first."""
    pairs = [(a, b) for a, b in _pairs(baseline, candidate) if _more(a, b)]
    return sorted(pairs, key=lambda pair: (-abs(_more(*pair)), pair[0].id))


def _more(a: UtteranceResult, b: UtteranceResult) -> int:
    return b.score.words.errors - a.score.words.errors


def segment_test(baseline: AccuracyRun, candidate: AccuracyRun) -> SegmentTest:
    """MAPSSWE of the two runs; see significance.mapsswe."""
    pairs = _pairs(baseline, candidate)
    return mapsswe([_edits(a) for a, _ in pairs], [_edits(b) for _, b in pairs])


def _edits(utterance: UtteranceResult) -> list[str]:
    edits = error_rates.align(utterance.reference, utterance.hypothesis, utterance.language)
    return [edit.kind for edit in edits]


def agreement(baseline: AccuracyRun, candidate: AccuracyRun) -> Agreement:
    """How the candidate's transcripts agree with the baseline's on the same speech."""
    pairs = _pairs(baseline, candidate)
    no_worse = [b.score.words.errors <= a.score.words.errors for a, b in pairs]
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
    """Everything that two runs must share for their difference to be the recipe's."""
    spec = run.spec
    work = (spec.weights_digest, spec.eval_set_digest, _identity(spec.protocol))
    return json.dumps((*work, spec.device, spec.threads))


@lru_cache(maxsize=100)
def _identity(protocol: Protocol) -> str:
    return json.dumps(protocol.identity(), sort_keys=True)


def verdicts(
    runs: Iterable[AccuracyRun], baseline: str = "fp32", margin: float = MARGIN
) -> dict[str, Comparison]:
    """Each run compared with the baseline recipe's newest run under the same condition, by key.

    Holm-corrected among the runs that share a baseline. Runs without one or of other utterances,
    and the baseline itself, are left out.
    """
    families = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.created_at):
        families[condition(run)].append(run)
    found = {}
    for family in families.values():
        base = next((run for run in reversed(family) if run.spec.recipe.name == baseline), None)
        if base is None:
            continue
        same = base.speech_digest
        others = {
            run.key: run
            for run in family
            if run.spec.recipe.name != baseline and run.speech_digest == same
        }
        compared = _compared(base, list(others.values()), margin)
        found |= dict(zip(others, corrected(compared), strict=True))
    return found


def _compared(base: AccuracyRun, candidates: list[AccuracyRun], margin: float) -> list[Comparison]:
    def resampled(missing: list[tuple[AccuracyRun, AccuracyRun, float]]) -> dict:
        found = {}
        for group in _alike(missing, lambda _: None):
            others = [error_counts(run) for _, run, _ in group]
            found |= zip(group, compare_all(error_counts(base), others, margin), strict=True)
        return found

    return _remembered(_COMPARISONS, [(base, run, margin) for run in candidates], resampled)


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
