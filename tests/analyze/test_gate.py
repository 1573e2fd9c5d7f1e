"""The gate's outcomes, and how often they err: on the words of shipped results."""

from functools import partial

import pytest

from benchmarks.gate import SPEAKERS, SPREAD, Simulation, gate_outcome, population
from tests.support.sample_runs import accuracy_run
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, in_language, run_with
from whisperq_core.analyze.gate import Outcome, gate
from whisperq_core.analyze.verdicts import PROBABLE, Verdict
from whisperq_core.errors import InputError, NotComparable
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.whisper.protocols import FITTED, STUDY

MARGIN, SIMULATIONS = 0.5, 150
BASE = run_with("fp32", SOME)


@pytest.fixture(scope="module")
def shipped() -> list[AccuracyRun]:
    """Base's results on the two large sets."""
    runs = (run for run in Store(SHIPPED_CACHE).runs() if isinstance(run, AccuracyRun))
    return [run for run in runs if run.model == "base" and run.eval_set.endswith("-speakers")]


def newest(runs: list[AccuracyRun], recipe: str, protocol) -> list[AccuracyRun]:
    chosen = (r for r in runs if (r.spec.recipe.name, r.spec.protocol) == (recipe, protocol))
    sets = {run.eval_set: run for run in chosen}
    return [sets[name] for name in sorted(sets)]


@pytest.mark.parametrize(
    ("recipe", "protocol", "outcome"),
    [
        ("quanto-int8", STUDY, Outcome.PASS),
        ("whole-int8-dynamic-bf16", FITTED, Outcome.PASS),
        ("torch-int8", STUDY, Outcome.FAIL),
        ("torch-int8", FITTED, Outcome.FAIL),
        ("hqq-int4-g64", FITTED, Outcome.OPEN),
        ("quanto-int8", FITTED, Outcome.OPEN),
    ],
)
def test_what_base_does_on_the_shipped_speech(shipped, recipe, protocol, outcome):
    runs = newest(shipped, recipe, protocol)
    result = gate(newest(shipped, "fp32", STUDY), runs, MARGIN)
    assert result.outcome is outcome
    assert result.pooled.comparison.family == 1
    assert f"{recipe} ({protocol.label}) of base against fp32 (Study protocol)" in result.paragraph
    assert "38 minutes by 59 speakers (test-other-25-speakers" in result.paragraph
    assert ("apart from rare loops" in result.paragraph) == (outcome is Outcome.PASS)


def test_three_outcomes_in_words():
    noisy, worse = (gate([BASE], [run_with("bf16", wrong)], 1.0) for wrong in (NOISY, MANY))
    assert (noisy.outcome, worse.outcome) == (Outcome.OPEN, Outcome.FAIL)
    assert "is too close to call. WER" in noisy.paragraph
    assert "of test audio are needed for a conclusion." in noisy.paragraph
    assert "the loss is probably above 1 points of WER (99 % confidence). WER" in worse.paragraph
    assert gate([BASE], [run_with("bf16", ALIKE)], 99).outcome is Outcome.PASS


def test_two_speakers_are_too_few():
    base, other = (accuracy_run(r, [("a b", "a b")] * 4, speakers="1122") for r in ("fp32", "bf16"))
    result = gate([base], [other], MARGIN)
    assert result.outcome is Outcome.OPEN and "too few speakers" in result.paragraph


def test_what_cannot_be_compared_is_a_sentence():
    german = in_language(
        run_with("fp32", SOME, eval_set="german", ids=list("abcdefghijklmnopqrst")), "de"
    )
    with pytest.raises(NotComparable, match="several languages"):
        gate([BASE, german], [BASE, german])
    with pytest.raises(NotComparable, match="same speech"):
        gate([BASE], [german])
    with pytest.raises(InputError, match="margin"):
        gate([BASE], [BASE], -1)
    empty = accuracy_run("fp32", [("", "")] * 3)
    with pytest.raises(NotComparable, match="no words"):
        gate([empty], [empty])


def test_a_loss_within_the_margin_does_not_fail_though_it_is_shown():
    """One word in twenty more for every speaker, where ten are allowed."""
    held = gate([BASE], [run_with("bf16", [count + 1 for count in SOME])], 10)
    assert held.pooled.comparison.verdict is Verdict.WORSE
    assert held.outcome is Outcome.PASS
    lost = gate([BASE], [run_with("bf16", [count + 1 for count in SOME])], 1)
    assert lost.outcome is Outcome.FAIL


def test_the_confidence_of_a_failure_is_the_users():
    runs = [BASE], [run_with("bf16", NOISY)]
    above = gate(*runs, 0.1).pooled.comparison.p_beyond_margin
    assert 0.5 < above < 0.99
    assert gate(*runs, 0.1, confidence=above - 0.01).outcome is Outcome.FAIL
    assert gate(*runs, 0.1, confidence=above + 0.01).outcome is Outcome.OPEN
    with pytest.raises(InputError, match="confidence"):
        gate(*runs, 0.1, confidence=1)


@pytest.fixture(scope="module")
def people():
    return population("base", SPREAD)


# docs/sharing-results.md has the figures of 2000 simulations; 150 leave 2 to 4 points of noise.
@pytest.mark.parametrize(
    ("loss", "confidence", "outcome", "low", "high"),
    [
        (1.5, PROBABLE, Outcome.FAIL, 0.95, 1.0),
        (0.0, PROBABLE, Outcome.FAIL, 0.0, 0.02),
        (MARGIN / 2, PROBABLE, Outcome.FAIL, 0.0, 0.06),
        (MARGIN, 0.9, Outcome.FAIL, 0.0, 0.13),
        (MARGIN, PROBABLE, Outcome.PASS, 0.0, 0.06),
        (0.0, PROBABLE, Outcome.PASS, 0.5, 1.0),
    ],
)
def test_losses_are_found_and_false_alarms_are_rare(people, loss, confidence, outcome, low, high):
    held = partial(gate_outcome, margin=MARGIN, confidence=confidence)
    counted = Simulation(people, SPEAKERS, held, seed=7).spread(loss, SIMULATIONS)
    shares = [counter[outcome] / SIMULATIONS for counter in counted]
    assert low <= sum(shares) / len(shares) <= high, shares
