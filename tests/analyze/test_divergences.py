import math

import numpy as np
import pandas as pd
import pytest

from tests.support.sample_runs import accuracy_run, divergence_run
from whisperq_core.analyze import divergences, results_table

SPEAKERS = [str(i // 4) for i in range(48)]


def nats(mean: float, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).gamma(2.0, mean / 2, len(SPEAKERS)))


def test_mean_and_interval_are_per_token():
    run = divergence_run("torch-int8", nats(0.5, 1), SPEAKERS)
    mean = divergences.mean_mnat(run)
    assert mean.value == pytest.approx(1000 * run.sums.nats_per_token)
    assert mean.low < mean.value < mean.high and mean.blocks == 12
    # Near the standard error that 48 independent sums of 10 tokens have.
    expected = 2 * 2.2 * 1000 * np.std([u.nats for u in run.utterances]) / 10 / math.sqrt(48)
    assert mean.high - mean.low == pytest.approx(expected, rel=0.4)
    assert divergences.changed_pct(run).value == pytest.approx(10)


def test_order_of_utterances_does_not_count():
    run = divergence_run("torch-int8", nats(0.5, 1), SPEAKERS)
    turned = run.model_copy(update={"utterances": run.utterances[::-1]})
    assert divergences.mean_mnat(turned) == divergences.mean_mnat(run)


def test_a_recipe_diverges_so_many_times_as_much_as_another():
    gentle, rough = (
        divergence_run(name, nats(mean, seed), SPEAKERS)
        for name, mean, seed in (("hqq-int8-g64", 0.001, 1), ("torch-int8", 0.5, 2))
    )
    quotient = divergences.times_as_much([rough], [gentle])
    expected = rough.sums.nats_per_token / gentle.sums.nats_per_token
    assert quotient.estimate.value == pytest.approx(expected)
    assert quotient.above(1.0).p < 0.001 and quotient.below(1.0).p > 0.999
    assert quotient.above(expected * 10).p > 0.999
    one_speaker = divergence_run("torch-int8", [0.5], ["1"])
    assert divergences.times_as_much([one_speaker], [one_speaker]).above(0.5).p == 1


def test_pairing_finds_what_intervals_of_their_own_would_not():
    loud = nats(0.5, 2)
    plain = divergence_run("torch-int8", loud, SPEAKERS)
    more = divergence_run("bnb-nf4", [1.1 * n for n in loud], SPEAKERS)
    assert divergences.mean_mnat(more).low < divergences.mean_mnat(plain).high
    assert divergences.times_as_much([more], [plain]).above(1.0).p < 0.001


def test_recipes_that_differ_by_chance_are_not_told_apart():
    random, false, trials = np.random.default_rng(7), 0, 300
    for _ in range(trials):
        first, second = (
            divergence_run(name, list(random.gamma(0.5, 1.0, len(SPEAKERS))), SPEAKERS)
            for name in ("torch-int8", "bnb-nf4")
        )
        false += divergences.times_as_much([first], [second]).above(1.0).p < 0.025
    assert false / trials <= 0.05


def test_divergence_over_several_sets_counts_all_tokens():
    first = divergence_run("torch-int8", nats(0.5, 1), SPEAKERS)
    second = divergence_run("torch-int8", nats(0.1, 2), SPEAKERS, eval_set="quick-look")
    tokens = first.sums.tokens + second.sums.tokens
    pooled = divergences.pooled_mnat([first, second])
    total = first.sums.nats + second.sums.nats
    assert pooled.estimate.value == pytest.approx(1000 * total / tokens)
    assert pooled.estimate.low < pooled.estimate.value < pooled.estimate.high


def test_runs_of_other_tokens_are_refused():
    run = divergence_run("torch-int8", nats(0.5, 1), SPEAKERS)
    other = divergence_run("bnb-nf4", nats(0.5, 1)[:40], SPEAKERS[:40])
    with pytest.raises(ValueError, match="same tokens"):
        divergences.times_as_much([run], [other])


def test_the_table_shows_it_beside_every_protocol():
    from whisperq_core.whisper.protocols import FITTED, STUDY

    texts = [("a cat", "a cat")] * len(SPEAKERS)
    measured = divergence_run("torch-int8", nats(0.5, 1), SPEAKERS)
    frame = results_table.rows(
        [
            accuracy_run("torch-int8", texts, protocol=STUDY),
            accuracy_run("torch-int8", texts, protocol=FITTED),
            accuracy_run("bnb-nf4", texts),
            divergence_run("torch-int8", nats(9.0, 1), SPEAKERS, minutes=-5),
            measured,
            divergence_run("bnb-nf4", nats(0.5, 1), SPEAKERS, eval_set="quick-look"),
        ]
    )
    assert set(frame.columns) == set(results_table.COLUMNS)
    shown = frame.set_index("recipe")["divergence_mnat"]
    expected = divergences.mean_mnat(measured)
    assert shown["torch-int8"].tolist() == [expected.value] * 2
    assert pd.isna(shown["bnb-nf4"])
    assert frame["divergence_mnat_high"].max() == expected.high
