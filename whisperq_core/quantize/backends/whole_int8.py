"""WhisperQ's own int8: the whole model, each row of activations with a scale of its own.

One int8 table serves embed_tokens and proj_out. A scale of activations belongs to a row (a token, a
frame), so that neighbours in a batch do not change what an utterance becomes. Products of int8 are
summed exactly: in int32 by oneDNN on weights packed for it where the CPU has its instructions
(VNNI, AMX); elsewhere by `torch._int_mm` for few rows, and for many, where it is up to 16 times as
slow, as whole numbers in fp32. That holds them exactly up to 2^24, far above the sums of a layer.
"""

import weakref
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from whisperq_core.machine import cpu_flags
from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.backends.linear_layers import linears
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

# Scores of attention that are computed at once; well within a CPU's last cache.
_SCORES_BYTES = 4 * 2**20

BACKEND = Backend("whisperq", "WhisperQ", ("torch",), same_dequantized=True)


def _whole(name: str, description: str, dynamic: bool, attention: str = "fp32") -> Recipe:
    return Recipe(
        name,
        BACKEND.name,
        f"The whole model in int8, tied embeddings included; {description}.",
        "int8",
        "dynamic" if dynamic else "weight-only",
        activations="int8" if dynamic else "float",
        activation_granularity="row" if dynamic else "none",
        modules="whole-model",
        embeddings="int8",
        rest="fp16",
        attention=attention,
        devices=("cpu",),
    )


RECIPES = (
    _whole("whole-int8", "activations in floating point", dynamic=False),
    _whole("whole-int8-dynamic", "per-token activation scales", dynamic=True),
    _whole(
        "whole-int8-dynamic-bf16",
        "per-token activation scales, attention in bfloat16",
        dynamic=True,
        attention="bf16",
    ),
)


# Rows of a large weight that are dequantized at a time: as many as stay in a CPU's cache.
_CHUNK = 4096
# Rows up to which PyTorch's int8 product is the faster one on a CPU without VNNI.
_FEW_ROWS = 16
_BF16_ATTENTION = "whisperq-bf16"


