"""Divergence from fp32 with its uncertainty: means over tokens, speakers resampled as blocks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from whisperq_core.analyze.effects import StudentEffect, ratio_of_totals
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


def times_as_much(runs: Sequence[DivergenceRun], others: Sequence[DivergenceRun]) -> StudentEffect:
    """The divergence of a recipe over another's, of runs on the same sets in the same order.

    Paired: what is hard for one recipe is hard for the other, so their quotient is surer than
    either. Raises ValueError where a pair is not of the same tokens.
    """
    if any(
        [(u.id, u.tokens) for u in one.by_id] != [(u.id, u.tokens) for u in other.by_id]
        for one, other in zip(runs, others, strict=True)
    ):
        raise ValueError("The two recipes did not predict the same tokens.")
    return ratio_of_totals(_pooled_nats(runs), _pooled_nats(others))


def pooled_mnat(runs: Sequence[DivergenceRun]) -> StudentEffect:
    """The mean divergence over several sets in mnat per token, with a test of where it lies."""
    tokens = np.array([u.tokens for run in runs for u in run.by_id], dtype=float)
    nats = _pooled_nats(runs)
    return ratio_of_totals(replace(nats, errors=1000 * nats.errors), replace(nats, errors=tokens))


def _pooled_nats(runs: Sequence[DivergenceRun]) -> ErrorCounts:
    utterances = [u for run in runs for u in run.by_id]
    return ErrorCounts(
        np.array([u.nats for u in utterances], dtype=float),
        np.array([u.tokens for u in utterances], dtype=float),
        tuple(u.speaker for u in utterances),
        strata=tuple(run.eval_set for run in runs for _ in run.by_id),
    )
