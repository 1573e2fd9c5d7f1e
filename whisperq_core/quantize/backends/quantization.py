"""A recipe applied to a model: by a library in PyTorch, or in a runtime of its own."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whisperq_core.errors import LibraryMissing, RecipeUnsupported
from whisperq_core.quantize.backends.availability import require
from whisperq_core.quantize.backends.backend import Calibrate
from whisperq_core.quantize.backends.linear_layers import (
    copy_sharing_tensors,
    dtype_of,
    restore_fp32,
    untie,
)
from whisperq_core.quantize.backends.registry import backend_of, module_of
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper import static_decoder
from whisperq_core.whisper.runtime import Runtime

if TYPE_CHECKING:
    from whisperq_core.whisper.models import Model


@dataclass(frozen=True)
class Quantized:
    """A model after a recipe: what runs, and what it cost to make.

    torch_model is None, and runtime is not, where the recipe runs outside PyTorch.
    kernels is "library" where the library's own quantized layers run, "dequantized" where their
    weights were put back into fp32 layers (the same mathematics for weight-only recipes).
    modules: names of the quantized modules. quantize_s: seconds that quantizing took.
    weights_bytes: serialized size.
    """

    torch_model: Any
    recipe: Recipe
    kernels: str
    modules: tuple[str, ...]
    quantize_s: float
    weights_bytes: int
    runtime: Runtime | None = None


def quantize(
    model: Any,
    recipe: Recipe,
    device: str = "cpu",
    calibrate: Calibrate | None = None,
    kernels: str = "library",
) -> Quantized:
    """Derives a quantized model from an fp32 one, which stays as it is.

    What the recipe does not quantize is shared with the fp32 model where both are on one device.

    Args:
        model: a WhisperForConditionalGeneration.
        recipe: for PyTorch; `open_runtime` takes the others.
        device: "cpu", "cuda" or "mps".
        calibrate: runs a model on calibration speech; static recipes need it.
        kernels: "dequantized" puts the dequantized weights back into fp32 layers.

    Raises:
        RecipeUnsupported: the recipe cannot run here, or kernels="dequantized" with a recipe that
            also quantizes activations.
        LibraryMissing: its library is not installed, or cannot be imported.
    """
    import torch

    require(recipe, device)
    if kernels == "dequantized" and recipe.scheme != "weight-only":
        raise RecipeUnsupported(
            f"{recipe.name} quantizes activations too, so only its library's kernels can run it."
        )
    if recipe.has_own_runtime:
        raise RecipeUnsupported(f"{recipe.name} needs a whole model with its tokenizer.")
    module = module_of(recipe)
    work = copy_sharing_tensors(model).to(device)
    if recipe.compute != "fp32":
        work = work.to(dtype_of(recipe.compute))
    if recipe.modules == "all-linear":
        untie(work)
    start = time.perf_counter()
    with _readable_import_errors(recipe), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = module.quantize(work, recipe, calibrate).requires_grad_(False).eval()
        quantize_s = time.perf_counter() - start
        modules = tuple(
            n for n, layer in work.named_modules() if module.weight_of(layer) is not None
        )
        size = serialized_bytes(work)
        if kernels == "dequantized":
            restore_fp32(work, modules, module.weight_of)
    if recipe.compiled:
        compile_as(work, recipe)
    return Quantized(work, recipe, kernels, modules, quantize_s, size)


# PyTorch's int8 product takes more than 16 rows on a GPU.
_LEAST_INT8_ROWS = 32


def compile_as(model: Any, recipe: Recipe) -> None:
    """Makes a quantized model generate by compiled layers, as its recipe wants."""
    static_decoder.compile_model(model, _LEAST_INT8_ROWS if recipe.activations == "int8" else 1)


def open_runtime(model: "Model", recipe: Recipe, device: str = "cpu") -> Quantized:
    """The model in the recipe's own runtime, which gets as many threads as PyTorch has.

    Raises RecipeUnsupported or LibraryMissing with the reason where the recipe cannot run.
    """
    import torch

    require(recipe, device)
    start = time.perf_counter()
    with _readable_import_errors(recipe), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = module_of(recipe).open_runtime(model, recipe, torch.get_num_threads(), device)
    runtime, modules, size = opened
    quantize_s = time.perf_counter() - start
    return Quantized(None, recipe, "library", modules, quantize_s, size, runtime)


@contextmanager
def _readable_import_errors(recipe: Recipe) -> Iterator[None]:
    """Turns the ImportError of a library that is installed into a sentence."""
    try:
        yield
    except ImportError as error:
        package = backend_of(recipe).packages[0]
        raise LibraryMissing(
            f"{recipe.name} needs the package {package}, which is installed but cannot be loaded"
            f" ({str(error).splitlines()[0]}). Reinstall it: pip install --force-reinstall"
            f" {package}"
        ) from error


class _ByteCounter:
    """A file that only counts what is written to it."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count

    def flush(self) -> None:
        """Nothing is buffered."""


def serialized_bytes(model: Any) -> int:
    """Bytes of the model's state as torch.save writes it; tied tensors count once."""
    import torch

    sink: Any = _ByteCounter()
    torch.save(model.state_dict(), sink)
    return int(sink.size)
