"""Measured effects, and one-sided tests of where they lie: what statements about recipes rest on.

A difference of error rates, a quotient of times or of divergences: each has an estimate with its
interval, and answers for any boundary how surely it lies above or below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from whisperq_core.analyze.blocks import sums_of, totals_variance
from whisperq_core.analyze.paired_tests import Comparison, PairedTest
from whisperq_core.analyze.significance import MIN_BLOCKS, ErrorCounts, Estimate, time_ratio
from whisperq_core.analyze.verdicts import CONFIDENCE, POWER


@dataclass(frozen=True)
class OneSided:
    """A test that an effect lies beyond a boundary.

    p: the p-value of its not lying there. t: how many standard errors it lies beyond; negative
    where it falls short. degrees: of freedom.
    """

    p: float
    t: float
    degrees: float

    def times_needed(self, level: float) -> float | None:
        """How many times the data a p-value below `level` needs, with a chance of POWER.

        Assumes that the effect is what was measured and that the standard error falls with the root
        of the amount of data. None where the effect does not lie beyond the boundary.
        """
        if not 0 < self.t < math.inf:
            return None
        reach = special.ndtri(POWER) - special.stdtrit(self.degrees, level)
        return max(1.0, float(reach / self.t) ** 2)


# Of an effect that says nothing of the boundary.
UNKNOWN = OneSided(1.0, math.nan, math.nan)


class Effect(Protocol):
    """An estimate and tests of where the true value lies."""

    @property
    def estimate(self) -> Estimate:
        """The value with its 95% interval."""
        ...

    def above(self, boundary: float) -> OneSided:
        """The test that the true value is above."""
        ...

    def below(self, boundary: float) -> OneSided:
        """The test that the true value is below."""
        ...


@dataclass(frozen=True)
class ExactEffect:
    """A value without uncertainty, such as a size."""

    value: float

    @property
    def estimate(self) -> Estimate:
        """The value itself."""
        return Estimate(self.value, self.value, self.value, 1, "model")

    def above(self, boundary: float) -> OneSided:
        """Certain, one way or the other."""
        return _certain(self.value > boundary)

    def below(self, boundary: float) -> OneSided:
        """Certain, one way or the other."""
        return _certain(self.value < boundary)


def _certain(holds: bool) -> OneSided:
    return OneSided(0.0, math.inf, math.inf) if holds else OneSided(1.0, -math.inf, math.inf)


@dataclass(frozen=True)
class RateDifference:
    """The difference of two error rates in points, by the paired test that they were compared with.

    test: of one candidate. comparison: what that test says.
    """

    test: PairedTest
    comparison: Comparison

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval."""
        return self.comparison.difference

    def above(self, boundary: float) -> OneSided:
        """By `PairedTest.p_at_most`."""
        return self._one_sided(self.test.p_at_most(boundary)[0], self.estimate.value - boundary)

    def below(self, boundary: float) -> OneSided:
        """By `PairedTest.p_at_least`."""
        return self._one_sided(self.test.p_at_least(boundary)[0], boundary - self.estimate.value)

    def _one_sided(self, p: float, distance: float) -> OneSided:
        error = self.comparison.standard_error
        if math.isnan(error):
            return UNKNOWN
        return OneSided(float(p), distance / error, self.comparison.degrees_of_freedom)


