"""Cuts a long recording into pieces that fit Whisper's window.

Pieces begin and end in pauses. Left out is only what has neither speech, by Silero's voice activity
detector, nor any other sound that rises and falls as speech does: a detector misses some speech
under music or noise. Where nobody pauses for the length of a piece, it is cut at the quietest
place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.voice_activity import FRAME_S, FRAME_SAMPLES, Array

# A window holds 30 s; the encoder sees some silence after the speech, too.
LONGEST_S = 28.0
# A frame with a probability of speech from here on is kept, with so much before and after it.
_SPEECH, _MARGIN_S = 0.35, 0.5
# Between kept stretches so far apart or less, nothing is left out.
_GAP_S = 2.0
# A cut is made where the probability of speech is lower than this, in the longest such pause.
_PAUSE, _SHORTEST_PAUSE_S = 0.35, 0.1
# Sound that the detector does not call speech is kept, too, where it is at most so far below speech
# and at least so far above the quietest tenth of the time around it.
_BELOW_SPEECH_DB, _ABOVE_STEADY_DB, _AROUND_S = 25.0, 6.0, 3.0
# Less than so many such frames of so many neighbours are a click.
_LEAST_FRAMES, _NEAR_FRAMES = 3, 9
# Levels are averaged over about this long when the quietest place is looked for.
_QUIET_S = 0.16
# Places that differ by less are equally quiet.
_ALIKE_DB = 3.0
_FLOOR_DB = -120.0

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Piece:
    """A part of a recording, from one sample up to, but not including, another."""

    start: int
    end: int

    @property
    def start_s(self) -> float:
        """Its start in the recording."""
        return self.start / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Its end in the recording."""
        return self.end / SAMPLE_RATE


def cut(samples: Array, probabilities: Array, longest_s: float = LONGEST_S) -> tuple[Piece, ...]:
    """Pieces of a recording in their order, apart or adjacent, none longer than `longest_s`.

    samples: 16 kHz mono, shape (samples,). probabilities: of speech, as `frame_probabilities` has
    them. All speech is in a piece; silence has none.
    """
    levels = _levels_db(samples, len(probabilities))
    sounding = (probabilities >= _SPEECH) | _other_sound(levels, probabilities)
    kept = _widened(sounding, _frames(_MARGIN_S))
    return tuple(
        Piece(first * FRAME_SAMPLES, min(last * FRAME_SAMPLES, len(samples)))
        for start, end in _runs(~_filled(~kept, _frames(_GAP_S)))
        for first, last in _divided(start, end, probabilities, levels, _frames(longest_s))
        if first * FRAME_SAMPLES < len(samples)
    )


def _frames(seconds: float) -> int:
    return int(seconds / FRAME_S)


def _levels_db(samples: Array, frames: int) -> Array:
    """Level of each frame in dB, its mean taken out, shape (frames,)."""
    levels = np.full(frames, _FLOOR_DB, np.float32)
    whole = min(frames, len(samples) // FRAME_SAMPLES)
    block = _frames(300.0)
    for first in range(0, whole, block):
        count = min(block, whole - first)
        part = samples[first * FRAME_SAMPLES : (first + count) * FRAME_SAMPLES]
        deviation = part.reshape(count, FRAME_SAMPLES).std(axis=1)
        levels[first : first + count] = 20 * np.log10(deviation + 1e-6)
    rest = samples[whole * FRAME_SAMPLES :]
    if whole < frames and len(rest):
        levels[whole] = 20 * np.log10(rest.std() + 1e-6)
    return levels


def _other_sound(levels: Array, probabilities: Array) -> Mask:
    """Frames whose sound is loud, and louder than what is steady around them."""
    from scipy.ndimage import percentile_filter, uniform_filter1d

    heard = probabilities >= 0.5
    enough = heard.sum() >= _frames(1.0)
    speech_db = np.median(levels[heard]) if enough else np.percentile(levels, 95)
    steady = percentile_filter(levels, 10, _frames(_AROUND_S))
    active = (levels >= speech_db - _BELOW_SPEECH_DB) & (levels >= steady + _ABOVE_STEADY_DB)
    # A single loud frame is a click.
    near = uniform_filter1d(active.astype(np.float32), _NEAR_FRAMES, mode="constant")
    sounding: Mask = active & (near * _NEAR_FRAMES > _LEAST_FRAMES - 0.5)
    return sounding


def _divided(
    start: int, end: int, probabilities: Array, levels: Array, longest: int
) -> Iterator[tuple[int, int]]:
    """The frames from start to end in parts of at most `longest` frames."""
    while end - start > longest:
        left = end - start
        least = longest // 2 if left > 1.5 * longest else max(longest // 4, left - longest)
        place = _place(start + least, start + longest, probabilities, levels)
        yield start, place
        start = place
    yield start, end


def _place(first: int, last: int, probabilities: Array, levels: Array) -> int:
    """The frame before which to cut: in the longest pause from first to last, else in all of it."""
    pauses = [(first + a, first + b) for a, b in _runs(probabilities[first:last] < _PAUSE)]
    start, end = max(pauses, key=lambda run: (run[1] - run[0], run[0]), default=(first, last))
    if end - start < _frames(_SHORTEST_PAUSE_S):
        start, end = first, last
    size = max(1, _frames(_QUIET_S))
    around = levels[max(0, start - size // 2) : end + size // 2 + 1]
    averages = np.convolve(around, np.full(size, 1 / size), "same")
    averages = averages[start - max(0, start - size // 2) :][: end - start]
    quiet = start + np.flatnonzero(averages <= averages.min() + _ALIKE_DB)
    nearest: int = int(quiet[np.abs(quiet - (start + end) / 2).argmin()])
    return max(nearest, first + 1)


def _runs(mask: Mask) -> list[tuple[int, int]]:
    """First and last (excluded) index of each stretch that is True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _widened(mask: Mask, by: int) -> Mask:
    """Each True with so many neighbours on both sides."""
    wide = mask.copy()
    for start, end in _runs(mask):
        wide[max(0, start - by) : end + by] = True
    return wide


def _filled(mask: Mask, least: int) -> Mask:
    """Without the stretches of True that are not longer than `least` and lie between others."""
    filled = mask.copy()
    for start, end in _runs(mask):
        if end - start <= least and start > 0 and end < len(mask):
            filled[start:end] = False
    return filled
