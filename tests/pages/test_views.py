"""The pages that show results, run by Streamlit's own test harness."""

import json
import subprocess
import sys

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.support.opened_pages import PROJECT, again, by_label, codes, everything, opened
from tests.support.sample_runs import accuracy_run, speed_run, tiny_english
from tests.support.spoken_runs import MANY, NOISY, SOME, run_with
from whisperq_core.evaluate.store import Store
from whisperq_core.present.labels import protocol_label
from whisperq_core.speech import evaluation_sets
from whisperq_core.study.claims import CLAIMS
from whisperq_core.whisper import protocols

WRONG = [("a cat sat down", "a <b>cat</b> sat up"), ("a cat sat down", "a cat sat down")]


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("WHISPERQ_CACHE", str(tmp_path))
    return Store()


@pytest.fixture
def filled(store) -> Store:
    ids = [u.id for u in evaluation_sets.shipped_sets()["test-other-excerpt"].utterances[:2]]
    for run in (
        accuracy_run("fp32", WRONG, weights_bytes=200_000_000),
        accuracy_run("torch-int8", WRONG, ids=ids),
        accuracy_run("quanto-int4", [("a cat sat down", "")], kernels="dequantized"),
        accuracy_run("hqq-int4-g64", eval_set="test-clean-excerpt"),
        tiny_english(accuracy_run("torch-int8", WRONG)),
        speed_run("fp32", [3.0, 3.1, 3.2]),
        speed_run("torch-int8", [1.0, 1.1, 1.2], [3.0, 3.1, 3.2]),
    ):
        store.put(run)
    return store


def results(app: AppTest) -> list[str]:
    return sorted(app.dataframe[0].value["recipe"]) if app.dataframe else []


def test_empty_store_says_what_to_do(store):
    app = opened("tradeoffs")
    assert "Run evaluations" in app.info[0].value
    assert not app.dataframe


def test_opens_on_base_and_the_harder_excerpt(filled):
    app = opened("tradeoffs")
    assert results(app) == ["fp32", "quanto-int4", "torch-int8"]
    assert by_label(app.multiselect, "Model").value == ["base"]
    assert by_label(app.selectbox, "Evaluation set").value == "test-other-excerpt"
    assert "3 results" in everything(app)


def test_summary_stands_beside_the_numbers(filled):
    text = everything(opened("tradeoffs"))
    for fact in ("excerpt", "2 threads", "A CPU", "Study protocol", "fixed 30 s window", "cpu"):
        assert fact in text
    assert "1 not drawn" in text


def test_models_can_be_added_and_taken_away(filled):
    app = opened("tradeoffs")
    by_label(app.multiselect, "Model").set_value(["base", "tiny.en"])
    assert results(again(app)) == ["fp32", "quanto-int4", "torch-int8", "torch-int8"]
    by_label(app.multiselect, "Model").set_value(["tiny.en"])
    assert results(again(app)) == ["torch-int8"]


def test_sets_are_shown_one_at_a_time(filled):
    app = opened("tradeoffs")
    by_label(app.selectbox, "Evaluation set").set_value("test-clean-excerpt")
    assert results(again(app)) == ["hqq-int4-g64"]


@pytest.mark.parametrize(
    "axis, value, left",
    [
        ("Library", "torch", ["torch-int8"]),
        ("Bits", 4, ["quanto-int4"]),
        ("Scheme", "weight-only", ["quanto-int4"]),
        ("Granularity", "tensor", ["torch-int8"]),
        ("Activations", "float", ["fp32", "quanto-int4"]),
        ("Group size", 128, ["quanto-int4"]),
    ],
)
def test_design_axes_filter(filled, axis, value, left):
    app = opened("tradeoffs")
    by_label(app.multiselect, axis).set_value([value])
    assert results(again(app)) == left


def test_filters_that_leave_nothing_say_so(filled):
    app = opened("tradeoffs")
    by_label(app.multiselect, "Library").set_value(["hqq"])
    assert "Clear one of them" in again(app).info[0].value


