"""One-sided tests agree with the intervals next to them, whatever the effect is of."""

import math

import numpy as np
import pytest

from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze import effects
from whisperq_core.analyze.effects import ExactEffect, RateDifference
from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.pooled_comparisons import compare_pooled
from whisperq_core.analyze.significance import time_ratio
from whisperq_core.analyze.verdicts import INFERIORITY_LEVEL, MARGIN


def rates(candidate: list[int], baseline: list[int] = SOME) -> RateDifference:
    pool, test = compare_pooled([(run_with("fp32", baseline), run_with("bf16", candidate))])
    return RateDifference(test, pool.comparison)


TIMES = effects.time_effect([0.50, 0.52, 0.55, 0.53])
GAP = effects.difference(
    compare_runs(run_with("fp32", SOME), run_with("bf16", MANY)),
    compare_runs(run_with("fp32", SOME), run_with("bf16", ALIKE)),
)


@pytest.mark.parametrize(
    "effect", [TIMES, GAP, effects.quotient(TIMES, effects.time_effect([1.0, 1.1, 1.2]))]
)
def test_the_ends_of_the_interval_are_what_the_tests_just_reject(effect):
    low, high = effect.estimate.low, effect.estimate.high
    assert effect.above(low).p == pytest.approx(INFERIORITY_LEVEL, rel=1e-6)
    assert effect.below(high).p == pytest.approx(INFERIORITY_LEVEL, rel=1e-6)
    assert effect.above(low).p + effect.below(low).p == pytest.approx(1)


@pytest.mark.parametrize("candidate", [ALIKE, NOISY, MANY, SOME])
@pytest.mark.parametrize("baseline", [SOME, MANY])
def test_tests_of_rates_never_contradict_their_interval(candidate, baseline):
    effect = rates(candidate, baseline)
    for boundary in np.linspace(-60, 60, 241):
        if effect.above(boundary).p < INFERIORITY_LEVEL:
            assert boundary <= effect.estimate.low + 1e-9
        if effect.below(boundary).p < INFERIORITY_LEVEL:
            assert boundary >= effect.estimate.high - 1e-9


def test_tests_of_rates_are_those_of_the_comparison():
    effect, comparison = rates(MANY), compare_runs(run_with("fp32", SOME), run_with("bf16", MANY))
    assert 2 * effect.above(0.0).p == pytest.approx(comparison.p_difference)
    assert effect.below(MARGIN).p == pytest.approx(comparison.p_inferior)


def test_swapping_the_two_turns_every_test_round():
    there, back = rates(NOISY), rates(SOME, NOISY)
    for boundary in (-3.0, -0.5, 0.0, 0.5, 3.0):
        assert there.above(boundary).p == pytest.approx(back.below(-boundary).p)


def test_a_time_has_the_value_that_is_shown_elsewhere():
    shown = time_ratio([0.50, 0.52, 0.55, 0.53])
    assert TIMES.estimate == shown
    assert math.isnan(effects.time_effect([0.5]).estimate.low)
    assert effects.time_effect([0.5]).below(1.0).p == 1


def test_what_is_exact_is_certain():
    assert ExactEffect(36.0).above(35.0).p == 0 and ExactEffect(36.0).below(35.0).p == 1
    assert ExactEffect(36.0).estimate.low == ExactEffect(36.0).estimate.high == 36.0


def test_as_much_speech_as_is_said_to_be_needed_gives_a_conclusion_in_four_of_five():
    """Simulated on t: the effect is as measured, and the error falls with the root."""
    test = effects.OneSided(0.1, 1.3, 24)
    factor = test.times_needed(0.025)
    random, trials = np.random.default_rng(3), 20_000
    estimates = random.normal(1.3 * math.sqrt(factor), 1.0, trials)
    scales = np.sqrt(random.chisquare(24, trials) / 24)
    reject = estimates / scales > 2.064
    assert np.mean(reject) == pytest.approx(0.8, abs=0.02)
    assert effects.OneSided(0.9, -1.0, 24).times_needed(0.025) is None
    assert effects.UNKNOWN.times_needed(0.025) is None
