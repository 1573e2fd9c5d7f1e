"""Whisper's log-mel features, computed once for each recording and cached without their padding."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.torch_types import Array

if TYPE_CHECKING:
    from torch import Tensor

# About half an hour of speech at 80 mels (the excerpts have 12 minutes); the least recently used
# go first.
CACHE_BYTES = 64_000_000


class LogMel:
    """Log-mel features of 16 kHz mono float32 audio, each of shape (samples,).

    Every recipe of a grid transcribes the same speech, in each of its passes: features in windows
    of 30 s are cached, bit for bit, up to `cache_bytes`; `bytes` is what they take. Recordings are
    identified by their samples.
    """

    def __init__(self, mels: int, cache_bytes: int = CACHE_BYTES) -> None:
        from transformers import WhisperFeatureExtractor

        self.cache_bytes = cache_bytes
        self._extractor = WhisperFeatureExtractor(feature_size=mels)  # type: ignore[no-untyped-call]
        self._cached: OrderedDict[bytes, tuple[Tensor, float]] = OrderedDict()
        self.bytes = 0

    def windows(self, audio: Sequence[Array]) -> "Tensor":
        """Features of the first 30 s of each recording, shape (batch, mels, 3000)."""
        import torch

        mels, frames = self._extractor.feature_size, self._extractor.nb_max_frames
        batch = torch.empty(len(audio), mels, frames)
        for row, samples in zip(batch, audio, strict=True):
            speech, padding = self._speech(samples)
            row[:, : speech.shape[1]] = speech
            row[:, speech.shape[1] :] = padding
        return batch

    def whole(self, audio: Array) -> tuple["Tensor", "Tensor"]:
        """Features of all of one recording, shape (1, mels, frames), and their attention mask."""
        extracted = self._extract(audio, padding="longest", truncation=False)
        return extracted.input_features, extracted.attention_mask

    def _extract(self, audio: Array, **shape: Any) -> Any:
        return self._extractor(
            [audio],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **shape,
        )

    def _speech(self, samples: Array) -> tuple["Tensor", float]:
        """Features up to the padding, shape (mels, frames), and the value that the padding has."""
        key = hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=16).digest()
        if key not in self._cached:
            self._cached[key] = _without_padding(self._extract(samples).input_features[0])
            self.bytes += self._cached[key][0].nbytes
        self._cached.move_to_end(key)
        features = self._cached[key]
        while self.bytes > self.cache_bytes:
            self.bytes -= self._cached.popitem(last=False)[1][0].nbytes
        return features


def _without_padding(features: "Tensor") -> tuple["Tensor", float]:
    """Splits off the frames at the end that hold one value only; what is left may be all."""
    padding = features[0, -1]
    differs = (features != padding).any(0).nonzero()
    length = int(differs[-1]) + 1 if len(differs) else 0
    return features[:, :length].clone(), padding.item()