@lru_cache
def _packs() -> bool:
    """Whether oneDNN multiplies packed int8 weights exactly: older CPUs saturate in between."""
    import torch

    exact = {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags()
    return bool(exact) and hasattr(torch.ops.onednn, "qlinear_pointwise")


@lru_cache
def layers() -> SimpleNamespace:
    """The classes Int8Linear, Int8Embedding and Rows; made when asked for, as torch is late."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Rows:
        """Quantizes activations row by row, once for all layers that read the same tensor.

        offset is added to what is stored: 0 for int8, 128 for uint8, which oneDNN wants.
        """

        def __init__(self) -> None:
            self.offset = 128 if _packs() else 0
            self._last: tuple[Any, Any] = (lambda: None, None)

        def __call__(self, x: "Tensor") -> tuple["Tensor", "Tensor"]:
            """Rows of shape (rows, in), and a scale for each, shape (rows, 1)."""
            source, quantized = self._last
            if source() is not x:
                rows = x.reshape(-1, x.shape[-1])
                steps = rows.abs().amax(1, keepdim=True).mul_(1 / 127).clamp_(min=1e-12)
                whole = (rows / steps).round_()
                quantized = (
                    whole.add_(128).to(torch.uint8) if self.offset else whole.to(torch.int8),
                    steps,
                )
                self._last = weakref.ref(x), quantized
            result: tuple[Tensor, Tensor] = quantized
            return result

    class Int8Linear(nn.Module):
        """A Linear with int8 weights of shape (out, in) and one scale for each output channel.

        rows: quantizes its input, or None where that stays in fp32.
        """

        weight: "Tensor"
        scale: "Tensor"
        bias: "Tensor | None"

        def __init__(
            self, weight: "Tensor", scale: "Tensor", bias: "Tensor | None", rows: Any
        ) -> None:
            super().__init__()
            self.register_buffer("weight", weight)
            self.register_buffer("scale", scale)
            self.register_buffer("bias", bias)
            self.rows = rows
            packed = rows is not None and rows.offset
            self.packed = torch.ops.onednn.qlinear_prepack(weight, None) if packed else None

        def forward(self, x: "Tensor") -> "Tensor":
            if self.rows is None:
                out = self._product(x)
                return out if self.bias is None else out + self.bias
            rows, steps = self.rows(x)
            if self.packed is None and len(rows) <= _FEW_ROWS:
                sums = torch._int_mm(rows, self.weight.t()) * self.scale
            elif self.packed is None:
                sums = self._product(rows.float())
            else:
                offset, floats = self.rows.offset, torch.float32
                sums = torch.ops.onednn.qlinear_pointwise(
                    *(rows, 1.0, offset, self.packed, self.scale, None, None),
                    *(1.0, 0, floats, "none", [], ""),
                )
            out = sums.mul_(steps) if self.bias is None else torch.addcmul(self.bias, sums, steps)
            return out.view(*x.shape[:-1], -1)

        def _product(self, x: "Tensor") -> "Tensor":
            """x with the dequantized weight, in fp32; a part of the weight at a time."""
            split = torch.split(self.weight, _CHUNK)
            parts = [functional.linear(x, part.float()) for part in split]
            return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)) * self.scale

    class Int8Embedding(nn.Module):
        """A table of tokens whose rows are int8 with one scale each."""

        weight: "Tensor"
        scale: "Tensor"

        def __init__(self, weight: "Tensor", scale: "Tensor") -> None:
            super().__init__()
            self.register_buffer("weight", weight)
            self.register_buffer("scale", scale)

        def forward(self, ids: "Tensor") -> "Tensor":
            return self.weight[ids] * self.scale[ids][..., None]

    return SimpleNamespace(Int8Linear=Int8Linear, Int8Embedding=Int8Embedding, Rows=Rows)


def _rounded(weight: "Tensor") -> tuple["Tensor", "Tensor"]:
    """int8 weights and one scale for each row, symmetric about zero."""
    import torch

    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Replaces every Linear and the token embeddings; the rest is stored in half precision."""
    classes = layers()
    rows = classes.Rows() if recipe.scheme == "dynamic" else None
    table = _rounded(model.model.decoder.embed_tokens.weight)
    for parent, attribute, layer in linears(model, recipe):
        weight, scale = table if layer is model.proj_out else _rounded(layer.weight)
        setattr(parent, attribute, classes.Int8Linear(weight, scale, layer.bias, rows))
    model.model.decoder.embed_tokens = classes.Int8Embedding(*table)
    return prepare(model, recipe)


def prepare(model: WhisperModule, recipe: Recipe) -> WhisperModule:
    """What a model whose layers are int8 needs besides: how the rest is stored and computed."""
    encoder, decoder = model.model.encoder, model.model.decoder
    for module in (encoder.conv1, encoder.conv2, encoder.embed_positions, decoder.embed_positions):
        module.half().float()  # what is stored is what is computed with, wherever it came from
        module._register_state_dict_hook(_stored_as_fp16)
    if recipe.scheme == "dynamic":
        rows = layers().Rows()
        for layer in model.modules():
            if isinstance(layer, layers().Int8Linear):
                layer.rows = rows
    if recipe.attention == "bf16":
        _compute_in_bf16(model)
    return model


def _stored_as_fp16(module: Module, state: Tensors, prefix: str, metadata: Any) -> None:
    """Hook of state_dict(): computed in fp32, stored in fp16, as OpenAI published them."""
    for name, value in module.named_parameters(prefix.removesuffix("."), recurse=False):
        state[name] = value.half()


def _attention_parts(
    rows: int, heads: int, queries: int, keys: int
) -> Iterator[tuple[slice, slice]]:
    """Rows and heads of an attention layer in parts whose scores in bfloat16 are small.

    At once where all are. In 30 s windows the scores of one utterance are 36 MB, which the system
    hands out and takes back at every layer: that took more time than the products.
    """
    head_bytes = 2 * queries * keys
    if rows * heads * head_bytes <= _SCORES_BYTES:
        yield slice(rows), slice(heads)
        return
    step = max(1, _SCORES_BYTES // head_bytes)
    for row in range(rows):
        for head in range(0, heads, step):
            yield slice(row, row + 1), slice(head, head + step)


def _compute_in_bf16(model: WhisperModule) -> None:
    """Attention and convolutions by plain bfloat16 products.

    On CPUs that have them they are faster than fp32's, and at the lengths of short utterances also
    than the fused kernel of scaled_dot_product_attention, which has no bfloat16 products there.
    """
    import torch
    from torch.nn import functional
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    def attend(
        module: Module,
        query: "Tensor",
        key: "Tensor",
        value: "Tensor",
        attention_mask: "Tensor | None",
        scaling: float = 1.0,
        **_: Any,
    ) -> tuple["Tensor", None]:
        queries, keys, values = query.bfloat16(), key.bfloat16().transpose(2, 3), value.bfloat16()
        attended = torch.empty_like(queries)
        rows, heads, length = queries.shape[:-1]
        for part in _attention_parts(rows, heads, length, keys.shape[-1]):
            scores = queries[part] @ keys[part]
            if scaling != 1.0:
                scores *= scaling
            if attention_mask is not None:
                scores += attention_mask[part[0] if len(attention_mask) > 1 else slice(None)]
            attended[part] = scores.softmax(-1) @ values[part]
        return attended.transpose(1, 2).to(query.dtype), None

    def convolve(module: Module, x: "Tensor") -> "Tensor":
        weight, bias = module.weight.bfloat16(), module.bias.bfloat16()
        convolved = functional.conv1d(x.bfloat16(), weight, bias, module.stride, module.padding)
        return convolved.to(x.dtype)

    AttentionInterface.register(_BF16_ATTENTION, attend)
    AttentionMaskInterface.register(_BF16_ATTENTION, eager_mask)
    model.config._attn_implementation = _BF16_ATTENTION
    model.attention_dtype = torch.bfloat16
    for conv in (model.model.encoder.conv1, model.model.encoder.conv2):
        conv.forward = convolve.__get__(conv)


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of an Int8Linear."""
    return layer.weight * layer.scale[:, None] if isinstance(layer, layers().Int8Linear) else None


def state_of(layer: Module) -> LayerState | None:
    """int8 weight, scales and bias of an Int8Linear or an Int8Embedding."""
    classes = layers()
    if not isinstance(layer, classes.Int8Linear | classes.Int8Embedding):
        return None
    settings: Settings = {"class": type(layer).__name__}
    if isinstance(layer, classes.Int8Linear):
        settings["dynamic"] = layer.rows is not None
    return layer.state_dict(), settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """An Int8Linear or an Int8Embedding; the weight is packed again for this CPU."""
    classes = layers()
    if settings["class"] == "Int8Embedding":
        return classes.Int8Embedding(tensors["weight"], tensors["scale"])
    rows = classes.Rows() if settings["dynamic"] else None
    return classes.Int8Linear(tensors["weight"], tensors["scale"], tensors.get("bias"), rows)
