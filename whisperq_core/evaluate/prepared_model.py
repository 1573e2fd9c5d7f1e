"""The model of a run: loaded, quantized and warmed up when a piece first needs it."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from whisperq_core.evaluate.audio_libraries import audio_library_versions
from whisperq_core.evaluate.pieces import MODEL, ModelPiece, RunPieces
from whisperq_core.evaluate.records import RunSpec, utc_now
from whisperq_core.evaluate.resolution import ResolvedRequest
from whisperq_core.memory import SingleItemCache
from whisperq_core.quantize import backends, pipeline
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.long_recordings import transcribe_recording
from whisperq_core.whisper.models import Model
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.runtime import Runtime, Transcripts
from whisperq_core.whisper.torch_types import WhisperModule
from whisperq_core.whisper.transcription import WINDOW_S

# A grid needs a quantized model once for each set.
_QUANTIZED = SingleItemCache()


class PreparedModel:
    """A run's runtimes and audio. Runs that are resumed at their end never load the model."""

    def __init__(self, resolved: ResolvedRequest, pieces: RunPieces):
        self.resolved, self._pieces = resolved, pieces

    def piece(self) -> ModelPiece:
        """Size and modules of the quantized model: the stored piece, or by quantizing now."""
        stored = self._pieces.get(MODEL, ModelPiece)
        return stored or self._quantize_and_store()

    def record_fields(self) -> dict[str, Any]:
        """The fields that records of every measurement have in common, but for the machine."""
        return {
            "spec": self.resolved.spec,
            "model": self.resolved.request.model,
            "eval_set": self.resolved.eval_set.name,
            "created_at": utc_now(),
            "audio_libraries": audio_library_versions(),
            **self.piece().model_dump(),
        }

    @cached_property
    def runtime(self) -> Runtime:
        """What transcribes under the recipe, warmed up."""
        self._quantize_and_store()
        runtime = pipeline.runtime_of(self.model, self._quantized)
        runtime.warm_up([self.audio(0)[0][: int(WINDOW_S * SAMPLE_RATE)]])
        return runtime

    @cached_property
    def fp32_runtime(self) -> Runtime:
        """What transcribes in fp32, warmed up, after the recipe's runtime."""
        _ = self.runtime
        runtime = pipeline.runtime_of(self.model, self._fp32)
        runtime.warm_up([self.audio(0)[0][: int(WINDOW_S * SAMPLE_RATE)]])
        return runtime

    @property
    def torch_model(self) -> WhisperModule:
        """The PyTorch model under the recipe; not there where it runs outside PyTorch."""
        self._use_threads()
        return self._quantized.torch_model

    @property
    def fp32_torch_model(self) -> WhisperModule:
        """The PyTorch model in fp32, on the run's device."""
        return self._fp32.torch_model

    @cached_property
    def model(self) -> Model:
        """The fp32 model with its tokenizer and features."""
        return pipeline.load_model(self.resolved.source)

    @cached_property
    def _fp32(self) -> backends.Quantized:
        device = self.resolved.spec.device
        return backends.quantize(self.model.torch_model, CATALOGUE["fp32"], device)

    @property
    def _quantized(self) -> backends.Quantized:
        key = _without_measurement(self.resolved.spec)
        quantized: backends.Quantized = _QUANTIZED.get(key, self._quantize)
        return quantized

    def _use_threads(self) -> None:
        import torch

        torch.set_num_threads(self.resolved.spec.threads)

    def _quantize_and_store(self) -> ModelPiece:
        self._use_threads()
        load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        quantized = self._quantized
        piece = ModelPiece(
            modules=quantized.modules,
            weights_bytes=quantized.weights_bytes,
            fp32_bytes=backends.serialized_bytes(self.model.torch_model),
            quantize_s=quantized.quantize_s,
            load_average=load_average,
        )
        self._pieces.put(MODEL, piece)
        return piece

    def _quantize(self) -> backends.Quantized:
        spec = self.resolved.spec
        return pipeline.quantize_model(
            self.model,
            spec.recipe,
            self.resolved.eval_set,
            spec.device,
            spec.protocol,
            spec.kernels,
        )

    def audio(self, batch: int) -> list[Any]:
        """16 kHz mono float32 audio of each utterance of a batch, each of shape (samples,)."""
        return [evaluation_sets.read_audio(u) for u in self.resolved.batches[batch]]

    def transcribe(self, runtime: Runtime, batch: int) -> Transcripts:
        """Transcribes one batch under the run's protocol."""
        protocol = self.resolved.spec.protocol
        utterances, audio = self.resolved.batches[batch], self.audio(batch)
        languages = [protocol.language or u.language for u in utterances]
        is_cut = self.resolved.spec.cutting is not None and utterances[0].duration_s > WINDOW_S
        if is_cut and len(audio[0]) > WINDOW_S * SAMPLE_RATE:
            return transcribe_recording(runtime, audio[0], languages[0], protocol)
        return runtime.transcribe(audio, languages, protocol)


def _without_measurement(spec: RunSpec) -> RunSpec:
    """The spec without what does not change the quantized model.

    That is the set, what is measured, and, where nothing is calibrated, the protocol: whether it
    ties the projection is in the recipe's modules.
    """
    update: dict[str, Any] = {
        "eval_set_digest": "",
        "measures": "accuracy",
        "cpu": None,
        "gpu": None,
        "repeats": None,
        "cutting": None,
    }
    if spec.recipe.calibration == "none":
        update["protocol"] = STUDY
    return spec.model_copy(update=update)


def measured_growth(spec: RunSpec, growth_bytes: int | None) -> int | None:
    """The growth of memory where it is the recipe's; None elsewhere.

    Dequantized weights need fp32's memory, and PyTorch does not see what another runtime takes on a
    GPU.
    """
    unseen = spec.recipe.has_own_runtime and spec.device == "cuda"
    return None if spec.kernels == "dequantized" or unseen else growth_bytes


def peak_memory_bytes(model: ModelPiece, growths: Sequence[int | None]) -> int | None:
    """Serialized weights plus the largest growth of memory in a piece; None if not measured."""
    measured = [growth for growth in growths if growth is not None]
    return model.weights_bytes + max(measured) if measured else None
