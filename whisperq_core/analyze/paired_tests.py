"""Paired comparisons of error rates on the same utterances. Pure functions over counts.

One statistic answers every question: the difference of two rates is a ratio of sums over speakers,
with the standard error of such a ratio and Student's t. Its interval, its p-values and the chance
that the difference is below a margin never contradict one another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import special

from whisperq_core.analyze.blocks import sums_of, totals_variance
from whisperq_core.analyze.multiple_testing import JointTails
from whisperq_core.analyze.significance import MIN_BLOCKS, ErrorCounts, Estimate, Unit
from whisperq_core.analyze.verdicts import (
    DIFFERENCE_LEVEL,
    INFERIORITY_LEVEL,
    MARGIN,
    POWER,
    Verdict,
    is_non_inferior,
    require_margin,
    verdict_of,
)

Numbers = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

# A distance to the margin, in points, below which estimates of the audio needed do not grow.
_NO_DISTANCE = 1e-3
_BISECTIONS = 40


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with a baseline on the same utterances; points are of percent.

    difference: the candidate's rate minus the baseline's; its interval, among `family` comparisons,
    is simultaneous: all of the family's hold with 95%. standard_error: of the difference.
    p_difference: of no difference, two-sided. p_inferior: of a loss of `margin` points or more,
    one-sided. Both are corrected for the family. p_better, p_within_margin, p_beyond_margin: the
    confidence that the difference is below 0, below the margin and above it, of this comparison
    alone (see `PairedTest`). The last two need not add up to 1: each is conservative.
    margin_error: the standard error by chance alone of a difference that is the margin. unit: what
    was counted. level: of the interval, as that of one comparison. degrees: of freedom, by default
    blocks - 1.
    """

    difference: Estimate
    standard_error: float
    p_better: float
    p_difference: float
    p_inferior: float
    margin: float
    family: int = 1
    margin_error: float = 0.0
    unit: Unit = "words"
    p_within_margin: float = 0.0
    p_beyond_margin: float = 0.0
    level: float = DIFFERENCE_LEVEL
    degrees: float | None = None

    @property
    def rate_name(self) -> str:
        """What the compared rates are called: WER, or CER where characters were counted."""
        return "CER" if self.unit == "characters" else "WER"

    @property
    def verdict(self) -> Verdict:
        """Better, worse, no worse (by the margin) or inconclusive: see `verdicts.verdict_of`."""
        return verdict_of(self)

    @property
    def non_inferior(self) -> bool:
        """Whether the candidate is shown to lose less than the margin."""
        return is_non_inferior(self)

    def minutes_needed(self, minutes: float) -> float | None:
        """Minutes of audio, in all, that give a conclusion with a chance of POWER.

        minutes: of the audio compared. Assumes that the difference is what was measured and that
        more audio is like this one, so that the standard error falls with its root: (t + z)² se² /
        distance², the distance to no difference or to the margin, whichever needs less; t at the
        level of the simultaneous interval, z for POWER. None where there is a conclusion, or no
        amount of audio would give one: no difference, and no margin.
        """
        if self.verdict is not Verdict.INCONCLUSIVE or not self.standard_error > 0:
            return None
        tail, z = self.level / 2, special.ndtri(POWER)
        reach = (z - special.stdtrit(self.degrees_of_freedom, tail)) * self.standard_error
        margin_reach = max(reach, (z - special.ndtri(tail)) * self.margin_error)
        difference = self.difference.value
        sooner = max(abs(difference) / reach, (self.margin - difference) / margin_reach)
        if sooner <= 0:
            return None
        return minutes * max(1.0, float(sooner) ** -2)

    def minutes_for_margin(self, minutes: float) -> float:
        """Minutes of audio, in all, that show with a chance of POWER which side of the margin.

        As `minutes_needed`, but for the margin alone: a loss below it or above. Infinite where
        nothing can be said.
        """
        if math.isnan(self.standard_error):
            return math.inf
        t = -special.stdtrit(self.degrees_of_freedom, self.level / 2)
        quantiles = float(t + special.ndtri(POWER))
        distance = max(abs(self.margin - self.difference.value), _NO_DISTANCE)
        error = max(self.standard_error, self.margin_error)
        return minutes * max(1.0, (quantiles * error / distance) ** 2)

    @property
    def degrees_of_freedom(self) -> float:
        """Of the standard error."""
        return self.difference.blocks - 1 if self.degrees is None else self.degrees


def compare(baseline: ErrorCounts, candidate: ErrorCounts, margin: float = MARGIN) -> Comparison:
    """Paired comparison: both were counted on the same utterances, in the same order.

    With fewer than MIN_BLOCKS blocks it is inconclusive. Raises ValueError where the references
    differ, InputError for a margin that is none. The statistic: see `PairedTest`.
    """
    return compare_all(baseline, [candidate], margin)[0]


