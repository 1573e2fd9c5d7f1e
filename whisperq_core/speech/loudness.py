"""Tell silence from very quiet speech by a recording's own dynamics.

An absolute threshold takes a 24-bit recording of distant speech, with peaks at -66 dBFS, for
silence. Speech rises and falls by tens of decibels within a second; dither, hum and the noise of a
recorder do not, however loud they are.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

Loudness = Literal["silent", "very quiet", "normal"]

QUIET_PEAK = 10 ** (-60 / 20)  # -60 dBFS
# About the shortest sounds of speech.
FRAME_S = 0.03
# Frames this far above the noise floor hold sound: steady noise varies by less than 2 dB from
# frame to frame.
ACTIVE_DB = 10.0
# Less is a click.
MIN_ACTIVE_FRAMES = 3


class LoudnessMeter:
    """Measures a recording block by block: its peak, and the level of each frame of 30 ms.

    It should be given the samples as the file has them, before they are resampled, since their
    quantization step counts as noise.
    """

    def __init__(self, rate_hz: int) -> None:
        self.peak = 0.0
        self._frame_samples = max(1, round(rate_hz * FRAME_S))
        self._step = np.inf
        self._levels: list[npt.NDArray[np.float64]] = []
        self._rest = np.empty(0, np.float32)

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take samples, shape (samples,), that follow those before."""
        if not len(block):
            return
        self.peak = max(self.peak, float(np.abs(block).max()))
        if self.peak >= QUIET_PEAK:  # the rest cannot change the answer
            self._levels, self._rest = [], self._rest[:0]
            return
        samples = np.concatenate([self._rest, block])
        steps = np.abs(np.diff(samples))
        self._step = min(self._step, steps[steps > 0].min(initial=np.inf))
        whole = len(samples) // self._frame_samples * self._frame_samples
        self._rest = samples[whole:]
        frames = samples[:whole].reshape(-1, self._frame_samples)
        # The deviation from the frame's mean: an offset is no sound.
        self._levels.append(frames.std(axis=1, dtype=np.float64))

    @property
    def loudness(self) -> Loudness:
        """Of all that was added."""
        if self.peak >= QUIET_PEAK:
            return "normal"
        levels = np.concatenate(self._levels) if self._levels else np.empty(0)
        levels = levels[levels > 0]
        if not len(levels):
            return "silent"
        # The quietest tenth of what is not digital silence; speech without a pause has it, too.
        # Samples that flicker by one step have a level of step / √12 and up to half a step.
        floor = max(float(np.quantile(levels, 0.1)), self._step / 12**0.5)
        active = int((levels > floor * 10 ** (ACTIVE_DB / 20)).sum())
        return "very quiet" if active >= MIN_ACTIVE_FRAMES else "silent"

    @property
    def peak_db(self) -> float:
        """The peak in dBFS; minus infinity for digital silence."""
        return float(20 * np.log10(self.peak)) if self.peak else -np.inf


def is_silent(samples: npt.NDArray[np.float32], rate_hz: int = 16_000) -> bool:
    """Whether samples, shape (samples,), hold nothing but digital silence or faint steady noise."""
    meter = LoudnessMeter(rate_hz)
    meter.add(samples)
    return meter.loudness == "silent"
