"""The pages that start work, run by Streamlit's own test harness; the browser test starts it."""

import ast
from collections.abc import Callable

import pytest

from tests.support.fake_workers import FakeClient
from tests.support.opened_pages import PROJECT, again, by_label, changed, left_at, opened, plan_of
from tests.support.sample_runs import accuracy_run, speed_run
from tests.support.spoken_runs import run_with
from whisperq_core.errors import StoreError
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.present.markup import escape_markdown
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue, worker_pool
from whisperq_core.speech import evaluation_sets


def test_the_first_evaluation_is_chosen_already(store):
    app = opened("run_evaluations")
    assert plan_of(app) == [
        ("tiny.en", "fp32", "quick-look", "to run"),
        ("tiny.en", "torch-int8", "quick-look", "to run"),
        ("tiny.en", "bnb-nf4", "quick-look", "to run"),
    ]
    assert "3 to run" in app.markdown[1].value
    assert not by_label(app.button, "Start").disabled


def test_what_is_cached_is_not_run_again(store):
    request = Request("tiny.en", recipe("fp32"), "quick-look")
    store.put(accuracy_run("fp32").model_copy(update={"spec": resolve(request).spec}))
    app = opened("run_evaluations")
    assert plan_of(app)[0] == ("tiny.en", "fp32", "quick-look", "cached")
    assert "1 already measured" in app.markdown[1].value


def test_larger_sets_get_divergence_and_are_timed_beside_fp32_too(store):
    app = opened("run_evaluations")
    app = changed(by_label(app.multiselect, "Evaluation sets"), ["test-clean-excerpt"])
    # Of three recipes, since fp32 does not diverge from itself.
    assert [row[2] for row in plan_of(app)] == ["test-clean-excerpt"] * 5 + ["quick-look"] * 3
    assert list(app.dataframe[0].value["Measures"]) == [
        *["accuracy"] * 3,
        *["divergence"] * 2,
        *["speed"] * 3,
    ]
    app = changed(by_label(app.toggle, "Measure divergence from fp32"), False)
    assert len(plan_of(app)) == 6


def test_the_protocol_can_be_chosen(store):
    # A tenth of the quick look's eight utterances would be no tenth.
    app = opened("run_evaluations", sets="test-clean-excerpt")
    assert "held-out audio only" in by_label(app.selectbox, "Protocol").help
    app = changed(by_label(app.multiselect, "Recipes"), ["quanto-int8-int8-eval10"])
    assert plan_of(app)[0][3] == "to run"
    app = changed(by_label(app.selectbox, "Protocol"), "corrected")
    assert plan_of(app)[0][3] == "refused"
    assert "held-out" in app.dataframe[0].value["Reason"][0]


def test_the_group_size_of_hqq_can_be_chosen(store):
    app = opened("run_evaluations")
    app = changed(by_label(app.multiselect, "Recipes"), ["hqq-int4-g64"])
    app = changed(by_label(app.select_slider, "HQQ"), 32)
    assert plan_of(app)[0][1] == "hqq-int4-g32"


@pytest.mark.parametrize("folder", ["/nowhere/at/all", "relative"])
def test_a_folder_that_is_no_set_is_a_sentence(store, folder):
    app = opened("run_evaluations")
    app = changed(by_label(app.text_input, "Your own evaluation set"), folder)
    assert folder in app.error[0].value and "Traceback" not in app.error[0].value


def test_a_folder_of_ones_own_is_planned(store, tmp_path, jfk):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "jfk.flac").write_bytes(jfk.audio.read_bytes())
    (tmp_path / "mine" / "jfk.txt").write_text(jfk.reference)
    app = opened("run_evaluations")
    app = changed(by_label(app.text_input, "Your own evaluation set"), str(tmp_path / "mine"))
    assert plan_of(app)[1][2:] == ("mine", "to run")


def test_a_folder_is_previewed_before_it_is_evaluated(store, tmp_path, jfk):
    for name in ("jfk", "untold"):
        (tmp_path / f"{name}.flac").write_bytes(jfk.audio.read_bytes())
    (tmp_path / "manifest.csv").write_text(f"audio,text\njfk.flac,{jfk.reference}\n")
    app = opened("run_evaluations")
    app = changed(by_label(app.text_input, "Your own evaluation set"), str(tmp_path))
    sentences = evaluation_sets.preview(tmp_path).sentences
    assert len(sentences) == 2 and "untold.flac" in sentences[1]
    shown = [caption.value for caption in app.caption]
    assert all(escape_markdown(sentence) in shown for sentence in sentences)


def test_a_static_recipe_on_too_few_utterances_is_refused_with_the_reason(store, tmp_path, jfk):
    (tmp_path / "jfk.flac").write_bytes(jfk.audio.read_bytes())
    (tmp_path / "jfk.txt").write_text(jfk.reference)
    app = opened("run_evaluations")
    app = changed(by_label(app.multiselect, "Recipes"), ["quanto-int8-int8-eval10"])
    app = changed(by_label(app.text_input, "Your own evaluation set"), str(tmp_path))
    planned = app.dataframe[0].value
    own = planned[(planned["Evaluation set"] == tmp_path.name) & (planned["Recipe"] != "fp32")]
    assert len(own) and set(own["Status"]) == {"refused"}
    reason = own[own["Measures"] == "accuracy"]["Reason"].item()
    assert "of the 1 of this set one alone is 100%. Evaluate at least 10" in reason


