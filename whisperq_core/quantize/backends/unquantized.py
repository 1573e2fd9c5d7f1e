"""fp32, and half precision where the device computes in it: nothing is quantized."""

from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend("none", "not quantized", ("torch",))


def _float(weights: str, description: str) -> Recipe:
    return Recipe(
        weights,
        BACKEND.name,
        description,
        weights,
        "none",
        method="none",
        granularity="none",
        modules="none",
        embeddings=weights,
    )


RECIPES = (
    _float("fp32", "The published model in 32-bit floating point."),
    _float("bf16", "Weights and arithmetic in bfloat16, on devices that support it."),
    _float("fp16", "Weights and arithmetic in 16-bit floating point, on devices that support it."),
)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Casts the whole model to the recipe's floating-point format."""
    import torch

    return model.to(
        {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.weights]
    )


def weight_of(layer: Module) -> Weight:
    """No layer is quantized."""
    return None


def state_of(layer: Module) -> LayerState | None:
    """No layer is the library's own."""
    return None


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """Never called for what `state_of` gives."""
    raise ValueError("the model was not quantized, and yet has quantized layers")
