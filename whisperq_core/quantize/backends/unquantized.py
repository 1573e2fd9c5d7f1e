"""fp32, and half precision where the device computes in it: nothing is quantized."""

from typing import Any

from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.backends.linear_layers import dtype_of
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend("none", "not quantized", ("torch",))


def _float(weights: str, description: str, **axes: Any) -> Recipe:
    return Recipe(
        f"{weights}{'-compiled' * bool(axes)}",
        BACKEND.name,
        description,
        weights,
        "none",
        method="none",
        granularity="none",
        modules="none",
        embeddings=weights,
        **axes,
    )


def _compiled(weights: str, format_name: str) -> Recipe:
    description = f"As {weights} ({format_name}), compiled, with a static cache and CUDA graphs."
    return _float(weights, description, compiled=True, devices=("cuda",))


RECIPES = (
    _float("fp32", "The published model in 32-bit floating point."),
    _float("bf16", "Weights and arithmetic in bfloat16, on devices that support it."),
    _float("fp16", "Weights and arithmetic in 16-bit floating point, on devices that support it."),
    _compiled("bf16", "bfloat16"),
    _compiled("fp16", "16-bit floating point"),
)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Casts the whole model to the recipe's floating-point format."""
    return model.to(dtype_of(recipe.weights))


def weight_of(layer: Module) -> Weight:
    """No layer is quantized."""
    return None


def state_of(layer: Module) -> LayerState | None:
    """No layer is the library's own."""
    return None


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """Never called for what `state_of` gives."""
    raise ValueError("the model was not quantized, and yet has quantized layers")
