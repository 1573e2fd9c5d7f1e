"""Many comparisons with one baseline: what a family of tests makes of each p-value.

Recipes of one model err on the same words, so their comparisons agree, and correcting them as if
they did not (Holm) costs more than needed. The joint distribution of their statistics is resampled
instead (Westfall & Young 1993, "Resampling-based multiple testing", the step-down of 2.8; Romano &
Wolf 2005, "Exact and approximate stepdown methods for multiple hypothesis testing").

Statistics are compared by their p-values (min-p), not by their size (max-t): each comparison then
has the same share in the family's error (Beran 1988, "Balanced simultaneous confidence sets"), and
the few blocks that make one statistic's resamples spread do not widen all others' intervals.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from whisperq_core.analyze.blocks import Blocks
from whisperq_core.analyze.significance import MIN_RESAMPLED, RESAMPLES

Numbers = npt.NDArray[np.float64]
_Tails = npt.NDArray[np.float32]


def holm(p_values: Sequence[float] | Numbers) -> list[float]:
    """Holm's step-down adjusted p-values, in the same order.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in adjusted]


class JointTails:
    """How small the p-values of a family get together when nothing differs.

    values: each block's contribution to each comparison's statistic, shape (blocks, comparisons).
    floor: the least standard error of a total. Blocks are resampled within strata; the studentized
    total of each resample is taken as its two-sided p-value among all resamples of its comparison.
    With fewer than MIN_RESAMPLED blocks nothing is known of the agreement, and Bonferroni's and
    Holm's corrections are used.
    """

    def __init__(self, blocks: Blocks, values: Numbers, floor: float):
        self.comparisons: int = values.shape[1]
        self._tails: _Tails | None = None
        self._ordered: _Tails | None = None
        if blocks.number >= MIN_RESAMPLED:
            statistics = _studentized(blocks, values, floor)
            self._tails, self._ordered = _tails(statistics), np.sort(statistics, axis=0)

    def p_below(self, t: Numbers) -> Numbers:
        """The share of resamples whose statistic is at most t, shape (comparisons,).

        The studentized bootstrap's p-value, which knows that losses are skewed (Hall 1988,
        "Theoretical comparison of bootstrap confidence intervals"); 0 where too few blocks are
        resampled.
        """
        if self._ordered is None:
            return np.zeros(len(t))
        counts = [np.searchsorted(self._ordered[:, j], t[j], "right") for j in range(len(t))]
        return np.array(counts) / len(self._ordered)

    def reaches(self, level: float) -> tuple[Numbers, Numbers]:
        """Standard errors below and above a difference that the two-sided level reaches.

        They agree with `p_below`; 0 where too few blocks are resampled.
        """
        if self._ordered is None:
            return np.zeros(self.comparisons), np.zeros(self.comparisons)
        many = len(self._ordered)
        k = math.floor(level / 2 * many)
        return self._ordered[many - 1 - k].astype(float), -self._ordered[k].astype(float)

    def simultaneous_level(self, level: float) -> float:
        """The level of each comparison alone that makes all of them wrong with a chance of `level`.

        Single-step: the quantile of the least p-value of a resample; Bonferroni's at least.
        """
        if self._tails is None:
            return level / max(self.comparisons, 1)
        quantile = float(np.quantile(self._tails.min(axis=1), level, method="lower"))
        return min(level, max(quantile, level / self.comparisons))

    def adjusted(self, p_values: Numbers) -> Numbers:
        """Step-down adjusted two-sided p-values, shape (comparisons,); never above Holm's."""
        upper = np.array(holm(p_values))
        if self._tails is None:
            return upper
        order = np.argsort(p_values, kind="stable")
        # The least p-value in each resample of the comparisons that are not yet decided.
        least = np.minimum.accumulate(self._tails[:, order[::-1]], axis=1)[:, ::-1]
        shares = np.array([np.mean(least[:, k] <= p_values[j]) for k, j in enumerate(order)])
        adjusted = np.empty(len(order))
        adjusted[order] = np.maximum.accumulate(np.maximum(shares, p_values[order]))
        return np.asarray(np.minimum(adjusted, upper))


def _studentized(blocks: Blocks, values: Numbers, floor: float) -> _Tails:
    """Each resample's total less the sample's, over its standard error; (resamples, comparisons).

    Westfall & Young's and Romano & Wolf's statistic; strata are resampled by themselves.
    """
    random = np.random.default_rng(0)
    shape = RESAMPLES, values.shape[1]
    totals, variances = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for rows in blocks.of_stratum:
        n = len(rows)
        part = (values[rows] - values[rows].mean(axis=0)).astype(np.float32)
        weights = random.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float32)
        drawn = weights @ part
        totals += drawn
        variances += n / (n - 1) * (weights @ np.square(part) - np.square(drawn) / n)
    return np.asarray(totals / np.sqrt(np.maximum(variances, floor**2)), np.float32)


def _tails(statistics: _Tails) -> _Tails:
    """The two-sided p-value of each value among those of its column; ties count fully."""
    many = len(statistics)
    position = np.arange(many)
    tails = np.empty_like(statistics)
    for j in range(statistics.shape[1]):
        order = np.argsort(statistics[:, j])
        ordered = statistics[order, j]
        first = np.append(True, ordered[1:] != ordered[:-1])
        start = np.maximum.accumulate(np.where(first, position, 0))
        last = np.append(first[1:], True)
        end = np.minimum.accumulate(np.where(last, position, many)[::-1])[::-1]
        tails[order, j] = np.minimum(2 * np.minimum(many - start, end + 1) / many, 1.0)
    return tails
