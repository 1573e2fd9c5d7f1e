"""whisper.cpp through pywhispercpp, for who has the model as a ggml file.

The file is looked for in the folder that WHISPERQ_GGML names, or in cache/ggml. Timed is the whole
call, features included, since whisper.cpp computes them inside it; nor does it tell the encoder's
time, the first token's, or how many tokens it chose.
"""

import hashlib
import struct
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperq_core import settings
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize.backends.backend import Backend, OpenedRuntime
from whisperq_core.quantize.recipe import Recipe, Scheme
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.runtime import Runtime, Transcripts
from whisperq_core.whisper.torch_types import Array
from whisperq_core.whisper.transcription import WINDOW_S

if TYPE_CHECKING:
    from whisperq_core.whisper.models import Model

BACKEND = Backend(
    "whisper.cpp",
    "whisper.cpp",
    ("pywhispercpp",),
    imports=("pywhispercpp",),
    is_runtime=True,
    greedy_only=True,
)


def _recipe(weights: str, ending: str, description: str, scheme: Scheme, **axes: Any) -> Recipe:
    return Recipe(
        f"whisper.cpp-{ending}",
        BACKEND.name,
        f"whisper.cpp {description}, from your own ggml file. One utterance at a time, greedy;"
        " features are computed in the timed call, and a transcript ends after 220 tokens.",
        weights,
        scheme,
        embeddings=weights,
        devices=("cpu",),
        **axes,
    )


RECIPES = (
    _recipe(
        "fp16",
        "fp16",
        "in 16-bit floating point",
        "none",
        method="none",
        granularity="none",
        modules="none",
    ),
    _recipe(
        "int8",
        "q8_0",
        "with every matrix and its inputs in int8, in groups of 32",
        "dynamic",
        granularity="group",
        group_size=32,
        activations="int8",
        activation_granularity="group",
        modules="whole-model",
        rest="fp16",
    ),
)


# How the name of a file with the recipe's weights ends.
_ENDINGS = {"fp16": "", "int8": "-q8_0"}
_MAGIC = 0x67676D6C


def folder() -> Path:
    """Where ggml files are looked for."""
    chosen = settings.current()
    return chosen.ggml or chosen.cache / "ggml"


def missing_file_reason(recipe: Recipe) -> str | None:
    """Why no model can run after the recipe, and how to get a file; None where there is one."""
    ending = _ENDINGS[recipe.weights]
    stems = [path.stem for path in folder().glob(f"ggml-*{ending}.bin")]
    there = any(ending or "-q" not in name for name in stems)
    return None if there else _how_to_get(recipe, "base")


def _how_to_get(recipe: Recipe, name: str) -> str:
    plain = f"ggml-{Path(name).name}.bin"
    wanted = plain.replace(".bin", f"{_ENDINGS[recipe.weights]}.bin")
    alternative = (
        "or convert a Transformers folder with whisper.cpp's models/convert-h5-to-ggml.py"
        if wanted == plain
        else f"or make it: whisper-quantize {plain} {wanted} q8_0"
    )
    return (
        f"{recipe.name} needs the model as a ggml file, such as {wanted}. Get it from"
        f" ggerganov/whisper.cpp on the hub, {alternative}; then put it into cache/ggml, or name"
        " its folder in WHISPERQ_GGML."
    )


def file_of(name: str, recipe: Recipe) -> Path:
    """The ggml file of the model of that name; RecipeUnsupported says how to get one."""
    path = folder() / f"ggml-{Path(name).name}{_ENDINGS[recipe.weights]}.bin"
    if not path.is_file():
        raise RecipeUnsupported(_how_to_get(recipe, name))
    return path


def identity(name: str, recipe: Recipe) -> dict[str, str]:
    """The file's sha256, since its weights are the user's."""
    path = file_of(name, recipe)
    stat = path.stat()
    return {path.name: f"sha256 {_sha256(path, stat.st_size, stat.st_mtime_ns)}"}


@lru_cache(maxsize=16)
def _sha256(path: Path, *_stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_runtime(model: "Model", recipe: Recipe, threads: int, device: str) -> OpenedRuntime:
    """The user's file in whisper.cpp, names of what is quantized in it, and its bytes."""
    path = file_of(model.name, recipe)
    _check(path, model)
    from pywhispercpp.model import Model

    # None: whisper.cpp tells at length what it loads.
    opened = Model(str(path), redirect_whispercpp_logs_to=None, n_threads=threads)
    modules: tuple[str, ...] = ()
    if recipe.modules == "whole-model":
        modules = tuple(
            name.removesuffix(".weight")
            for name, tensor in model.torch_model.named_parameters()
            if tensor.ndim == 2 and "embed_positions" not in name
        )
    return _WhisperCpp(model, opened), modules, path.stat().st_size


def _check(path: Path, model: "Model") -> None:
    """Raises RecipeUnsupported for a file of another kind or of a model of another shape."""
    config = model.torch_model.config
    with path.open("rb") as file:
        head = file.read(48)
    magic, *sizes = struct.unpack("<12i", head) if len(head) == 48 else (0,)
    expected = {
        0: config.vocab_size,
        2: config.d_model,
        4: config.encoder_layers,
        8: config.decoder_layers,
    }
    if magic != _MAGIC or any(sizes[place] != size for place, size in expected.items()):
        raise RecipeUnsupported(
            f"{path.name} is not a ggml file of {model.name}: its header is of another model."
        )


class _WhisperCpp(Runtime):
    """Utterances one by one."""

    def __init__(self, model: "Model", opened: Any) -> None:
        self.model, self.opened = model, opened

    def warm_up(self, audio: Sequence[Array]) -> None:
        """Transcribes the beginning of the audio."""
        self.transcribe([audio[0][:SAMPLE_RATE]], ["en"], STUDY)

    def transcribe(
        self, audio: Sequence[Array], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """Transcribes each by itself, greedily: it does not tell when it fell back."""
        self.model.require_english(languages, protocol.task)
        texts, start = [], time.perf_counter()
        for samples, language in zip(audio, languages, strict=True):
            segments = self.opened.transcribe(
                samples,
                language=language or "auto",
                translate=protocol.task == "translate",
                no_timestamps=not protocol.timestamps and len(samples) <= WINDOW_S * SAMPLE_RATE,
                **_GREEDY,
            )
            texts.append(" ".join(segment.text for segment in segments).strip())
        wall_s = time.perf_counter() - start
        return Transcripts(tuple(texts), (0.0,) * len(texts), wall_s)


# One attempt at temperature 0, which stands: no window is taken for silence (a probability is never
# above 1). Markers of what is not speech are suppressed, as elsewhere.
_GREEDY = {
    "temperature": 0.0,
    "temperature_inc": 0.0,
    "no_speech_thold": 1.0,
    "suppress_nst": True,
    "no_context": True,
    "print_progress": False,
}
