"""Every result of the same utterances compared with every other at once, by matrices.

The same statistics as `paired_tests.compare` (a test holds them together), for as many results as a
plot has. No interval is computed: where a p-value rejects, the interval agrees.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from whisperq_core.analyze.blocks import sums_of
from whisperq_core.analyze.significance import MIN_BLOCKS, ErrorCounts
from whisperq_core.analyze.verdicts import DIFFERENCE_LEVEL

Booleans = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


class AllPairs:
    """Comparisons of results with each other; [i, j] is of candidate i with baseline j.

    samples: counts of the same utterances, of one evaluation set, in the same order. Matrices are
    of shape (samples, samples).
    """

    def __init__(self, samples: Sequence[ErrorCounts]):
        blocks = samples[0].blocks
        sums = sums_of(blocks, *(sample.errors for sample in samples), samples[0].lengths)
        self._block_errors, self._block_lengths = sums[:, :-1], sums[:, -1:]
        self._blocks, self._total_length = len(sums), float(samples[0].lengths.sum())
        self._errors: Numbers = self._block_errors.sum(axis=0)
        self._inferiority: tuple[float, Numbers] | None = None

    @property
    def has_intervals(self) -> bool:
        """Whether there are blocks enough to conclude anything from."""
        return self._blocks >= MIN_BLOCKS and self._total_length > 0

    @cached_property
    def difference(self) -> Numbers:
        """Rate of i minus rate of j, in points."""
        rates = 100 * self._errors / self._total_length
        differences: Numbers = rates[:, None] - rates
        return differences

    @property
    def _one_word(self) -> float:
        """The points that one word, or character, makes."""
        return 100 / self._total_length

    @cached_property
    def _standard_errors(self) -> Numbers:
        expected = self._errors / self._total_length * self._block_lengths
        errors = self._errors_of_differences(self._block_errors - expected)
        return np.asarray(self._one_word * np.maximum(errors, 1.0))

    @cached_property
    def p_difference(self) -> Numbers:
        """p-values of no difference, two-sided."""
        # Half an error is added to each, for the logarithm of their ratio.
        errors = self._errors + 0.5
        fewer, more = np.minimum(errors[:, None], errors), np.maximum(errors[:, None], errors)
        standard_errors = self._errors_of_differences(self._block_errors / errors)
        standard_errors = np.maximum(standard_errors, np.log1p(1 / fewer))
        t = np.log(more / fewer) / standard_errors
        p = 2 * special.stdtr(self._blocks - 1, -t)
        t = np.abs(self.difference) / self._standard_errors
        of_difference = 2 * special.stdtr(self._blocks - 1, -t)
        agrees = of_difference < DIFFERENCE_LEVEL
        return np.asarray(np.where(agrees, p, np.maximum(p, of_difference)))

    def p_inferior(self, margin: float) -> Numbers:
        """p-values of a loss of `margin` points or more, one-sided; cached for one margin."""
        if self._inferiority is None or self._inferiority[0] != margin:
            self._inferiority = margin, self._p_inferior(margin)
        return self._inferiority[1]

    def _p_inferior(self, margin: float) -> Numbers:
        distance = margin - self.difference
        p = np.asarray(special.stdtr(self._blocks - 1, -distance / self._standard_errors))
        loss = np.maximum(margin, -self.difference)
        reach = np.sqrt(np.maximum(loss, np.finfo(float).tiny)) * math.sqrt(self._one_word)
        by_chance = np.where(loss > 0, special.ndtr((self.difference - loss) / reach), 0.0)
        return np.asarray(np.maximum(p, by_chance))

    def _errors_of_differences(self, values: Numbers) -> Numbers:
        """The standard error of every difference of two totals, by the covariances.

        values: shape (blocks, samples).
        """
        centred = values - values.mean(axis=0)
        covariance = centred.T @ centred
        variance = np.diag(covariance)
        spread = np.maximum(variance[:, None] + variance - 2 * covariance, 0.0)
        return np.asarray(np.sqrt(spread * self._blocks / (self._blocks - 1)))


def holm_columns(p_values: Numbers, family: Booleans) -> Numbers:
    """`multiple_testing.holm` of each column, over the rows where `family` is true; 1 elsewhere."""
    order = np.argsort(np.where(family, p_values, np.inf), axis=0, kind="stable")
    steps = family.sum(axis=0) - np.arange(len(family))[:, None]
    stepped = np.where(steps > 0, np.take_along_axis(p_values, order, axis=0) * steps, 1.0)
    stepped = np.minimum(np.maximum.accumulate(stepped, axis=0), 1.0)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, axis=0)
    return np.where(family, adjusted, 1.0)
