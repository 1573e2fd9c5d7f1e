"""Bits by layer: int8 by row where less would hurt, groups of 6 to 3 bits elsewhere.

Which layer gets how many is the recipe's (see sensitivity.py), how weights are rounded gptq.py's.
Codes are stored in planes of bits, so that every number of bits packs without waste, and weights
are dequantized when they are used. Where activations are quantized too, they are rounded to int8
once, when the layer is made, and multiplied as int8: small is the stored model then, while in
memory it also takes a byte a weight.
"""

import math
import re
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize import gptq
from whisperq_core.quantize.backends import whole_int8
from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.backends.linear_layers import linears
from whisperq_core.quantize.recipe import BITS, Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

BACKEND = Backend(
    "mixed",
    "WhisperQ, bits by layer",
    ("torch",),
    same_dequantized=True,
    # 2: GPTQ keeps a block column by column in memory, which rounds some products, and so codes,
    # differently.
    code_version=2,
)
_NAME = re.compile(r"mixed-(\d\d)(-dynamic)?")


def _mixed(smaller_pct: int, dynamic: bool) -> Recipe:
    activations = "per-token activation scales" if dynamic else "activations in floating point"
    return Recipe(
        f"mixed-{smaller_pct}{'-dynamic' * dynamic}",
        BACKEND.name,
        f"Bits chosen by layer for a model {smaller_pct} % smaller than fp32: 3 to 8 by"
        f" sensitivity, rounded by GPTQ on the dev-clean excerpt; {activations}.",
        "mixed",
        "dynamic" if dynamic else "weight-only",
        method="asymmetric",
        granularity="group",
        group_size=64,
        activations="int8" if dynamic else "float",
        activation_granularity="row" if dynamic else "none",
        calibration="held-out",
        modules="whole-model",
        embeddings="mixed",
        rest="fp16",
        smaller_pct=smaller_pct,
        devices=("cpu",),
    )


RECIPES = tuple(_mixed(84, dynamic) for dynamic in (False, True))


def recipe_named(name: str) -> Recipe | None:
    """The recipe for any percentage, such as mixed-82-dynamic; None for another name."""
    match = _NAME.fullmatch(name)
    return _mixed(int(match[1]), bool(match[2])) if match else None


# Rows of a weight that are dequantized at a time: as many as stay in a CPU's cache.
_CHUNK = 1024


@lru_cache
def _bits_as_bytes() -> "Tensor":
    """For each byte its eight bits as eight bytes, lowest first, in one int64: shape (256,)."""
    import torch

    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return bits.to(torch.uint8).view(torch.int64)[:, 0]


def to_planes(codes: "Tensor", bits: int) -> "Tensor":
    """Codes below 2**bits, uint8 of shape (rows, columns) → (rows, bits, columns / 8)."""
    import torch

    planes = codes[:, None] >> torch.arange(bits, dtype=torch.uint8)[:, None] & 1
    powers = 1 << torch.arange(8, dtype=torch.uint8)
    bytewise: Any = planes  # torch does not type unflatten
    packed: Tensor = (bytewise.unflatten(-1, (-1, 8)) * powers).sum(-1, dtype=torch.uint8)
    return packed


def from_planes(planes: "Tensor") -> "Tensor":
    """The codes again."""
    import torch

    table = _bits_as_bytes()
    codes = table[planes[:, 0].int()]
    for place in range(1, planes.shape[1]):
        # Eight bytes are shifted as one int64: no bit of theirs reaches the next byte.
        codes = codes | table[planes[:, place].int()] << place
    return codes.view(torch.uint8)


