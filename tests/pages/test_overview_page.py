"""The page that opens first, run by Streamlit's own test harness."""

from urllib.parse import parse_qs, urlsplit

from tests.support.opened_pages import by_label, changed, codes, everything, opened
from tests.support.sample_runs import accuracy_run, speed_run

SPEAKERS = [str(i // 4) for i in range(120)]
WORDS = "a b c d e f g h i j"


def run(name: str, wrong: int, **how):
    texts = [(WORDS, WORDS.replace("j", "x") if i < wrong else WORDS) for i in range(120)]
    return accuracy_run(name, texts, speakers=SPEAKERS, **how)


def fill(store) -> None:
    store.put(run("fp32", 60, weights_bytes=290_000_000))
    store.put(run("whole-int8-dynamic", 60, weights_bytes=75_000_000))
    store.put(run("torch-int8", 62, weights_bytes=185_000_000))
    store.put(run("hqq-int2-g64", 120, weights_bytes=46_000_000))
    store.put(speed_run("fp32", [2.0, 2.0]))
    store.put(speed_run("whole-int8-dynamic", [1.0, 1.0], [2.0, 2.0]))


def links(app) -> list[str]:
    """Addresses of all links on the page."""
    text = "\n".join(element.value for element in (*app.markdown, *app.caption))
    return [part.partition(")")[0] for part in text.split("](")[1:]]


def test_it_says_what_to_use_and_how_sure_that_is(store):
    fill(store)
    app = opened("overview")
    assert "dynamic on base, Study protocol" in app.header[0].value.replace("\\", "")
    sentence = app.markdown[0].value.replace("\\", "")
    for part in ("75 MB", "2 times as fast", "95 % interval", "20 minutes", "Verdict: no worse"):
        assert part in sentence
    python, command = codes(app)
    assert 'wq.quantize("base", "whole-int8-dynamic")' in python and "import" in python
    assert "whole-int8-dynamic" in command


def test_its_numbers_lead_to_their_evidence(store):
    fill(store)
    app = opened("overview")
    keys = {r.spec.recipe.name: r.key for r in store.runs() if r.measures == "accuracy"}
    chosen = keys["whole-int8-dynamic"]
    found = links(app)
    assert f"./utterances?run={chosen}" in found
    assert f"./compare?first={keys['fp32']}&second={chosen}" in found
    speed = next(parse_qs(urlsplit(url).query) for url in found if "run_evaluations" in url)
    assert speed["recipes"] == ["fp32", "whole-int8-dynamic"] and speed["run_speed"] == ["true"]
    assert not opened("run_evaluations", **speed).warning


def test_configurations_without_a_speed_are_counted_and_can_be_timed(store):
    fill(store)
    text = everything(opened("overview")).replace("\\", "")
    assert "Not drawn: 2 that have no measured speed yet" in text
    assert "Speed depends on the machine. It was measured on" in text  # not on this one
    found = [parse_qs(urlsplit(url).query) for url in links(opened("overview"))]
    recipes = ["fp32", "hqq-int2-g64", "torch-int8"]
    wanted = [query for query in found if query.get("recipes") == recipes]
    assert wanted and wanted[0]["run_speed"] == ["true"]
    assert not opened("run_evaluations", **wanted[0]).warning


def cards(app) -> list[str]:
    """Titles of the cards, in their order."""
    wanted = ("Smallest", "Fastest", "Best in", "Second", "As in the study", "Without")
    return [c.value for c in app.caption if c.value.startswith(wanted)]


def test_each_answer_has_its_certainty(store):
    fill(store)
    store.put(run("bf16", 60, weights_bytes=145_000_000))
    store.put(speed_run("bf16", [0.5, 0.5], [2.0, 2.0]))
    app = opened("overview")
    assert cards(app) == [
        *("Smallest and most accurate", "Fastest", "As in the study", "Without quantization")
    ]
    text = everything(app).replace("\\", "")
    assert text.count("No worse than fp32 (95 %)") == 2
    assert "Probably no worse: " in text.partition("**torch-int8**")[2]


def test_equal_answers_are_one(store):
    fill(store)
    store.put(run("bf16", 60, weights_bytes=145_000_000))
    store.put(speed_run("bf16", [1.5, 1.5], [2.0, 2.0]))
    titles = ["Best in size, speed and WER", "Second choice", "As in the study"]
    assert cards(opened("overview")) == [*titles, "Without quantization"]


def test_the_table_has_every_configuration(store):
    fill(store)
    app = opened("overview")
    shown = ["hqq-int2-g64", "whole-int8-dynamic", "torch-int8", "fp32"]
    assert list(app.dataframe[0].value["Recipe"]) == shown
    app = changed(by_label(app.number_input, "Margin"), 5.0)
    app = changed(by_label(app.selectbox, "Confidence"), 99)
    assert not app.exception


def test_without_a_configuration_it_says_what_would_settle_it(store):
    store.put(run("fp32", 60))
    store.put(run("hqq-int2-g64", 120))
    store.put(speed_run("fp32", [2.0, 2.0]))
    app = opened("overview")
    assert "Keep base in fp32" in app.header[0].value
    assert any("No quantized configuration is shown" in m.value for m in app.markdown)


def test_without_results_it_says_what_to_do(store):
    app = opened("overview")
    assert "Run evaluations" in app.info[0].value and not app.exception


def test_what_cannot_be_read_is_named(store):
    fill(store)
    (store.results / "base_broken_0123456789abcdef.json").write_text('{"schema_version": 1')
    assert "broken" in opened("overview").warning[0].value
