import math

import numpy as np
import pandas as pd
import pytest

from tests.support.made_runs import accuracy_run, divergence_run
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


def test_recipes_are_told_apart_where_intervals_do_not_meet():
    gentle, rough, alike = (
        divergence_run(name, nats(mean, seed), SPEAKERS)
        for name, mean, seed in (
            ("hqq-int8-g64", 0.001, 1),
            ("torch-int8", 0.5, 2),
            ("bnb-nf4", 0.5, 3),
        )
    )
    assert divergences.told_apart(gentle, rough) and divergences.told_apart(rough, gentle)
    assert not divergences.told_apart(rough, alike)
    one_speaker = divergence_run("torch-int8", [0.5], ["1"])
    assert not divergences.told_apart(one_speaker, gentle)


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
