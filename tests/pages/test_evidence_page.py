"""The page of all evidence, run by Streamlit's own test harness on the shipped results."""

from tests.support.made_runs import accuracy_run, speed_run
from tests.support.opened_pages import by_label, changed, opened

SPEAKERS = [str(i // 4) for i in range(120)]
WORDS = "a b c d e f g h i j"


def run(name: str, wrong: int, **how):
    texts = [(WORDS, WORDS.replace("j", "x") if i < wrong else WORDS) for i in range(120)]
    return accuracy_run(name, texts, speakers=SPEAKERS, **how)


def fill(store) -> None:
    store.put(run("fp32", 60, weights_bytes=290_000_000))
    store.put(run("whole-int8-dynamic", 60, weights_bytes=75_000_000))
    store.put(run("hqq-int2-g64", 120, weights_bytes=46_000_000))
    store.put(speed_run("fp32", [2.0, 2.0]))
    store.put(speed_run("whole-int8-dynamic", [1.0, 1.0], [2.0, 2.0]))


def test_it_names_the_smallest_configuration_that_is_accurate_enough(store):
    fill(store)
    app = opened("evidence")
    (sentence,) = [m.value for m in app.markdown if "75 MB" in m.value]
    assert "2 times as fast" in sentence and "20 minutes" in sentence
    assert "dynamic on base, Study protocol" in app.header[0].value.replace("\\", "")
    shown = ["hqq-int2-g64", "whole-int8-dynamic", "fp32"]
    assert list(app.dataframe[0].value["Recipe"]) == shown
    app = changed(by_label(app.number_input, "Margin"), 5.0)
    app = changed(by_label(app.selectbox, "Confidence"), 99)
    assert not app.exception


def test_without_a_configuration_it_says_so(store):
    store.put(run("fp32", 60))
    store.put(run("hqq-int2-g64", 120))
    store.put(speed_run("fp32", [2.0, 2.0]))
    app = opened("evidence")
    assert "Keep base in fp32" in app.header[0].value
    assert any("No quantized configuration is shown" in m.value for m in app.markdown)


def test_without_results_it_says_what_to_do(store):
    app = opened("evidence")
    assert "Open Run evaluations" in app.info[0].value and not app.exception
