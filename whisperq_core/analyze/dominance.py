"""Which results decidedly dominate which, on two axes at once."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from whisperq_core.analyze.paired_comparisons import Unit, errors, resampled_as
from whisperq_core.analyze.pairwise import Pairs, holm_columns
from whisperq_core.analyze.significance import CONFIDENCE, MARGIN
from whisperq_core.evaluate.records import AccuracyRun

# A median time up to this many times another's counts as no worse.
SAME_TIME = 1.05


@dataclass(frozen=True)
class PairwiseRelation:
    """All results beside all others in one respect: [i, j] is what is decided of i beside j.

    Booleans of shape (results, results); better implies no_worse. Where neither, nothing is
    decided, or i is worse.
    """

    better: np.ndarray
    no_worse: np.ndarray


def exactly(values: np.ndarray) -> PairwiseRelation:
    """What has no uncertainty, such as bytes; lower is better, and a missing value is neither."""
    return PairwiseRelation(values[:, None] < values, values[:, None] <= values)


def by_passes(median: np.ndarray, low: np.ndarray, high: np.ndarray) -> PairwiseRelation:
    """Times of repeated passes: better is the whole range below the other's range.

    No worse is a median of at most SAME_TIME times the other's.
    """
    better = high[:, None] < low
    return PairwiseRelation(better, better | (median[:, None] <= SAME_TIME * median))


def by_errors(
    runs: Sequence[AccuracyRun],
    unit: Unit = "words",
    margin: float = MARGIN,
    asked: np.ndarray | None = None,
    known: Iterable[AccuracyRun] = (),
) -> PairwiseRelation:
    """Error rates: better is a comparison's verdict, no worse is that or non-inferiority.

    asked: pairs to look at, all by default; Holm-corrected over those with the same j. Runs of
    other speech are neither better nor worse. known: all runs that there are; whatever of them is
    asked about next is answered from what was resampled for the first.
    """
    better, no_worse = np.zeros((2, len(runs), len(runs)), dtype=bool)
    if asked is None:
        asked = np.ones(better.shape, dtype=bool)
    everything, alpha = [*known, *runs], 1 - CONFIDENCE
    pools = _by_sample(everything, unit)
    for sample, places in _by_sample(runs, unit).items():
        pool = tuple(dict.fromkeys(everything[place] for place in pools[sample]))
        pairs = _pairs(pool, unit)
        if not pairs.decidable:
            continue
        at = np.ix_(places, places)
        where = {run: place for place, run in enumerate(pool)}
        inside = np.ix_(*[[where[runs[place]] for place in places]] * 2)
        family = asked[at] & ~np.eye(len(places), dtype=bool)
        # With a loss of the margin or more as measured neither can be decided: their p counts as 1.
        likely = family & (pairs.difference[inside] < margin)
        p = np.where(likely, pairs.p_difference[inside], 1.0)
        different = likely & (holm_columns(p, family) < alpha)
        p = np.where(likely, pairs.p_inferior(margin)[inside], 1.0)
        close = likely & (holm_columns(p, family) < alpha / 2)
        better[at] = _below(pairs, 0.0, different, inside)
        no_worse[at] = _below(pairs, margin, close, inside)
    return PairwiseRelation(better, better | no_worse)


def _by_sample(runs: Iterable[AccuracyRun], unit: Unit) -> dict[Hashable, list[int]]:
    """Places of the runs whose counts can be resampled together."""
    found = defaultdict(list)
    for place, run in enumerate(runs):
        found[resampled_as(run, unit)].append(place)
    return found


@lru_cache(maxsize=4)
def _pairs(runs: tuple[AccuracyRun, ...], unit: Unit) -> Pairs:
    return Pairs([errors(run, unit) for run in runs])


def _below(pairs: Pairs, limit: float, asked: np.ndarray, inside) -> np.ndarray:
    """pairs.below for some of the runs: asked and the answer are of these only."""
    whole = np.zeros(pairs.difference.shape, dtype=bool)
    whole[inside] = asked
    return pairs.below(limit, whole)[inside] & asked


def dominance(first: PairwiseRelation, second: PairwiseRelation) -> np.ndarray:
    """[i, j]: i decidedly dominates j: no worse in both respects, better in one or both.

    "No worse" has margins, so results can dominate one another in a circle; those are left out, and
    something is always undominated.
    """
    beats = first.no_worse & second.no_worse & (first.better | second.better)
    # Two are in one circle where each reaches the other.
    _, circle = connected_components(csr_array(beats), connection="strong")
    return beats & (circle[:, None] != circle)
