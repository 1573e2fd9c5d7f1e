"""One file for each quantization library: a recipe in, a quantized model out.

A backend module has

    quantize(model, recipe, calibrate)  quantizes every Linear of the model in place and returns it
    weight_of(layer)                    the dequantized weight of a layer that the library
                                        quantized, shape (out, in) in fp32; None for other layers
    state_of(layer)                     what a layer of the library's own is rebuilt from: plain
                                        tensors by name, and settings that JSON can hold; None for
                                        other layers
    layer_from(tensors, settings)       that layer again, on the tensors' device
    prepare(model, recipe)              where it has one: what the model needs beside its layers

and a line in `BACKENDS`. A tensor that two layers share is to be returned, and taken, as one.

A runtime that is not PyTorch has instead

    open_runtime(model, recipe, threads)  a Runtime made from the models.Model, the names of what is
                                          quantized in it, and its bytes on disk

and, where it needs a file that is the user's,

    missing_file_reason(recipe)  why there is none for any model, in a sentence; None if there is
    identity(name, recipe)       what tells the file for the model of that name from another one

The library is imported inside those functions only.
"""

import copy
import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

from whisperq_core.errors import LibraryMissing, RecipeUnsupported
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.whisper.runtime import Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

    from whisperq_core.whisper.models import Model

