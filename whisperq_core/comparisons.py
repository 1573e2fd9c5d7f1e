"""Runs beside a baseline's run on the same speech: differences, verdicts, agreement."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from whisperq_core import scores
from whisperq_core.errors import NotComparable
from whisperq_core.records import AccuracyRun, UtteranceResult
from whisperq_core.significance import (
    MARGIN,
    Comparison,
    Errors,
    Estimate,
    SegmentTest,
    compare,
    corrected,
    mapsswe,
    rate,
)

Unit = Literal["words", "characters"]


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


def errors(run: AccuracyRun, unit: Unit = "words") -> Errors:
    """Counts of a run's utterances, in the order of their ids, so that two runs line up."""
    ordered = _by_id(run)
    counts = [getattr(u.score, unit) for u in ordered]
    return Errors(
        np.array([c.errors for c in counts], dtype=float),
        np.array([c.reference_length for c in counts], dtype=float),
        tuple(u.speaker for u in ordered),
    )


def estimate(run: AccuracyRun, unit: Unit = "words") -> Estimate:
    """WER or CER with its 95% interval, percent."""
    return rate(errors(run, unit))


def without_loops(run: AccuracyRun) -> Estimate:
    """WER with its interval over the utterances that did not loop; the others are left out."""
    looped = np.array([u.score.looped for u in _by_id(run)], dtype=bool)
    return rate(errors(run).only(~looped))


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
    first, second = errors(baseline, unit), errors(candidate, unit)
    if not loops:
        keep = np.array([not (a.score.looped or b.score.looped) for a, b in pairs], dtype=bool)
        first, second = first.only(keep), second.only(keep)
    return compare(first, second, margin)


def segment_test(baseline: AccuracyRun, candidate: AccuracyRun) -> SegmentTest:
    """MAPSSWE of the two runs; see significance.mapsswe."""
    pairs = _pairs(baseline, candidate)
    return mapsswe([_edits(a) for a, _ in pairs], [_edits(b) for _, b in pairs])


def _edits(utterance: UtteranceResult) -> list[str]:
    edits = scores.align(utterance.reference, utterance.hypothesis, utterance.language)
    return [edit.kind for edit in edits]


def agreement(baseline: AccuracyRun, candidate: AccuracyRun) -> Agreement:
    """How the candidate's transcripts agree with the baseline's on the same speech."""
    pairs = _pairs(baseline, candidate)
    no_worse = [b.score.words.errors <= a.score.words.errors for a, b in pairs]
    counts = [_disagreement(a.hypothesis, b.hypothesis, a.language) for a, b in pairs]
    return Agreement(
        utterances=len(pairs),
        no_worse_pct=100 * sum(no_worse) / len(pairs),
        disagreement_pct=scores.total(counts).rate,
        identical=sum(count.errors == 0 for count in counts),
    )


@lru_cache(maxsize=20_000)
def _disagreement(baseline: str, candidate: str, language: str) -> scores.Counts:
    return scores.score(baseline, candidate, language).words


def condition(run: AccuracyRun) -> str:
    """Everything that two runs must share for their difference to be the recipe's."""
    spec = run.spec
    protocol = {k: v for k, v in asdict(spec.protocol).items() if k != "name"}
    shared = (spec.weights_digest, spec.eval_set_digest, protocol, spec.device, spec.threads)
    return json.dumps(shared, sort_keys=True)


def verdicts(
    runs: Iterable[AccuracyRun], baseline: str = "fp32", margin: float = MARGIN
) -> dict[str, Comparison]:
    """Each run compared with the baseline recipe's newest run under the same condition, by key.

    Holm-corrected among the runs that share a baseline. Runs without one, and the baseline itself,
    are left out.
    """
    families = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.created_at):
        families[condition(run)].append(run)
    found = {}
    for family in families.values():
        base = next((run for run in reversed(family) if run.spec.recipe.name == baseline), None)
        if base is None:
            continue
        others = {run.key: run for run in family if run.spec.recipe.name != baseline}
        compared = [compare_runs(base, run, margin=margin) for run in others.values()]
        found |= dict(zip(others, corrected(compared), strict=True))
    return found


def _by_id(run: AccuracyRun) -> list[UtteranceResult]:
    return sorted(run.utterances, key=lambda u: u.id)


def _pairs(a: AccuracyRun, b: AccuracyRun) -> list[tuple[UtteranceResult, UtteranceResult]]:
    pairs = list(zip(_by_id(a), _by_id(b), strict=False))
    same = len(a.utterances) == len(b.utterances) and all(
        first.id == second.id and first.reference == second.reference for first, second in pairs
    )
    if not same:
        raise NotComparable(
            f"{a.spec.recipe.name} on {a.eval_set} and {b.spec.recipe.name} on {b.eval_set} are not"
            " results of the same utterances. Compare runs of one evaluation set."
        )
    return pairs