@lru_cache
def layers() -> SimpleNamespace:
    """The classes Groups, GroupedLinear, GroupedEmbedding; made when asked for, as torch is late.

    Groups is a weight, which a GroupedLinear and a GroupedEmbedding may share.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Groups(nn.Module):
        """A weight of shape (out, in) as gptq.Coded has it, its codes in planes of bits."""

        planes: "Tensor"
        steps: "Tensor"
        zeros: "Tensor"
        units: "Tensor"

        def __init__(
            self, planes: "Tensor", steps: "Tensor", zeros: "Tensor", units: "Tensor"
        ) -> None:
            super().__init__()
            self.register_buffer("planes", planes)
            self.register_buffer("steps", steps)
            self.register_buffer("zeros", zeros)
            self.register_buffer("units", units)

        def __len__(self) -> int:
            return len(self.planes)

        def rows(self, which: "slice | Tensor") -> "Tensor":
            """Rows of the weight, dequantized; which: a slice, or indices."""
            planes = self.planes[which]
            scales = self.steps[which], self.zeros[which], self.units[which]
            return gptq.dequantize(from_planes(planes), *scales, planes.shape[1])

        def weight(self) -> "Tensor":
            """All of it, dequantized."""
            return self.rows(slice(None))

    class GroupedLinear(nn.Module):
        """A Linear of a grouped weight. rows: quantizes its input, None where it stays in fp32."""

        bias: "Tensor | None"

        def __init__(self, groups: Groups, bias: "Tensor | None", rows: Any) -> None:
            super().__init__()
            self.groups = groups
            self.register_buffer("bias", bias)
            # In a tuple it is no part of what is stored.
            self.int8: tuple[Any, ...] = (
                () if rows is None else (_int8_linear(groups.weight(), bias, rows),)
            )

        def forward(self, x: "Tensor") -> "Tensor":
            if self.int8:
                product: Tensor = self.int8[0](x)
                return product
            starts = range(0, len(self.groups), _CHUNK)
            parts = (self.groups.rows(slice(start, start + _CHUNK)) for start in starts)
            out = torch.cat([functional.linear(x, part) for part in parts], -1)
            return out if self.bias is None else out + self.bias

    class GroupedEmbedding(nn.Module):
        """A table of tokens that dequantizes the rows it is asked for."""

        def __init__(self, groups: Groups) -> None:
            super().__init__()
            self.groups = groups

        def forward(self, ids: "Tensor") -> "Tensor":
            return self.groups.rows(ids.flatten()).view(*ids.shape, -1)

    class Sinusoids(nn.Embedding):
        """The encoder's positions, shape (positions, width), which need not be stored."""

        def __init__(self, positions: int, width: int) -> None:
            super().__init__(positions, width)
            del self.weight
            self.register_buffer("weight", sinusoids(positions, width), persistent=False)

    return SimpleNamespace(
        Groups=Groups,
        GroupedLinear=GroupedLinear,
        GroupedEmbedding=GroupedEmbedding,
        Sinusoids=Sinusoids,
    )


