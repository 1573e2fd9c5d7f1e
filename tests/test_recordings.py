import numpy as np
import pytest

from whisperq_core import audio, eval_sets
from whisperq_core.errors import AudioError, RecipeUnsupported
from whisperq_core.recipes import recipe
from whisperq_core.recordings import Recording, hear


@pytest.fixture(scope="module")
def said(jfk):
    return Recording("jfk.flac", jfk.audio.read_bytes(), jfk.reference)


def test_a_recording_is_heard_and_scored(said):
    found = hear(said, "tiny.en", recipe("torch-int8"), language="en")
    assert "your country" in found.text and not found.looped and not found.silent
    assert found.audio_s == pytest.approx(11.0, abs=0.1)
    assert found.score.words.rate < 10 and found.rtf == found.wall_s / found.audio_s
    assert found.weights_bytes < found.fp32_bytes


def test_without_a_reference_there_is_no_score_and_the_language_is_detected():
    german = eval_sets.by_name("fleurs-de-example").utterances[0]
    found = hear(Recording("x", german.audio.read_bytes()), "base", recipe("fp32"))
    assert (found.language, found.detected, found.score) == ("de", True, None)


def test_silence_is_said_to_be_silence():
    silent = audio.encode_wav(np.zeros(16_000, np.float32))
    assert hear(Recording("s.wav", silent), "tiny.en", recipe("fp32")).silent


@pytest.mark.parametrize("data", [b"", b"this is no sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_audio_is_one_sentence(data):
    with pytest.raises(AudioError, match=r"^[^\n]{15,200}$"):
        hear(Recording("notes.wav", data), "tiny.en", recipe("fp32"))


def test_a_recipe_calibrated_on_evaluation_data_is_refused(said):
    with pytest.raises(RecipeUnsupported, match="calibrated on evaluation data"):
        hear(said, "tiny.en", recipe("quanto-int8-int8-eval10"))
