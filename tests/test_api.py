"""The public API: what it offers, that it costs nothing to import, and that it does what it says.

tests/test_docs.py runs the documentation's examples of it on real weights.
"""

import subprocess
import sys

import pandas as pd
import pytest

import whisperq_core as wq
from tests.support.sample_runs import accuracy_run, speed_run
from whisperq_core.errors import EvalSetError, InputError, ModelError, NotComparable, RecipeError
from whisperq_core.settings import PROJECT

TEXT = "a cat sat down by our door"


def test_everything_that_is_listed_is_there_and_explained():
    for name in wq.__all__:
        assert callable(getattr(wq, name)) and getattr(wq, name).__doc__, name
    assert dir(wq) == sorted(wq.__all__)
    assert not hasattr(wq, "transcribe")


def test_importing_it_loads_nothing():
    code = (
        "import sys; import whisperq_core as wq;"
        "assert not {'torch', 'pandas', 'pydantic', 'numpy'} & set(sys.modules);"
        "wq.recipes(); assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_a_verb_is_the_function_and_the_package_of_its_code():
    from whisperq_core.quantize import recipes

    assert wq.quantize.recipes is recipes and wq.evaluate is sys.modules["whisperq_core.evaluate"]
    with pytest.raises(RecipeError, match="no recipe named"):
        wq.quantize("tiny.en", "int5")


def test_wrong_names_are_sentences_before_anything_runs(store):
    with pytest.raises(ModelError):
        wq.quantize("gigantic", "fp32")
    with pytest.raises(EvalSetError):
        wq.evaluate("tiny.en", ["fp32"], "no-such-set")
    with pytest.raises(RecipeError):
        wq.evaluate("tiny.en", ["int5"])
    with pytest.raises(RecipeError, match="16, 32, 64, 128"):
        wq.quantize("tiny.en", "hqq-int4-g96")
    with pytest.raises(InputError, match="at least one recipe"):
        wq.evaluate("tiny.en", [])
    with pytest.raises(InputError, match="not -1"):
        wq.evaluate("tiny.en", ["fp32"], threads=-1)
    with pytest.raises(ModelError, match="gigantic"):
        wq.advise(models=["gigantic"])


@pytest.fixture
def results() -> wq.Results:
    fine, bad = [(TEXT, TEXT)] * 12, [(TEXT, "a dog stood up by the door")] * 12
    speakers = "aabbccddeeff"
    return wq.Results(
        [
            accuracy_run("fp32", fine, speakers=speakers),
            accuracy_run("hqq-int3-g64", bad, speakers=speakers),
            accuracy_run("bf16", fine, model="tiny.en", speakers=speakers),
            speed_run("fp32", [1.0, 1.1, 1.2]),
        ]
    )


def test_results_are_filtered(results):
    assert len(results) == 4 and len(results.filter(model="tiny.en")) == 1
    assert {run.spec.recipe.name for run in results.filter(recipe="fp32")} == {"fp32"}
    assert len(results.filter(protocol="fitted")) == 0
    assert len(results.filter(eval_set="nowhere")) == 1  # the timing, which is of no set


def test_results_become_a_frame(results):
    frame = results.to_frame()
    assert isinstance(frame, pd.DataFrame) and len(frame) == 3
    assert frame.set_index(["model", "recipe"])["wer_pct"]["base", "fp32"] == 0


def test_results_are_compared(results):
    (line,) = results.filter(model="base").compare("fp32", margin=0.5).to_dict("records")
    assert (line["model"], line["recipe"], line["verdict"]) == ("base", "hqq-int3-g64", "worse")
    assert line["low"] <= line["difference"] <= line["high"] and line["low"] > 0
    with pytest.raises(NotComparable, match="bnb-nf4"):
        results.compare("bnb-nf4")


@pytest.mark.model
def test_an_evaluation_is_stored_and_reused(store):
    steps = []
    results = wq.evaluate(
        "tiny.en", ["fp32"], "jfk", progress=lambda label, done, total: steps.append((done, total))
    )
    assert results.to_frame()["wer_pct"].tolist() == [0.0] and steps == [(1, 1)]
    assert [run.key for run in wq.results()] == [run.key for run in results]
    assert wq.evaluate("tiny.en", ["fp32"], "jfk").to_frame().equals(results.to_frame())


def test_advice_is_text_and_data(store):
    advice = wq.advise(max_mb=200)
    assert "There are no results" in str(advice)
    assert advice.configuration is None and advice.advice.candidates == ()
