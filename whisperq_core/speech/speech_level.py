"""The level of speech while somebody speaks: pauses do not count."""

import math

import numpy as np
import numpy.typing as npt

# Of ITU-T P.56 (12/2011), method B: the time constant of the envelope, how long speech goes on
# after it, and by how much the threshold is below the level of what is above it.
_ENVELOPE_S, _HANGOVER_S, _MARGIN_DB = 0.03, 0.2, 15.9
_THRESHOLDS = 16


def speech_power(samples: npt.NDArray[np.floating], rate_hz: int) -> float:
    """The mean square of samples, shape (samples,), over the time in which somebody speaks.

    The active speech level of ITU-T P.56, method B, as a power: speech is where the envelope is
    above a threshold that is 15.9 dB below the level of just these samples. Thresholds are powers
    of two of the peak, and the level is interpolated between them. 0 for digital silence.
    """
    from scipy.signal import lfilter

    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return 0.0
    scaled = samples.astype(np.float64) / peak
    energy = float(np.square(scaled).sum())
    decay = math.exp(-1 / (rate_hz * _ENVELOPE_S))
    smooth = [1 - decay], [1, -decay]
    envelope = lfilter(*smooth, lfilter(*smooth, np.abs(scaled)))
    below = (math.nan, math.nan)  # level and distance to the threshold, in dB
    for exponent in range(1 - _THRESHOLDS, 1):
        active = _active_samples(envelope >= 2.0**exponent, rate_hz)
        if not active:
            break
        level = 10 * math.log10(energy / active)
        distance = level - 20 * math.log10(2.0**exponent)
        if distance <= _MARGIN_DB:
            if not math.isnan(below[0]):
                share = (below[1] - _MARGIN_DB) / (below[1] - distance)
                level = below[0] + share * (level - below[0])
            return float(peak**2 * 10 ** (level / 10))
        below = level, distance
    return float(peak**2 * 10 ** (below[0] / 10)) if not math.isnan(below[0]) else energy * peak**2


def _active_samples(above: npt.NDArray[np.bool_], rate_hz: int) -> int:
    """How many samples are above the threshold, or follow one within the hangover."""
    index = np.arange(len(above))
    last = np.maximum.accumulate(np.where(above, index, -len(above) - rate_hz))
    return int((index - last <= round(rate_hz * _HANGOVER_S)).sum())
