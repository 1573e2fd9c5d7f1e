"""Differences of differences: exact values, what decides them, and how often they err."""

import math

import numpy as np
import pytest

from tests.support.sample_runs import divergence_run
from tests.support.spoken_runs import ALIKE, MANY, NONE, SOME, run_with
from whisperq_core.analyze import condition_effects as effects
from whisperq_core.analyze import multiple_testing
from whisperq_core.analyze.blocks import blocks_of
from whisperq_core.analyze.condition_effects import condition_effects

NOISE, TELEPHONE = "+noise:rain@0dB", "+telephone"
SPEAKERS = [str(i) for i in range(20)]


def cell(recipe: str, wrong: list[int], condition: str = ""):
    return run_with(recipe, wrong, eval_set=f"first{condition}")


def added(*lists: list[int]) -> list[int]:
    return [sum(numbers) for numbers in zip(*lists, strict=True)]


class TestWer:
    def test_the_change_is_the_difference_of_the_losses(self):
        noisy = added(SOME, SOME)
        runs = [
            *(cell("fp32", SOME), cell("fp32", noisy, NOISE)),
            *(cell("bf16", ALIKE), cell("bf16", added(noisy, MANY), NOISE)),
        ]
        [effect] = condition_effects(runs, "WER")
        words = 20 * 20
        quiet = 100 * (sum(ALIKE) - sum(SOME)) / words
        assert effect.in_quiet == pytest.approx(quiet)
        assert effect.under_condition == pytest.approx(100 * sum(MANY) / words)
        assert effect.change.value == pytest.approx(100 * sum(MANY) / words - quiet)
        assert effect.change.low > 0 and effect.p < 0.001 and effect.verdict == "costs more"
        assert effect.baseline_rate_pct == pytest.approx(100 * sum(noisy) / words)
        assert (effect.condition, effect.kind, effect.level_db) == (
            "noise:rain@0dB",
            "noise:rain",
            0,
        )
        assert effect.change.blocks == 20 and effect.minutes == pytest.approx(20 / 6)

    def test_noise_that_costs_both_alike_changes_nothing(self):
        noisy = added(SOME, MANY)
        runs = [
            *(cell("fp32", SOME), cell("fp32", noisy, NOISE)),
            *(cell("bf16", ALIKE), cell("bf16", added(ALIKE, MANY), NOISE)),
        ]
        [effect] = condition_effects(runs, "WER")
        assert effect.change.value == pytest.approx(0, abs=1e-9)
        assert effect.change.low < 0 < effect.change.high
        assert effect.verdict == "too close to call"

    def test_what_would_decide_it_is_estimated(self):
        small = [1, 0, 0, 0, 2, 0, 0, 0, 0, 1] * 2
        runs = [
            *(cell("fp32", SOME), cell("fp32", ALIKE, NOISE)),
            *(cell("bf16", SOME), cell("bf16", added(ALIKE[1:] + ALIKE[:1], small), NOISE)),
        ]
        [effect] = condition_effects(runs, "WER")
        assert effect.verdict == "too close to call"
        assert effect.minutes < effect.minutes_needed < math.inf

    def test_joined_recordings_are_quiet_and_noise_is_put_on_them(self):
        noisy = added(SOME, MANY)
        joined = "+joined:5min"
        runs = [
            *(cell("fp32", SOME), cell("bf16", ALIKE)),
            *(cell("fp32", SOME, joined), cell("fp32", noisy, joined + NOISE)),
            *(cell("bf16", SOME, joined), cell("bf16", added(noisy, MANY), joined + NOISE)),
        ]
        [effect] = condition_effects(runs, "WER")
        assert (effect.eval_set, effect.condition) == (f"first{joined}", NOISE[1:])
        assert effect.in_quiet == 0 and effect.verdict == "costs more"
        assert condition_effects(runs[:3] + runs[4:5], "WER") == []

    def test_all_that_is_tested_together_widens_the_intervals(self):
        alone = [
            *(cell("fp32", SOME), cell("fp32", SOME, NOISE)),
            *(cell("bf16", SOME), cell("bf16", ALIKE, NOISE)),
        ]
        more = [cell("quanto-int4", ALIKE), cell("quanto-int4", MANY, NOISE)]
        more += [cell("fp32", SOME, TELEPHONE), cell("bf16", MANY, TELEPHONE)]
        [narrow] = condition_effects(alone, "WER")
        wide = next(
            e
            for e in condition_effects(alone + more, "WER")
            if (e.recipe, e.condition) == ("bf16", NOISE[1:])
        )
        assert (narrow.family, wide.family) == (1, 3)
        assert wide.change.value == narrow.change.value
        assert wide.change.high - wide.change.low > narrow.change.high - narrow.change.low

    def test_all_four_runs_have_to_be_there_and_of_the_same_words(self):
        runs = [
            *(cell("fp32", SOME), cell("fp32", SOME, NOISE)),
            *(cell("bf16", SOME), cell("bf16", ALIKE, NOISE)),
        ]
        for missing in range(4):
            assert condition_effects(runs[:missing] + runs[missing + 1 :], "WER") == []
        other = run_with("bf16", ALIKE, eval_set=f"first{NOISE}", ids=SPEAKERS)
        assert condition_effects([*runs[:3], other], "WER") == []