@dataclass(frozen=True)
class StudentEffect:
    """An estimate whose error has Student's distribution, on a logarithmic scale where `log`.

    value: what is shown. centre, error: the estimate and its standard error on the scale; NaN where
    there is no error to be had. blocks, block: see `Estimate`.
    """

    value: float
    centre: float
    error: float
    degrees: float
    blocks: int
    block: str
    log: bool = False

    @property
    def estimate(self) -> Estimate:
        """The value; its interval is extended to contain it."""
        if math.isnan(self.error):
            return Estimate(self.value, math.nan, math.nan, self.blocks, self.block)
        reach = special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2) * self.error
        low, high = self.centre - reach, self.centre + reach
        if self.log:
            low, high = math.exp(low), math.exp(high)
        low, high = min(low, self.value), max(high, self.value)
        return Estimate(self.value, float(low), float(high), self.blocks, self.block)

    def above(self, boundary: float) -> OneSided:
        """By Student's t."""
        return self._one_sided(self.centre - self._on_scale(boundary))

    def below(self, boundary: float) -> OneSided:
        """By Student's t."""
        return self._one_sided(self._on_scale(boundary) - self.centre)

    def _on_scale(self, boundary: float) -> float:
        return math.log(boundary) if self.log else boundary

    def _one_sided(self, distance: float) -> OneSided:
        if math.isnan(self.error):
            return UNKNOWN
        t = distance / self.error if self.error else math.copysign(math.inf, distance)
        return OneSided(float(special.stdtr(self.degrees, -t)), t, self.degrees)


def difference(first: Comparison, second: Comparison) -> StudentEffect:
    """The first's difference minus the second's, of speech that has no speaker in common.

    Welch's test, with Satterthwaite's degrees of freedom (Welch 1947, "The generalization of
    'Student's' problem when several different population variances are involved").
    """
    centre = first.difference.value - second.difference.value
    parts = [(one.standard_error, one.degrees_of_freedom) for one in (first, second)]
    fewer = min(first.difference, second.difference, key=lambda d: d.blocks)
    return StudentEffect(centre, centre, *_of_sum(parts), fewer.blocks, fewer.block)


def time_effect(ratios: Sequence[float]) -> StudentEffect:
    """A recipe's time over fp32's, of interleaved passes: see `significance.time_ratio`."""
    logs, n = np.log(np.asarray(ratios, dtype=float)), len(ratios)
    error = float(np.std(logs, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    value = time_ratio(ratios).value
    return StudentEffect(value, float(np.mean(logs)), error, n - 1, n, "repeat", log=True)


def quotient(first: StudentEffect, second: StudentEffect) -> StudentEffect:
    """The quotient of two independent effects on a logarithmic scale, by Welch's test."""
    error, degrees = _of_sum([(first.error, first.degrees), (second.error, second.degrees)])
    fewer = min(first, second, key=lambda effect: effect.blocks)
    return StudentEffect(
        first.value / second.value,
        first.centre - second.centre,
        error,
        degrees,
        fewer.blocks,
        fewer.block,
        log=True,
    )


def _of_sum(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent estimates."""
    if any(math.isnan(error) for error, _ in parts):
        return math.nan, math.nan
    variances = [error**2 for error, _ in parts]
    weight = sum(v**2 / degrees for v, (_, degrees) in zip(variances, parts, strict=True))
    total = sum(variances)
    return math.sqrt(total), total**2 / weight if weight else min(d for _, d in parts)


def ratio_of_totals(numerator: ErrorCounts, denominator: ErrorCounts) -> StudentEffect:
    """The quotient of two totals over the same utterances, such as of divergences.

    On a logarithmic scale, with the standard error of a ratio of sums over blocks (Cochran 1977,
    "Sampling techniques", 6.4). Lengths are not used.
    """
    blocks = numerator.blocks
    sums = sums_of(blocks, numerator.errors, denominator.errors)
    above, below = (float(total) for total in sums.sum(axis=0))
    if blocks.number < MIN_BLOCKS or not above or not below:
        value = above / below if below else math.nan
        return StudentEffect(value, math.nan, math.nan, math.nan, blocks.number, blocks.kind)
    variance = totals_variance(blocks, sums[:, [0]] / above - sums[:, [1]] / below)
    return StudentEffect(
        above / below,
        math.log(above / below),
        math.sqrt(float(variance.variance[0])),
        float(variance.degrees[0]),
        blocks.number,
        blocks.kind,
        log=True,
    )
