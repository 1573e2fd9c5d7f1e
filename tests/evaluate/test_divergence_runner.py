import json
import shutil
from dataclasses import replace

import pytest

from whisperq_core.errors import Cancelled, RecipeUnsupported
from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.records import AccuracyRun, parse
from whisperq_core.evaluate.requests import (
    DIVERGENCE_PROTOCOL,
    Request,
    fp32_transcripts,
    requests_for,
)
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets

pytestmark = pytest.mark.model

REQUEST = Request(
    "tiny.en",
    recipe("torch-int8"),
    "quick-look",
    "divergence",
    protocol=DIVERGENCE_PROTOCOL,
    threads=2,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The store after REQUEST, and its result."""
    store = Store(tmp_path_factory.mktemp("divergence"))
    return store, run(REQUEST, store)


def test_a_record_has_each_utterance_and_comes_back(measured):
    store, result = measured
    assert store.get(result.key) == result
    assert parse(result.model_dump_json()) == result
    assert len(result.utterances) == 8 and not result.left_out
    assert result.sums.tokens == sum(u.tokens for u in result.utterances) > 100
    median, high, highest = result.nats_quantiles.values()
    assert 0 <= median < high < highest
    # 7-bit activations with one range a tensor: far from fp32, and yet mostly the same words.
    assert 0.02 < result.sums.nats_per_token < 1
    assert 0.02 < result.sums.changed_share < 0.5


def test_fp32s_transcripts_are_stored_with_it(measured):
    store, result = measured
    baseline = store.get(result.baseline_key)
    assert isinstance(baseline, AccuracyRun) and baseline.spec.recipe.name == "fp32"
    assert [planned.status for planned in plan([fp32_transcripts(REQUEST)], store)] == ["cached"]


def test_gentler_recipes_diverge_less(measured):
    store, rough = measured
    gentle = run(replace(REQUEST, recipe=recipe("hqq-int8-g64")), store)
    middle = run(replace(REQUEST, recipe=recipe("whole-int8-dynamic")), store)
    nats = [one.sums.nats_per_token for one in (gentle, middle, rough)]
    assert nats == sorted(nats) and nats[0] < 0.002


def test_it_resumes_and_is_the_same(measured, tmp_path):
    _, whole = measured
    store, calls = Store(tmp_path), []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 1  # after fp32's only batch

    with pytest.raises(Cancelled):
        run(REQUEST, store, stop=stop)
    again = run(REQUEST, store)
    assert again.utterances == whole.utterances and again.key == whole.key


@pytest.mark.parametrize("name", ["fp32", "faster-whisper-int8", "onnxruntime-int8"])
def test_what_has_none_is_refused_with_the_reason(name, store):
    request = replace(REQUEST, recipe=recipe(name))
    (planned,) = plan([request], store)
    assert planned.status == "refused" and name in planned.reason
    with pytest.raises(RecipeUnsupported):
        run(request, store)


def test_what_cannot_be_predicted_is_left_out(store, tmp_path, jfk):
    """Utterances over 30 s, which no window holds, and those that fp32 finds no words in."""
    import numpy as np
    import soundfile

    samples, rate = soundfile.read(jfk.audio)
    folder = tmp_path / "own"
    folder.mkdir()
    soundfile.write(folder / "long.wav", np.tile(samples, 3), rate)
    soundfile.write(folder / "short.wav", samples, rate)
    (folder / "long.txt").write_text(" ".join([jfk.reference] * 3))
    (folder / "short.txt").write_text(jfk.reference)
    result = run(replace(REQUEST, eval_set=str(folder)), store)
    assert result.left_out == ("long",) and [u.id for u in result.utterances] == ["short"]


def test_grids_measure_it_once_for_every_protocol():
    chosen = [recipe("fp32"), recipe("torch-int8")]
    grid = requests_for(["tiny.en"], chosen, ["jfk"], speed=False, divergence=True)
    assert [(r.recipe.name, r.measures) for r in grid] == [
        ("fp32", "accuracy"),
        ("torch-int8", "accuracy"),
        ("torch-int8", "divergence"),
    ]
    assert grid[-1].protocol == DIVERGENCE_PROTOCOL
    without = requests_for(["tiny.en"], chosen, ["jfk"], speed=False)
    assert {r.measures for r in without} == {"accuracy"}


def test_a_set_that_got_speakers_gives_them_to_the_stored_result(tmp_path, measured):
    folder = tmp_path / "speech"
    folder.mkdir()
    spoken = evaluation_sets.by_name("jfk").utterances[0]
    shutil.copy(spoken.audio, folder)
    row = {"audio": spoken.audio.name, "text": spoken.reference}

    def describe(**fields) -> None:
        (folder / "manifest.jsonl").write_text(json.dumps(row | fields) + "\n")

    store, _ = measured
    request = replace(REQUEST, eval_set=str(folder))
    describe()
    first = run(request, store)
    assert [u.speaker for u in first.utterances] == [None]
    describe(speaker="jfk")
    assert plan([request], store)[0].status == "to run"
    again = run(request, store)
    assert again.key == first.key and [u.speaker for u in again.utterances] == ["jfk"]
    assert [u.speaker for u in store.get(first.key).utterances] == ["jfk"]


def test_audio_is_read_once_for_both_models(tmp_path, monkeypatch):
    read = []
    real = evaluation_sets.read_audio

    def counted(utterance):
        read.append(utterance.id)
        return real(utterance)

    store = Store(tmp_path)
    request = replace(REQUEST, eval_set="jfk")
    run(fp32_transcripts(request), store)
    monkeypatch.setattr(evaluation_sets, "read_audio", counted)
    run(request, store)
    assert len(read) == 1
