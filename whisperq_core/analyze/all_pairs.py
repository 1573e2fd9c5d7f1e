"""Every result of some utterances compared with every other at once, by matrices.

The same statistics as `significance.compare` (a test holds them together), for as many results as a
plot has: what takes long, resampling, is done once for each result instead of once for each pair,
and an interval is looked at only where a p-value leaves the question open.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy import special

from whisperq_core.analyze.significance import (
    Errors,
    blocks_of,
    drawn_weights,
    least_reach,
    sums_of,
    tail_of,
)
from whisperq_core.analyze.verdicts import CONFIDENCE


class AllPairs:
    """Comparisons of results with each other; [i, j] is of candidate i with baseline j.

    samples: counts of the same utterances in the same order. Matrices are of shape (samples,
    samples). Nothing is decided where there are fewer than two blocks to resample.
    """

    def __init__(self, samples: Sequence[Errors]):
        blocks, _ = blocks_of(samples[0].speakers)
        sums = sums_of(blocks, *(sample.errors for sample in samples), samples[0].lengths)
        self._blocks, self._words = len(sums), float(samples[0].lengths.sum())
        self._errors = sums[:, :-1].sum(axis=0)
        self._drawn, self._lengths = _drawn(sums)
        self._inferior: tuple[float, np.ndarray] | None = None
        self._below: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def has_resamples(self) -> bool:
        """Whether there are resamples to decide anything by."""
        return len(self._lengths) > 0

    @cached_property
    def difference(self) -> np.ndarray:
        """Rate of i minus rate of j, in points."""
        rates = 100 * self._errors / self._words
        return rates[:, None] - rates

    @cached_property
    def _standard_error(self) -> np.ndarray:
        errors = _errors_of_differences(100 * (self._drawn / self._lengths), self._blocks)
        return np.maximum(errors, self._one_word)

    @property
    def _one_word(self) -> float:
        return 100 / self._words

    @cached_property
    def p_difference(self) -> np.ndarray:
        """p-values of no difference, two-sided."""
        some = self._errors + 0.5
        fewer, more = np.minimum(some[:, None], some), np.maximum(some[:, None], some)
        error = _errors_of_differences(np.log(self._drawn.astype(float) + 0.5), self._blocks)
        error = np.maximum(error, np.log1p(1 / fewer))
        return 2 * special.stdtr(self._blocks - 1, -np.log(more / fewer) / error)

    def p_inferior(self, margin: float) -> np.ndarray:
        """p-values of a loss of `margin` points or more, one-sided; kept for one margin."""
        if self._inferior is None or self._inferior[0] != margin:
            self._inferior = margin, self._p_inferior(margin)
        return self._inferior[1]

    def _p_inferior(self, margin: float) -> np.ndarray:
        distance = margin - self.difference
        p = special.stdtr(self._blocks - 1, -distance / self._standard_error)
        if not margin:
            return p
        return np.maximum(p, special.ndtr(-distance / math.sqrt(margin * self._one_word)))

    def interval_below(self, limit: float, asked: np.ndarray) -> np.ndarray:
        """Where the upper end of the difference's interval is below `limit` points.

        asked: booleans, which pairs to look at; all others are False.
        """
        known, found = self._below.setdefault(
            limit, (np.zeros(asked.shape, dtype=bool), np.zeros(asked.shape, dtype=bool))
        )
        new = asked & ~known
        reach = least_reach(self._blocks, self._one_word)
        possible = new & (self.difference + reach < limit)
        for j in np.flatnonzero(possible.any(axis=0)):
            those = np.flatnonzero(possible[:, j])
            found[those, j] = self._quantile_below(those, j, limit)
        known |= new
        return found & asked

    def _quantile_below(self, those: np.ndarray, j: int, limit: float) -> np.ndarray:
        """Whether the upper quantile of the resampled differences is below the limit.

        Counting tells, but where the limit lies between the two values that the quantile is
        interpolated from.
        """
        upper = 1 - tail_of(self._blocks, CONFIDENCE)
        place = math.floor((len(self._lengths) - 1) * upper)
        differences = self._drawn[those] - self._drawn[j]
        count = np.count_nonzero(differences < limit * self._lengths / 100, axis=1)
        below = count >= place + 2
        for at in np.flatnonzero(count == place + 1):
            below[at] = np.quantile(100 * differences[at] / self._lengths, upper) < limit
        return below


def _drawn(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of each sample, shape (samples, resamples), and words of each resample.

    Counts are whole numbers below 2^24, which half of a double holds as well.
    """
    if len(sums) < 2:
        return np.empty((sums.shape[1] - 1, 0), dtype=np.float32), np.empty(0)
    drawn = np.concatenate(
        [(weights @ sums).astype(np.float32) for weights in drawn_weights(len(sums))]
    )
    drawn = drawn[drawn[:, -1] > 0]
    return np.ascontiguousarray(drawn[:, :-1].T), drawn[:, -1].astype(float)


def _errors_of_differences(drawn: np.ndarray, blocks: int) -> np.ndarray:
    """The bootstrap's standard error of every difference, from the covariances."""
    covariance = np.atleast_2d(np.cov(drawn, ddof=0))
    variance = np.diag(covariance)
    spread = np.maximum(variance[:, None] + variance - 2 * covariance, 0.0)
    return np.sqrt(spread * blocks / (blocks - 1))


def holm_columns(p_values: np.ndarray, family: np.ndarray) -> np.ndarray:
    """`significance.holm` of each column, over the rows where `family` is true; 1 elsewhere."""
    order = np.argsort(np.where(family, p_values, np.inf), axis=0, kind="stable")
    steps = family.sum(axis=0) - np.arange(len(family))[:, None]
    stepped = np.where(steps > 0, np.take_along_axis(p_values, order, axis=0) * steps, 1.0)
    stepped = np.minimum(np.maximum.accumulate(stepped, axis=0), 1.0)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, axis=0)
    return np.where(family, adjusted, 1.0)
