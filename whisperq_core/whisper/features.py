"""Whisper's log-mel features, computed once for each recording and kept without their padding."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from whisperq_core.speech.decode import SAMPLE_RATE

if TYPE_CHECKING:
    from torch import Tensor

# About half an hour of speech at 80 mels (the excerpts have 12 minutes); what was heard last stays.
KEPT_BYTES = 64_000_000


class LogMel:
    """Log-mel features of 16 kHz mono float32 audio, each of shape (samples,).

    Every recipe of a grid hears the same speech, in every one of its passes: features in windows
    of 30 s are kept, bit for bit, up to `kept_bytes`; `bytes` is what they take. Recordings are
    told apart by their samples.
    """

    def __init__(self, mels: int, kept_bytes: int = KEPT_BYTES):
        from transformers import WhisperFeatureExtractor

        self.kept_bytes = kept_bytes
        self._extractor = WhisperFeatureExtractor(feature_size=mels)
        self._kept: OrderedDict[bytes, tuple[Tensor, float]] = OrderedDict()
        self.bytes = 0

    def windows(self, audio: Sequence[np.ndarray]) -> "Tensor":
        """Features of the first 30 s of each recording, shape (batch, mels, 3000)."""
        import torch

        mels, frames = self._extractor.feature_size, self._extractor.nb_max_frames
        found = torch.empty(len(audio), mels, frames)
        for row, samples in zip(found, audio, strict=True):
            speech, padding = self._speech(samples)
            row[:, : speech.shape[1]] = speech
            row[:, speech.shape[1] :] = padding
        return found

    def whole(self, audio: np.ndarray) -> tuple["Tensor", "Tensor"]:
        """Features of all of one recording, shape (1, mels, frames), and their attention mask."""
        found = self._extract(audio, padding="longest", truncation=False)
        return found.input_features, found.attention_mask

    def _extract(self, audio: np.ndarray, **shape):
        return self._extractor(
            [audio],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **shape,
        )

    def _speech(self, samples: np.ndarray) -> tuple["Tensor", float]:
        """Features up to the padding, shape (mels, frames), and the value that the padding has."""
        key = hashlib.blake2b(np.ascontiguousarray(samples), digest_size=16).digest()
        if key not in self._kept:
            self._kept[key] = _without_padding(self._extract(samples).input_features[0])
            self.bytes += self._kept[key][0].nbytes
        self._kept.move_to_end(key)
        found = self._kept[key]
        while self.bytes > self.kept_bytes:
            self.bytes -= self._kept.popitem(last=False)[1][0].nbytes
        return found


def _without_padding(features: "Tensor") -> tuple["Tensor", float]:
    """Splits off the frames at the end that hold one value only; what is left may be all."""
    padding = features[0, -1]
    differs = (features != padding).any(0).nonzero()
    length = int(differs[-1]) + 1 if len(differs) else 0
    return features[:, :length].clone(), padding.item()
