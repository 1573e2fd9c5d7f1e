"""The page of divergence, run by Streamlit's own test harness."""

import pytest

from tests.support.opened_pages import by_label, changed, codes, opened
from tests.support.sample_runs import accuracy_run, divergence_run

SPEAKERS = [str(i // 3) for i in range(24)]
RECIPES = ("bf16", "hqq-int8-g64", "quanto-int8", "bnb-nf4", "torch-int8", "hqq-int4-g64")


@pytest.fixture
def measured(store):
    """fp32 and six recipes; every second step of divergence is a word."""
    words = ["a b c d"] * 24
    fp32 = accuracy_run("fp32", list(zip(words, words, strict=True)), speakers=SPEAKERS)
    store.put(fp32)
    for i, name in enumerate(RECIPES):
        texts = [(text, "a b c x" if n < 2 * i else text) for n, text in enumerate(words)]
        store.put(accuracy_run(name, texts, speakers=SPEAKERS, minutes=i))
        divergence = divergence_run(name, [0.01 * (i + 1)] * 24, SPEAKERS, minutes=i)
        store.put(divergence.model_copy(update={"baseline_key": fp32.key}))
    return store


def test_it_says_below_which_divergence_a_loss_is_unlikely(measured):
    app = opened("divergence")
    (sentence,) = [m.value for m in app.markdown if "is unlikely" in m.value]
    assert "more than 0.5 points" in sentence and "fitted to 6 recipes" in sentence
    before = float(sentence.split("Below ")[1].split(" ")[0])
    app = changed(by_label(app.number_input, "Margin"), 3.0)
    (sentence,) = [m.value for m in app.markdown if "is unlikely" in m.value]
    assert float(sentence.split("Below ")[1].split(" ")[0]) == pytest.approx(6 * before, abs=3)


def test_the_table_holds_every_recipe_against_the_others(measured):
    table = opened("divergence").dataframe[0].value
    assert list(table["Recipe"]) == list(RECIPES)
    assert table["Divergence (mnat per token)"].tolist() == pytest.approx([1, 2, 3, 4, 5, 6])
    assert table["WER difference (points)"].iloc[1] == pytest.approx(100 * 2 / 96)
    assert (table["Predicted, low"] < table["Predicted, high"]).all()


def test_with_too_few_recipes_it_says_how_to_measure_more(store):
    app = opened("divergence")
    assert "0 divergence results so far" in app.info[0].value
    assert "--only divergence" in codes(app)[0] and not app.exception


@pytest.mark.parametrize("value", ["nope", "<script>alert(1)</script>", "-1e400", "x" * 10_000])
def test_what_a_link_asks_for_in_vain_is_named(measured, value):
    app = opened("divergence", divergence_set=value, divergence_margin=value)
    said = " ".join(warning.value for warning in app.warning)
    assert "shown instead" in said and "<script>" not in said and not app.exception