def test_axes_can_be_chosen(filled):
    app = opened("tradeoffs")
    by_label(app.selectbox, "X axis").set_value("weights_bytes")
    by_label(app.selectbox, "Y axis").set_value("cer_pct")
    assert "not drawn" not in everything(again(app))


@pytest.fixture
def compared(store) -> Store:
    for run in (
        run_with("fp32", SOME, weights_bytes=200_000_000),
        run_with("bnb-nf4", NOISY, weights_bytes=60_000_000),
        run_with("quanto-int2", MANY, weights_bytes=200_000_000),
    ):
        store.put(run)
    return store


def verdicts(app: AppTest) -> dict[str, str]:
    frame = app.dataframe[0].value
    return dict(zip(frame["recipe"], frame["verdict"], strict=True))


@pytest.mark.parametrize("page", ["overview", "tradeoffs", "utterances"])
def test_a_new_process_uses_the_comparisons_that_an_earlier_one_stored(compared, page, new_process):
    first = opened(page)
    assert not first.exception
    new_process(may_resample=False)
    st.cache_resource.clear()
    assert everything(opened(page)) == everything(first)


def test_every_result_has_its_interval_and_verdict(compared):
    app = opened("tradeoffs")
    assert verdicts(app) == {
        "fp32": "baseline",
        "bnb-nf4": "too close to call",
        "quanto-int2": "worse",
    }
    text = everything(app).replace("\\", "")
    assert "95 % intervals over 20 speakers, simultaneous for all recipes" in text
    assert (
        "corrected for multiple comparisons (all recipes measured on this evaluation set)"
    ) in text


def test_the_baseline_and_the_margin_can_be_chosen(compared):
    app = opened("tradeoffs")
    assert by_label(app.selectbox, "Baseline").value == "fp32"
    by_label(app.selectbox, "Baseline").set_value("quanto-int2")
    assert verdicts(again(app))["fp32"] == "better"
    by_label(app.selectbox, "Baseline").set_value("fp32")
    by_label(app.number_input, "Margin (points of WER)").set_value(20.0)
    assert verdicts(again(app))["bnb-nf4"] == "no worse than fp32 (95 %)"


def test_a_filter_of_the_design_leaves_the_baseline(compared):
    app = opened("tradeoffs")
    by_label(app.multiselect, "Library").set_value(["quanto"])
    assert verdicts(again(app)) == {"quanto-int2": "worse"}


def chart(app: AppTest) -> dict:
    return json.loads(app.get("plotly_chart")[0].proto.spec)


def test_the_chart_shows_differences_with_bars_of_the_front_only(compared):
    app = opened("tradeoffs")
    by_label(app.selectbox, "X axis").set_value("weights_bytes")
    figure = chart(again(app))
    assert figure["layout"]["yaxis"]["title"]["text"] == "WER difference (points)"
    assert "simultaneous for all recipes" in everything(app)
    frame = app.dataframe[0].value.set_index("recipe")
    assert frame["difference_points"]["fp32"] == 0
    by_label(app.toggle, "Show intervals").set_value(True)
    assert "Error bars: of the Pareto front" not in everything(again(app))
    by_label(app.selectbox, "Y axis").set_value("wer_pct")
    assert chart(again(app))["layout"]["yaxis"]["title"]["text"] == "WER (%)"


def test_the_set_that_opens_is_the_largest_that_most_recipes_share(compared):
    for recipe in ("fp32", "bnb-nf4"):
        compared.put(run_with(recipe, SOME * 3, eval_set="test-other-25-speakers"))
    chosen = by_label(opened("tradeoffs").selectbox, "Evaluation set")
    assert chosen.value == "test-other-25-speakers"
    for recipe in ("bf16", "quanto-int8", "hqq-int8-g64"):
        compared.put(run_with(recipe, SOME))
    chosen = by_label(opened("tradeoffs").selectbox, "Evaluation set")
    assert chosen.value == "test-other-excerpt"


def test_the_front_is_in_words(compared):
    app = opened("tradeoffs")
    by_label(app.selectbox, "X axis").set_value("weights_bytes")
    frame = again(app).dataframe[0].value.set_index("recipe")["front"]
    assert frame["quanto-int2"] == "dominated by fp32"
    assert not frame["bnb-nf4"].startswith("dominated")