class TestDivergence:
    def test_the_change_is_a_factor(self):
        quiet = [0.1 + 0.01 * (i % 3) for i in range(20)]
        runs = [
            divergence_run("bf16", quiet, SPEAKERS, eval_set="first"),
            divergence_run("bf16", [3 * n for n in quiet], SPEAKERS, eval_set=f"first{NOISE}"),
        ]
        [effect] = condition_effects(runs, "divergence")
        assert effect.change.value == pytest.approx(3)
        assert effect.in_quiet == pytest.approx(1000 * sum(quiet) / 200)
        assert effect.under_condition == pytest.approx(3 * effect.in_quiet)
        assert 1 < effect.change.low <= 3 <= effect.change.high
        assert effect.verdict == "costs more"

    def test_utterances_that_one_condition_leaves_out_are_no_tokens_there(self):
        quiet, noisy = [0.1, 0.2] * 10, [0.3, 0.1, 0.2, 0.4] * 5
        under = divergence_run("bf16", noisy, SPEAKERS, eval_set=f"first{NOISE}")
        fewer = under.model_copy(
            update={"utterances": under.utterances[:-1], "left_out": (under.utterances[-1].id,)}
        )
        runs = [divergence_run("bf16", quiet, SPEAKERS, eval_set="first"), fewer]
        [effect] = condition_effects(runs, "divergence")
        assert effect.under_condition == pytest.approx(1000 * sum(noisy[:-1]) / 190)
        assert effect.change.value == pytest.approx((sum(noisy[:-1]) / 190) / (sum(quiet) / 200))
        assert effect.change.blocks == 20

    def test_one_that_does_not_diverge_has_no_factor(self):
        runs = [
            divergence_run("bf16", NONE, SPEAKERS, eval_set="first"),
            divergence_run("bf16", SOME, SPEAKERS, eval_set=f"first{NOISE}"),
        ]
        assert condition_effects(runs, "divergence") == []


def test_the_table_has_a_row_for_each():
    runs = [
        *(cell("fp32", SOME), cell("fp32", SOME, NOISE)),
        *(cell("bf16", SOME), cell("bf16", ALIKE, NOISE)),
    ]
    frame = effects.table(condition_effects(runs, "WER"))
    assert list(frame["recipe"]) == ["bf16"] and frame["speakers"][0] == 20
    assert frame["low"][0] < frame["change"][0] < frame["high"][0]
    assert list(effects.table([]).columns) == list(frame.columns)


def test_simultaneous_intervals_cover_all_truths(monkeypatch):
    """25 speakers of unequal length, eight effects that agree, none of which differs from 0."""
    monkeypatch.setattr(multiple_testing, "RESAMPLES", 2000)
    random = np.random.default_rng(1)
    blocks = blocks_of(tuple(range(25)))
    simulations, covered = 200, 0
    for _ in range(simulations):
        words = random.integers(20, 120, 25).astype(float)
        common = random.normal(size=(25, 1)) * np.sqrt(words[:, None])
        own = random.normal(size=(25, 8)) * np.sqrt(words[:, None])
        # A loop in one speaker now and then: losses are skewed.
        loops = 10.0 * (random.random((25, 8)) < 0.02)
        changes = common + own + loops - 10.0 * 0.02
        points = 100 / words.sum()
        values = points * changes.sum(axis=0)
        residuals = points * changes - np.outer(words / words.sum(), values)
        tested = effects._tested(blocks, values, residuals, points)
        covered += all(one.low <= 0 <= one.high for one in tested)
    # 95 % of 200, less two standard errors of that share.
    assert covered / simulations > 0.92
