"""The pages Utterances and Compare runs, by Streamlit's own test harness."""

import pytest

from tests.support.opened_pages import again, by_label, everything, opened
from tests.support.sample_runs import accuracy_run
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.evaluate.store import Store
from whisperq_core.speech import evaluation_sets

IDS = [u.id for u in evaluation_sets.shipped_sets()["test-other-excerpt"].utterances[:3]]
FP32 = accuracy_run(
    "fp32",
    [("a cat sat", "a hat sat"), ("the dog", "the dog"), ("we ran", "we")],
    ids=IDS,
    speakers=["1", "2", "2"],
)
INT8 = accuracy_run(
    "torch-int8",
    [("a cat sat", "a hat sat"), ("the dog", "a <i>dog</i> so"), ("we ran", "we ran")],
    ids=IDS,
    speakers=["1", "2", "2"],
)


@pytest.fixture
def filled(store) -> Store:
    for run in (FP32, INT8, run_with("bf16", SOME, eval_set="test-clean-excerpt")):
        store.put(run)
    return store


def shown(app) -> list[str]:
    """Ids of the utterances on the page, in its order."""
    starts = (m.value.split("**")[1].replace("\\", "") for m in app.markdown if "**" in m.value)
    return [start for start in starts if start in IDS]


def test_utterances_are_worst_first_and_filtered(filled):
    app = opened("utterances", run=INT8.key)
    assert shown(app) == [IDS[1], IDS[0], IDS[2]]
    by_label(app.multiselect, "Error types").set_value(["exact"])
    assert shown(again(app)) == [IDS[2]]
    by_label(app.multiselect, "Error types").set_value([])
    by_label(app.multiselect, "Speaker").set_value(["2"])
    assert shown(again(app)) == [IDS[1], IDS[2]]
    box = by_label(app.selectbox, "Error (hypothesis → reference)")
    box.set_value("hat → cat")
    assert "No utterance matches" in again(app).info[0].value


def test_the_most_frequent_errors_are_listed(filled):
    app = opened("utterances", run=INT8.key, confusion="hat → cat")
    assert shown(app) == [IDS[0]]
    table = app.dataframe[0].value
    assert list(table.columns) == ["Hypothesis", "Reference", "Type", "Count"]
    assert "hat" in set(table["Hypothesis"]) and set(table["Count"]) == {1}
    assert set(table["Type"]) == {"substitution", "insertion"}


def test_transcripts_by_other_recipes_are_drawn_when_opened(filled):
    app = opened("utterances", run=INT8.key)
    assert "**fp32**" not in everything(app)
    app.session_state[f"others-{INT8.key}-{IDS[1]}"] = True
    assert "**fp32**: 0 errors" in everything(again(app))


def test_two_runs_differ_by_utterance_speaker_and_word(filled):
    app = opened("compare", first=FP32.key, second=INT8.key)
    text = everything(app).replace("\\", "")
    assert "WER 28.57 %" in text and "WER 42.86 %" in text and "+14.29 points" in text
    assert "more errors in 1 utterance (+2) and fewer in 1 (−1)" in text
    assert "200 % of the difference, partly offset by others" in text
    assert shown(app) == [IDS[1], IDS[2]]
    assert len(app.get("audio")) == 2 and "<i>" not in text
    assert len(app.dataframe[0].value) == 3
    by_label(app.selectbox, "Utterance").set_value(IDS[2])
    assert shown(again(app)) == [IDS[2]]
    by_label(app.get("button_group"), "Group by").set_value("speaker")
    assert "in 1 speaker (+1)" in everything(again(app))


def test_baseline_and_compared_result_can_be_swapped(filled):
    app = opened("compare", first=FP32.key, second=INT8.key)
    by_label(app.button, "Swap").click()
    assert "−14.29 points" in everything(again(app))
    assert app.query_params["first"] in (INT8.key, [INT8.key])


def test_runs_of_other_speech_are_not_compared(filled):
    other = next(run for run in filled.runs() if run.spec.recipe.name == "bf16")
    app = opened("compare", first=FP32.key, second=other.key)
    assert "are not results of the same utterances" in app.warning[0].value
    assert not app.get("plotly_chart")


def test_it_opens_with_an_example_until_that_is_cleared(filled):
    app = opened("compare")
    chosen = [box.value for box in app.selectbox[:2]]
    assert chosen == [FP32.key, INT8.key] and "+14.29 points" in everything(app)
    by_label(app.selectbox, "Compared result").set_value(None)
    assert "Choose two results" in again(app).info[0].value


def test_nothing_chosen_says_what_to_do(store):
    store.put(FP32)
    assert "Choose two results" in opened("compare").info[0].value


def test_utterances_open_with_what_is_recommended_until_that_is_cleared(filled):
    app = opened("utterances")
    assert by_label(app.selectbox, "Result").value == INT8.key
    by_label(app.selectbox, "Result").set_value(None)
    assert "Choose a result" in again(app).info[0].value


@pytest.mark.parametrize("page", ["compare", "utterances"])
def test_an_empty_store_says_what_to_do(store, page):
    assert "Run evaluations" in opened(page).info[0].value


def test_a_run_compared_with_itself_has_no_difference(store):
    store.put(run_with("fp32", MANY))
    key = store.runs()[0].key
    app = opened("compare", first=key, second=key)
    assert "the same number of errors in every utterance" in app.info[0].value
    assert app.info[1].value == "Both results have the same word errors."
