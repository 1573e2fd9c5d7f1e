import numpy as np
import pytest

from tests.support.synthetic_noise import pink
from whisperq_core.errors import AudioError, InputError, RecipeUnsupported
from whisperq_core.quantize.file_transcription import (
    Transcription,
    TranscriptionConfig,
    measure_divergence,
    transcribe_file,
)
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.whisper.protocols import SHORT_NAMES

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


def test_divergence_from_fp32_needs_no_reference(jfk, tmp_path):
    baseline = transcribe_file(jfk.audio, FP32)
    assert baseline.load_s > 0

    def divergence(name: str, path=jfk.audio, along=baseline):
        config = TranscriptionConfig("tiny.en", recipe(name), "en")
        return measure_divergence(path, config, along)

    same, coarse = divergence("fp32"), divergence("hqq-int4-g64")
    assert same.tokens == coarse.tokens > 20 and same.nats < 1e-3
    assert coarse.nats_per_token > 0.005
    assert divergence("faster-whisper-int8") is None
    # A long one is measured piece by piece, along the words that were said in each.
    samples = decode.load(jfk.audio)
    path = tmp_path / "long.wav"
    path.write_bytes(decode.encode_wav(np.concatenate([samples, np.zeros_like(samples)] * 3)))
    long = divergence("hqq-int4-g64", path, transcribe_file(path, FP32))
    assert long.tokens == pytest.approx(3 * coarse.tokens, rel=0.2)
    assert long.nats_per_token == pytest.approx(coarse.nats_per_token, rel=0.5)


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


def test_text_over_noise_is_marked_as_invented(tmp_path, jfk):
    path, noise = tmp_path / "a.wav", pink(10)
    path.write_bytes(decode.encode_wav(noise))
    found = transcribe_file(path, FP32)
    assert found.text and not found.silent and not found.has_speech and found.speech_s == 0
    assert [phrase.text for phrase in found.hallucinated] == [" ".join(w.text for w in found.words)]

    path.write_bytes(decode.encode_wav(np.concatenate([decode.load(jfk.audio), noise])))
    found = transcribe_file(path, FP32)
    assert found.has_speech and 6 < found.speech_s < 11
    assert all(word.over_speech == (word.start_s < 11.5) for word in found.words)

    found = transcribe_file(jfk.audio, FP32)
    assert found.has_speech and not found.hallucinated


def test_a_translation_is_marked_by_segment(tmp_path):
    # Its words' own times are estimates.
    german = evaluation_sets.by_name("fleurs-de-example").utterances[0]
    config = TranscriptionConfig("base", recipe("fp32"), "de", "translate")
    found = transcribe_file(german.audio, config)
    assert found.words_note and found.words and not found.hallucinated
    path = tmp_path / "noise.wav"
    path.write_bytes(decode.encode_wav(pink(10)))
    found = transcribe_file(path, config)
    assert not any(word.over_speech for word in found.words) and not found.has_speech


def test_what_was_stored_before_speech_was_measured_is_read():
    stored = {"text": "a", "words": [{"text": "a", "start_s": 0, "end_s": 1}], "language": "en"}
    stored |= {"detected": False, "audio_s": 1, "wall_s": 1, "weights_bytes": 1, "fp32_bytes": 1}
    found = Transcription(**stored, silent=False, looped=False)
    assert found.has_speech and found.speech_s is None and not found.hallucinated


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


def test_the_protocol_is_in_the_key_where_it_is_not_the_studys():
    def key(protocol: str) -> str:
        return TranscriptionConfig("tiny.en", recipe("fp32"), "en", protocol=protocol).key

    assert key("study") == FP32.key
    assert len({key(name) for name in SHORT_NAMES}) == len(SHORT_NAMES)
    with pytest.raises(InputError, match=r"There is no protocol 'fast'\. There are: study, "):
        key("fast")


def test_a_runtime_that_cannot_follow_the_protocol_says_so(jfk):
    config = TranscriptionConfig("tiny.en", recipe("faster-whisper-int8"), "en", protocol="fitted")
    with pytest.raises(RecipeUnsupported, match="always uses a 30 s window"):
        transcribe_file(jfk.audio, config)


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


def test_languages_are_taken_as_people_write_them():
    for language in ("English", "en-US", "EN", " en "):
        assert TranscriptionConfig("tiny.en", recipe("fp32"), language).key == FP32.key
    assert TranscriptionConfig("base", recipe("fp32"), "AUTO").language == "auto"
    with pytest.raises(InputError, match="'Klingon' is not a language that Whisper knows"):
        TranscriptionConfig("base", recipe("fp32"), "Klingon")
