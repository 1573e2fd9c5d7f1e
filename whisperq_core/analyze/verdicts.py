"""When a comparison counts as better, worse, no worse or inconclusive: every threshold is here.

Statistics (intervals and p-values) come from `paired_tests`; this module only decides. To change
what the application calls "no worse", change this file.
"""

import math
from enum import StrEnum
from typing import TYPE_CHECKING

from whisperq_core.errors import InputError

if TYPE_CHECKING:
    from whisperq_core.analyze.paired_tests import Comparison

# Of every interval.
CONFIDENCE = 0.95
# Points of WER that a configuration may lose and still count as no worse: the non-inferiority
# margin, unless the user sets another.
MARGIN = 0.5
# Beyond this a margin is a mistake: at 100 points a transcript of nothing is no worse.
MAX_MARGIN = 100.0
# Confidence from which "probably no worse" is said where nothing is shown.
PROBABLE = 0.8
# Chance of a conclusion that estimates of the test audio needed aim at.
POWER = 0.8
# Levels of the two-sided test of a difference and of the one-sided test of inferiority. The second
# is half of the first, so that both agree with the two-sided interval.
DIFFERENCE_LEVEL = 1 - CONFIDENCE
INFERIORITY_LEVEL = (1 - CONFIDENCE) / 2


class Verdict(StrEnum):
    """What a paired comparison shows of a candidate's error rate against the baseline's."""

    BETTER = "better"
    NO_WORSE = "no worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


def require_margin(margin: float) -> None:
    """Raises InputError unless the margin is a number of points from 0 to MAX_MARGIN."""
    if not 0 <= margin <= MAX_MARGIN:
        raise InputError(
            f"The margin must be a number of points of WER from 0 to {MAX_MARGIN:g}, not"
            f" {margin:g}. The usual margin is {MARGIN:g}."
        )


def require_confidence(confidence: float) -> None:
    """Raises InputError unless the confidence is from 0.5 to below 1."""
    if not 0.5 <= confidence < 1:
        raise InputError(f"The confidence must be from 0.5 to below 1, not {confidence:g}.")


def verdict_of(comparison: "Comparison") -> Verdict:
    """The verdict; a conclusion needs both the interval and the p-value (corrected, if of many)."""
    difference = comparison.difference
    if comparison.p_difference < DIFFERENCE_LEVEL:
        if difference.high <= 0:
            return Verdict.BETTER
        if difference.low >= 0:
            return Verdict.WORSE
    return Verdict.NO_WORSE if is_non_inferior(comparison) else Verdict.INCONCLUSIVE


def is_non_inferior(comparison: "Comparison") -> bool:
    """Whether the candidate is shown to lose less than the margin."""
    significant = comparison.p_inferior < INFERIORITY_LEVEL
    return significant and comparison.difference.high <= comparison.margin


def keeps_margin(comparison: "Comparison") -> bool | None:
    """True where a loss below the margin is shown, False where a larger one is, None otherwise.

    Refuted by the interval alone: it lies beyond the margin.
    """
    if comparison.verdict is Verdict.BETTER or is_non_inferior(comparison):
        return True
    return False if comparison.difference.low > comparison.margin else None


def keeps_margin_at(comparison: "Comparison", confidence: float) -> bool | None:
    """Whether a loss below the margin has that confidence: True, False for a larger one, or None.

    Of this comparison alone, not corrected for others: for a user who accepts, say, 90%. Raises
    InputError unless the confidence is from 0.5 to below 1.
    """
    require_confidence(confidence)
    if math.isnan(comparison.standard_error):
        return None
    if comparison.p_within_margin >= confidence:
        return True
    return False if comparison.p_beyond_margin >= confidence else None


def is_probably_no_worse(comparison: "Comparison") -> bool:
    """Whether no verdict is reached, and a loss below the margin has a confidence of PROBABLE."""
    open_ = comparison.verdict is Verdict.INCONCLUSIVE
    return open_ and keeps_margin_at(comparison, PROBABLE) is True


def is_probably_worse(comparison: "Comparison") -> bool:
    """Whether no verdict is reached, and a loss above the margin has a confidence of PROBABLE."""
    open_ = comparison.verdict is Verdict.INCONCLUSIVE
    return open_ and keeps_margin_at(comparison, PROBABLE) is False