def test_what_cannot_run_is_shown_with_its_reason(store, monkeypatch):
    monkeypatch.setattr("whisperq_core.machine.devices", lambda: ["cpu", "mps"])
    app = opened("run_evaluations")
    app = changed(by_label(app.selectbox, "Device"), "mps")
    assert [row[3] for row in plan_of(app)] == ["to run", "refused", "refused"]
    assert "runs on cpu" in app.dataframe[0].value["Reason"][1]
    assert "2 cannot run here" in app.markdown[1].value


def test_nothing_chosen_is_a_hint_not_an_error(store):
    app = opened("run_evaluations")
    app = changed(by_label(app.multiselect, "Models"), [])
    assert "at least one model" in app.info[0].value


def test_full_sets_are_offered_and_their_absence_is_a_sentence(store, monkeypatch, tmp_path):
    monkeypatch.setenv("WHISPERQ_CACHE", str(tmp_path))
    app = opened("run_evaluations")
    app = changed(by_label(app.multiselect, "Evaluation sets"), ["test-clean"])
    assert "Download it first" in app.error[0].value


def no_worker(store, monkeypatch, error: Exception | None = None) -> Callable:
    """Takes the place of the worker process; returns what tells which requests are in the queue."""

    def start_client() -> FakeClient:
        if error is not None:
            raise error
        return FakeClient()

    monkeypatch.setattr(worker_pool, "start_local_client", start_client)
    queue = job_queue.shared_queue(store.root)
    return lambda: [job.task.planned.request for job in queue.all()]


def test_start_queues_the_plan_that_was_seen(store, monkeypatch):
    given = no_worker(store, monkeypatch)
    chosen = {"run_speed": "false", "run_divergence": "false"}
    app = opened("run_evaluations", recipes=["fp32", "torchao-int8"], sets="jfk", **chosen)
    assert by_label(again(app).button, "Start").click().run().header[1].value == "Progress"
    assert [request.label for request in given()] == [
        "tiny.en · fp32 · jfk",
        "tiny.en · torchao-int8 · jfk",
    ]


def test_who_leaves_at_once_has_started_it(store, monkeypatch):
    given = no_worker(store, monkeypatch)
    app = opened("run_evaluations", sets="jfk")
    left_at(monkeypatch, "whisperq_core.evaluate.planner.plan")
    by_label(app.button, "Start").click().run()
    assert len(given()) == 8


def test_choices_that_changed_with_the_click_start_nothing(store, monkeypatch):
    given = no_worker(store, monkeypatch)
    app = opened("run_evaluations")
    by_label(app.multiselect, "Recipes").set_value(["torchao-int8"])
    app = by_label(app.button, "Start").click().run()
    assert "choices changed" in app.error[0].value and not given()
    app = by_label(app.button, "Start").click().run()
    assert not app.error and [request.recipe.name for request in given()] == ["torchao-int8"]


def test_a_start_that_fails_is_a_sentence(store, monkeypatch):
    no_worker(store, monkeypatch, StoreError("The disk is <b>full</b>. Make room."))
    app = by_label(opened("run_evaluations").button, "Start").click().run()
    assert "Make room" in app.error[0].value and "<b>" not in app.error[0].value
    assert not again(app).error


@pytest.mark.parametrize("page", sorted((PROJECT / "pages").glob("*.py")), ids=lambda p: p.stem)
def test_what_a_press_changes_is_not_left_to_the_end_of_the_script(page):
    """A user who goes elsewhere at once ends the script; what it calls back is done before."""
    pressed = [
        ast.unparse(node.test)
        for node in ast.walk(ast.parse(page.read_text("utf-8")))
        if isinstance(node, ast.If) and "st.button(" in ast.unparse(node.test)
    ]
    # These open a dialog or a page, or are waited for: a file's import, a download with its bar.
    may = ("Save figure", "Evaluate on this set", "Import", "Download ")
    assert [test for test in pressed if not any(label in test for label in may)] == []


def test_what_the_advisor_recommends_is_chosen_already(store):
    for name in ("fp32", "torchao-int8"):
        store.put(run_with(name, [1, 2] * 10, weights_bytes=80_000_000))
        store.put(speed_run(name, [1.0, 1.0], [1.0, 1.0]))
    app = opened("run_evaluations")
    chosen = [row[:2] for row in plan_of(app)]
    assert chosen == [("base", "fp32"), ("base", "torchao-int8")]
    sizes = app.dataframe[1].value.set_index("Recipe")
    assert sizes["Size on base (MB)"]["torchao-int8"] == 80 and sizes["Description"]["fp32"]