def sinusoids(positions: int, width: int) -> "Tensor":
    """Whisper's positions of the encoder, shape (positions, width), in fp32 from halves.

    Radford et al. (2022) have them from Vaswani et al. (2017), section 3.5: sines, then cosines, of
    frequencies from 1 to 1/10000 in equal ratios. Computed in double precision they are the
    published ones bit for bit.
    """
    import torch

    frequencies = torch.arange(width // 2, dtype=torch.float64)
    frequencies = torch.exp(frequencies * (-math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1).float().half().float()


def _int8_linear(weight: "Tensor", bias: "Tensor | None", rows: Any) -> Module:
    return whole_int8.layers().Int8Linear(*whole_int8._rounded(weight), bias, rows)


def grouped(weight: "Tensor", moments: "Tensor", name: str, group_size: int) -> Module:
    """The weight, shape (out, in), in groups of the format of that name, such as int4.

    moments: second moments of what it is multiplied with, shape (in, in).
    """
    coded = gptq.quantize_weight(weight, moments, BITS[name], group_size)
    planes = to_planes(coded.codes, coded.bits)
    return layers().Groups(planes, coded.steps, coded.zeros, coded.units)


def dequantized(weight: "Tensor", moments: "Tensor", name: str, group_size: int) -> "Tensor":
    """What is left of a weight, shape (out, in) in fp32, in the format of that name."""
    if name == "int8":
        codes, scale = whole_int8._rounded(weight)
        return codes * scale[:, None]
    restored: Tensor = grouped(weight, moments, name, group_size).weight()
    return restored


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Replaces every layer that the recipe names; the rest is stored in half precision.

    Raises RecipeUnsupported where it does not name the layers that the model has.
    """
    formats = dict(recipe.layers)
    places = {id(layer): (parent, attribute) for parent, attribute, layer in linears(model, recipe)}
    named = {name: layer for name, layer in model.named_modules() if id(layer) in places}
    if set(formats) != set(named):
        raise RecipeUnsupported(
            f"{recipe.name} has no bit allocation for this model. Measure the sensitivity of its"
            " layers: python -m whisperq_core sensitivity --models <model>"
        )
    rows = whole_int8.layers().Rows() if recipe.scheme == "dynamic" else None
    below = {name: layer for name, layer in named.items() if formats[name] != "int8"}
    moments: dict[str, Tensor] = {}
    if below:
        assert calibrate is not None
        moments = gptq.input_second_moments(model, below, calibrate)
    for name, layer in named.items():
        parent, attribute = places[id(layer)]
        bias = None if layer.bias is None else layer.bias.half().float()
        if name in below:
            assert recipe.group_size is not None
            moment = moments.pop(name)
            groups = grouped(layer.weight, moment, formats[name], recipe.group_size)
            new = layers().GroupedLinear(groups, bias, rows)
        else:
            new = _int8_linear(layer.weight, bias, rows)
        setattr(parent, attribute, new)
    model.model.decoder.embed_tokens = _embedding(model.proj_out)
    positions = layers().Sinusoids(*model.model.encoder.embed_positions.weight.shape)
    if model.model.encoder.embed_positions.weight.equal(positions.weight):
        model.model.encoder.embed_positions = positions
    return prepare(model, recipe)


def _embedding(projection: Module) -> Module:
    """The token embeddings whose other use the projection is."""
    if isinstance(projection, layers().GroupedLinear):
        return layers().GroupedEmbedding(projection.groups)
    return whole_int8.layers().Int8Embedding(projection.weight, projection.scale)


def prepare(model: WhisperModule, recipe: Recipe) -> WhisperModule:
    """What a model needs besides, once its layers are replaced: the rest, stored in half precision.

    Layers share what quantizes their inputs, so that those with the same input share the result.
    """
    rows = whole_int8.layers().Rows()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.half().float()  # stored is what is computed with
        module._register_state_dict_hook(_stored_as_fp16)
        if recipe.scheme == "dynamic" and isinstance(module, whole_int8.layers().Int8Linear):
            module.rows = rows
        elif recipe.scheme == "dynamic" and isinstance(module, layers().GroupedLinear):
            module.int8[0].rows = rows
    return model


def _stored_as_fp16(module: Module, state: Tensors, prefix: str, metadata: Any) -> None:
    """Hook of state_dict(): what is not quantized computes in fp32, but is stored as published."""
    for name, value in module.named_parameters(recurse=False):
        state[f"{prefix}{name}"] = value.half()
    if f"{prefix}bias" in state:
        state[f"{prefix}bias"] = state[f"{prefix}bias"].half()


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of an Int8Linear or a GroupedLinear."""
    if isinstance(layer, layers().GroupedLinear):
        return layer.groups.weight()
    return whole_int8.weight_of(layer)


def state_of(layer: Module) -> LayerState | None:
    """Weight, scales and bias of a layer of this backend or of whisperq's."""
    classes = layers()
    if isinstance(layer, classes.Sinusoids):
        return {}, {"class": "Sinusoids", "shape": list(layer.weight.shape)}
    if not isinstance(layer, classes.GroupedLinear | classes.GroupedEmbedding):
        return whole_int8.state_of(layer)
    settings: Settings = {"class": type(layer).__name__}
    if isinstance(layer, classes.GroupedLinear):
        settings["dynamic"] = bool(layer.int8)
    return layer.state_dict(), settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """The layer again; where inputs are quantized, its weight is rounded and packed anew."""
    classes = layers()
    if settings["class"] == "Sinusoids":
        return classes.Sinusoids(*settings["shape"])
    bias = tensors.get("bias")
    if settings["class"] not in ("GroupedLinear", "GroupedEmbedding"):
        return whole_int8.layer_from(
            tensors | ({} if bias is None else {"bias": bias.float()}), settings
        )
    groups = classes.Groups(
        *(tensors[f"groups.{name}"] for name in ("planes", "steps", "zeros", "units"))
    )
    if settings["class"] == "GroupedEmbedding":
        return classes.GroupedEmbedding(groups)
    rows = whole_int8.layers().Rows() if settings["dynamic"] else None
    return classes.GroupedLinear(groups, None if bias is None else bias.float(), rows)
