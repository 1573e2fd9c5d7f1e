"""The Report page, run by Streamlit's own test harness."""

import re

import pytest

from tests.support.opened_pages import PROJECT, again, by_label, everything, opened
from tests.support.sample_runs import accuracy_run, renamed, speed_run, tiny_english
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.evaluate.store import Store
from whisperq_core.whisper.protocols import FITTED


@pytest.fixture
def filled(store) -> Store:
    for run in (
        run_with("fp32", SOME * 4),
        run_with("bf16", SOME * 4),
        run_with("torch-int8", MANY * 4),
        speed_run("bf16", [1.0, 1.1, 1.2], [2.0, 2.2, 2.4]),
        accuracy_run("hqq-int4-g64", eval_set="test-clean-excerpt"),
        tiny_english(run_with("fp32", SOME)),
    ):
        store.put(run)
    return store


def test_empty_store_says_what_to_do(store):
    app = opened("report")
    assert "Run evaluations" in app.info[0].value
    assert not app.get("download_button")


def test_opens_with_an_answer_and_three_files(filled):
    app = opened("report")
    assert by_label(app.multiselect, "Model").value == ["base"]
    assert by_label(app.multiselect, "Evaluation set").value == ["test-other-excerpt"]
    assert by_label(app.multiselect, "Recipes").options == ["fp32", "bf16", "torch-int8"]
    assert [b.label for b in app.get("download_button")] == [
        "Download HTML",
        "Download CSV",
        "Download JSON",
    ]
    text = everything(app)
    assert "no worse than fp32 (margin: 0" in text.replace("\\", "")
    assert "bf16 – 100 MB" in text.replace("\\", "")
    assert len(app.get("plotly_chart")) == 1


def test_recipes_and_margin_can_be_chosen(filled):
    app = opened("report")
    by_label(app.multiselect, "Recipes").set_value(["torch-int8"])
    by_label(app.number_input, "Margin (points)").set_value(2.0)
    text = everything(again(app)).replace("\\", "")
    assert "The one configuration compared is not shown to be no worse than fp32" in text
    # The answer is from all results, whatever is listed.
    assert app.header[0].value == "Use bf16 on base, Study protocol"


def test_another_baseline_can_be_chosen(filled):
    app = opened("report")
    by_label(app.selectbox, "Baseline").set_value("bf16")
    assert "no worse than bf16" in everything(again(app)).replace("\\", "")


def test_no_model_and_no_set_are_all(filled):
    app = opened("report")
    by_label(app.multiselect, "Model").set_value([])
    by_label(app.multiselect, "Evaluation set").set_value([])
    assert [header.value for header in again(app).header] == [
        "Use bf16 on base, Study protocol",
        "Each evaluation set by itself",
    ]
    assert len(app.subheader) == 3


def test_protocols_are_one_at_a_time(filled):
    assert not [box for box in opened("report").selectbox if box.label == "Protocol"]
    filled.put(run_with("fp32", SOME, protocol=renamed("corrected"), minutes=5, threads=1))
    app = opened("report")
    box = by_label(app.selectbox, "Protocol")
    assert box.value == "as in the study"
    assert box.options == ["Study protocol", "Corrected (Whisper's own fallback)"]
    box.set_value("corrected")
    assert "Corrected" in everything(again(app))


def test_it_first_lists_what_the_answer_was_measured_on(store):
    on = {"eval_set": "test-clean-excerpt"}
    for run in (
        run_with("fp32", SOME * 4, **on),
        run_with("fp32", SOME * 4, protocol=FITTED, minutes=5, **on),
        run_with("bf16", SOME * 4, protocol=FITTED, **on),
        speed_run("fp32", [2.0, 2.2]),
        speed_run("bf16", [0.5, 0.5], [1.0, 1.0], protocol=FITTED),
    ):
        store.put(run)
    app = opened("report")
    assert app.header[0].value == "Use bf16 on base, Fitted window"
    assert by_label(app.multiselect, "Evaluation set").value == ["test-clean-excerpt"]
    assert by_label(app.selectbox, "Protocol").value == FITTED.name
    assert "bf16" in by_label(app.multiselect, "Recipes").options


def test_a_link_opens_its_selection(filled):
    app = opened("report", report_model="tiny.en", report_margin="1.5")
    assert by_label(app.multiselect, "Model").value == ["tiny.en"]
    assert by_label(app.number_input, "Margin (points)").value == 1.5


def test_the_full_report_can_be_previewed(filled):
    app = opened("report")
    by_label(app.toggle, "Preview the full report").set_value(True)
    again(app)
    assert len(app.get("iframe")) == 1
    assert not app.get("plotly_chart")


def test_the_report_is_in_the_navigation():
    text = (PROJECT / "app.py").read_text()
    assert re.search(r'"pages/report.py", title="Report", icon=":material/description:"', text)