def test_a_link_opens_a_result_of_any_set(filled):
    key = next(r.key for r in filled.runs() if r.eval_set == "test-clean-excerpt")
    app = opened("tradeoffs", model="base", set="test-clean-excerpt", run=key)
    assert not app.warning
    assert results(app) == ["hqq-int4-g64"]
    assert by_label(app.selectbox, "Result").value == key
    by_label(app.selectbox, "Evaluation set").set_value("test-other-excerpt")
    assert results(again(app)) == ["fp32", "quanto-int4", "torch-int8"]


def test_a_chosen_result_is_compared_in_full(compared):
    app = opened("tradeoffs")
    key = next(r.key for r in compared.runs() if "quanto-int2" in r.slug)
    by_label(app.selectbox, "Result").set_value(key)
    text = everything(again(app)).replace("\\", "")
    assert "Significantly higher WER than fp32" in text
    assert "MAPSSWE" not in text
    assert "Agreement with fp32: WER equal or lower in 0 % of utterances" in text
    assert "0 of 20 transcripts identical" in text


def test_loops_are_counted_and_set_aside(store):
    store.put(accuracy_run("fp32", [("a cat", "a cat"), ("a dog sat", "no " * 60)]))
    app = opened("tradeoffs")
    by_label(app.selectbox, "Result").set_value(store.runs()[0].key)
    assert "WER without 1 looping transcript: 0.00" in everything(again(app)).replace("\\", "")


def test_unknown_speakers_are_said(filled):
    assert "utterances are resampled: intervals are too narrow" in everything(opened("tradeoffs"))


def test_protocols_are_shown_one_at_a_time(compared):
    compared.put(run_with("bf16", SOME, protocol=protocols.CORRECTED))
    app = opened("tradeoffs")
    assert "bf16" not in results(app)
    assert "Protocol: Study protocol (greedy" in everything(app).replace("\\", "")
    by_label(app.selectbox, "Protocol").set_value("corrected")
    app = again(app)
    assert results(app) == ["bf16"]
    assert "Protocol: Corrected (Whisper's own fallback) (greedy, temp" in everything(app).replace(
        "\\", ""
    )


def test_a_chosen_result_shows_its_utterances(filled):
    app = opened("tradeoffs")
    key = next(r.key for r in filled.runs() if r.slug.startswith("base_torch-int8_test"))
    by_label(app.selectbox, "Result").set_value(key)
    text = everything(again(app))
    assert "1 of 2 utterances have errors" in text
    assert "→down" in text
    assert "<b>cat" not in text
    assert key in text
    assert "proj_out" in text
    assert len(app.get("audio")) == 2
    assert "the other utterances of a batch change a transcript" in text
    assert (
        "--recipes fp32,torch-int8 --sets test-other-excerpt --protocol study --batch-size 1"
        in text
    )


def test_audio_is_left_out_where_it_is_not_at_hand(filled):
    app = opened("tradeoffs")
    key = next(r.key for r in filled.runs() if "quanto-int4" in r.slug)
    by_label(app.selectbox, "Result").set_value(key)
    text = everything(again(app))
    assert not app.get("audio")
    assert "dequantized weights" in text and "of a batch change" not in text


def test_a_result_that_a_filter_hides_is_let_go(filled):
    app = opened("tradeoffs")
    key = next(r.key for r in filled.runs() if "quanto-int4" in r.slug)
    by_label(app.selectbox, "Result").set_value(key)
    again(app)
    by_label(app.multiselect, "Library").set_value(["torch"])
    again(app)
    assert by_label(app.selectbox, "Result").value is None


def test_damaged_files_are_named_and_the_rest_is_shown(filled):
    (filled.results / "base_broken_0123456789abcdef.json").write_text('{"schema_version": 1')
    app = opened("tradeoffs")
    assert len(app.warning) == 1
    assert r"base\_broken\_0123456789abcdef\.json" in app.warning[0].value
    assert len(results(app)) == 3


