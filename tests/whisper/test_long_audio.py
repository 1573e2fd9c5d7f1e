"""Utterances over 30 s, joined from shipped ones: every protocol, runtime and measurement."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from tests.support.small_sets import write_jsonl
from whisperq_core.evaluate.runner import Request, run
from whisperq_core.quantize import backends, calibration, pipeline
from whisperq_core.quantize.calibration import SPEECH_ONLY
from whisperq_core.quantize.recipes import recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper.protocols import CORRECTED, FITTED, MERGED, STUDY
from whisperq_core.whisper.transcription import detect_language, forward, transcribe, warm_up
from whisperq_core.whisper.word_timestamps import timed_words

# Most of these tests load real weights.
pytestmark = pytest.mark.model


PARTS = evaluation_sets.by_name("quick-look").utterances


@pytest.fixture(scope="module")
def mixed_set(tmp_path_factory):
    """A folder of four utterances: one of about 35 s, two short ones and digital silence."""
    folder = tmp_path_factory.mktemp("mixed")
    joined = np.concatenate([evaluation_sets.read_audio(u) for u in PARTS[:5]])
    assert len(joined) > 33 * SAMPLE_RATE
    speech = {
        "long": (joined, " ".join(u.reference for u in PARTS[:5])),
        "short-1": (evaluation_sets.read_audio(PARTS[5]), PARTS[5].reference),
        "short-2": (evaluation_sets.read_audio(PARTS[7]), PARTS[7].reference),
    }
    speech["silence"] = np.zeros(3 * SAMPLE_RATE, np.float32), ""
    for name, (samples, _) in speech.items():
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
    rows = ({"audio": f"{name}.wav", "text": text} for name, (_, text) in speech.items())
    write_jsonl(folder, *rows)
    return folder


@pytest.fixture(scope="module")
def long_utterance(mixed_set) -> Utterance:
    [found] = [u for u in evaluation_sets.by_name(str(mixed_set)).utterances if u.duration_s > 30]
    return found


@pytest.fixture(scope="module")
def long_audio(long_utterance):
    return evaluation_sets.read_audio(long_utterance)


def word_error_rate(reference: str, hypothesis: str) -> float:
    return error_rates.score(reference, hypothesis, "en").words.rate


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *(("fp32", protocol) for protocol in (STUDY, CORRECTED, FITTED, MERGED)),
        ("torch-int8", FITTED),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_set_with_one_long_utterance_can_be_evaluated(name, protocol, mixed_set, store):
    if reason := backends.unavailable_reason(recipe(name), "cpu"):
        pytest.skip(reason)
    result = run(Request("tiny.en", recipe(name), str(mixed_set), protocol=protocol), store)
    *spoken, silence = result.utterances
    assert [u.id for u in spoken] == ["long", "short-1", "short-2"] and silence.id == "silence"
    assert [batch.utterances for batch in result.batches] == [1, 3]
    assert all(word_error_rate(u.reference, u.hypothesis) < 25 for u in spoken)
    # All that is written of silence counts as inserted, in the whole set's rate, too.
    inserted = silence.score.words
    assert (inserted.reference_length, inserted.errors) == (0, inserted.insertions)
    assert inserted.insertions == len(silence.hypothesis.split()) <= 2
    counts = [u.score.words for u in result.utterances]
    assert result.words.errors == sum(one.errors for one in counts)
    assert result.words.reference_length == sum(len(u.reference.split()) for u in spoken)


def test_its_speed_can_be_measured(mixed_set, store, monkeypatch):
    monkeypatch.setattr("whisperq_core.evaluate.resolution.SPEED_REPEATS", 1)
    request = Request("tiny.en", recipe("torch-int8"), str(mixed_set), "speed")
    assert [one.subject for one in run(request, store).passes] == ["fp32", "recipe"]


def test_a_recipe_may_calibrate_on_a_long_utterance(tiny, long_utterance):
    """Of which it is shown the first 30 s, and what fp32 transcribes in these."""
    [(samples, tokens)] = calibration.teacher_forced_inputs(tiny, [long_utterance], STUDY)
    assert len(samples) == 30 * SAMPLE_RATE and len(tokens) < 448
    for window in (None, SPEECH_ONLY):
        seen = []
        hook = tiny.torch_model.model.encoder.layers[0].register_forward_hook(
            lambda *_, seen=seen: seen.append(True)
        )
        calibration.calibrate_on(tiny, [long_utterance], STUDY, window)(tiny.torch_model)
        hook.remove()
        assert seen == [True]


def test_a_static_recipe_evaluates_a_set_that_it_calibrates_on(mixed_set, store, long_utterance):
    eval_set = evaluation_sets.by_name(str(mixed_set))
    static = recipe("quanto-int8-int8-eval10")
    if reason := backends.unavailable_reason(static, "cpu"):
        pytest.skip(reason)
    ten = tuple(replace(long_utterance, id=f"long-{number}") for number in range(10))
    only_long = replace(eval_set, utterances=ten)
    [drawn] = calibration.utterances_for(static, only_long)
    assert drawn in ten
    model = pipeline.load_model("tiny.en")
    quantized = pipeline.quantize_model(model, static, only_long, "cpu", STUDY)
    runtime = pipeline.runtime_of(model, quantized)
    audio = [evaluation_sets.read_audio(long_utterance)]
    runtime.warm_up(audio)
    [text] = runtime.transcribe(audio, ["en"], STUDY).texts
    assert word_error_rate(long_utterance.reference, text) < 30


def test_one_pass_sees_the_first_30_s(tiny, long_audio):
    start = [tiny.prompt("en", "transcribe")]
    cut = forward(tiny, tiny.torch_model, [long_audio[: 30 * SAMPLE_RATE]], start)
    assert torch.equal(forward(tiny, tiny.torch_model, [long_audio], start), cut)
    warm_up(tiny, tiny.torch_model, [long_audio])


def test_the_language_is_that_of_the_first_30_s(base, long_audio):
    assert detect_language(base, long_audio) == "en"


@pytest.mark.parametrize("name", ["faster-whisper-fp32", "onnxruntime-int8", "openvino-int8"])
def test_every_runtime_transcribes_it(name, opened_runtimes, long_audio):
    """From its beginning to its end; what an early end of text in a window loses is the model's."""
    if reason := backends.unavailable_reason(recipe(name), "cpu"):
        pytest.skip(reason)
    runtime = opened_runtimes[name].runtime
    runtime.warm_up([long_audio])
    found = runtime.transcribe([long_audio], ["en"], STUDY)
    assert len(found.texts) == len(found.temperatures) == 1
    assert "compass" in found.texts[0] and found.texts[0].endswith("of what he said.")


