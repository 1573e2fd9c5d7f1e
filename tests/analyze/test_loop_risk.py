"""What rare loops could cost."""

import numpy as np
import pytest

from tests.support.shipped_runs import runs_of
from whisperq_core.analyze.loop_risk import LOOP_WORDS, LoopRisk, loop_risk
from whisperq_core.analyze.verdict_text import loops_text


def test_without_a_loop_the_rule_of_three_bounds_their_rate():
    risk = loop_risk([False] * 300, [False] * 300, 6000.0)
    assert risk.highest_rate == pytest.approx(3 / 300, rel=0.002)
    assert risk.highest_cost == pytest.approx(100 * 3 * LOOP_WORDS / 6000, rel=0.002)
    assert loops_text(risk) == "apart from rare loops, which could add up to 12 points"


def test_only_loops_that_the_baseline_does_not_have_count():
    risk = loop_risk([True, False, False], [True, True, False], 60.0)
    assert (risk.loops, risk.utterances) == (1, 3)
    # 4.744 is the upper limit of a Poisson count of one.
    assert risk.highest_rate == pytest.approx(4.744 / 3, rel=0.001)


@pytest.mark.parametrize("rate", [0.001, 0.004, 0.02])
def test_the_true_cost_of_loops_is_above_the_bound_in_5_percent_at_most(rate):
    random, utterances, words = np.random.default_rng(0), 500, 10_000.0
    seen = random.binomial(utterances, rate, 20_000)
    limits = {n: LoopRisk(n, utterances, words) for n in set(seen.tolist())}
    true = 100 * rate * utterances * LOOP_WORDS / words
    measured = [100 * n * LOOP_WORDS / words + limits[n].highest_cost for n in seen.tolist()]
    assert np.mean(np.array(measured) < true) <= 0.055


def test_a_loop_of_a_usable_recipe_adds_about_as_many_words_in_the_shipped_results():
    runs = runs_of("base")
    added = [
        looping.score.words.errors - plain.score.words.errors
        for recipe in ("quanto-int4", "bnb-fp4", "torch-int8")
        for plain, looping in zip(runs["fp32"].by_id, runs[recipe].by_id, strict=True)
        if looping.score.looped and not plain.score.looped
    ]
    assert added and all(LOOP_WORDS / 3 < words < 2 * LOOP_WORDS for words in added)
