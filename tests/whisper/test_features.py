import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.features import LogMel
from whisperq_core.whisper.transcription import plan_batches

SECOND = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)


@pytest.fixture(scope="module")
def extractor():
    return WhisperFeatureExtractor(feature_size=80)


def same_bits(one, other):
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def extracted(extractor, audio, **shape):
    return extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt", **shape).input_features


def test_features_are_the_extractor_s_bit_for_bit_first_and_later(extractor):
    features = LogMel(80)
    utterances = evaluation_sets.by_name("test-clean-excerpt").utterances
    for batch in plan_batches(utterances, 8):
        audio = [evaluation_sets.read_audio(u) for u in batch]
        expected = extracted(extractor, audio)
        assert same_bits(features.windows(audio), expected)
        assert same_bits(features.windows(audio[::-1]), expected.flip(0))
    speech_s = sum(u.duration_s for u in utterances)
    # 100 frames a second of 80 float32 values, and two or three that reach over the end.
    assert features.bytes == pytest.approx(speech_s * 100 * 80 * 4, rel=0.01)


@pytest.mark.parametrize("seconds", [0.001, 29.99, 30, 31])
def test_silence_and_recordings_that_fill_the_window(extractor, seconds):
    features, samples = LogMel(80), int(seconds * SAMPLE_RATE)
    for audio in (np.tile(SECOND, 31)[:samples], np.zeros(samples, np.float32)):
        for _ in range(2):
            assert same_bits(features.windows([audio]), extracted(extractor, [audio]))


def test_a_recording_over_the_window_is_whole_with_its_mask(extractor):
    audio = np.tile(SECOND, 31)
    features, mask = LogMel(80).whole(audio)
    assert features.shape == (1, 80, 3100) and mask.shape == (1, 3100) and mask.all()
    shape = {"padding": "longest", "truncation": False}
    assert same_bits(features, extracted(extractor, [audio], **shape))


def test_what_is_kept_is_bounded_and_the_latest_stays(extractor):
    features = LogMel(80, cache_bytes=250 * 80 * 4)  # two of a second, not three
    sounds = [SECOND * loudness for loudness in (0.1, 0.2, 0.3)]
    for sound in (*sounds, *sounds):
        assert same_bits(features.windows([sound]), extracted(extractor, [sound]))
        assert features.bytes <= features.cache_bytes
    assert len(features._cached) == 2
    assert LogMel(80, cache_bytes=0).windows(sounds).shape == (3, 80, 3000)
