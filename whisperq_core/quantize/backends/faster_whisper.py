"""faster-whisper: Whisper in CTranslate2, converted from the same fp32 tensors as every recipe.

Timed is what its `transcribe` does when its segments are read: encoder, decoding, every attempt at
it, and tokens to text. It computes the features before, which is not timed, as nowhere here.
"""

import copy
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperq_core.quantize.backends.backend import Backend, OpenedRuntime
from whisperq_core.quantize.recipe import Recipe, Scheme
from whisperq_core.scoring.loops import COMPRESSION_RATIO_THRESHOLD
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.runtime import Runtime, Transcripts, combine_transcripts
from whisperq_core.whisper.torch_types import Array
from whisperq_core.whisper.transcription import (
    LOGPROB_THRESHOLD,
    NO_SPEECH_THRESHOLD,
    SEED,
    WINDOW_S,
)

if TYPE_CHECKING:
    from whisperq_core.whisper.models import Model

BACKEND = Backend(
    "faster-whisper",
    "faster-whisper",
    ("faster-whisper", "ctranslate2"),
    imports=("faster_whisper", "ctranslate2"),
    is_runtime=True,
)


def _recipe(
    weights: str, description: str, scheme: Scheme, suffix: str = "", **axes: Any
) -> Recipe:
    return Recipe(
        f"faster-whisper-{weights}{suffix}",
        BACKEND.name,
        f"{description} One utterance at a time, features padded with zeros as in OpenAI's code;"
        " under the corrected protocol, its own temperature fallback.",
        weights,
        scheme,
        **({"embeddings": weights, "devices": ("cpu",)} | axes),
    )


def _int8(suffix: str = "", **axes: Any) -> Recipe:
    """suffix: what CTranslate2 computes in besides int8, by name."""
    beside = f", the rest in {axes['compute']}" if axes else ""
    return _recipe(
        "int8",
        "faster-whisper: CTranslate2 int8: every matrix, including convolutions and token"
        f" embeddings{beside}; per-channel weight scales, per-token activation scales.",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        modules="whole-model",
        suffix=suffix,
        **axes,
    )


RECIPES = (
    _recipe(
        "fp32",
        "faster-whisper: CTranslate2 in 32-bit floating point.",
        "none",
        method="none",
        granularity="none",
        modules="none",
    ),
    _int8(),
    _recipe(
        "fp16",
        "faster-whisper: CTranslate2 in 16-bit floating point.",
        "none",
        method="none",
        granularity="none",
        modules="none",
        devices=("cuda",),
    ),
    _int8("-fp16", compute="fp16", devices=("cuda",)),
    _int8("-bf16", compute="bf16", devices=("cuda",)),
)


# What CTranslate2 calls the recipes' weights, and formats beside int8.
_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def _type_of(recipe: Recipe) -> str:
    """What CTranslate2 calls weights, and, where that is not fp32, what it computes the rest in."""
    kind = _TYPES[recipe.weights]
    return kind if recipe.compute == "fp32" else f"{kind}_{_TYPES[recipe.compute]}"


def open_runtime(model: "Model", recipe: Recipe, threads: int, device: str) -> OpenedRuntime:
    """The model in faster-whisper, names of its quantized variables, and bytes of its model.bin."""
    import ctranslate2
    from ctranslate2.converters.transformers import WhisperLoader
    from faster_whisper import WhisperModel

    ctranslate2.set_random_seed(SEED)
    kind = _type_of(recipe)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A copy, since CTranslate2 scales weights in the memory that it is given.
        spec = WhisperLoader()(copy.deepcopy(model.torch_model), model.tokenizer)
        spec.validate()
        spec.optimize(kind)
        spec.save(name)
        model.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        features = {"feature_size": model.torch_model.config.num_mel_bins}
        (folder / "preprocessor_config.json").write_text(json.dumps(features))
        opened = WhisperModel(name, device=device, compute_type=kind, cpu_threads=threads)
        size = (folder / "model.bin").stat().st_size
    scaled = [name for name in spec.variables() if name.endswith("_scale")]
    modules = tuple(name.removesuffix("_scale") for name in scaled)
    return _FasterWhisper(model, opened), modules, size


class _Watched:
    """CTranslate2's model, and what its encoder and decoder did since `reset`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def reset(self) -> None:
        """attempts: at each window."""
        self.encoder_s, self.tokens = 0.0, 0
        self.attempts: list[int] = []

    def encode(self, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        encoded = self._model.encode(*arguments, **options)
        self.encoder_s += time.perf_counter() - start
        self.attempts.append(0)
        return encoded

    def generate(self, *arguments: Any, **options: Any) -> Any:
        generated = self._model.generate(*arguments, **options)
        # The end of each sequence is generated too, but not returned.
        self.tokens += sum(len(tokens) + 1 for tokens in generated[0].sequences_ids)
        self.attempts[-1] += 1
        return generated


class _FasterWhisper(Runtime):
    """Utterances one by one, as its `transcribe` takes them."""

    def __init__(self, model: "Model", opened: Any) -> None:
        self.model, self.opened = model, opened
        self.watched = opened.model = _Watched(opened.model)

    def warm_up(self, audio: Sequence[Array]) -> None:
        """Transcribes the beginning of the audio."""
        self.transcribe([audio[0][:SAMPLE_RATE]], ["en"], STUDY)

    def transcribe(
        self, audio: Sequence[Array], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """Transcribes each by itself; times and tokens are of all."""
        self.model.require_english(languages, protocol.task)
        every = zip(audio, languages, strict=True)
        return combine_transcripts([self._one(*arguments, protocol) for arguments in every])

    def _one(self, samples: Array, language: str | None, protocol: Protocol) -> Transcripts:
        watched = self.watched
        watched.reset()
        segments, _ = self.opened.transcribe(
            samples,
            language=language,
            task=protocol.task,
            beam_size=protocol.beams,
            condition_on_previous_text=False,
            without_timestamps=not protocol.timestamps and len(samples) <= WINDOW_S * SAMPLE_RATE,
            **_fallback(protocol),
        )
        # A language that is not given has been detected by now, with the encoder.
        before, start = watched.encoder_s, time.perf_counter()
        text = "".join(segment.text for segment in segments).strip()
        wall_s = before + time.perf_counter() - start
        highest = protocol.temperatures[max(watched.attempts) - 1]
        return Transcripts(
            (text,), (highest,), wall_s, encoder_s=watched.encoder_s, tokens=watched.tokens
        )


def _fallback(protocol: Protocol) -> dict[str, Any]:
    """Its own fallback at the protocol's temperatures, one sample at each as in Transformers."""
    on = protocol.has_fallback
    return {
        "temperature": list(protocol.temperatures),
        "best_of": 1,
        "compression_ratio_threshold": COMPRESSION_RATIO_THRESHOLD if on else None,
        "log_prob_threshold": LOGPROB_THRESHOLD if on else None,
        "no_speech_threshold": NO_SPEECH_THRESHOLD if on else None,
    }
