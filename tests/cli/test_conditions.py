"""`whisperq conditions` and `wq.results().conditions()`, and a real run under a condition."""

import pytest

import whisperq_core as wq
from tests.support.sample_runs import divergence_run
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.cli.main import main
from whisperq_core.evaluate.records import AccuracyRun

NOISE = "+noise:rain@0dB"


@pytest.fixture
def measured(store):
    speakers = [str(i) for i in range(20)]
    for name, quiet, noisy in (
        ("fp32", SOME, SOME),
        ("bf16", SOME, MANY),
        ("bnb-nf4", SOME, ALIKE),
    ):
        for condition, wrong in (("", quiet), (NOISE, noisy)):
            digest = name.ljust(32, "x") + condition
            store.put(run_with(name, wrong, eval_set=f"first{condition}", eval_set_digest=digest))
    for condition, nats in (("", 0.1), (NOISE, 0.4)):
        run = divergence_run("bf16", [nats] * 20, speakers, eval_set=f"first{condition}")
        spec = run.spec.model_copy(update={"eval_set_digest": f"first{condition}"})
        store.put(run.model_copy(update={"spec": spec}))
    return store


def test_it_prints_each_change_and_the_answer(measured, capsys):
    assert main(["conditions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("base · bf16 · Study protocol · first · rain at 0 dB: 4.00 × its")
    assert lines[0].endswith("40 instead of 10 mnat per token): costs more")
    assert any("bnb-nf4" in line and "too close to call" in line for line in lines)
    assert "by divergence from fp32: 1 of 1 recipe cost more under some condition" in lines[-2]
    assert "by WER: 1 of 2 recipes cost more under some condition, 1 too close to call" in lines[-1]
    assert "The largest change: bf16, rain at 0 dB: +" in lines[-1]
    assert main(["conditions", "--model", "small"]) == 0
    assert "No recipe has been evaluated both in quiet" in capsys.readouterr().out


def test_the_table_has_both_measures(measured):
    frame = wq.results().conditions().set_index(["measure", "recipe"])
    assert frame.loc[("divergence", "bf16"), "change"] == pytest.approx(4)
    assert frame.loc[("WER", "bf16"), "verdict"] == "costs more"
    assert frame.loc[("WER", "bnb-nf4"), "low"] < 0 < frame.loc[("WER", "bnb-nf4"), "high"]


@pytest.mark.model
def test_a_set_under_a_condition_is_evaluated_like_any_other(store, capsys):
    quiet, noisy = "jfk", "jfk+noise:storm@-10dB+telephone"
    arguments = ["run", "--models", "tiny.en", "--recipes", "fp32", "--only", "accuracy"]
    assert main([*arguments, "--sets", f"{quiet},{noisy}"]) == 0
    runs = {run.eval_set: run for run in store.runs() if isinstance(run, AccuracyRun)}
    assert runs.keys() == {quiet, noisy} and runs[noisy].condition == noisy.removeprefix("jfk")
    assert runs[quiet].words.rate < runs[noisy].words.rate
    assert runs[quiet].key != runs[noisy].key
    assert runs[quiet].speech_digest != runs[noisy].speech_digest
    capsys.readouterr()
    assert main([*arguments, "--sets", "jfk+noise:rain@200dB"]) == 1
    assert "A level of 200 dB makes no sense" in capsys.readouterr().err
