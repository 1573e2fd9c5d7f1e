"""torchao, PyTorch's successor to torch.ao.quantization: weights as tensor subclasses."""

from typing import Any

from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.backends.linear_layers import linears
from whisperq_core.quantize.recipe import NOT_PROJ_OUT, Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend("torchao", "torchao", ("torchao",), imports=("torchao",), same_dequantized=True)


def _compiled(kind: str, description: str, activations: str = "float") -> Recipe:
    """What users of a GPU choose; proj_out, whose rows are odd, has no such kernels."""
    dynamic = activations != "float"
    return Recipe(
        f"torchao-{kind}-compiled",
        BACKEND.name,
        f"{description}; the rest in bfloat16, compiled, with a static cache and CUDA graphs.",
        activations if dynamic else kind,
        "dynamic" if dynamic else "weight-only",
        activations=activations,
        activation_granularity="row" if dynamic else "none",
        modules=NOT_PROJ_OUT,
        embeddings="bf16",
        compute="bf16",
        compiled=True,
        devices=("cuda",),
    )


RECIPES = (
    Recipe(
        "torchao-int8-dynamic",
        BACKEND.name,
        "torchao dynamic int8: per-channel weight scales, per-token activation scales.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        # On a GPU torchao would multiply proj_out, whose rows are odd, on the CPU at every step.
        devices=("cpu",),
    ),
    Recipe(
        "torchao-int8",
        BACKEND.name,
        "torchao int8 weights, activations in floating point.",
        "int8",
        "weight-only",
        devices=("cpu", "cuda"),
    ),
    _compiled("int8", "torchao int8 weights, activations in bfloat16"),
    _compiled(
        "int8-dynamic",
        "torchao dynamic int8: per-channel weight scales, per-token activation scales",
        "int8",
    ),
    _compiled(
        "float8-dynamic",
        "torchao dynamic 8-bit floating point (e4m3): per-channel weight scales, per-token"
        " activation scales",
        "float8",
    ),
)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Swaps the weight of every Linear of the recipe for torchao's tensor."""
    from torchao.quantization import quantize_

    chosen = {layer for _, _, layer in linears(model, recipe)}
    quantize_(model, _config_of(recipe), lambda layer, name: layer in chosen)
    return model


def _config_of(recipe: Recipe) -> Any:
    """torchao's settings; its own of the compiler are left out, which would hold for all models."""
    from torchao import quantization as library

    options = {"set_inductor_config": False}
    if recipe.scheme == "weight-only":
        return library.Int8WeightOnlyConfig(**options)
    if recipe.weights == "int8":
        return library.Int8DynamicActivationInt8WeightConfig(**options)
    return library.Float8DynamicActivationFloat8WeightConfig(
        granularity=library.PerRow(), **options
    )


def weight_of(layer: Module) -> Weight:
    """The dequantized weight where it is one of torchao's tensors."""
    from torch import nn
    from torchao.utils import TorchAOBaseTensor

    if isinstance(layer, nn.Linear) and isinstance(layer.weight.data, TorchAOBaseTensor):
        return layer.weight.data.dequantize()
    return None


def state_of(layer: Module) -> LayerState | None:
    """torchao's tensor taken apart, with its settings."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    if weight_of(layer) is None:
        return None
    tensors, settings = flatten_tensor_state_dict({"linear.weight": layer.weight.data})
    if layer.bias is not None:
        tensors["bias"] = layer.bias
    return tensors, settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """A Linear with torchao's tensor put together again."""
    from torch import nn
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    parts = {name: tensor for name, tensor in tensors.items() if name != "bias"}
    weight = unflatten_tensor_state_dict(parts, settings)[0]["linear.weight"]
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias="bias" in tensors, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if "bias" in tensors:
        layer.bias = nn.Parameter(tensors["bias"], requires_grad=False)
    return layer
