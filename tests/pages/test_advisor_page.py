"""The Advisor page, run by Streamlit's own test harness."""

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.opened_pages import codes, opened
from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import MANY, NOISY, SOME, run_with
from whisperq_core.evaluate.store import Store
from whisperq_core.whisper.protocols import STUDY


@pytest.fixture
def filled(store) -> Store:
    for run in (
        run_with("fp32", SOME, weights_bytes=200_000_000),
        run_with("quanto-int8", SOME, weights_bytes=120_000_000),
        run_with("bnb-nf4", NOISY, weights_bytes=60_000_000),
        run_with("quanto-int2", MANY, weights_bytes=40_000_000),
        speed_run("fp32", [3.0, 3.1, 3.2]),
        speed_run("bnb-nf4", [2.5, 2.6], [3.0, 3.1]),
        speed_run("quanto-int8", [2.0, 2.1, 2.2], [3.0, 3.1, 3.2]),
    ):
        store.put(run)
    return store


def ask(app: AppTest, label: str, value) -> AppTest:
    widgets = (*app.selectbox, *app.number_input, *app.multiselect)
    next(w for w in widgets if w.label == label).set_value(value)
    app.run()
    assert not app.exception
    return app


def text(app: AppTest) -> str:
    parts = (*app.success, *app.warning, *app.info, *app.markdown, *app.caption)
    return "\n".join(part.value for part in parts).replace("\\", "")


def test_without_results_it_says_what_to_do(store):
    assert "Run evaluations" in opened("advisor").info[0].value


def test_the_answer_is_on_top(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    assert (
        "Use quanto-int8 on base, Study protocol.** 120 MB, 40 % smaller than fp32, 1.5 times"
        in text(app)
    )
    assert len(app.success) == 1 and not app.warning
    assert app.dataframe[0].value["Recipe"].tolist()[0] == "quanto-int8"


def test_what_is_undecided_is_never_a_plain_recommendation(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    app = ask(app, "Maximum size (MB)", 100.0)
    assert not app.success
    assert "No configuration is shown yet to meet these requirements" in app.warning[
        0
    ].value.replace("\\", "")
    assert "Closest: bnb-nf4 on base" in text(app)


def test_evidence_leads_to_the_utterances_of_the_result(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    key = next(run.key for run in filled.runs() if run.slug.startswith("base_quanto-int8_test"))
    link = f"./utterances?run={key}"
    assert any(link in part.value for part in app.markdown)
    assert app.dataframe[0].value["Per-utterance results"][0] == link


def test_the_next_measurement_and_the_code_can_be_copied(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 3.0)
    assert any(
        "--sets test-clean-34-speakers,test-other-25-speakers" in code for code in codes(app)
    )
    assert any('wq.quantize("base", "quanto-int8")' in code for code in codes(app))


def test_other_speech_and_devices_have_their_own_answers(filled):
    app = ask(opened("advisor"), "Speech", "clean")
    assert "There are no results with clean speech yet" in text(app)
    app = ask(ask(app, "Speech", "hard"), "Device", "cuda")
    assert "There are no results with" in text(app) and not app.dataframe


def test_a_recipe_can_be_exported(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    exports = [button for button in app.button if button.label == "Export model"]
    # The answer's, and that of each of three cards.
    assert len(exports) == 4 and not any(button.disabled for button in exports)


def test_the_answer_can_be_used_at_once(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    python, command = codes(app)[:2]
    assert 'wq.quantize("base", "quanto-int8")' in python and len(python.splitlines()) == 3
    assert "transcribe speech.wav --model base" in command and "quanto-int8" in command
    # Decoding as it was measured, too.
    (link,) = {
        link for link in re.findall(r"\./recordings\?[^)]*", text(app)) if "quanto-int8" in link
    }
    query = dict(parse_qsl(urlsplit(link).query))
    assert query == {"model": "base", "recipes": "quanto-int8", "protocol": STUDY.name}


def test_wer_stands_beside_that_of_fp32_on_the_same_speech(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    assert "WER 10.00 %, fp32 10.00 % on the same 3 minutes of 1 set" in text(app)
    row = app.dataframe[0].value.set_index("Recipe").loc["quanto-int8"]
    assert row["WER (%)"] == row["fp32's WER (%)"]


def test_a_lower_confidence_and_a_limit_on_memory_come_from_a_link(filled):
    app = opened("advisor", need_confidence="80", need_memory="1", need_rise="2")
    assert not app.error
    limits = "Limits: WER increase below 2 points with 80 % confidence; peak memory at most 1 MB;"
    assert f"{limits} no slower than fp32." in text(app)


@pytest.mark.parametrize(
    "query",
    [{"need_confidence": "101"}, {"need_mb": "-3"}, {"need_time": "much"}, {"need_speech": "zz"}],
)
def test_what_a_link_asks_for_in_vain_is_named(filled, query):
    app = opened("advisor", **query)
    assert "not available here" in app.warning[0].value and not app.error
    assert next(iter(query.values())) in app.warning[0].value.replace("\\", "")


def test_more_demanding_limits_have_their_price(filled):
    app = ask(opened("advisor"), "Maximum WER increase (points)", 2.0)
    prices = app.table[0].value.reset_index().to_string().replace("\\", "")
    assert "Half the size (at most 60 MB)" in prices
    assert "none is shown; closest: bnb-nf4 on base" in prices


def test_ones_own_sets_are_offered_by_name(filled):
    filled.put(run_with("fp32", SOME, eval_set="calls"))
    filled.put(run_with("quanto-int8", SOME, eval_set="calls"))
    app = ask(opened("advisor"), "Speech", "calls")
    assert "1 set" in text(app) and "calls" in app.dataframe[0].value["Evaluated on"][0]
