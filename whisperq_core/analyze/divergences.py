"""Divergence from fp32 with its uncertainty: means over tokens, speakers resampled as blocks."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from whisperq_core.analyze.significance import ErrorCounts, Estimate, rate
from whisperq_core.evaluate.records import DivergenceRun

# Nats per token as a percentage, which `rate` gives, to thousandths of a nat.
_MNAT = 10.0


@lru_cache(maxsize=20_000)
def mean_mnat(run: DivergenceRun) -> Estimate:
    """The mean divergence in thousandths of a nat (mnat) per token, with its 95 % interval.

    A ratio of sums over utterances, as an error rate is: the same bootstrap gives its interval.
    """
    estimate = _rate(run, [u.nats for u in run.by_id])
    value, low, high = (_MNAT * x for x in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


@lru_cache(maxsize=20_000)
def changed_pct(run: DivergenceRun) -> Estimate:
    """The share of tokens with another most probable choice, percent, with its 95 % interval."""
    return _rate(run, [u.changed for u in run.by_id])


def _rate(run: DivergenceRun, numerators: list[float]) -> Estimate:
    tokens = np.array([u.tokens for u in run.by_id], dtype=float)
    speakers = tuple(u.speaker for u in run.by_id)
    return rate(ErrorCounts(np.array(numerators, dtype=float), tokens, speakers))


def told_apart(first: DivergenceRun, second: DivergenceRun) -> bool:
    """Whether the intervals of the two means do not meet; False without intervals."""
    a, b = mean_mnat(first), mean_mnat(second)
    return a.high < b.low or b.high < a.low
