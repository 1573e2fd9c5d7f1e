"""Long utterances in an evaluation: what `transcribe` hears, under a key of their own."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.support.small_sets import write_jsonl
from whisperq_core.errors import EvalSetError
from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import quantized_model
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import long_recordings
from whisperq_core.whisper.protocols import CORRECTED, FITTED, MERGED, STUDY

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def long_and_short(tmp_path_factory) -> str:
    """A folder of a recording of a minute of real speech, one of a sentence, and silence."""
    folder = tmp_path_factory.mktemp("speech")
    recording = evaluation_sets.by_name("test-other-25-speakers+joined:1min").utterances[2]
    samples = evaluation_sets.read_audio(recording)
    first = evaluation_sets.by_name("test-other-25-speakers").utterances[0]
    rows = []
    for name, audio, reference in (
        ("long", samples, recording.reference),
        ("short", evaluation_sets.read_audio(first), first.reference),
        ("silent", np.zeros(16_000 * 31), ""),
    ):
        soundfile.write(folder / f"{name}.flac", audio, 16_000)
        rows.append({"audio": f"{name}.flac", "id": name, "text": reference})
    write_jsonl(folder, *rows)
    return str(folder)


@pytest.fixture(scope="module")
def request_(long_and_short) -> Request:
    return Request("tiny.en", recipe("fp32"), long_and_short, protocol=FITTED, threads=2)


@pytest.fixture(scope="module")
def evaluated(request_, tmp_path_factory):
    return run(request_, Store(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize("protocol", ["fitted", "merged"])
def test_texts_are_those_of_transcribe(protocol, evaluated, request_, store):
    if protocol == "merged":
        evaluated = run(replace(request_, protocol=MERGED), store)
    texts = {u.id: u.hypothesis for u in evaluated.utterances}
    model = quantized_model.quantize("tiny.en", "fp32")
    for utterance in evaluation_sets.by_name(request_.eval_set).utterances:
        samples = evaluation_sets.read_audio(utterance)
        assert texts[utterance.id] == model.transcribe(samples, "en", protocol=protocol).text
    assert texts["silent"] == "" and len(texts["long"].split()) > 50


def test_a_recording_is_a_batch_with_a_time(evaluated):
    assert [batch.utterances for batch in evaluated.batches] == [1, 1, 1]
    assert all(batch.wall_s > 0 for batch in evaluated.batches)
    assert evaluated.words.rate < 40


def test_what_cut_it_is_part_of_the_identity(request_, evaluated, monkeypatch):
    spec = evaluated.spec
    assert spec.cutting == long_recordings.VERSION and spec.versions["faster-whisper"]
    uncut = spec.model_copy(update={"cutting": None})
    assert uncut.key != spec.key == resolve(request_).key
    monkeypatch.setattr(long_recordings, "VERSION", 99)
    assert resolve(request_).key != spec.key


@pytest.mark.parametrize("protocol", [STUDY, CORRECTED, FITTED])
def test_no_other_result_has_it(protocol, request_):
    name = "quick-look" if protocol is FITTED else request_.eval_set
    spec = resolve(replace(request_, protocol=protocol, eval_set=name)).spec
    assert spec.cutting is None and "faster-whisper" not in spec.versions


def test_speed_is_timed_with_the_pauses_found(request_, store):
    timed = run(replace(request_, measures="speed"), store)
    assert timed.spec.cutting == long_recordings.VERSION
    assert all(one.wall_s > 0 for one in timed.passes) and timed.tokens_per_s() > 0


def test_slow_kernels_are_for_little_speech_only(request_):
    hqq = replace(request_, recipe=recipe("hqq-int4-g64"))
    assert resolve(hqq).spec.kernels == "library"
    joined = replace(hqq, eval_set="test-other-25-speakers+joined:5min")
    assert resolve(joined).spec.kernels == "dequantized"


def test_divergence_of_long_utterances_only_is_refused(request_, store):
    diverging = replace(request_, measures="divergence", recipe=recipe("torch-int8"))
    assert resolve(diverging).spec.cutting is None  # the short one is measured as before
    joined = replace(diverging, eval_set="test-other-25-speakers+joined:5min")
    [planned] = plan([joined], store)
    assert planned.status == "refused" and "window of 30 s" in planned.reason
    with pytest.raises(EvalSetError, match="every utterance of test-other-25-speakers"):
        run(joined, store)


def test_runtimes_with_a_window_of_their_own_are_refused(request_, store):
    [planned] = plan([replace(request_, recipe=recipe("onnxruntime-int8"))], store)
    assert planned.status == "refused" and "30 s window" in planned.reason
