"""Confidence intervals and tests of error rates. Pure functions over counts of each utterance.

Utterances of one speaker share a voice, a room and a book, so they err together: resampling them
one by one makes intervals too narrow. Speakers are resampled instead, as blocks (Bisani & Ney 2004,
"Bootstrap estimates for confidence intervals in ASR performance evaluation", for the bootstrap of
WER; Liu & Peng 2020, "Statistical testing on ASR performance via blockwise bootstrap", for its
blocks); utterances only where speakers are not known, and the result says so.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from whisperq_core.analyze.verdicts import (
    CONFIDENCE,
    INFERIORITY_LEVEL,
    MARGIN,
    POWER,
    Verdict,
    is_non_inferior,
    require_margin,
    verdict_of,
)

Unit = Literal["words", "characters"]
Numbers = npt.NDArray[np.float64]

RESAMPLES = 10_000
# A distance to the margin, in points, below which estimates of the audio needed do not grow.
_NO_DISTANCE = 1e-3
# Words that both systems have right, in a row, end a segment of MAPSSWE (as in NIST's SCTK).
_GOOD_WORDS = 2
_CHUNK = 1000


@dataclass(frozen=True)
class ErrorCounts:
    """Errors and reference lengths of utterances, shape (utterances,), and who spoke each.

    unit: words for WER, characters for CER. speakers: None where unknown.
    """

    errors: Numbers
    lengths: Numbers
    speakers: tuple[Hashable | None, ...]
    unit: Unit = "words"

    @property
    def rate(self) -> float:
        """Errors per reference word or character, in percent; NaN without any."""
        length = float(self.lengths.sum())
        return 100 * float(self.errors.sum()) / length if length else math.nan

    def only(self, keep: npt.NDArray[np.bool_]) -> "ErrorCounts":
        """The utterances where `keep`, booleans of shape (utterances,), is true."""
        speakers = tuple(s for s, is_kept in zip(self.speakers, keep, strict=True) if is_kept)
        return ErrorCounts(self.errors[keep], self.lengths[keep], speakers, self.unit)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval, in percent or in points of percent.

    low and high are NaN where there are fewer than two blocks to resample. blocks: how many were
    resampled. block: "speaker", or "utterance" where speakers are not known or there is only one.
    """

    value: float
    low: float
    high: float
    blocks: int
    block: str


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with a baseline on the same utterances; points are of percent.

    difference: the candidate's rate minus the baseline's. standard_error: of the difference.
    p_better: share of resamples in which the candidate has the lower rate, ties counted half.
    p_difference: of no difference, two-sided. p_inferior: of a loss of `margin` points or more,
    one-sided. Both are Holm-corrected after `corrected`, among `family` comparisons.
    margin_error: the standard error by chance alone of a difference that is the margin. unit: what
    was counted.
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
        level that Holm's correction requires of the first of the family, z for POWER. None where
        there is a conclusion, or no amount of audio would give one: no difference, and no margin.
        """
        if self.verdict is not Verdict.INCONCLUSIVE or not self.standard_error > 0:
            return None
        tail, z = INFERIORITY_LEVEL / self.family, special.ndtri(POWER)
        reach = (z - special.stdtrit(self.difference.blocks - 1, tail)) * self.standard_error
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
        t = -special.stdtrit(self.difference.blocks - 1, INFERIORITY_LEVEL / self.family)
        quantiles = float(t + special.ndtri(POWER))
        distance = max(abs(self.margin - self.difference.value), _NO_DISTANCE)
        error = max(self.standard_error, self.margin_error)
        return minutes * max(1.0, (quantiles * error / distance) ** 2)


def rate(sample: ErrorCounts, confidence: float = CONFIDENCE) -> Estimate:
    """The rate (WER or CER, percent) with its bootstrap interval (Bisani & Ney 2004).

    Simulated with speakers as different as LibriSpeech's (tests/test_significance.py), it covers
    the truth in 93% with 9 to 14 speakers and in 94% with 20 to 40; where it misses, the truth is
    mostly above. With utterances as blocks it would in 77 to 90%.
    """
    return rates([sample], confidence)[0]


def rates(samples: Sequence[ErrorCounts], confidence: float = CONFIDENCE) -> list[Estimate]:
    """`rate` of each sample; all were counted on the same utterances, and are resampled at once."""
    blocks, block = blocks_of(samples[0].speakers)
    sums = sums_of(blocks, *(sample.errors for sample in samples), samples[0].lengths)
    drawn = _resampled(sums, lambda s: 100 * s[:, :-1] / s[:, -1:])
    values = [sample.rate for sample in samples]
    return _estimates(values, drawn, len(sums), block, confidence)


def compare(baseline: ErrorCounts, candidate: ErrorCounts, margin: float = MARGIN) -> Comparison:
    """Paired comparison: both were counted on the same utterances, in the same order.

    p-values are Student's t with blocks - 1 degrees of freedom, over the bootstrap's standard
    error: of no difference for the logarithm of the ratio of errors (half an error added to each),
    since a recipe that breaks a model multiplies its errors; of inferiority for the distance to the
    margin. Where nearly no utterance differs, resampling says nothing: the standard error is at
    least one word's, and the interval at least as wide as that makes it. The words that a loss of
    the margin would cost may not have come up, either: the p-value of inferiority is at least that
    of a Poisson count of as many, taken as normal. Without two blocks it is inconclusive. Raises
    ValueError where the references differ, InputError for a margin that is none.
    """
    return compare_all(baseline, [candidate], margin)[0]


def compare_all(
    baseline: ErrorCounts, candidates: Sequence[ErrorCounts], margin: float = MARGIN
) -> list[Comparison]:
    """`compare` of each candidate with one baseline, resampled at once."""
    require_margin(margin)
    if any(not np.array_equal(baseline.lengths, c.lengths) for c in candidates):
        raise ValueError("The two runs were not scored on the same references.")
    if not candidates:
        return []
    blocks, block = blocks_of(baseline.speakers)
    columns = (*(c.errors for c in candidates), baseline.errors, baseline.lengths)
    sums, many = sums_of(blocks, *columns), len(candidates)
    drawn = _resampled(
        sums,
        lambda s: np.column_stack(
            (
                100 * (s[:, :many] - s[:, [many]]) / s[:, [many + 1]],
                np.log((s[:, :many] + 0.5) / (s[:, [many]] + 0.5)),
            )
        ),
    )
    values = [candidate.rate - baseline.rate for candidate in candidates]
    differences = _estimates(values, drawn[:, :many], len(sums), block, CONFIDENCE)
    if math.isnan(differences[0].low):
        return [
            Comparison(d, math.nan, 0.5, 1.0, 1.0, margin, unit=baseline.unit) for d in differences
        ]
    return [
        _comparison(baseline, candidate, difference, drawn[:, i], drawn[:, many + i], margin)
        for i, (candidate, difference) in enumerate(zip(candidates, differences, strict=True))
    ]


def _comparison(
    baseline: ErrorCounts,
    candidate: ErrorCounts,
    difference: Estimate,
    drawn: Numbers,
    log_ratios: Numbers,
    margin: float,
) -> Comparison:
    n, one_word = difference.blocks, 100 / float(baseline.lengths.sum())
    value = difference.value
    error = max(_standard_error(drawn, n), one_word)
    margin_error = math.sqrt(margin * one_word)
    by_chance = float(special.ndtr((value - margin) / margin_error)) if margin else 0.0
    at_least = least_reach(n, one_word)
    low, high = min(difference.low, value - at_least), max(difference.high, value + at_least)
    fewer, more = sorted((baseline.errors.sum() + 0.5, candidate.errors.sum() + 0.5))
    ratio_error = max(_standard_error(log_ratios, n), math.log1p(1 / fewer))
    return Comparison(
        replace(difference, low=low, high=high),
        error,
        float(np.mean(drawn < 0) + np.mean(drawn == 0) / 2),
        2 * _t_tail(math.log(more / fewer), ratio_error, n),
        max(_t_tail(margin - value, error, n), by_chance),
        margin,
        margin_error=margin_error,
        unit=baseline.unit,
    )


def least_reach(blocks: int, one_word: float) -> float:
    """Half the width of the interval that an error of one word makes."""
    return float(special.stdtrit(blocks - 1, (1 + CONFIDENCE) / 2)) * one_word


def _standard_error(drawn: Numbers, blocks: int) -> float:
    return float(np.std(drawn)) * math.sqrt(blocks / (blocks - 1))


def _t_tail(distance: float, standard_error: float, blocks: int) -> float:
    # What stats.t.sf computes, without its checks, which take most of its time.
    return float(special.stdtr(blocks - 1, -distance / standard_error))


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, of many candidates with one baseline, with Holm-corrected p-values."""
    differences = holm([c.p_difference for c in comparisons])
    inferiors = holm([c.p_inferior for c in comparisons])
    return [
        replace(c, p_difference=different, p_inferior=inferior, family=len(comparisons))
        for c, different, inferior in zip(comparisons, differences, inferiors, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the same order.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in adjusted]


@dataclass(frozen=True)
class SegmentTest:
    """MAPSSWE: mean difference of errors a segment (candidate minus baseline), z and two-sided p.

    segments: how many had an error in either. p is 1 and z is 0 where nothing differs. Where all
    segments differ alike, z is McNemar's: the root of their number.
    """

    segments: int
    mean: float
    z: float
    p: float


def mapsswe(baseline: Sequence[Sequence[str]], candidate: Sequence[Sequence[str]]) -> SegmentTest:
    """Matched-pairs sentence-segment word error test (MAPSSWE).

    Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition
    algorithms".

    Each argument holds, for each utterance, the kinds of edit (equal, substitute, delete, insert)
    that turn the same reference into a system's hypothesis, in reading order. Utterances are cut
    into segments where both systems have `_GOOD_WORDS` words or more right in a row, as in SCTK;
    the segments' differences are taken as independent, speakers or not.
    """
    differences = [
        of_candidate - of_baseline
        for baseline_edits, candidate_edits in zip(baseline, candidate, strict=True)
        for of_baseline, of_candidate in _segments(baseline_edits, candidate_edits)
    ]
    n = len(differences)
    mean = float(np.mean(differences)) if n else 0.0
    if not any(differences):
        return SegmentTest(n, mean, 0.0, 1.0)
    alike = len(set(differences)) == 1
    spread = abs(mean) if alike else float(np.std(differences, ddof=1))
    z = mean / (spread / math.sqrt(n))
    return SegmentTest(n, mean, z, float(2 * stats.norm.sf(abs(z))))


def _segments(baseline: Sequence[str], candidate: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Errors of both systems in each segment of one utterance that has any."""
    first, second = _errors_by_position(baseline), _errors_by_position(candidate)
    if len(first) != len(second):
        raise ValueError("The two runs were not aligned to the same references.")
    good_words, of_baseline, of_candidate = 0, 0, 0
    for position, (a, b) in enumerate(zip(first, second, strict=True)):
        of_baseline, of_candidate = of_baseline + a, of_candidate + b
        # Odd positions are reference words; even ones are the gaps between them.
        good_words = 0 if a or b else good_words + position % 2
        if good_words >= _GOOD_WORDS and (of_baseline or of_candidate):
            yield of_baseline, of_candidate
            of_baseline = of_candidate = 0
    if of_baseline or of_candidate:
        yield of_baseline, of_candidate


def _errors_by_position(edits: Sequence[str]) -> list[int]:
    """Insertions before each reference word and errors at it, alternating; last those at the end.

    Length 2 × reference words + 1.
    """
    positions = [0]
    for kind in edits:
        if kind == "insert":
            positions[-1] += 1
        else:
            positions += [int(kind != "equal"), 0]
    return positions


def blocks_of(speakers: Sequence[Hashable | None]) -> tuple[npt.NDArray[np.int_], str]:
    """The block of each utterance as an index, and what a block is."""
    if None not in speakers and len(set(speakers)) > 1:
        index = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
        return np.array([index[speaker] for speaker in speakers]), "speaker"
    return np.arange(len(speakers)), "utterance"


def sums_of(blocks: npt.NDArray[np.int_], *columns: Numbers) -> Numbers:
    """Sums of each column over each block, shape (blocks, columns)."""
    return np.column_stack([np.bincount(blocks, weights=column) for column in columns])


def _resampled(sums: Numbers, statistic: Callable[[Numbers], Numbers]) -> Numbers:
    """The statistic of RESAMPLES samples of blocks with replacement; fewer where it is undefined.

    statistic: sums of shape (resamples, columns) to an array of shape (resamples, values). The same
    seed for every call: runs on the same speakers are resampled alike.
    """
    if len(sums) < 2:
        return np.empty((0, sums.shape[1] - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.concatenate([statistic(weights @ sums) for weights in drawn_weights(len(sums))])
    defined: Numbers = drawn[np.isfinite(drawn).all(axis=1)]
    return defined


def drawn_weights(blocks: int) -> Iterator[Numbers]:
    """How often each block is drawn, shape (_CHUNK, blocks) at a time, to bound memory."""
    if blocks <= 100:
        yield _all_weights(blocks)
        return
    random = np.random.default_rng(0)
    for _ in range(RESAMPLES // _CHUNK):
        yield random.multinomial(blocks, np.full(blocks, 1 / blocks), _CHUNK).astype(float)


@lru_cache(maxsize=8)
def _all_weights(blocks: int) -> Numbers:
    random = np.random.default_rng(0)
    return random.multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES).astype(float)


def _estimates(
    values: Sequence[float], drawn: Numbers, blocks: int, block: str, confidence: float
) -> list[Estimate]:
    """Expanded percentile interval (Hesterberg 2015, "What teachers should know about the
    bootstrap", 5.3): few blocks make the plain percentiles too narrow, by the factor
    sqrt((n - 1) / n) and by using the normal's quantiles for Student's.

    drawn: shape (resamples, values).
    """
    if not len(drawn):
        return [Estimate(value, math.nan, math.nan, blocks, block) for value in values]
    tail = tail_of(blocks, confidence)
    # Quantiles of rows lie side by side in memory, which makes them faster.
    lows, highs = np.quantile(np.ascontiguousarray(drawn.T), [tail, 1 - tail], axis=1)
    return [
        Estimate(value, float(low), float(high), blocks, block)
        for value, low, high in zip(values, lows, highs, strict=True)
    ]


def tail_of(blocks: int, confidence: float) -> float:
    """The part of the resamples beyond each end of the expanded interval."""
    t = special.stdtrit(blocks - 1, (1 + confidence) / 2)
    return float(special.ndtr(-math.sqrt(blocks / (blocks - 1)) * t))


def time_ratio(ratios: Sequence[float]) -> Estimate:
    """The median of a recipe's times over fp32's, with Student's interval of their logarithms.

    ratios: one for each interleaved repeat. Fewer than two have no interval.
    """
    logs, n = np.log(np.asarray(ratios, dtype=float)), len(ratios)
    value = float(np.median(ratios))
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, "repeat")
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(logs, ddof=1) / math.sqrt(n)
    low, high = np.exp(np.mean(logs) + np.array([-reach, reach]))
    return Estimate(value, min(float(low), value), max(float(high), value), n, "repeat")


def minus(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent estimates, with its interval.

    By the method of variance estimates recovery (Zou & Donner 2008, "Construction of confidence
    limits about effect measures", eq. 3): it keeps the intervals' asymmetry. blocks: the fewer.
    """
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    fewer = min(first, second, key=lambda estimate: estimate.blocks)
    return Estimate(value, value - down, value + up, fewer.blocks, fewer.block)


def over(first: Estimate, second: Estimate) -> Estimate:
    """The quotient of two independent positive estimates, such as times, by `minus` of logs."""
    logs = minus(_log(first), _log(second))
    low, value, high = (math.exp(x) for x in (logs.low, logs.value, logs.high))
    return Estimate(value, low, high, logs.blocks, logs.block)


def _log(estimate: Estimate) -> Estimate:
    low, value, high = (math.log(x) for x in (estimate.low, estimate.value, estimate.high))
    return Estimate(value, low, high, estimate.blocks, estimate.block)