def test_new_results_appear(filled):
    app = opened("tradeoffs")
    filled.put(accuracy_run("bnb-nf4", WRONG))
    assert "bnb-nf4" in results(again(app))


def test_download_holds_every_column(filled):
    app = opened("tradeoffs")
    assert [button.label for button in app.get("download_button")] == ["CSV"]


def study_tables(app: AppTest) -> list:
    """The five tables of Tables 2 to 4; those of opened claims come before them."""
    return [table.value for table in app.table[-5:]]


def test_study_without_results_shows_the_published_tables(store):
    app = opened("study")
    assert [header.value for header in app.header] == [
        "Claims and verdicts",
        "Tables and figure",
        "Table 2: whisper-small",
        "Table 3: whisper-base and whisper-tiny",
        "Figure 1: robustness gap",
        "Table 4: recommendations",
    ]
    assert "--models small" in codes(app)[0]
    first = study_tables(app)[0].to_string()
    assert "11.88" in first
    assert "not measured here" in first


def test_study_shows_measured_rows_with_interval_and_key(filled):
    app = opened("study")
    base = study_tables(app)[2]
    assert base["Source"].tolist()[:2] == ["Study, base", "Here, base"]
    assert base["Evaluated on"].tolist()[:2] == ["full sets", "test-other-excerpt (2), CPU"]
    fp32 = next(r for r in filled.runs() if r.spec.recipe.name == "fp32")
    assert base["Results"][0] == "–"
    assert fp32.key[:6] in base["Results"][1].split()
    assert base["WER other"].tolist()[:2] == ["12.87", "12.50 (no\u00a0interval)"]
    assert "tiny.en is not the study's model" in everything(app)
    assert "on parts of them, which each row names" in app.info[0].value


def test_study_with_small_measured_needs_no_command(filled):
    filled.put(accuracy_run("fp32", WRONG, model="small", weights_digest="ff" * 32))
    assert not codes(opened("study"))


def test_study_names_a_protocol_other_than_the_published_one(filled):
    assert not opened("study").warning
    for protocol in (protocols.CORRECTED, protocols.FITTED):
        app = opened("study", protocol=protocol.name)
        assert f"the {protocol_label(protocol.name)} protocol" in app.warning[0].value


def test_study_counts_verdicts_and_opens_a_claim_down_to_its_utterances(store):
    ids = [u.id for u in evaluation_sets.shipped_sets()["test-other-excerpt"].utterances[:2]]
    store.put(accuracy_run("fp32", [("a cat sat down",) * 2] * 2, ids=ids))
    store.put(accuracy_run("torch-int8", WRONG, ids=ids))
    app = opened("study")
    assert f"{len(CLAIMS)} claims" in everything(app)
    assert not [b for b in app.selectbox if b.label == "Per-utterance results"]
    app.session_state["claim-fastest-costs-wer"] = True
    again(app)
    statement = app.table[0].value["Statement"][0].replace("\\", "")
    assert statement == "torch-int8 has a higher WER than fp32 on test-other"
    choice = by_label(app.selectbox, "Per-utterance results")
    choice.set_value(choice.options[0])
    text = everything(again(app))
    assert "The number of errors differs in 1 of 2 utterances" in text
    assert ids[0] in text.replace("\\", "")
    app.session_state["open-statements"] = True
    again(app)
    tables = [t.value for t in app.table if "Open statement" in t.value]
    assert statement in tables[0]["Open statement"].str.replace("\\", "").tolist()
    assert any("fp32,torch-int8 --sets test-other-25-speakers" in code for code in codes(app))


def test_app_opens_on_the_overview(filled):
    app = opened("app")
    assert app.title[0].value == "Which Whisper should I run here?"


def test_no_torch_in_the_app_process():
    code = (
        "import sys; from whisperq_core.present import tradeoff_chart, markup;"
        "from whisperq_core.speech import evaluation_sets;"
        "from whisperq_core.study import published;"
        "from whisperq_core.evaluate import store; from whisperq_core.analyze import results_table;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0
