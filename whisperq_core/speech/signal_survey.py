"""A first pass over a track's samples: do its channels cancel, and what is its full scale?"""

import numpy as np
import numpy.typing as npt

from whisperq_core.errors import AudioError
from whisperq_core.speech.loudness import LoudnessMeter

Samples = npt.NDArray[np.float32]

# Of integers with 16, 24 and 32 bits.
FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)
# Floating-point masters pass ±1 by a few decibels; 18 dB is beyond all of them.
MAX_OVER_FULL_SCALE = 8.0
# Sound on an integer scale has nearly all its samples beyond ±1; a single spike has not.
MIN_SHARE_BEYOND_ONE = 0.01
# The mean of channels that have nothing in common has 1 / channels of their mean energy. With less
# than a quarter of that they are in opposite phase, and the mean is what they do not share: noise.
CANCELLED_ENERGY = 0.25


class Survey:
    """What mixing a track needs to know of all its samples, and the mixing itself."""

    def __init__(self, rate_hz: int, channels: int, is_float: bool) -> None:
        self.channels, self.is_float = channels, is_float
        self.peak, self.samples, self.beyond_one = 0.0, 0, 0
        self._energy = np.zeros(channels)
        self._mean_energy = 0.0
        self._same_channels = True
        self._meters = [LoudnessMeter(rate_hz) for _ in range(channels)]

    def add(self, block: Samples) -> None:
        """Take samples, shape (frames, channels), that follow those before."""
        magnitudes = np.abs(block)
        self.peak = max(self.peak, float(magnitudes.max(initial=0.0)))
        self.samples += block.size
        if self.is_float:
            self.beyond_one += int((magnitudes > 1).sum())
        if block.shape[1] != self.channels:  # a broadcast that changes its layout
            self._same_channels = False
            return
        wide = block.astype(np.float64)
        # Without each channel's offset, which is no sound.
        wide -= wide.mean(axis=0)
        self._energy += (wide**2).sum(axis=0)
        self._mean_energy += float((wide.mean(axis=1) ** 2).sum())
        for channel, meter in enumerate(self._meters):
            meter.add(block[:, channel])

    @property
    def silent(self) -> bool:
        """Whether each channel is."""
        return all(meter.loudness == "silent" for meter in self._meters)

    @property
    def loudest_channel(self) -> int | None:
        """The channel to use alone, from 0, where the mean of all would cancel the sound."""
        if not self._same_channels or self.channels == 1:
            return None
        uncorrelated = self._energy.sum() / self.channels**2
        cancels = self._mean_energy < CANCELLED_ENERGY * uncorrelated
        return int(self._energy.argmax()) if cancels else None

    @property
    def full_scale(self) -> float:
        """What to divide the samples by: 1, or the scale of integers that were kept as floats."""
        if not self.is_float or self.peak <= MAX_OVER_FULL_SCALE:
            return 1.0
        # Resampling can pass full scale.
        return next((s for s in FULL_SCALES if self.peak <= 1.5 * s), FULL_SCALES[-1])

    def check(self, name: str) -> None:
        """Raise AudioError where a few samples are far beyond full scale and the others are not."""
        if self.full_scale != 1 and self.beyond_one < MIN_SHARE_BEYOND_ONE * self.samples:
            raise AudioError(
                f"{name} has samples up to {self.peak:.3g} times full scale among samples within "
                "it, so they are damaged. Export the recording again."
            )

    def mix(self, block: Samples) -> Samples:
        """Samples, shape (frames, channels) → (frames,): the mean, or the channel chosen."""
        channel = self.loudest_channel
        mono = block.mean(axis=1, dtype=np.float32) if channel is None else block[:, channel]
        scale = self.full_scale
        return mono if scale == 1 else mono / np.float32(scale)

    def notes(self, track: int, tracks: int) -> list[str]:
        """Sentences on what `mix` does beyond averaging, and on the track used."""
        notes = []
        if tracks > 1:
            which = "the first" if track == 0 else "the first with sound"
            notes.append(f"It has {tracks} audio tracks: number {track + 1} is used, {which}.")
        if (channel := self.loudest_channel) is not None:
            notes.append(
                "Its channels are in opposite phase and cancel each other when mixed: the louder "
                f"one, channel {channel + 1}, is used."
            )
        if (scale := self.full_scale) != 1:
            bits = int(np.log2(scale)) + 1
            notes.append(
                f"Its floating-point samples are on the scale of {bits}-bit integers (peak "
                f"{self.peak:.0f}): they were divided by {scale:.0f}."
            )
        return notes
