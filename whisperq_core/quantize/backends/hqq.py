"""HQQ: grouped int8 to int2 weights with zero points, fitted by half-quadratic optimization."""

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

BACKEND = Backend("hqq", "HQQ", ("hqq",), imports=("hqq",), same_dequantized=True)
GROUP_SIZES = (16, 32, 64, 128)
_WEIGHTS = ("int8", "int4", "int3", "int2")


def grouped(weights: str, group_size: int) -> Recipe:
    """The recipe for a weight format, int8 to int2, in groups of 16, 32, 64 or 128."""
    return Recipe(
        f"hqq-{weights}-g{group_size}",
        BACKEND.name,
        f"HQQ, {weights} weights in groups of {group_size}, fitted by half-quadratic optimization.",
        weights,
        "weight-only",
        method="asymmetric",
        granularity="group",
        group_size=group_size,
        modules=NOT_PROJ_OUT,
        devices=("cpu", "cuda"),
    )


RECIPES = tuple(grouped(weights, 64) for weights in _WEIGHTS)


def recipe_named(name: str) -> Recipe | None:
    """The recipe with any group size, such as hqq-int4-g32; None for another name."""
    weights, _, size = name.removeprefix("hqq-").partition("-g")
    if name.startswith("hqq-") and weights in _WEIGHTS and size in map(str, GROUP_SIZES):
        return grouped(weights, int(size))
    return None


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Swaps every Linear of the recipe for HQQLinear; Transformers 5 no longer does it."""
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    config = BaseQuantizeConfig(nbits=recipe.bits, group_size=recipe.group_size, axis=1)
    for parent, attribute, layer in linears(model, recipe):
        device = str(layer.weight.device)
        dtype = torch.float32 if device == "cpu" else torch.float16
        swapped = HQQLinear(layer, config, compute_dtype=dtype, device=device, del_orig=False)
        setattr(parent, attribute, swapped)
    return model


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of an HQQLinear."""
    from hqq.core.quantize import HQQLinear

    return layer.dequantize() if isinstance(layer, HQQLinear) else None


def state_of(layer: Module) -> LayerState | None:
    """Packed weight, scales and zero points of an HQQLinear.

    Not in its own encoding for safetensors: HQQ reads that with eval().
    """
    from hqq.core.quantize import HQQLinear

    if not isinstance(layer, HQQLinear):
        return None
    tensors = {"W_q": layer.W_q, "scale": layer.meta["scale"], "zero": layer.meta["zero"]}
    if layer.bias is not None:
        tensors["bias"] = layer.bias
    settings = {name: layer.meta[name] for name in ("nbits", "group_size", "axis", "packing")}
    return tensors, settings | {"shape": list(layer.meta["shape"])}


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """An HQQLinear around the packed weight."""
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    dtype = tensors["scale"].dtype
    meta = {
        **settings,
        "shape": torch.Size(settings["shape"]),
        "scale": tensors["scale"],
        "zero": tensors["zero"],
        "quant_scale": False,
        "quant_zero": False,
        "compute_dtype": dtype,
    }
    config = BaseQuantizeConfig(**{n: settings[n] for n in ("nbits", "group_size", "axis")})
    device = str(tensors["W_q"].device)
    layer = HQQLinear(None, config, compute_dtype=dtype, device=device, initialize=False)
    layer.load_state_dict({"W_q": tensors["W_q"], "bias": tensors.get("bias"), "meta": meta})
    return layer
