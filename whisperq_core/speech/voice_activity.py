"""Where a recording probably has speech.

Whisper invents words where nobody speaks. Silero's voice activity detector, which comes with
faster-whisper, gives a probability of speech to every 32 ms, in any language. `python -m
benchmarks.speech_detection` measures how well it does; the threshold below was chosen there.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from whisperq_core.speech.decode import SAMPLE_RATE

FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
# The probability is averaged over about the length of a syllable: single frames of bird song or of
# a knock come close to 1.
SMOOTHED_FRAMES = 8
# An averaged probability from here on is speech.
THRESHOLD = 0.5
# The detector takes speech with peaks far below full scale for silence, so that quiet recordings
# are scaled up to this peak.
_PEAK = 0.5
# A word's time may be off by so much.
MARGIN_S = 0.5

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SpeechActivity:
    """The stretches of a recording that probably hold speech.

    spans: their starts and ends in seconds, in order and apart. duration_s: of the recording.
    """

    spans: tuple[tuple[float, float], ...]
    duration_s: float

    @property
    def speech_s(self) -> float:
        """Seconds of probable speech."""
        return sum(end - start for start, end in self.spans)

    @property
    def has_speech(self) -> bool:
        """Whether anyone speaks at all, probably."""
        return bool(self.spans)

    def has_speech_at(self, start_s: float, end_s: float) -> bool:
        """Whether anyone probably speaks between two times, or within MARGIN_S of them."""
        return any(
            start < end_s + MARGIN_S and end > start_s - MARGIN_S for start, end in self.spans
        )


def speech_activity(samples: Array, threshold: float = THRESHOLD) -> SpeechActivity:
    """Where 16 kHz mono samples, shape (samples,), probably hold speech."""
    duration_s = len(samples) / SAMPLE_RATE
    smoothed = smoothed_probabilities(samples)
    # Each average says something of all its frames.
    is_speech = np.convolve(smoothed >= threshold, np.ones(SMOOTHED_FRAMES)) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_speech, [False]])))
    spans = (edges.reshape(-1, 2) * FRAME_S).clip(max=duration_s)
    return SpeechActivity(tuple((float(a), float(b)) for a, b in spans), duration_s)


def smoothed_probabilities(samples: Array) -> Array:
    """Averages of SMOOTHED_FRAMES frames' probabilities of speech, one from each frame on.

    samples: 16 kHz mono, shape (samples,). Shape (frames - SMOOTHED_FRAMES + 1,); what is shorter
    is padded with silence.
    """
    least = SMOOTHED_FRAMES * FRAME_SAMPLES
    padding = max(least - len(samples), -len(samples) % FRAME_SAMPLES)
    # A copy in any case: the detector writes to its input.
    padded = np.pad(samples, (0, padding)).astype(np.float32)
    peak = float(np.abs(padded).max())
    if 0 < peak < _PEAK:
        padded *= _PEAK / peak
    probabilities = _detector()(padded).ravel()
    averages: Array = np.convolve(
        probabilities, np.full(SMOOTHED_FRAMES, 1 / SMOOTHED_FRAMES), "valid"
    ).astype(np.float32)
    return averages


@lru_cache(maxsize=1)
def _detector() -> Any:
    from faster_whisper.vad import get_vad_model

    return get_vad_model()
