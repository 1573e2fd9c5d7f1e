"""What the pages show is in their URLs; what a URL asks for and is not there is named."""

import pytest
from streamlit.testing.v1 import AppTest

from pages import _url_state
from tests.support.opened_pages import again, by_label, everything, opened
from tests.support.sample_runs import accuracy_run
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.evaluate.store import Store

PAGES = (
    *(
        "overview",
        "tradeoffs",
        "advisor",
        "report",
        "study",
        "layers",
        "utterances",
        "compare",
    ),
    "run_evaluations",
)
KEYS = {
    "tradeoffs": (
        *("model", "set", "x", "y", "area", "color", "margin", "run", "log_rtf", "baseline"),
        *("filter_bits", "filter_threads", "filter_backend", "whole_range", "protocol"),
    ),
    "advisor": ("need_model", "need_speech", "need_rise", "need_mb", "need_time", "need_device"),
    "report": ("report_model", "report_set", "report_recipes", "report_margin", "report_whole"),
    "study": ("verdict", "protocol"),
    "overview": ("overview_margin", "overview_model", "overview_confidence"),
    "layers": ("layers_model", "layers_smaller", "layers_format"),
    "utterances": ("model", "set", "protocol", "run"),
    "compare": ("first", "second"),
    "run_evaluations": (*("run_threads", "run_protocol", "run_device", "run_speed", "group_size"),),
}
# What a page chooses where its link does not.
EXAMPLE = {"compare": {"first", "second"}, "utterances": {"run"}}
# A run's own widgets, which are there once it is chosen.
OF_A_RUN = ("speaker", "errors", "confusion", "seconds", "page")
HOSTILE = (
    "nope",
    "<script>alert(1)</script>",
    "nan",
    "-1e400",
    "9" * 5000,
    "x" * 10_000,
    "../../etc/passwd",
    "`code` **bold** [link](http://example.org) $x$ :red[no]",
    "\x00\u202e\ufffd",
)


@pytest.fixture
def filled(store) -> Store:
    for run in (
        run_with("fp32", SOME, weights_bytes=200_000_000),
        run_with("torch-int8", MANY),
        run_with("bf16", SOME[::-1]),
        accuracy_run("fp32", eval_set="test-clean-excerpt"),
    ):
        store.put(run)
    return store


def key_of(store: Store, recipe: str) -> str:
    return next(r.key for r in store.runs() if r.slug.startswith(f"base_{recipe}_test-other"))


def complaints(app: AppTest) -> str:
    return "\n".join(w.value for w in app.warning if "The link contains" in w.value)


@pytest.mark.parametrize("page", PAGES)
def test_a_plain_link_has_no_complaint(filled, page):
    app = opened(page)
    assert not complaints(app) and set(app.query_params) <= EXAMPLE.get(page, set())


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_there_is_named_and_nothing_breaks(filled, page):
    for first in range(0, len(HOSTILE), 4):
        values = (HOSTILE[(first + i) % len(HOSTILE)] for i in range(len(KEYS[page])))
        app = opened(page, **dict(zip(KEYS[page], values, strict=True)))
        text = complaints(app)
        assert "shown instead" in text
        assert "<script>" not in text and "x" * 50 not in text
        # As if nothing had been asked for.
        assert not app.query_params
    # Shown until something changes.
    assert complaints(again(app)) == text


def test_what_a_run_does_not_have_is_named(filled):
    key = key_of(filled, "fp32")
    for value in HOSTILE:
        app = opened("utterances", run=key, **dict.fromkeys(OF_A_RUN, value))
        assert "shown instead" in complaints(app)
        assert dict(app.query_params) in ({"run": [key]}, {"run": key})


@pytest.mark.parametrize("page", PAGES)
def test_unknown_parameters_are_ignored(filled, page):
    app = opened(page, utm_source="mail", **{"<b>": "1"})
    assert not complaints(app) and set(app.query_params) <= EXAMPLE.get(page, set())


def test_changes_are_in_the_url_and_reload_to_the_same(filled):
    app = opened("tradeoffs")
    by_label(app.selectbox, "X axis").set_value("weights_bytes")
    by_label(app.multiselect, "Library").set_value(["torch"])
    by_label(app.number_input, "Margin (points of WER)").set_value(1.5)
    again(app)
    by_label(app.toggle, "Log X axis").set_value(True)
    by_label(app.selectbox, "Result").set_value(key_of(filled, "torch-int8"))
    by_label(again(app).multiselect, "Error types").set_value(["deletions"])
    again(app)
    query = dict(app.query_params)
    assert query.keys() == {"x", "filter_backend", "margin", "log_weights_bytes", "run", "errors"}
    copy = opened("tradeoffs", **query)
    assert not complaints(copy)
    assert everything(copy) == everything(app)
    assert dict(copy.query_params) == query
    assert by_label(copy.toggle, "Log X axis").value is True
    assert by_label(copy.multiselect, "Library").value == ["torch"]


