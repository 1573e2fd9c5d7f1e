"""Speakers come from the set as it is now."""

import json
import shutil

import pytest

from tests.support.sample_runs import accuracy_run, divergence_run
from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.speakers import SetSpeakers, with_speakers
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets

PAIRS = [("a cat sat", "a bat sat"), ("yes", "yes")]


def speakers_of(run) -> list[str | None]:
    return [u.speaker for u in run.utterances]


def manifest(folder, speakers, references=("a cat sat", "yes")) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (speaker, reference) in enumerate(zip(speakers, references, strict=True)):
        (folder / f"{i}.wav").touch()
        row = {"audio": f"{i}.wav", "id": f"utterance-{i}", "text": reference}
        rows.append(row | ({"speaker": speaker} if speaker else {}))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines)


def test_speakers_are_those_of_the_set_where_ids_and_references_match():
    old = accuracy_run("fp32", PAIRS, speakers=[None, None])
    new = accuracy_run("fp32", PAIRS, speakers=["ann", "bob"])
    ann_and_bob = SetSpeakers.of(new.utterances)
    assert speakers_of(with_speakers(old, ann_and_bob)) == ["ann", "bob"]
    assert with_speakers(old, ann_and_bob).key == old.key
    assert with_speakers(new, ann_and_bob) is new
    for other in (PAIRS[:1], [("another", "a bat sat"), ("yes", "yes")]):
        assert with_speakers(old, SetSpeakers.of(accuracy_run("fp32", other).utterances)) is old


def test_reading_takes_the_speakers_that_a_set_of_ones_own_has_now(store):
    folder = store.root / "sets" / "calls"
    store.put(accuracy_run("fp32", PAIRS, eval_set="calls", speakers=[None, None]))
    (key,) = store.keys()
    assert speakers_of(store.runs()[0]) == [None, None]
    before = store.state
    manifest(folder, ["ann", "bob"])
    assert speakers_of(store.runs()[0]) == speakers_of(store.get(key)) == ["ann", "bob"]
    assert store.state != before and store.runs() == store.runs()
    manifest(folder, ["ann", "robert"])
    assert speakers_of(store.runs()[0]) == ["ann", "robert"]
    manifest(folder, ["ann", "robert"], ["a cat sat", "no"])  # another set by now
    assert speakers_of(store.runs()[0]) == [None, None]
    (folder / "manifest.jsonl").write_text("damaged")
    assert speakers_of(store.runs()[0]) == [None, None]
    shutil.rmtree(folder)
    assert speakers_of(store.runs()[0]) == [None, None] and not store.unreadable


def test_a_divergence_run_takes_the_speakers_of_its_set_as_it_is_now(store):
    baseline = accuracy_run("fp32", PAIRS, eval_set="calls", speakers=["ann", "ann"])
    run = divergence_run("bnb-nf4", [0.1, 0.2], ["ann", "ann"], eval_set="calls")
    store.put(baseline)
    store.put(run.model_copy(update={"baseline_key": baseline.key}))
    folder = store.root / "sets" / "calls"
    manifest(folder, ["ann", "bob"])
    assert speakers_of(store.get(run.key)) == ["ann", "bob"]
    assert [speakers_of(each) for each in store.runs()] == [["ann", "bob"]] * 2
    # Another set of the same ids by now, which the baseline's references tell.
    manifest(folder, ["ann", "bob"], ["a cat sat", "no"])
    assert speakers_of(store.get(run.key)) == ["ann", "ann"]
    assert [speakers_of(each) for each in store.runs()] == [["ann", "ann"]] * 2


def test_a_divergence_run_that_left_something_out_is_of_the_same_set():
    run = divergence_run("bnb-nf4", [0.1], ["ann"]).model_copy(
        update={"left_out": ("utterance-1",)}
    )
    speakers = SetSpeakers({"utterance-0": ("a", "bob"), "utterance-1": ("", "eve")})
    assert speakers_of(with_speakers(run, speakers)) == ["bob"]
    assert with_speakers(run, SetSpeakers({"utterance-0": ("a", "bob")})) is run


@pytest.fixture
def jfk_folder(tmp_path):
    spoken = evaluation_sets.by_name("jfk").utterances[0]
    folder = tmp_path / "speech"
    folder.mkdir()
    shutil.copy(spoken.audio, folder)

    def describe(**fields) -> None:
        row = {"audio": spoken.audio.name, "text": spoken.reference} | fields
        (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n")

    describe()
    return folder, describe


def test_a_set_that_got_speakers_is_evaluated_again_without_transcribing(
    jfk_folder, store, monkeypatch
):
    folder, describe = jfk_folder
    request = Request("tiny.en", recipe("fp32"), str(folder), threads=2)
    first = run(request, store)
    assert speakers_of(first) == [None] and plan([request], store)[0].status == "cached"
    describe(speaker="jfk")
    assert resolve(request).key == first.key
    assert plan([request], store)[0].status == "to run"
    assert plan([request], store)[0].estimate_s == 0
    left = "whisperq_core.evaluate.prepared_model.PreparedModel.transcribe"
    monkeypatch.setattr(left, lambda *arguments: pytest.fail("it was transcribed again"))
    assert speakers_of(run(request, store)) == speakers_of(store.get(first.key)) == ["jfk"]
    assert plan([request], store)[0].status == "cached"