# backend → (its module here, the pip package it needs)
BACKENDS = {
    "none": ("unquantized", "torch"),
    "torch": ("torch_dynamic", "torch"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("quanto", "optimum-quanto"),
    "hqq": ("hqq", "hqq"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "whisperq": ("whole_int8", "torch"),
    "faster-whisper": ("faster_whisper", "faster-whisper"),
    "whisper.cpp": ("whisper_cpp", "pywhispercpp"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "mixed": ("mixed_precision", "torch"),
}
# Packages beside a backend's own that decide what it computes.
_BESIDE = {
    "faster-whisper": ("ctranslate2",),
    "onnxruntime": ("onnx", "onnxscript"),
    "openvino": ("nncf",),
}
# Those that need a file which is the user's.
_WITH_FILE = ("whisper.cpp",)

# On a CPU these dequantize to fp32 and multiply there, slowly: fp32 layers with their dequantized
# weights give the same transcripts (tests/test_backends.py compares them on real speech).
# bitsandbytes is not among them: its 4-bit CPU kernels compute in lower precision.
SAME_DEQUANTIZED = ("torchao", "quanto", "hqq", "whisperq", "mixed")

Calibrate = Callable[["nn.Module"], None]


@dataclass(frozen=True)
class Quantized:
    """A model after a recipe: what runs, and what it cost to make.

    torch_model is None, and runtime is not, where the recipe runs outside PyTorch.
    kernels is "library" where the library's own quantized layers run, "dequantized" where their
    weights were put back into fp32 layers (the same mathematics for weight-only recipes).
    """

    torch_model: "nn.Module | None"
    recipe: Recipe
    kernels: str
    modules: tuple[str, ...]
    quantize_s: float
    weights_bytes: int
    runtime: Runtime | None = None


def module_of(recipe: Recipe) -> ModuleType:
    """The recipe's backend module; the library itself is not imported yet."""
    return importlib.import_module(f"{__name__}.{BACKENDS[recipe.backend][0]}")


def library_version(recipe: Recipe) -> str:
    """Name and version of the recipe's library, such as hqq 0.2.8; raises LibraryMissing."""
    found = {}
    for package in _packages(recipe):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise LibraryMissing(
                f"{recipe.name} needs the package {package}. Install it: pip install {package}"
            ) from None
    return " ".join(next(iter(found.items())))


def _packages(recipe: Recipe) -> tuple[str, ...]:
    """What the recipe needs beside PyTorch, its library first."""
    return (BACKENDS[recipe.backend][1], *_BESIDE.get(recipe.backend, ()))


def versions(recipe: Recipe, model: str) -> dict[str, str]:
    """Versions of the libraries, and of a user's own file, that decide what the recipe computes.

    Raises RecipeUnsupported where there is no such file for the model of that name.
    Without a build's label: 2.13.0+cpu and 2.13.0+cu130 compute the same on a CPU.
    """
    packages = {"torch", "transformers", *_packages(recipe)}
    found = {package: version(package).partition("+")[0] for package in sorted(packages)}
    return found | (
        module_of(recipe).identity(model, recipe) if recipe.backend in _WITH_FILE else {}
    )


def unavailable_reason(recipe: Recipe, device: str) -> str | None:
    """Why the recipe cannot run on the device, in a sentence; None where it can.

    Cheap: imports no library, so that a page can ask it of every recipe.
    """
    if device not in recipe.devices:
        places = ", ".join(recipe.devices)
        if recipe.has_own_runtime:
            return f"{recipe.name} is compared on {places} only."
        return f"{recipe.name} runs on {places}; {recipe.backend} has no kernels for {device}."
    try:
        library_version(recipe)
    except LibraryMissing as missing:
        return str(missing)
    if recipe.backend in _WITH_FILE:
        return module_of(recipe).missing_file_reason(recipe)
    return _half_precision_reason(recipe, device)


def _half_precision_reason(recipe: Recipe, device: str) -> str | None:
    """Half precision on a CPU is only worth the name where the CPU computes in it."""
    formats = {recipe.weights, recipe.attention} & {"bf16", "fp16"}
    if device != "cpu" or not formats:
        return None
    from whisperq_core.machine import cpu_flags

    needed = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "asimdhp")}
    missing = [f for f in formats if cpu_flags().isdisjoint(needed[f])]
    if missing:
        return f"This CPU has no {missing[0]} instructions; PyTorch would emulate them."
    return None


def require(recipe: Recipe, device: str) -> None:
    """Raises RecipeUnsupported or LibraryMissing with the reason where the recipe cannot run.

    Unlike `unavailable_reason` it asks PyTorch whether the device is really there.
    """
    import torch

    library_version(recipe)
    if reason := unavailable_reason(recipe, device):
        raise RecipeUnsupported(reason)
    there = {"cpu": True, "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there[device]:
        raise RecipeUnsupported(
            f"PyTorch finds no {device} device here. Install a torch that has it, or choose cpu."
        )


def quantize(
    model: "nn.Module",
    recipe: Recipe,
    device: str = "cpu",
    calibrate: Calibrate | None = None,
    kernels: str = "library",
) -> Quantized:
    """Derives a quantized model from an fp32 one; the given one stays as it is.

    What the recipe leaves alone is shared with the given model where both are on one device.
    calibrate runs the model on calibration speech; static recipes need it. kernels="dequantized" is
    refused with RecipeUnsupported where the recipe also quantizes activations. Raises
    LibraryMissing where its library is not installed, or fails when it is loaded.
    """
    import torch

    require(recipe, device)
    if kernels == "dequantized" and recipe.scheme != "weight-only":
        raise RecipeUnsupported(
            f"{recipe.name} quantizes activations too: only its library's kernels compute it."
        )
    if recipe.has_own_runtime:
        raise RecipeUnsupported(f"{recipe.name} needs a whole model with its tokenizer.")
    module = module_of(recipe)
    work = _derived(model).to(device)
    if recipe.modules == "all-linear":
        _untie(work)
    start = time.perf_counter()
    with _loadable(recipe), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = module.quantize(work, recipe, calibrate).requires_grad_(False).eval()
        quantize_s = time.perf_counter() - start
        modules = tuple(
            n for n, layer in work.named_modules() if module.weight_of(layer) is not None
        )
        size = serialized_bytes(work)
        if kernels == "dequantized":
            _restore_fp32(work, modules, module.weight_of)
    return Quantized(work, recipe, kernels, modules, quantize_s, size)


@contextmanager
def _loadable(recipe: Recipe) -> Iterator[None]:
    """Says in a sentence that a library is there but cannot be imported."""
    try:
        yield
    except ImportError as error:
        package = _packages(recipe)[0]
        raise LibraryMissing(
            f"{recipe.name} needs the package {package}, which is here but cannot be loaded"
            f" ({str(error).splitlines()[0]}). Install it anew: pip install --force-reinstall"
            f" {package}"
        ) from error


def open_runtime(model: "Model", recipe: Recipe, device: str = "cpu") -> Quantized:
    """The model in the recipe's own runtime, which gets as many threads as PyTorch has.

    Raises RecipeUnsupported or LibraryMissing with the reason where the recipe cannot run.
    """
    import torch

    require(recipe, device)
    start = time.perf_counter()
    with _loadable(recipe), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = module_of(recipe).open_runtime(model, recipe, torch.get_num_threads())
    runtime, modules, size = opened
    quantize_s = time.perf_counter() - start
    return Quantized(None, recipe, "library", modules, quantize_s, size, runtime)


def _derived(model: "nn.Module") -> "nn.Module":
    """A model of its own layers over the same memory: a copy of what holds tensors, not of them.

    Parameters are new objects, so that replacing, casting or moving one leaves the given model's
    alone. No backend may write into the memory itself (tests/test_backends.py).
    """
    from torch import nn

    shared = {id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()}
    shared |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def _untie(model: "nn.Module") -> None:
    """Gives proj_out a weight of its own, as quantizing every Linear does (the study's sizes)."""
    from torch import nn

    model.config.tie_word_embeddings = False
    model.proj_out.weight = nn.Parameter(model.proj_out.weight.clone(), requires_grad=False)


def linears(model: "nn.Module", recipe: Recipe) -> list[tuple["nn.Module", str, "nn.Module"]]:
    """The nn.Linear layers the recipe quantizes, as (parent, attribute, layer) to be replaced."""
    from torch import nn

    skipped = model.proj_out if recipe.modules == "linear-but-proj_out" else None
    return [
        (parent, attribute, layer)
        for parent in model.modules()
        for attribute, layer in parent.named_children()
        if type(layer) is nn.Linear and layer is not skipped
    ]


def _restore_fp32(
    model: "nn.Module", names: tuple[str, ...], weight_of: Callable[["nn.Module"], "Tensor | None"]
) -> None:
    from torch import nn

    for name in names:
        layer = model.get_submodule(name)
        weight = weight_of(layer).float()
        bias = getattr(layer, "bias", None)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        if bias is not None:
            plain.bias = nn.Parameter(bias.detach().float(), requires_grad=False)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, plain)


class _ByteCounter:
    """A file that only counts what is written to it."""

    def __init__(self):
        self.size = 0

    def write(self, data) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count

    def flush(self) -> None:
        """Nothing is buffered."""


def serialized_bytes(model: "nn.Module") -> int:
    """Bytes of the model's state as torch.save writes it; tied tensors count once."""
    import torch

    sink = _ByteCounter()
    torch.save(model.state_dict(), sink)
    return sink.size