def compare_all(
    baseline: ErrorCounts, candidates: Sequence[ErrorCounts], margin: float = MARGIN
) -> list[Comparison]:
    """`compare` of each candidate with one baseline, each by itself."""
    require_margin(margin)
    return PairedTest(baseline, candidates).alone(margin) if candidates else []


def compare_family(
    baseline: ErrorCounts, candidates: Sequence[ErrorCounts], margin: float = MARGIN
) -> list[Comparison]:
    """Each candidate compared with one baseline, corrected for all of them: see `PairedTest`."""
    require_margin(margin)
    return PairedTest(baseline, candidates).family(margin) if candidates else []


def _errors_of(baseline: ErrorCounts, candidates: Sequence[ErrorCounts]) -> Numbers:
    """The candidates' errors in each block, shape (blocks, candidates)."""
    if any(not np.array_equal(baseline.lengths, c.lengths) for c in candidates):
        raise ValueError("The two runs were not scored on the same references.")
    return sums_of(baseline.blocks, *(c.errors for c in candidates))


class PairedTest:
    """Candidates compared with one baseline on the same utterances.

    The difference is a ratio of sums over blocks, (errors - baseline's errors) / words. Its
    standard error is that of a ratio (Cochran 1977, "Sampling techniques", 6.4, and 6.11 for
    strata), its distribution Student's t. Since a recipe that breaks a model multiplies its errors,
    no difference is tested on the logarithm of the ratio of errors, half an error added to each
    (where the difference is significant by itself, too), and the interval's end next to 0 is that
    of the ratio of errors to the baseline's with so many words more (Fieller's principle), where
    that test excludes 0.

    Where nearly no utterance differs the blocks say nothing: the standard error is at least one
    word's. The words that a loss would cost may not have come up, either: an interval's outer end,
    and the p-value of inferiority, are at least those of a Poisson count, taken as normal.

    Confidence (p_better, p_within_margin) is one minus the one-sided p-value, the confidence
    distribution of the difference (Xie & Singh 2013, "Confidence distribution, the frequentist
    distribution estimator of a parameter").

    A family's p-values are step-down adjusted and its intervals simultaneous (`multiple_testing`);
    outer ends and the p-value of inferiority are at least those of the studentized bootstrap, since
    losses are skewed and small levels lie in the tails.
    Where the step-down rejects what the single-step interval still contains, the interval ends
    there (compatible intervals: Strassburger & Bretz 2008, "Compatible simultaneous lower
    confidence bounds for the Holm procedure and other Bonferroni-based closed tests").
    """

    def __init__(
        self,
        baseline: ErrorCounts,
        candidates: Sequence[ErrorCounts],
        errors: Numbers | None = None,
    ):
        """Raises ValueError where the references differ.

        errors: the candidates' in each block, where they are summed already.
        """
        self.unit, self.blocks = baseline.unit, baseline.blocks
        if errors is None:
            errors = _errors_of(baseline, candidates)
        sums = sums_of(self.blocks, baseline.errors, baseline.lengths)
        self._errors, self._base, self._words = errors, sums[:, [0]], sums[:, [1]]
        self._total = float(self._words.sum())
        self.has_intervals = self.blocks.number >= MIN_BLOCKS and self._total > 0
        self.values: Numbers = self._rate_pct(self._errors) - self._rate_pct(self._base)

    @classmethod
    def of_each(cls, samples: Sequence[ErrorCounts]) -> tuple[Self, ...]:
        """Each of some samples of the same utterances as the baseline of all."""
        errors = _errors_of(samples[0], samples)
        return tuple(cls(baseline, samples, errors) for baseline in samples)

    def _rate_pct(self, errors: Numbers) -> Numbers:
        return np.asarray(100 * errors.sum(axis=0) / (self._total or math.nan))

    @cached_property
    def _one_word(self) -> float:
        """The points that one word, or character, makes."""
        return 100 / self._total

    @property
    def _residuals(self) -> Numbers:
        """Each block's part in the difference, in words; shape (blocks, candidates)."""
        return np.asarray(self._errors - self._base - self.values / 100 * self._words)

    @cached_property
    def _error(self) -> tuple[Numbers, Numbers]:
        """Standard errors of the differences in points, and their degrees of freedom."""
        found = totals_variance(self.blocks, self._residuals)
        errors = self._one_word * np.sqrt(np.maximum(found.variance, 1.0))
        return np.asarray(errors), found.degrees

    @cached_property
    def _p_alone(self) -> tuple[Numbers, Numbers]:
        """One-sided p-values of no gain and of no loss, each alone."""
        t, degrees = self._log_ratio(self._errors, self._base, np.zeros(len(self.values)))
        errors, of_difference = self._error
        differences = self.values / errors
        # The difference itself has to be significant by itself, too.
        agrees = 2 * special.stdtr(of_difference, -np.abs(differences)) < DIFFERENCE_LEVEL
        gain, loss = special.stdtr(degrees, t), special.stdtr(degrees, -t)
        return (
            np.where(agrees, gain, np.maximum(gain, special.stdtr(of_difference, differences))),
            np.where(agrees, loss, np.maximum(loss, special.stdtr(of_difference, -differences))),
        )

    def _log_ratio(self, more: Numbers, fewer: Numbers, rate: Numbers) -> tuple[Numbers, Numbers]:
        """t of the errors `more` over `fewer` and `rate` of the words, and degrees of freedom."""
        added = fewer + rate * self._words
        totals = more.sum(axis=0) + 0.5, added.sum(axis=0) + 0.5
        found = totals_variance(self.blocks, more / totals[0] - added / totals[1])
        error = np.maximum(np.sqrt(found.variance), np.log1p(1 / np.minimum(*totals)))
        return np.log(totals[0] / totals[1]) / error, found.degrees

    def p_at_least(self, points: float) -> Numbers:
        """One-sided p-values of a difference of `points` or more, each alone."""
        if not self.has_intervals:
            return np.ones(len(self.values))
        if points > 0:
            return self._p_beyond(self.values, points)
        return self._p_alone[0] if points == 0 else self._p_of_less(-points, gain=True)

    def p_at_most(self, points: float) -> Numbers:
        """One-sided p-values of a difference of `points` or less, each alone."""
        if not self.has_intervals:
            return np.ones(len(self.values))
        if points < 0:
            return self._p_beyond(-self.values, -points)
        return self._p_alone[1] if points == 0 else self._p_of_less(points, gain=False)

    def _p_of_less(self, points: float, gain: bool) -> Numbers:
        """One-sided p-values of a loss (or gain) of no more than `points`, by the ratio of errors.

        As the end of the interval next to 0 is, so that both agree.
        """
        base = np.broadcast_to(self._base, self._errors.shape)
        more, fewer = (base, self._errors) if gain else (self._errors, base)
        t, degrees = self._log_ratio(more, fewer, np.full(len(self.values), points / 100))
        p_alone = self._p_alone[0 if gain else 1]
        return np.asarray(np.maximum(p_alone, special.stdtr(degrees, -t)))

    @property
    def p_difference(self) -> Numbers:
        """Two-sided p-values of no difference, each alone."""
        if not self.has_intervals:
            return np.ones(len(self.values))
        return np.asarray(2 * np.minimum(*self._p_alone))

    def p_inferior(self, margin: float) -> Numbers:
        """One-sided p-values of a loss of the margin or more, each alone."""
        if not self.has_intervals:
            return np.ones(len(self.values))
        return self._p_beyond(self.values, margin)

    def _p_beyond(self, values: Numbers, points: float) -> Numbers:
        """One-sided p-values of losses of `points` or more, where `values` were measured."""
        errors, degrees = self._error
        by_blocks = special.stdtr(degrees, (values - points) / errors)
        # A lesser loss than a gain that was measured is excluded by no more than that gain is.
        loss = np.maximum(points, -values)
        with np.errstate(divide="ignore", invalid="ignore"):
            by_chance = special.ndtr((values - loss) / np.sqrt(loss * self._one_word))
        return np.asarray(np.maximum(by_blocks, np.where(loss > 0, by_chance, 0.0)))

    def _intervals(
        self, level: float, least: tuple[Numbers, Numbers] | float = 0.0
    ) -> tuple[Numbers, Numbers]:
        """Both ends of each difference's interval, in points.

        least: standard errors below and above that each reaches at least.
        """
        errors, degrees = self._error
        t, z = -special.stdtrit(degrees, level / 2), -float(special.ndtri(level / 2))
        below, above = least if isinstance(least, tuple) else (least, least)
        low = self.values - np.maximum(t, below) * errors
        low = np.minimum(low, -self._by_chance(-self.values, z))
        high = self.values + np.maximum(t, above) * errors
        high = np.maximum(high, self._by_chance(self.values, z))
        different = self.p_difference < level
        loses, gains = different & (self.values > 0), different & (self.values < 0)
        low = np.where(loses, self._nearest(level, loses, swapped=False), low)
        high = np.where(gains, -self._nearest(level, gains, swapped=True), high)
        low = np.where(different, low, np.minimum(low, 0.0))
        # No candidate makes fewer errors than none.
        low = np.maximum(low, -self._one_word * self._base.sum())
        return low, np.where(different, high, np.maximum(high, 0.0))

    def _by_chance(self, values: Numbers, z: float) -> Numbers:
        """The largest loss in points of which z standard errors, by chance alone, reach `values`.

        The root of (loss - value)² = z² loss × one word; -infinity where there is none.
        """
        width = z * math.sqrt(self._one_word)
        inside = width**2 + 4 * values
        root = (width + np.sqrt(np.maximum(inside, 0.0))) / 2
        return np.where(inside >= 0, np.square(root), -np.inf)

    def _nearest(self, level: float, wanted: Booleans, swapped: bool) -> Numbers:
        """The smallest loss (or gain, swapped) in points that the ratio does not exclude."""
        nearest = np.zeros(len(self.values))
        errors = self._errors[:, wanted]
        base = np.broadcast_to(self._base, errors.shape)
        more, fewer = (base, errors) if swapped else (errors, base)
        low, high = np.zeros(errors.shape[1]), np.abs(self.values[wanted]) / 100
        for _ in range(_BISECTIONS if errors.shape[1] else 0):
            middle = (low + high) / 2
            t, degrees = self._log_ratio(more, fewer, middle)
            excluded = 2 * special.stdtr(degrees, -t) < level
            low, high = np.where(excluded, middle, low), np.where(excluded, high, middle)
        nearest[wanted] = 100 * low
        return nearest

    def alone(self, margin: float) -> list[Comparison]:
        """Each comparison by itself."""
        if not self.has_intervals:
            return self._inconclusive(margin)
        return self._comparisons(
            margin,
            self.p_difference,
            self.p_inferior(margin),
            self._intervals(DIFFERENCE_LEVEL),
            DIFFERENCE_LEVEL,
            1,
        )

    def family(self, margin: float) -> list[Comparison]:
        """Each comparison, corrected for all."""
        if not self.has_intervals:
            return self._inconclusive(margin)
        different = self.joint.adjusted(self.p_difference)
        resampled = self.joint.p_below((self.values - margin) / self._error[0])
        inferior = np.maximum(self.p_inferior(margin), resampled)
        # Judged against both tails, as the interval is.
        inferior = self.joint.adjusted(np.minimum(2 * inferior, 1.0)) / 2
        level = self.joint.simultaneous_level(DIFFERENCE_LEVEL)
        intervals = self._intervals(level, self.joint.reaches(level))
        return self._comparisons(margin, different, inferior, intervals, level, len(self.values))

    @cached_property
    def joint(self) -> JointTails:
        """How the comparisons agree."""
        return JointTails(self.blocks, self._residuals, floor=1.0)

    def _comparisons(
        self,
        margin: float,
        different: Numbers,
        inferior: Numbers,
        intervals: tuple[Numbers, Numbers],
        level: float,
        family: int,
    ) -> list[Comparison]:
        low, high = intervals
        is_different, is_within = different < DIFFERENCE_LEVEL, inferior < INFERIORITY_LEVEL
        low = np.where(is_different & (self.values > 0), np.maximum(low, 0.0), low)
        high = np.where(is_different & (self.values < 0), np.minimum(high, 0.0), high)
        high = np.where(is_within, np.minimum(high, max(margin, 0.0)), high)
        (errors, degrees), within = self._error, 1 - self.p_inferior(margin)
        beyond = 1 - self.p_at_most(margin)
        gain, loss = self._p_alone
        better = np.where(self.values > 0, loss, 1 - gain)
        kind, number = self.blocks.kind, self.blocks.number
        return [
            Comparison(
                Estimate(float(self.values[i]), float(low[i]), float(high[i]), number, kind),
                float(errors[i]),
                float(better[i]),
                float(different[i]),
                float(inferior[i]),
                margin,
                family=family,
                margin_error=math.sqrt(margin * self._one_word),
                unit=self.unit,
                p_within_margin=float(within[i]),
                p_beyond_margin=float(beyond[i]),
                level=level,
                degrees=float(degrees[i]),
            )
            for i in range(len(self.values))
        ]

    def _inconclusive(self, margin: float) -> list[Comparison]:
        kind, number = self.blocks.kind, self.blocks.number
        nothing = Comparison(
            Estimate(math.nan, math.nan, math.nan, number, kind),
            math.nan,
            0.5,
            1.0,
            1.0,
            margin,
            unit=self.unit,
        )
        return [
            replace(nothing, difference=replace(nothing.difference, value=float(value)))
            for value in self.values
        ]
