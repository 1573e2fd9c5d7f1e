"""Every result of the same utterances compared with every other at once, by matrices.

The same statistics as `significance.compare` (a test holds them together), for as many results as a
plot has: the slow part, resampling, is done once for each result instead of once for each pair, and
an interval is computed only where a p-value leaves the question open.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from whisperq_core.analyze.significance import (
    ErrorCounts,
    Numbers,
    blocks_of,
    drawn_weights,
    least_reach,
    sums_of,
    tail_of,
)
from whisperq_core.analyze.verdicts import CONFIDENCE

Booleans = npt.NDArray[np.bool_]


class AllPairs:
    """Comparisons of results with each other; [i, j] is of candidate i with baseline j.

    samples: counts of the same utterances in the same order. Matrices are of shape (samples,
    samples). Nothing is conclusive where there are fewer than two blocks to resample.
    """

    def __init__(self, samples: Sequence[ErrorCounts]):
        blocks, _ = blocks_of(samples[0].speakers)
        sums = sums_of(blocks, *(sample.errors for sample in samples), samples[0].lengths)
        self._blocks, self._total_length = len(sums), float(samples[0].lengths.sum())
        self._errors: Numbers = sums[:, :-1].sum(axis=0)
        self._drawn_errors, self._drawn_lengths = _resample(sums)
        self._inferiority: tuple[float, Numbers] | None = None
        # By limit: which pairs were computed, and which of them are below it.
        self._intervals: dict[float, tuple[Booleans, Booleans]] = {}

    @property
    def has_resamples(self) -> bool:
        """Whether there are resamples to conclude anything from."""
        return len(self._drawn_lengths) > 0

    @cached_property
    def difference(self) -> Numbers:
        """Rate of i minus rate of j, in points."""
        rates = 100 * self._errors / self._total_length
        differences: Numbers = rates[:, None] - rates
        return differences

    @cached_property
    def _standard_errors(self) -> Numbers:
        errors = _standard_errors_of_differences(
            100 * (self._drawn_errors / self._drawn_lengths), self._blocks
        )
        return np.asarray(np.maximum(errors, self._one_word))

    @property
    def _one_word(self) -> float:
        """The points that one word, or character, makes."""
        return 100 / self._total_length

    @cached_property
    def p_difference(self) -> Numbers:
        """p-values of no difference, two-sided."""
        # Half an error is added to each, for the logarithm of their ratio.
        errors = self._errors + 0.5
        fewer, more = np.minimum(errors[:, None], errors), np.maximum(errors[:, None], errors)
        drawn_logs = np.log(self._drawn_errors.astype(float) + 0.5)
        standard_errors = _standard_errors_of_differences(drawn_logs, self._blocks)
        standard_errors = np.maximum(standard_errors, np.log1p(1 / fewer))
        t = np.log(more / fewer) / standard_errors
        return np.asarray(2 * special.stdtr(self._blocks - 1, -t))

    def p_inferior(self, margin: float) -> Numbers:
        """p-values of a loss of `margin` points or more, one-sided; cached for one margin."""
        if self._inferiority is None or self._inferiority[0] != margin:
            self._inferiority = margin, self._p_inferior(margin)
        return self._inferiority[1]

    def _p_inferior(self, margin: float) -> Numbers:
        distance = margin - self.difference
        p = np.asarray(special.stdtr(self._blocks - 1, -distance / self._standard_errors))
        if not margin:
            return p
        by_chance = special.ndtr(-distance / math.sqrt(margin * self._one_word))
        return np.asarray(np.maximum(p, by_chance))

    def interval_below(self, limit: float, candidates: Booleans) -> Booleans:
        """Where the upper end of the difference's interval is below `limit` points.

        candidates: pairs to compute; all others are False.
        """
        computed, below = self._intervals.setdefault(
            limit, (np.zeros(candidates.shape, dtype=bool), np.zeros(candidates.shape, dtype=bool))
        )
        new = candidates & ~computed
        reach = least_reach(self._blocks, self._one_word)
        possible = new & (self.difference + reach < limit)
        for j in map(int, np.flatnonzero(possible.any(axis=0))):
            rows = np.flatnonzero(possible[:, j])
            below[rows, j] = self._quantile_below(rows, j, limit)
        computed |= new
        result: Booleans = below & candidates
        return result

    def _quantile_below(self, rows: npt.NDArray[np.intp], j: int, limit: float) -> Booleans:
        """Whether the upper quantile of the resampled differences is below the limit.

        Counting is enough, unless the limit is between the two values that the quantile is
        interpolated from.
        """
        upper = 1 - tail_of(self._blocks, CONFIDENCE)
        position = math.floor((len(self._drawn_lengths) - 1) * upper)
        differences = self._drawn_errors[rows] - self._drawn_errors[j]
        count = np.count_nonzero(differences < limit * self._drawn_lengths / 100, axis=1)
        below = np.asarray(count >= position + 2)
        for row in np.flatnonzero(count == position + 1):
            points = 100 * differences[row] / self._drawn_lengths
            below[row] = np.quantile(points, upper) < limit
        return below


def _resample(sums: Numbers) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Errors of each sample, shape (samples, resamples), and total length of each resample.

    Counts are whole numbers below 2^24, which single precision holds exactly.
    """
    if len(sums) < 2:
        return np.empty((sums.shape[1] - 1, 0), dtype=np.float32), np.empty(0)
    drawn = np.concatenate(
        [(weights @ sums).astype(np.float32) for weights in drawn_weights(len(sums))]
    )
    drawn = drawn[drawn[:, -1] > 0]
    return np.ascontiguousarray(drawn[:, :-1].T), drawn[:, -1].astype(float)


def _standard_errors_of_differences(drawn: Numbers, blocks: int) -> Numbers:
    """The bootstrap's standard error of every difference, from the covariances."""
    covariance = np.atleast_2d(np.cov(drawn, ddof=0))
    variance = np.diag(covariance)
    spread = np.maximum(variance[:, None] + variance - 2 * covariance, 0.0)
    return np.asarray(np.sqrt(spread * blocks / (blocks - 1)))


def holm_columns(p_values: Numbers, family: Booleans) -> Numbers:
    """`significance.holm` of each column, over the rows where `family` is true; 1 elsewhere."""
    order = np.argsort(np.where(family, p_values, np.inf), axis=0, kind="stable")
    steps = family.sum(axis=0) - np.arange(len(family))[:, None]
    stepped = np.where(steps > 0, np.take_along_axis(p_values, order, axis=0) * steps, 1.0)
    stepped = np.minimum(np.maximum.accumulate(stepped, axis=0), 1.0)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, axis=0)
    return np.where(family, adjusted, 1.0)