def test_a_sentence_across_30_s_is_neither_lost_nor_doubled(tiny, jfk):
    samples = evaluation_sets.read_audio(jfk)
    audio = np.concatenate([np.zeros(22 * SAMPLE_RATE, np.float32), samples])
    found = transcribe(tiny, tiny.torch_model, [audio], ["en"], STUDY)
    assert len(found.segments) > 1
    assert word_error_rate(jfk.reference, found.texts[0]) == 0


def test_long_silence_is_a_word_or_two_at_most(tiny):
    """Whisper hallucinates a word for digital silence, with confidence; the app says so."""
    silence = np.zeros(45 * SAMPLE_RATE, np.float32)
    for protocol in (STUDY, CORRECTED):
        found = transcribe(tiny, tiny.torch_model, [silence], ["en"], protocol)
        assert len(found.texts[0].split()) <= 2
        words = timed_words(tiny, silence, found.segments, "en", "transcribe")
        assert all(0 <= word.start_s <= word.end_s <= 45 for word in words)


def test_long_speech_is_translated(base):
    german = evaluation_sets.by_name("fleurs-de-example").utterances[0]
    audio = np.tile(evaluation_sets.read_audio(german), 2)
    assert len(audio) > 30 * SAMPLE_RATE
    found = transcribe(base, base.torch_model, [audio], ["de"], replace(STUDY, task="translate"))
    assert found.texts[0].count("leave the island") == 2
