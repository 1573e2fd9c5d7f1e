"""One recommendation, whichever page, file or command is asked."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from tests.support.opened_pages import by_label, opened
from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.cli.main import app as command_line
from whisperq_core.evaluate.records import DivergenceRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import report
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.whisper.protocols import FITTED, STUDY

ANSWER = "Use whole-int8-dynamic on base, Fitted window"


@pytest.fixture
def filled(store) -> Store:
    """The study's recipe is smaller, and worse; another one is as good, and larger."""
    for run in (
        run_with("fp32", SOME * 4, weights_bytes=290_000_000),
        run_with("torch-int8", MANY * 4, weights_bytes=90_000_000),
        run_with("quanto-int8", ALIKE * 4, weights_bytes=185_000_000),
        run_with("whole-int8-dynamic", SOME * 4, weights_bytes=145_000_000, protocol=FITTED),
        speed_run("fp32", [2.0, 2.2]),
        speed_run("torch-int8", [1.0, 1.0], [2.0, 2.2]),
        speed_run("quanto-int8", [1.9, 1.9], [2.0, 2.2]),
        speed_run("whole-int8-dynamic", [0.5, 0.5], [1.0, 1.0], protocol=FITTED),
    ):
        store.put(run)
    return store


def headings(name: str) -> str:
    app = opened(name)
    html = " ".join(element.proto.body for element in app.get("html"))
    boxes = (*app.header, *app.success, *app.markdown)
    return f"{html} {' '.join(box.value for box in boxes)}".replace("\\", "")


@pytest.mark.parametrize(
    "page", ["overview", "advisor", "report", "presentation", "recordings", "run_evaluations"]
)
def test_a_recipe_that_this_version_does_not_have_breaks_no_page(filled, page):
    runs = filled.runs()
    shutil.rmtree(filled.results)
    for run in runs:  # the best one is of another version, such as a merged result
        if (recipe := run.spec.recipe).name == "whole-int8-dynamic":
            recipe = replace(recipe, name="whole-int5", weights="int5")
        filled.put(run.model_copy(update={"spec": run.spec.model_copy(update={"recipe": recipe})}))
    app = opened(page)
    if page in ("overview", "advisor"):
        sentence = "This machine cannot run whole-int5: This version of WhisperQ has no recipe"
        assert sentence in app.warning[0].value.replace("\\", "")


@pytest.mark.parametrize("name", ["overview", "advisor", "report", "presentation"])
def test_a_page_names_it(filled, name):
    assert ANSWER in headings(name)


def test_trade_offs_opens_where_it_is_drawn(filled):
    app = opened("tradeoffs")
    assert by_label(app.selectbox, "Protocol").value == FITTED.name
    assert app.dataframe[0].value["recipe"].tolist() == ["whole-int8-dynamic"]
    other = opened("tradeoffs", protocol=STUDY.name)
    assert "whole-int8-dynamic" not in other.dataframe[0].value["recipe"].tolist()


def test_the_files_and_the_command_name_it(filled):
    runs, date = filled.runs(), datetime(2026, 3, 1, tzinfo=UTC)
    assert ANSWER in report.to_html(runs, date=date)
    assert f'"headline": "{ANSWER}"' in report.to_json(runs, date=date)
    assert ANSWER in report.slides_html(runs, date=date)
    assert CliRunner().invoke(command_line, ["advise"]).stdout.startswith(ANSWER)


def test_pages_that_run_something_start_with_it(filled):
    for name, label in (("recordings", "Recipes to compare"), ("run_evaluations", "Recipes")):
        app = opened(name)
        assert "whole-int8-dynamic" in by_label(app.multiselect, label).value[:2]
        assert by_label(app.selectbox, "Protocol").value == FITTED.name
        assert not app.warning


def test_trade_offs_says_that_all_sets_decide_what_one_leaves_open(store):
    for run in Store(SHIPPED_CACHE).runs():
        if run.model == "base" and not isinstance(run, DivergenceRun):
            store.put(run)
    open_alone = opened("tradeoffs", set="test-clean-34-speakers")
    decided = opened("tradeoffs", set="librispeech-dev-clean-mp3")
    (note,) = open_alone.info
    sentence = note.value.replace("\\", "")
    assert "too close to call on this evaluation set alone" in sentence
    assert "Over all English sets together it is no worse than fp32 (95 %): WER" in sentence
    assert not decided.info
