"""History, This machine, Terms, Presentation and running work, by AppTest."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.fake_workers import FakeClient
from tests.support.opened_pages import (
    PROJECT,
    by_label,
    changed,
    codes,
    everything,
    opened,
    plan_of,
)
from tests.support.sample_runs import accuracy_run, speed_run
from tests.support.small_sets import recordings_folder
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.evaluate import history
from whisperq_core.evaluate.requests import Request, work_item
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue, worker_pool
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.whisper import protocols


def ended(store: Store, outcome="done", who="ada", model="base", key=None, hours=0) -> None:
    work = history.WorkItem(kind="evaluation", model=model, recipe="bf16", eval_set="quick-look")
    with history.record(store.root, work, who) as note:
        note.key = key
    path = next((store.root / history.FOLDER).glob("*.json"))
    entry = history.Entry.model_validate_json(path.read_bytes())
    path.unlink()
    changes = {"outcome": outcome, "started_at": entry.started_at + timedelta(hours=hours)}
    changes |= {"message": "It failed." if outcome == "failed" else ""}
    history.write_entry(store.root / "kept", entry.model_copy(update=changes))


def keep(store: Store) -> None:
    (store.root / history.FOLDER).rmdir()
    (store.root / "kept" / history.FOLDER).rename(store.root / history.FOLDER)


def test_an_empty_history_says_what_to_do(store):
    assert "press Start" in opened("history").info[0].value


def test_the_history_is_newest_first_and_can_be_filtered(store):
    run = accuracy_run("bf16")
    store.put(run)
    store.put(accuracy_run("fp32"))
    ended(store, key=run.key)
    ended(store, "failed", "bob", "tiny.en", hours=1)
    keep(store)
    app = opened("history")
    frame = app.dataframe[0].value
    assert frame["Who"].tolist() == ["bob", "ada"]
    assert frame["Outcome"].tolist() == ["✗ failed", "✓ done"]
    assert frame["Why"].tolist() == ["It failed.", ""]
    assert f"run={run.key}" in frame["Result"][1] and frame["Result"].isna()[0]
    assert frame["Again"][0] == ("./run_evaluations?models=tiny.en&recipes=bf16&sets=quick-look")
    assert "1 stored result: shipped with WhisperQ" in app.markdown[-1].value
    app = changed(by_label(app.multiselect, "Outcome"), ["failed"])
    assert app.dataframe[0].value["Who"].tolist() == ["bob"]
    assert opened("history", history_who="ada").dataframe[0].value["Who"].tolist() == ["ada"]
    app = opened("history", history_outcome=["failed", "won"])
    assert app.dataframe[0].value["Who"].tolist() == ["bob"] and "“won”" in app.warning[0].value


def test_a_damaged_entry_is_named(store):
    (store.root / history.FOLDER).mkdir(parents=True)
    (store.root / history.FOLDER / "x.json").write_text("{")
    assert "x\\.json" in opened("history").warning[0].value


def test_this_machine_is_shown_and_can_be_copied(store):
    app = opened("machine")
    assert [t.value for t in app.header][:2] == [
        "Relevant CPU instruction sets",
        "Libraries",
    ]
    assert "CPU: " in codes(app)[-1]


def test_terms_are_searched_also_by_link(store):
    assert len(opened("terms").header) == 6
    assert [s.value for s in opened("terms", term="nf4").header] == ["Number formats"]
    assert "No term matches" in opened("terms", term="<b>xyz").info[0].value


@pytest.fixture
def measured(store) -> Store:
    for run in (
        run_with("fp32", SOME * 4),
        run_with("bf16", SOME * 4),
        run_with("torch-int8", MANY * 4),
        speed_run("bf16", [1.0, 1.1, 1.2], [2.0, 2.2, 2.4]),
    ):
        store.put(run)
    return store


def shown(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


@pytest.mark.parametrize(
    ("screen", "message"),
    [
        ("1", "Use bf16 on base, Study protocol"),
        ("2", "Speed and accuracy"),
        ("3", "100 MB instead of 100 MB"),
        ("4", "95 % confidence that WER rises by less than 0.5 points"),
        ("5", "What would settle more"),
    ],
)
def test_each_screen_has_its_message(measured, screen, message):
    app = opened("presentation", screen=screen)
    assert message in shown(app) and not app.warning
    assert by_label(app.button, "Next").disabled == (screen == "5")


def test_next_and_back_change_the_screen_in_the_url(measured):
    app = opened("presentation")
    app = by_label(app.button, "Next").click().run()
    assert app.query_params["screen"] in ("2", ["2"]) and "Speed and accuracy" in shown(app)
    app = by_label(app.button, "Back").click().run()
    assert "Which Whisper should we run" in shown(app)


@pytest.mark.parametrize("screen", ["0", "6", "-1", "two", "²", "9" * 30])
def test_an_unknown_screen_is_explained(measured, screen):
    app = opened("presentation", screen=screen)
    assert "there are 5" in app.toast[0].value and "Which Whisper should we run" in shown(app)
    by_label(app.button, "Next").click().run()
    assert not app.exception


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"report_model": "nosuch"}, "There is no result of nosuch"),
        ({"report_margin": "wide"}, "“wide” is not a margin"),
        ({"report_margin": "nan"}, "“nan” is not a margin"),
    ],
)
def test_a_selection_without_results_is_explained(measured, query, message):
    app = opened("presentation", **query)
    assert message in app.info[0].value and "Report" in app.info[0].value


def test_the_answer_of_the_report_is_presented(measured):
    report = opened("report")
    link = next(e.proto.url for e in report.get("link_button"))
    assert link == "./presentation?report_model=base&report_margin=0.5"
    assert report.header[0].value == "Use bf16 on base, Study protocol"
    assert "Use bf16 on base, Study protocol" in shown(opened("presentation", report_model="base"))


def test_an_open_verdict_is_presented_as_open(store):
    for run in (run_with("fp32", SOME), run_with("torch-int8", MANY)):
        store.put(run)
    for number in range(1, 6):
        assert "Use torch-int8" not in shown(opened("presentation", screen=str(number)))


def test_presenting_without_results_says_what_to_do(store):
    assert "Run evaluations" in opened("presentation").info[0].value


def test_a_link_chooses_what_to_run(store):
    query = {"models": "tiny.en", "recipes": ["torchao-int8", "mixed-82"], "sets": "jfk"}
    app = opened("run_evaluations", **query)
    assert [row[:3] for row in plan_of(app)][:2] == [
        ("tiny.en", "torchao-int8", "jfk"),
        ("tiny.en", "mixed-82", "jfk"),
    ]


@pytest.mark.parametrize(
    "query",
    [
        {"models": "no/such"},
        {"recipes": "zzz"},
        {"sets": "zzz"},
        {"sets": "../../etc"},
        {"models": "<b>*x*"},
    ],
)
def test_a_link_to_something_unknown_is_explained(store, query):
    app = opened("run_evaluations", **query)
    assert app.error or "cannot run here" in app.markdown[1].value or app.dataframe


def test_a_recipe_that_is_none_costs_no_other_choice(store):
    app = opened(
        "run_evaluations",
        recipes=["zzz", "torchao-int8"],
        sets="jfk",
        run_speed="false",
        run_divergence="false",
    )
    assert "zzz" in app.error[0].value
    assert [row[:3] for row in plan_of(app)] == [("tiny.en", "torchao-int8", "jfk")]


def test_a_folder_is_read_as_it_is_pasted_and_what_is_wrong_is_named(store, tmp_path):
    folder = recordings_folder(tmp_path).rename(tmp_path / "my set")
    manifest = folder / "manifest.json"
    rows = [{"audio_filepath": f"/data/{n}.flac", "text": "hi", "lang": "en-US"} for n in "ab"]
    manifest.write_text("\n".join(map(json.dumps, rows)))  # NeMo's
    others = {"run_speed": "false", "run_divergence": "false", "recipes": "torchao-int8"}
    for typed in (f" '{folder}' ", f"“{folder}”", f"file://{quote(str(folder))}"):
        app = opened("run_evaluations", run_folder=typed, **others)
        shown = unescaped(everything(app))
        assert "2 utterances" in shown and "en (2)" in shown
        assert ("tiny.en", "torchao-int8", "my set") in [row[:3] for row in plan_of(app)]
    (folder / "c.aiff").write_bytes(b"x")
    app = opened("run_evaluations", run_folder=str(folder), **others)
    assert "c.aiff" in unescaped(everything(app))
    manifest.write_text(json.dumps(rows[0] | {"lang": "Klingon"}))
    app = opened("run_evaluations", run_folder=str(folder), **others)
    assert "line 1" in app.error[0].value and "Klingon" in app.error[0].value
    manifest.write_text(json.dumps({"sound": "a.flac", "text": "hi"}))
    app = opened("run_evaluations", run_folder=str(folder), **others)
    assert "columns are: sound, text" in unescaped(app.error[0].value)
    app = opened("run_evaluations", **others | {"recipes": ["hqq-int4-g96", "torchao-int4", "awq"]})
    refused = [unescaped(error.value) for error in app.error]
    assert "16, 32, 64, 128" in refused[0] and "hqq-int4-g64" in refused[0]
    assert "torchao-int8" in refused[1] and "awq" in refused[2]
    # A tenth of one utterance is all of it.
    tenth = {"recipes": "quanto-int8-int8-eval10", "sets": "jfk"}
    (reason,) = opened("run_evaluations", **others | tenth).dataframe[0].value["Reason"]
    assert "one alone is 100%" in reason


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_a_set_is_evaluated_as_recorded_and_under_each_condition(store):
    query = {"recipes": "torchao-int8", "sets": "jfk", "run_speed": "false"}
    query |= {"run_divergence": "false", "run_conditions": ["noise:train@5dB", "noise:moon@5dB"]}
    app = opened("run_evaluations", **query)
    assert "moon" in app.error[0].value
    sets = [row[2] for row in plan_of(app)]
    assert sets == ["jfk", "jfk+noise:train@5dB"] and not app.warning
    labels = by_label(app.multiselect, "Conditions").options
    assert "train at 5 dB" in labels and "telephone" in labels


def test_long_recordings_are_made_of_a_set_that_has_enough_speech(store):
    query = {"recipes": "torchao-int8", "run_speed": "false", "run_divergence": "false"}
    query |= {"sets": "test-other-25-speakers", "run_conditions": "joined:5min"}
    app = opened("run_evaluations", **query)
    sets = [row[2] for row in plan_of(app)]
    assert sets == ["test-other-25-speakers", "test-other-25-speakers+joined:5min"]
    app = opened("run_evaluations", **(query | {"sets": "jfk"}))
    assert "too little for recordings of 5" in app.error[0].value
    assert [row[2] for row in plan_of(app)] == ["jfk"]


@pytest.mark.parametrize("name", ["run_threads", "run_protocol", "run_device", "run_speed"])
def test_junk_beside_it_is_left_out_and_named(store, name):
    app = opened("run_evaluations", **{name: "junk"})
    assert len(plan_of(app)) == 3 and "“junk”" in app.warning[0].value


def test_run_again_restores_all_that_is_known(store, own):
    request = Request(
        "tiny.en", recipe("hqq-int4-g32"), own, "speed", protocols.CORRECTED, "cpu", 3
    )
    with history.record(store.root, work_item(request), "ada"):
        pass
    link = opened("history").dataframe[0].value["Again"][0]
    query = parse_qs(urlsplit(link).query)
    assert query["sets"] == ["calls"]
    app = opened("run_evaluations", **query)
    assert not app.warning and not app.error
    assert [row[:3] for row in plan_of(app)] == [
        ("tiny.en", "hqq-int4-g32", name) for name in ("calls", "quick-look")
    ]
    assert by_label(app.selectbox, "Protocol").value == "corrected"
    assert by_label(app.number_input, "Threads").value == 3
    assert by_label(app.toggle, "Measure speed").value is True
    # Speed on the quick look has a switch of its own.
    app = opened("run_evaluations", **query | {"sets": "quick-look"})
    assert by_label(app.toggle, "Measure speed").value is True


@pytest.fixture
def own(store, tmp_path, jfk) -> str:
    """A set of one's own, as evaluations are given it."""
    kept = RecordingStore(store.root).add([("jfk.flac", jfk.audio.read_bytes())])[0]
    kept = RecordingStore(store.root).set_reference(kept.id, jfk.reference)
    UserSets(store.root).add("calls", kept, jfk.audio, "en")
    return UserSets(store.root).path_of("calls")


