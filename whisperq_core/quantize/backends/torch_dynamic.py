"""PyTorch's own dynamic int8 (eager mode, CPU): int8 weights, one activation range a batch.

torch.ao.quantization warns that it will be removed in favour of torchao; it is in torch 2.13, it is
what the study measured, and it is used in this file only.
"""

from typing import Any

from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.recipe import Granularity, Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend("torch", "PyTorch", ("torch",), reduced_range=True)


def _dynamic(
    name: str, granularity: Granularity, description: str, full_range: bool = False
) -> Recipe:
    return Recipe(
        name,
        BACKEND.name,
        description,
        "int8",
        "dynamic",
        granularity=granularity,
        activations="int8",
        activation_granularity="tensor",
        full_range=full_range,
        devices=("cpu",),
    )


RECIPES = (
    _dynamic(
        "torch-int8",
        "tensor",
        "PyTorch dynamic int8, per-tensor weight scales, 7-bit activations, as in the study.",
    ),
    _dynamic(
        "torch-int8-channel",
        "channel",
        "PyTorch dynamic int8, per-channel weight scales, 7-bit activations.",
    ),
    _dynamic(
        "torch-int8-full-range",
        "tensor",
        "PyTorch dynamic int8, per-tensor weight scales, activations in all 8 bits.",
        full_range=True,
    ),
    _dynamic(
        "torch-int8-channel-full-range",
        "channel",
        "PyTorch dynamic int8, per-channel weight scales, activations in all 8 bits.",
        full_range=True,
    ),
)


# forward() of a layer of version 4 passes reduce_range=True whatever its qconfig says; of an older
# one it leaves the range whole.
_FULL_RANGE = 3


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Replaces the Linears of the recipe by nn.quantized.dynamic.Linear.

    Weights are scaled per tensor or per channel.
    """
    import torch
    from torch.ao import quantization
    from torch.ao.nn.quantized.dynamic import Linear

    library: Any = quantization  # without type information
    qconfig = (
        library.default_dynamic_qconfig
        if recipe.granularity == "tensor"
        else library.per_channel_dynamic_qconfig
    )
    chosen: dict[Any, Any] = {torch.nn.Linear: qconfig}
    if recipe.modules != "all-linear":
        chosen["proj_out"] = None
    quantized = library.quantize_dynamic(model, chosen, dtype=torch.qint8, inplace=True)
    if recipe.full_range:
        for layer in quantized.modules():
            if isinstance(layer, Linear):
                layer.version = _FULL_RANGE
    return quantized


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of a dynamic quantized Linear."""
    from torch.ao.nn.quantized.dynamic import Linear

    return layer.weight().dequantize() if isinstance(layer, Linear) else None  # type: ignore[no-untyped-call]


def state_of(layer: Module) -> LayerState | None:
    """The unpacked int8 weight with its scales, which a dynamic quantized Linear keeps packed."""
    import torch
    from torch.ao.nn.quantized.dynamic import Linear

    if not isinstance(layer, Linear):
        return None
    weight, bias = layer._weight_bias()  # type: ignore[no-untyped-call]
    tensors = {"weight": weight.int_repr()}
    if bias is not None:
        tensors["bias"] = bias
    by_channel = weight.qscheme() == torch.per_channel_affine
    if by_channel:
        tensors["scale"] = weight.q_per_channel_scales()
        tensors["zero_point"] = weight.q_per_channel_zero_points()
    else:
        tensors["scale"] = torch.tensor(weight.q_scale(), dtype=torch.float64)
        tensors["zero_point"] = torch.tensor(weight.q_zero_point())
    settings: Settings = {"granularity": "channel" if by_channel else "tensor"}
    if layer.version == _FULL_RANGE:
        settings["full_range"] = True
    return tensors, settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """Packs the weight again."""
    import torch
    from torch.ao.nn.quantized.dynamic import Linear

    weight, scale, zero = tensors["weight"], tensors["scale"], tensors["zero_point"]
    if settings["granularity"] == "channel":
        packed = torch._make_per_channel_quantized_tensor(weight, scale, zero, 0)
    else:
        packed = torch._make_per_tensor_quantized_tensor(weight, scale.item(), zero.item())
    rows, columns = weight.shape
    layer: Module = Linear(columns, rows)  # type: ignore[no-untyped-call]
    if settings.get("full_range"):
        layer.version = _FULL_RANGE
    layer.set_weight_bias(packed, tensors.get("bias"))
    return layer
