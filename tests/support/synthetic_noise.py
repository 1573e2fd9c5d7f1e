"""Noise without speech."""

import numpy as np

from whisperq_core.speech.decode import SAMPLE_RATE


def pink(seconds: float, level: float = 0.01, seed: int = 0) -> np.ndarray:
    """Noise as of a room: its power falls with the frequency."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=int(seconds * SAMPLE_RATE)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum)
    return (noise * level / noise.std()).astype(np.float32)
