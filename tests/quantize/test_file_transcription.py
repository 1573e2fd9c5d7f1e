import numpy as np
import pytest

from whisperq_core.errors import AudioError, RecipeUnsupported
from whisperq_core.quantize.file_transcription import TranscriptionConfig, transcribe_file
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import decode, evaluation_sets

# Most of these tests load real weights.
pytestmark = pytest.mark.model


FP32 = TranscriptionConfig("tiny.en", recipe("fp32"), "en")


def test_a_recording_is_heard_with_the_times_of_its_words(jfk):
    found = transcribe_file(jfk.audio, TranscriptionConfig("tiny.en", recipe("torch-int8"), "en"))
    assert "your country" in found.text and not found.looped and not found.silent
    assert found.audio_s == pytest.approx(11.0, abs=0.1)
    assert found.rtf == found.wall_s / found.audio_s
    assert found.weights_bytes < found.fp32_bytes
    assert [word.text for word in found.words] == found.text.split()
    assert 9 < found.words[-1].start_s < 11


def test_the_language_is_detected():
    german = evaluation_sets.by_name("fleurs-de-example").utterances[0]
    found = transcribe_file(german.audio, TranscriptionConfig("base", recipe("fp32")))
    assert (found.language, found.detected) == ("de", True)


def test_silence_is_said_to_be_silence(tmp_path):
    silent = tmp_path / "s.wav"
    silent.write_bytes(decode.encode_wav(np.zeros(16_000, np.float32)))
    assert transcribe_file(silent, FP32).silent


def test_silence_gets_no_text(tmp_path):
    silent = tmp_path / "s.wav"
    silent.write_bytes(decode.encode_wav(np.zeros(45 * 16_000, np.float32)))
    for config in (FP32, TranscriptionConfig("tiny.en", recipe("fp32"))):
        found = transcribe_file(silent, config)
        assert (found.text, found.words, found.silent, found.language) == ("", (), True, "en")
        assert not found.detected and found.audio_s == pytest.approx(45)


@pytest.mark.parametrize("data", [b"", b"this is no sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_audio_is_one_sentence(tmp_path, data):
    (tmp_path / "original").write_bytes(data)
    with pytest.raises(AudioError, match=r"^notes.wav[^\n]{15,200}$"):
        transcribe_file(tmp_path / "original", FP32, "notes.wav")


def test_a_recipe_calibrated_on_evaluation_data_is_refused(jfk):
    with pytest.raises(RecipeUnsupported, match="calibrated on evaluation data"):
        transcribe_file(
            jfk.audio, TranscriptionConfig("tiny.en", recipe("quanto-int8-int8-eval10"), "en")
        )


def test_the_key_of_a_published_model_is_pinned():
    # Transcriptions of recordings are stored under this key.
    assert FP32.key == "831a6d45890fa335"


def test_replacing_the_weights_in_a_folder_changes_the_key(tmp_path):
    from safetensors.numpy import save_file

    def write(value: float) -> str:
        shape = {"model.encoder.embed_positions.weight": (2, 4), "model.encoder.conv1.weight": (4,)}
        tensors = {name: np.full(sizes, value, np.float32) for name, sizes in shape.items()}
        save_file(tensors, tmp_path / "model.safetensors")
        return TranscriptionConfig(str(tmp_path), recipe("fp32"), "en").key

    unreadable = TranscriptionConfig(str(tmp_path), recipe("fp32"), "en").key
    assert len({unreadable, write(1.0), write(2.0)}) == 3
    assert write(2.0) == write(2.0)