def whole_app(**state) -> AppTest:
    """app.py itself; AppTest runs a page without it from the second run on."""
    app = AppTest.from_file(PROJECT / "app.py", default_timeout=60)
    for key, value in state.items():
        app.session_state[key] = value
    app.run()
    assert not app.exception
    return app


@pytest.mark.parametrize(
    ("status", "message"), [("finished", "Done: base"), ("lost", "Failed: base · <b>bf16</b>. The")]
)
def test_running_work_is_on_every_page_and_its_end_is_announced(
    store, monkeypatch, status, message
):
    """The real queue, with a future that is pending as long as the test says."""
    clients = []

    def start_client() -> FakeClient:
        clients.append(FakeClient())
        return clients[-1]

    monkeypatch.setattr(worker_pool, "start_local_client", start_client)
    whole_app()
    assert not clients  # showing a page starts no worker
    queue = job_queue.shared_queue(store.root)
    job = queue.export("base", replace(recipe("bf16"), name="<b>bf16</b>"))
    app = whole_app()
    assert "running" in app.sidebar.get("progress")[0].proto.text and not app.toast
    assert app.session_state["jobs_seen"] == {job.id}
    clients[0].futures[0].status = status
    app = whole_app(jobs_seen={job.id})
    assert not app.sidebar.get("progress")
    assert message in app.toast[0].value.replace("\\", "")
    assert app.session_state["jobs_seen"] == set()
    assert not whole_app().toast  # another session did not see it running
