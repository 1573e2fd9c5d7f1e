"""HQQ: grouped int8 to int2 weights with zero points, fitted by half-quadratic optimization.

Compiled, its int4 weights are multiplied by PyTorch's own int4 kernels ("tinygemm"). HQQ packs them
for these too, but takes PyTorch 2.10 and later for versions before 2.5.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from torch import Tensor

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


_COMPILED = Recipe(
    "hqq-int4-g64-compiled",
    BACKEND.name,
    "HQQ, int4 weights in groups of 64, multiplied by PyTorch's int4 kernels; the rest in bfloat16,"
    " compiled, with a static cache and CUDA graphs.",
    "int4",
    "weight-only",
    method="asymmetric",
    granularity="group",
    group_size=64,
    modules=NOT_PROJ_OUT,
    embeddings="bf16",
    compute="bf16",
    compiled=True,
    devices=("cuda",),
)

RECIPES = (*(grouped(weights, 64) for weights in _WEIGHTS), _COMPILED)


def recipe_named(name: str) -> Recipe | None:
    """The recipe with any group size, such as hqq-int4-g32; None for another name."""
    weights, _, size = name.removeprefix("hqq-").partition("-g")
    if name.startswith("hqq-") and weights in _WEIGHTS and size in map(str, GROUP_SIZES):
        return grouped(weights, int(size))
    return None


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Swaps every Linear of the recipe for HQQLinear; Transformers 5 no longer does it."""
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    config = BaseQuantizeConfig(nbits=recipe.bits, group_size=recipe.group_size, axis=1)
    for parent, attribute, layer in linears(model, recipe):
        # In the model's own precision: HQQ would compute in fp16 on a GPU, and fp32 inputs fail.
        swapped = HQQLinear(
            layer,
            config,
            compute_dtype=layer.weight.dtype,
            device=str(layer.weight.device),
            del_orig=False,
        )
        if recipe.compiled:
            swapped = _int4_linear(swapped)
        setattr(parent, attribute, swapped)
    return model


@lru_cache
def _int4_linear_class() -> Any:
    """The class Int4Linear; made when asked for, as torch is late."""
    import torch
    from torch import nn

    class Int4Linear(nn.Module):
        """A Linear whose int4 weights are packed for PyTorch's kernels.

        weight: packed codes. steps_and_zeros: shape (groups, out, 2); a weight is (code - 8) × step
        + zero, in bfloat16.
        """

        weight: "Tensor"
        steps_and_zeros: "Tensor"
        bias: "Tensor | None"

        def __init__(
            self,
            weight: "Tensor",
            steps_and_zeros: "Tensor",
            bias: "Tensor | None",
            group_size: int,
        ) -> None:
            super().__init__()
            self.register_buffer("weight", weight)
            self.register_buffer("steps_and_zeros", steps_and_zeros)
            self.register_buffer("bias", bias)
            self.group_size = group_size
            self.on_cpu = weight.device.type == "cpu"

        def forward(self, x: "Tensor") -> "Tensor":
            out = self.multiply(x.reshape(-1, x.shape[-1]))
            out = out if self.bias is None else out + self.bias
            return out.view(*x.shape[:-1], -1)

        def multiply(self, rows: "Tensor") -> "Tensor":
            """Rows of shape (rows, in) in bfloat16 by the weights, shape (rows, out)."""
            kernels = torch.ops.aten
            kernel = (
                kernels._weight_int4pack_mm_for_cpu if self.on_cpu else kernels._weight_int4pack_mm
            )
            out: Tensor = kernel(rows, self.weight, self.group_size, self.steps_and_zeros)
            return out

        def dequantized(self) -> "Tensor":
            """The weights, shape (out, in)."""
            columns = len(self.steps_and_zeros) * self.group_size
            identity = torch.eye(columns, dtype=torch.bfloat16, device=self.weight.device)
            return self.multiply(identity).t()

    return Int4Linear


def _int4_linear(layer: Module) -> Module:
    """An Int4Linear with the codes, scales and zero points of an HQQLinear of 4 bits."""
    import torch
    from hqq.core.quantize import Quantizer

    rows, columns = layer.meta["shape"]
    codes = Quantizer.unpack[layer.meta["packing"]](layer.W_q).reshape(rows, columns)
    step, zero = (layer.meta[name].float().reshape(rows, -1) for name in ("scale", "zero"))
    # A kernel's zero is the weight of code 8; HQQ's is the code of weight 0.
    steps_and_zeros = torch.stack([step, (8 - zero) * step], -1).transpose(0, 1)
    if codes.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
    else:
        pairs = codes[:, ::2] << 4 | codes[:, 1::2]
        packed = torch.ops.aten._convert_weight_to_int4pack(pairs, 8)
    return _int4_linear_class()(
        packed,
        steps_and_zeros.to(torch.bfloat16).contiguous(),
        layer.bias,
        layer.meta["group_size"],
    )


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of an HQQLinear or an Int4Linear."""
    from hqq.core.quantize import HQQLinear

    if isinstance(layer, _int4_linear_class()):
        return layer.dequantized()
    return layer.dequantize() if isinstance(layer, HQQLinear) else None


def state_of(layer: Module) -> LayerState | None:
    """Packed weight, scales and zero points of an HQQLinear.

    Not in its own encoding for safetensors: HQQ reads that with eval(). Of an Int4Linear, what its
    device's kernels read.
    """
    from hqq.core.quantize import HQQLinear

    if isinstance(layer, _int4_linear_class()):
        return layer.state_dict(), {"kernels": "int4", "group_size": layer.group_size}
    if not isinstance(layer, HQQLinear):
        return None
    tensors = {"W_q": layer.W_q, "scale": layer.meta["scale"], "zero": layer.meta["zero"]}
    if layer.bias is not None:
        tensors["bias"] = layer.bias
    settings = {name: layer.meta[name] for name in ("nbits", "group_size", "axis", "packing")}
    return tensors, settings | {"shape": list(layer.meta["shape"])}


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """An HQQLinear, or an Int4Linear, around the packed weight."""
    if settings.get("kernels") == "int4":
        parts = tensors["weight"], tensors["steps_and_zeros"], tensors.get("bias")
        return _int4_linear_class()(*parts, settings["group_size"])
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