def test_a_link_that_follows_wins_over_what_was_chosen(filled):
    app = opened("tradeoffs", margin="1.5")
    app.query_params["margin"] = "2.5"
    assert by_label(again(app).number_input, "Margin (points of WER)").value == 2.5
    by_label(app.number_input, "Margin (points of WER)").set_value(3.0)
    assert by_label(again(app).number_input, "Margin (points of WER)").value == 3.0
    assert app.query_params["margin"] in ("3", ["3"])


def test_the_rest_of_a_list_is_kept(filled):
    app = opened("report", report_recipes=["torch-int8", "gone"])
    assert by_label(app.multiselect, "Recipes").value == ["torch-int8"]
    assert "“gone”" in complaints(app)
    app = opened("tradeoffs", model=[""])
    assert by_label(app.multiselect, "Model").value == [] and not complaints(app)


def test_a_filter_that_there_is_no_widget_for_is_named(filled):
    assert "Threads “4”" in complaints(opened("tradeoffs", filter_threads="4"))


def test_a_run_alone_leads_to_where_it_is(filled):
    key = next(r.key for r in filled.runs() if r.eval_set == "test-clean-excerpt")
    for page in ("tradeoffs", "utterances"):
        app = opened(page, run=key)
        assert by_label(app.selectbox, "Evaluation set").value == "test-clean-excerpt"
        assert by_label(app.selectbox, "Result").value == key
        assert not complaints(app)


@pytest.mark.parametrize("value", [*HOSTILE, "~nobody", "é" * 300, "a/b/c"])
@pytest.mark.parametrize("key", ["models", "recipes", "sets", "run_folder"])
def test_what_may_be_typed_is_judged_by_its_page(store, key, value):
    """What could be a name stays to be looked at, and its page says what is wrong with it."""
    app = opened("run_evaluations", **{key: value, "run_threads": "3"})
    messages = [element.value for element in (*app.error, *app.warning)]
    refused = app.dataframe and list(app.dataframe[0].value.get("Reason", []))
    assert messages or refused
    assert "<script>" not in "".join(messages).replace("\\<", "")
    # Nothing else that the link says is lost with it.
    assert by_label(app.number_input, "Threads").value == 3
    assert app.query_params["run_threads"] in ("3", ["3"])
    assert (key in app.query_params) == (not complaints(app))


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("run_threads", "0", "Threads “0”"),
        ("run_threads", "2.5", "Threads “2\\.5”"),
        ("run_protocol", "nope", "Protocol “nope” \\(shown instead\\: Study"),
        ("run_device", "tpu", "Device “tpu” \\(shown instead\\: cpu"),
        (
            "run_speed",
            "perhaps",
            "Measure speed relative to fp32 “perhaps” \\(shown instead\\: off",
        ),
        ("group_size", "33", "HQQ group size “33” \\(shown instead\\: 64"),
    ],
)
def test_choices_of_work_that_are_not_offered_are_named(store, key, value, shown):
    assert shown in complaints(opened("run_evaluations", recipes="hqq-int4-g64", **{key: value}))


def test_a_search_that_cannot_be_typed_is_named(store):
    assert "Search" in complaints(opened("terms", term="\x00"))
    app = opened("terms", term="x" * 10_000)
    assert "nothing" in complaints(app) and not app.query_params


def test_what_is_pressed_before_the_browser_has_the_new_url_undoes_nothing(filled, monkeypatch):
    app = opened("tradeoffs")
    by_label(app.number_input, "Margin (points of WER)").set_value(1.5)
    again(app)
    # Pressed while the browser still shows the URL without the margin, which it sends along.
    app.query_params.clear()
    by_label(app.multiselect, "Library").set_value(["torch"])
    again(app)
    assert by_label(app.number_input, "Margin (points of WER)").value == 1.5
    assert app.query_params.keys() == {"margin", "filter_backend"}
    app.query_params.clear()
    app.query_params["margin"] = "1.5"
    again(app)  # a button that belongs to no picture
    assert by_label(app.multiselect, "Library").value == ["torch"]
    # The browser's back button, a while later.
    monkeypatch.setattr(_url_state, "LATE_S", 0)
    app.query_params.clear()
    app.query_params["margin"] = "1.5"
    again(app)
    assert by_label(app.multiselect, "Library").value == []
    assert not complaints(app)


def test_back_comes_from_a_link_to_the_page_before_it(filled, monkeypatch):
    monkeypatch.setattr(_url_state, "LATE_S", 0)
    app = opened("tradeoffs", margin="1.5")
    by_label(app.number_input, "Margin (points of WER)").set_value(2.5)
    again(app)
    app.query_params["margin"] = "1.5"
    assert by_label(again(app).number_input, "Margin (points of WER)").value == 1.5
    app.query_params["margin"] = "2.5"
    assert by_label(again(app).number_input, "Margin (points of WER)").value == 2.5
