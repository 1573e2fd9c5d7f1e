"""Where a recording probably has speech.

Whisper hallucinates words where nobody speaks. Silero's voice activity detector, which comes with
faster-whisper, gives a probability of speech to every 32 ms, in any language. `python -m
benchmarks.speech_detection` measures how well it does; the threshold below was chosen there.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

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
# Frames that the detector is given at a time: about five minutes.
_BLOCK_FRAMES = 10_000
# Samples of the frame before that the detector sees with each frame, and the width of its state.
_CONTEXT, _STATE = 64, 128
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
    return activity_from(frame_probabilities(samples), len(samples) / SAMPLE_RATE, threshold)


def activity_from(
    probabilities: Array, duration_s: float, threshold: float = THRESHOLD
) -> SpeechActivity:
    """Where a recording of that duration probably holds speech, from `frame_probabilities`."""
    smoothed = _smoothed(probabilities)
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
    return _smoothed(frame_probabilities(samples))


def _smoothed(probabilities: Array) -> Array:
    averages: Array = np.convolve(
        probabilities, np.full(SMOOTHED_FRAMES, 1 / SMOOTHED_FRAMES), "valid"
    ).astype(np.float32)
    return averages


def frame_probabilities(samples: Array) -> Array:
    """Probability of speech of each frame of FRAME_SAMPLES, shape (frames,).

    samples: 16 kHz mono, shape (samples,); a last frame that is not full, and what is shorter than
    SMOOTHED_FRAMES, is padded with silence. Taken block by block, so that two hours need no more
    memory than five minutes; the detector's state goes on from block to block.
    """
    frames = max(SMOOTHED_FRAMES, -(-len(samples) // FRAME_SAMPLES))
    peak = max(float(samples.max()), -float(samples.min())) if len(samples) else 0.0
    scale = _PEAK / peak if 0 < peak < _PEAK else 1.0
    session = _detector().session
    state = [np.zeros((1, 1, _STATE), np.float32) for _ in range(2)]
    before, found = np.zeros(_CONTEXT, np.float32), []
    for first in range(0, frames, _BLOCK_FRAMES):
        count = min(_BLOCK_FRAMES, frames - first)
        block = np.zeros(_CONTEXT + count * FRAME_SAMPLES, np.float32)
        part = samples[first * FRAME_SAMPLES : (first + count) * FRAME_SAMPLES]
        block[_CONTEXT : _CONTEXT + len(part)] = part
        block *= scale
        block[:_CONTEXT] = before
        if first + count == frames:  # as the detector's own call does
            block[-_CONTEXT:] = 0
        # Each frame with the end of the one before.
        windows = sliding_window_view(block, _CONTEXT + FRAME_SAMPLES)[::FRAME_SAMPLES]
        inputs = {"input": np.ascontiguousarray(windows), "h": state[0], "c": state[1]}
        probabilities, *state = session.run(None, inputs)
        found.append(probabilities.ravel())
        before = block[-_CONTEXT:]
    return np.concatenate(found).astype(np.float32)


@lru_cache(maxsize=1)
def _detector() -> Any:
    from faster_whisper.vad import get_vad_model

    return get_vad_model()
