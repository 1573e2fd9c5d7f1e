"""Where a recording has speech; the threshold is measured by benchmarks/speech_detection.py."""

import numpy as np
import pytest

from tests.support.synthetic_noise import pink
from whisperq_core.speech import decode, evaluation_sets, voice_activity
from whisperq_core.speech.voice_activity import MARGIN_S, speech_activity

RATE = decode.SAMPLE_RATE


@pytest.fixture(scope="module")
def speech():
    return evaluation_sets.read_audio(evaluation_sets.by_name("test-clean-excerpt").utterances[0])


@pytest.mark.parametrize(
    "noise",
    [
        pink(10),
        pink(10, level=0.0002),
        np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32),
        (0.1 * np.sin(2 * np.pi * 50 * np.arange(10 * RATE) / RATE)).astype(np.float32),
        np.zeros(10 * RATE, np.float32),
        np.zeros(0, np.float32),
        np.ones(1, np.float32),
    ],
    ids=["room", "faint room", "white", "hum", "zeros", "empty", "one sample"],
)
def test_noise_is_no_speech(noise):
    before = noise.copy()
    found = speech_activity(noise)
    assert (found.spans, found.speech_s, found.has_speech) == ((), 0.0, False)
    assert not found.has_speech_at(0, 10)
    np.testing.assert_array_equal(noise, before)


@pytest.mark.parametrize("peak_db", [0, -20, -40, -66])
def test_speech_is_speech_at_any_level(speech, peak_db):
    found = speech_activity(speech / np.abs(speech).max() * np.float32(10 ** (peak_db / 20)))
    assert found.speech_s > 0.6 * len(speech) / RATE


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_speech_in_noise_is_speech(speech, snr_db):
    noise = pink(len(speech) / RATE, float(speech.std()) * 10 ** (-snr_db / 20))
    assert speech_activity(speech + noise[: len(speech)]).speech_s > 0.4 * len(speech) / RATE


def test_spans_say_where_speech_begins_and_ends(speech):
    before, after = pink(7), pink(7, seed=1)
    found = speech_activity(np.concatenate([before, speech, after]))
    end_s = 7 + len(speech) / RATE
    assert found.duration_s == pytest.approx(end_s + 7)
    assert found.spans[0][0] == pytest.approx(7, abs=MARGIN_S + 0.5)
    assert found.spans[-1][1] == pytest.approx(end_s, abs=MARGIN_S + 0.5)
    assert found.has_speech_at(7, end_s)
    assert not found.has_speech_at(0, 5) and not found.has_speech_at(end_s + 2, end_s + 7)
    assert list(found.spans) == sorted(found.spans)


@pytest.mark.parametrize("seconds", [0.01, 3.0, 9.99, 40.0])
def test_probabilities_are_the_detectors_own(speech, seconds, monkeypatch):
    """Block by block, they are those of its own call on all of the recording."""
    monkeypatch.setattr(voice_activity, "_BLOCK_FRAMES", 300)
    samples = np.resize(speech, int(seconds * RATE)) * np.float32(0.3)
    found = voice_activity.frame_probabilities(samples)
    length = max(voice_activity.SMOOTHED_FRAMES, -(-len(samples) // 512)) * 512
    padded = np.pad(samples, (0, length - len(samples)))
    peak = float(np.abs(padded).max())
    padded *= 0.5 / peak if peak < 0.5 else 1
    np.testing.assert_allclose(found, voice_activity._detector()(padded).ravel(), atol=1e-6)
