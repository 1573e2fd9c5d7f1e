"""The level of speech: pauses do not count, and its scale does not matter."""

import math

import numpy as np
import pytest

from whisperq_core.speech.evaluation_sets import read_audio, shipped_sets
from whisperq_core.speech.speech_level import speech_power

RATE = 16_000


def decibels(power: float) -> float:
    return 10 * math.log10(power)


def test_a_steady_tone_has_its_own_power():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE)
    assert decibels(speech_power(tone, RATE)) == pytest.approx(decibels(0.125), abs=0.1)


@pytest.mark.parametrize("scale", [1, 0.001])
def test_a_tone_half_of_the_time_has_the_power_of_the_tone(scale):
    tone = scale * np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    tone[4 * RATE :] = 0
    level = decibels(speech_power(tone, RATE)) - 20 * math.log10(scale)
    # The 0.2 s after it count as speech, too.
    assert level == pytest.approx(decibels(0.5 * 4 / 4.2), abs=0.1)


def test_pauses_do_not_lower_the_level_of_speech():
    speech = read_audio(shipped_sets()["jfk"].utterances[0])
    level = decibels(speech_power(speech, RATE))
    longer = np.concatenate([np.zeros(30 * RATE, np.float32), speech, np.zeros(30 * RATE)])
    # But for the 0.2 s after its end.
    assert decibels(speech_power(longer, RATE)) == pytest.approx(level, abs=0.15)
    # Somebody speaks most of the time, and the mean over all of it is lower.
    assert 0.3 < level - decibels(float(np.mean(np.square(speech)))) < 6


def test_silence_has_no_level():
    assert speech_power(np.zeros(RATE), RATE) == 0
    assert speech_power(np.zeros(0), RATE) == 0
