"""bitsandbytes: LLM.int8(), nf4 and fp4 with or without double quantization."""

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from whisperq_core import machine
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.backends.linear_layers import linears
from whisperq_core.quantize.recipe import NOT_PROJ_OUT, Recipe, Scheme
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend("bitsandbytes", "bitsandbytes", ("bitsandbytes",), imports=("bitsandbytes",))


def _recipe(
    name: str, description: str, weights: str, scheme: Scheme, in_fp16: bool, **axes: Any
) -> Recipe:
    """in_fp16: the rest of the model is in 16-bit floating point too, as is usual on a GPU."""
    return Recipe(
        f"{name}{'-fp16' * in_fp16}",
        BACKEND.name,
        f"{description}{'; the rest in 16-bit floating point' * in_fp16}.",
        weights,
        scheme,
        modules=NOT_PROJ_OUT,
        embeddings="fp16" if in_fp16 else "fp32",
        compute="fp16" if in_fp16 else "fp32",
        devices=("cuda",) if in_fp16 else ("cpu", "cuda"),
        **axes,
    )


def _int8(in_fp16: bool = False) -> Recipe:
    return _recipe(
        "bnb-int8",
        "bitsandbytes LLM.int8(): per-row int8, outlier columns in floating point",
        "int8",
        "dynamic",
        in_fp16,
        activations="int8",
        activation_granularity="row",
    )


def _4bit(weights: str, double_quant: bool, in_fp16: bool = False) -> Recipe:
    scales = ", with 8-bit scales (double quantization)" if double_quant else ""
    return _recipe(
        f"bnb-{weights}{'-dq' * double_quant}",
        f"bitsandbytes, {weights} weights in blocks of 64{scales}",
        weights,
        "weight-only",
        in_fp16,
        granularity="group",
        group_size=64,
        double_quant=double_quant,
    )


RECIPES = (
    _int8(),
    _4bit("nf4", False),
    _4bit("nf4", True),
    _4bit("fp4", False),
    _4bit("fp4", True),
    _int8(in_fp16=True),
    _4bit("nf4", False, in_fp16=True),
)


def identity(model: str, recipe: Recipe) -> dict[str, str]:
    """What else decides its 4-bit results on a CPU, where it is not the usual.

    With AVX512_BF16 it packs weights for kernels in bfloat16, or takes those of the package
    `kernels` where that is installed; without, it computes in 32 bits.
    """
    if recipe.weights == "int8":
        return {}
    if "avx512_bf16" not in machine.cpu_flags():
        return {"bitsandbytes-cpu": "fp32"}
    try:
        return {"kernels": version("kernels")}
    except PackageNotFoundError:
        return {}


def _quieten() -> None:
    """It would say what it lacks when imported, and its cast to fp16 on every forward pass."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Replaces the Linears of the recipe; moving a new layer to its device quantizes it."""
    _quieten()
    import bitsandbytes
    import torch
    from torch import nn

    bnb: Any = bitsandbytes  # its stubs do not export the layers

    for parent, attribute, layer in linears(model, recipe):
        rows, columns = layer.weight.shape
        shape = columns, rows, layer.bias is not None
        device = layer.weight.device
        if recipe.weights == "int8":
            new = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=6.0)
            new.weight = bnb.nn.Int8Params(
                layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False
            )
        else:
            new = bnb.nn.Linear4bit(
                *shape,
                compute_dtype=torch.float32 if device.type == "cpu" else torch.float16,
                quant_type=recipe.weights,
                compress_statistics=recipe.double_quant,
            )
            new.weight = bnb.nn.Params4bit(
                layer.weight.data.cpu(),
                quant_type=recipe.weights,
                blocksize=recipe.group_size,
                compress_statistics=recipe.double_quant,
                module=new,
            )
        if layer.bias is not None:
            new.bias = nn.Parameter(layer.bias.data, requires_grad=False)
        setattr(parent, attribute, new.to(device))
    return model


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of a Linear4bit or Linear8bitLt."""
    import bitsandbytes

    bnb: Any = bitsandbytes  # its stubs do not export the layers

    if isinstance(layer, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    if isinstance(layer, bnb.nn.Linear8bitLt):
        scales = layer.weight.SCB.view(-1, 1).float()
        return layer.weight.data.float() * scales / 127
    return None


def state_of(layer: Module) -> LayerState | None:
    """Packed weight and statistics, as the layer's own state_dict has them.

    Raises RecipeUnsupported for a 4-bit layer that has computed on a CPU with AVX-512: bitsandbytes
    then rounds its scales, and what it saves is no longer what was quantized.
    """
    import bitsandbytes

    bnb: Any = bitsandbytes  # its stubs do not export the layers

    if isinstance(layer, bnb.nn.Linear4bit):
        if getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
            raise RecipeUnsupported(
                "bitsandbytes rounded this model's scales when it transcribed. Quantize the model"
                " again and export it before transcribing."
            )
        settings: Settings = {"compute_dtype": str(layer.compute_dtype).removeprefix("torch.")}
    elif isinstance(layer, bnb.nn.Linear8bitLt):
        settings = {"threshold": layer.state.threshold}
    else:
        return None
    shape = {"in_features": layer.in_features, "out_features": layer.out_features}
    return layer.state_dict(), shape | settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """A Linear4bit or Linear8bitLt around the packed weight."""
    _quieten()
    import bitsandbytes
    import torch
    from torch import nn

    bnb: Any = bitsandbytes  # its stubs do not export the layers

    shape = settings["in_features"], settings["out_features"], "bias" in tensors
    data, device = tensors["weight"], tensors["weight"].device
    if "threshold" in settings:
        layer = bnb.nn.Linear8bitLt(
            *shape, has_fp16_weights=False, threshold=settings["threshold"], device="meta"
        )
        layer.weight = bnb.nn.Int8Params(
            data, requires_grad=False, has_fp16_weights=False, CB=data, SCB=tensors["SCB"]
        )
    else:
        dtypes = {"float32": torch.float32, "float16": torch.float16}
        compute = dtypes[settings["compute_dtype"]]
        layer = bnb.nn.Linear4bit(*shape, compute_dtype=compute, device="meta")
        prefix = "weight."
        statistics = {n.removeprefix(prefix): t for n, t in tensors.items() if prefix in n}
        layer.weight = bnb.nn.Params4bit.from_prequantized(
            data, statistics, device=device, module=layer
        )
    if "bias" in tensors:
        layer.bias = nn.Parameter(tensors["bias"], requires_grad=False)
    return layer
