"""The object that a notebook works with: quantize, transcribe, save, load."""

from dataclasses import replace

import numpy as np
import pytest

from whisperq_core.errors import (
    AudioError,
    InputError,
    ModelError,
    RecipeError,
    RecipeUnsupported,
)
from whisperq_core.evaluate.runner import Request, run
from whisperq_core.quantize import model_export, quantized_model
from whisperq_core.quantize.quantized_model import load, quantize
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.whisper.protocols import FITTED, SHORT_NAMES
from whisperq_core.whisper.transcription import transcribe

# Most of these tests load real weights.
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def int8():
    return quantize("tiny.en", "torchao-int8")


def test_a_path_bytes_and_samples_give_the_same_transcript(int8, jfk):
    transcript = int8.transcribe(str(jfk.audio))
    assert "your country" in transcript.text
    assert (transcript.language, transcript.language_detected) == ("en", True)
    assert transcript.audio_s == pytest.approx(11.0, abs=0.1) and transcript.wall_s > 0
    assert [(s.start_s, s.end_s, s.text) for s in transcript.segments] == [
        (0.0, transcript.audio_s, transcript.text)
    ]
    for speech in (jfk.audio, jfk.audio.read_bytes(), decode.load(jfk.audio)):
        assert int8.transcribe(speech, language="en").text == transcript.text


def test_the_model_says_how_it_was_quantized(int8):
    assert int8.recipe is recipe("torchao-int8")
    assert "proj_out" in int8.modules
    assert int8.weights_bytes < int8.fp32_bytes
    assert repr(int8).startswith("<QuantizedModel tiny.en · torchao-int8: ")


def test_a_saved_model_loads_and_transcribes_the_same(int8, jfk, tmp_path):
    text = int8.transcribe(jfk.audio).text
    manifest = int8.save(tmp_path / "one")
    assert model_export.read(tmp_path / "one") == manifest
    loaded = load(tmp_path / "one")
    assert loaded.transcribe(jfk.audio).text == text
    assert (loaded.recipe, loaded.modules) == (int8.recipe, int8.modules)
    assert (loaded.weights_bytes, loaded.fp32_bytes) == (int8.weights_bytes, int8.fp32_bytes)
    # What was loaded saves the same bytes again, and knows the size of the fp32 model it lacks.
    loaded.save(tmp_path / "two")
    assert model_export.digest(tmp_path / "two") == model_export.digest(tmp_path / "one")


def test_long_audio_has_segments_with_their_times(int8):
    utterances = evaluation_sets.by_name("test-clean-excerpt").utterances
    longest = sorted(utterances, key=lambda u: u.duration_s)[-3:]
    samples = np.concatenate([evaluation_sets.read_audio(u) for u in longest])
    transcript = int8.transcribe(samples, language="en")
    assert transcript.audio_s > 30 and len(transcript.segments) > 1
    starts = [segment.start_s for segment in transcript.segments]
    assert starts == sorted(starts)


def test_a_recipe_of_ones_own_and_translation():
    german = evaluation_sets.by_name("fleurs-de-example").utterances[0]
    model = quantize("base", recipe("fp32"))
    spoken = model.transcribe(german.audio)
    assert spoken.language == "de"
    assert model.transcribe(german.audio, "de", task="translate").text != spoken.text


@pytest.mark.parametrize("protocol", ["study", "corrected", "fitted", "merged"])
def test_a_recording_has_the_text_that_an_evaluation_under_the_protocol_has(protocol, store):
    """Clips up to 30 s, and speech that loops in a fitted window."""
    request = Request("tiny.en", recipe("fp32"), "quick-look", protocol=SHORT_NAMES[protocol])
    evaluated = {u.id: u.hypothesis for u in run(request, store).utterances}
    model = quantize("tiny.en", "fp32", protocol=protocol)
    for utterance in evaluation_sets.by_name("quick-look").utterances:
        transcript = model.transcribe(utterance.audio, "en", protocol=protocol)
        assert transcript.text == evaluated[utterance.id], utterance.id


@pytest.mark.usefixtures("emulated_bf16")
def test_the_language_is_detected_under_every_protocol(jfk):
    model = quantize("base", "bf16")
    german = evaluation_sets.by_name("fleurs-de-example").utterances[0]
    transcript = model.transcribe(german.audio, protocol="fitted")
    assert (transcript.language, transcript.language_detected) == ("de", True)
    assert "Insel" in transcript.text


def test_what_loops_in_a_fitted_window_is_decoded_again_as_in_an_evaluation(monkeypatch):
    """Cutting right after the speech makes tiny.en repeat itself, which folding does not."""
    looping = replace(FITTED, margin_s=0.0, fold=None)
    monkeypatch.setitem(SHORT_NAMES, "fitted", looping)
    model = quantize("tiny.en", "fp32")
    audio = [
        evaluation_sets.read_audio(one)
        for one in evaluation_sets.by_name("quick-look").utterances[:4]
    ]
    evaluated = transcribe(model.source, model.source.torch_model, audio, ["en"] * 4, looping)
    assert any(evaluated.redone)
    found = [model.transcribe(one, "en", protocol="fitted").text for one in audio]
    assert found == list(evaluated.texts)


def test_what_cannot_be_done_is_refused(int8, tmp_path, jfk):
    with pytest.raises(RecipeError, match="no recipe named"):
        quantize("tiny.en", "int99")
    with pytest.raises(RecipeUnsupported, match="calibrated on evaluation data"):
        quantize("tiny.en", "quanto-int8-int8-eval10")
    with pytest.raises(ModelError):
        quantize("no-such-model", "fp32")
    with pytest.raises(AudioError):
        int8.transcribe(tmp_path / "missing.wav")
    with pytest.raises(AudioError):
        int8.transcribe(b"this is no sound")
    with pytest.raises(ModelError):
        int8.transcribe(jfk.audio, language="de")
    runtime = quantized_model.quantize("tiny.en", "faster-whisper-int8")
    with pytest.raises(RecipeUnsupported, match="files of its own"):
        runtime.save(tmp_path / "x")
    with pytest.raises(RecipeUnsupported, match="always uses a 30 s window"):
        runtime.transcribe(jfk.audio, protocol="fitted")
    with pytest.raises(InputError, match="no protocol"):
        int8.transcribe(jfk.audio, protocol="fast")
