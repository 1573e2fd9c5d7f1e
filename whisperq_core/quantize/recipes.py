"""Recipes: what is quantized, and how. Pure data; no library is imported here.

The axes of the study are fields (method, granularity, weights, scheme) or follow from them (bits).
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from whisperq_core.errors import RecipeError

# Bits of a stored weight in each number format; of a mixture there is no one number.
BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "int8": 8,
    "float8": 8,
    "int6": 6,
    "int5": 5,
    "int4": 4,
    "nf4": 4,
    "fp4": 4,
    "int3": 3,
    "int2": 2,
}

Scheme = Literal["none", "weight-only", "dynamic", "static"]
Method = Literal["none", "symmetric", "asymmetric"]
Granularity = Literal["none", "tensor", "channel", "group"]
ActivationGranularity = Literal["none", "tensor", "row", "group"]
Device = Literal["cpu", "cuda", "mps"]

_NOT_PROJ_OUT = "linear-but-proj_out"
HQQ_GROUP_SIZES = (16, 32, 64, 128)
_MIXED = re.compile(r"mixed-(\d\d)(-dynamic)?")

# Fields that came after results were stored, and what they are where they say nothing.
_DEFAULTS_OF_NEW_FIELDS = {"rest": "fp32", "attention": "fp32", "smaller_pct": None, "layers": ()}

# Backends that do not run in PyTorch.
RUNTIMES = ("faster-whisper", "whisper.cpp", "onnxruntime", "openvino")
# Those of them that run greedily only.
GREEDY_ONLY = ("whisper.cpp", "onnxruntime", "openvino")

# Families of recipes.
NOT_QUANTIZED = "not quantized"
IN_PYTORCH = "quantized in PyTorch"
OTHER_RUNTIMES = "other runtimes"


@dataclass(frozen=True)
class Recipe:
    """One way of quantizing a Whisper model.

    scheme: how activations are treated. weight-only leaves them in floating point (what the study
        calls dynamic for Quanto, HQQ and bitsandbytes); dynamic scales them at run time; static
        uses scales from calibration.
    method, granularity, group_size: of the weights.
    activations, activation_granularity: number format of the Linear layers' inputs, and what shares
        one scale: the whole tensor, that is the batch; each row, that is each token; each group.
    calibration: the speech that static scales, or the rounding of mixed weights, are fitted to:
        held-out (dev-clean excerpt) or evaluation-10% (a random tenth of the evaluated data, as in
        the study).
    modules: which modules are quantized. all-linear is every nn.Linear, proj_out untied from the
        token table: what PyTorch and Quanto do when called directly. linear-but-proj_out leaves the
        tied output projection alone, as HQQ and bitsandbytes do through Transformers. Both are what
        the study's published sizes imply, library by library (see paper.py).
        whole-model also quantizes the token table, in place: one table serves embed_tokens and
        proj_out.
    embeddings: number format of the token table.
    rest: number format in which convolutions and positions are stored.
    attention: number format of attention's products, where the recipe chooses it.
    smaller_pct: with mixed weights, how much smaller than fp32 the stored model has to be, in
        percent. Which layer gets which format for it differs from model to model.
    layers: module and number format of each layer of a certain model, with mixed weights; empty
        until the model is known (see sensitivity.py).
    """

    name: str
    backend: str
    description: str
    weights: str
    scheme: Scheme
    method: Method = "symmetric"
    granularity: Granularity = "channel"
    group_size: int | None = None
    activations: str = "float"
    activation_granularity: ActivationGranularity = "none"
    double_quant: bool = False
    calibration: Literal["none", "held-out", "evaluation-10%"] = "none"
    modules: str = "all-linear"
    embeddings: str = "fp32"
    rest: str = "fp32"
    attention: str = "fp32"
    smaller_pct: int | None = None
    layers: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ("cpu", "cuda", "mps")

    @property
    def bits(self) -> int | None:
        """Bits of a stored weight; None where layers differ in it."""
        return BITS.get(self.weights)

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is quantized."""
        return self.scheme == "none"

    @property
    def has_own_runtime(self) -> bool:
        """Whether it runs outside PyTorch, in what a user might pick instead."""
        return self.backend in RUNTIMES

    @property
    def family(self) -> str:
        """Not quantized, quantized in PyTorch, or another runtime, quantized or not."""
        if self.has_own_runtime:
            return OTHER_RUNTIMES
        return NOT_QUANTIZED if self.is_baseline else IN_PYTORCH

    def with_tied_projection(self) -> "Recipe":
        """The same recipe with proj_out left tied to the token table, whatever its library does."""
        untied = self.modules == "all-linear"
        return replace(self, modules=_NOT_PROJ_OUT) if untied else self

    def with_layers(self, formats: Mapping[str, str]) -> "Recipe":
        """The same recipe with these formats of a certain model's layers, by module."""
        return replace(self, layers=tuple(formats.items()))

    def axes(self) -> dict:
        """Everything that changes what the recipe computes: its part of a result's identity.

        A field that came later counts where it says something, so that older keys stay.
        """
        fields = asdict(self)
        for label in ("name", "description", "devices"):
            del fields[label]
        for later, silent in _DEFAULTS_OF_NEW_FIELDS.items():
            if fields[later] == silent:
                del fields[later]
        return fields


def _baseline(weights: str, description: str) -> Recipe:
    return Recipe(
        weights,
        "none",
        description,
        weights,
        "none",
        method="none",
        granularity="none",
        modules="none",
        embeddings=weights,
    )


def _static(activations: str, calibration: str) -> Recipe:
    suffix = "" if calibration == "held-out" else "-eval10"
    source = (
        "the dev-clean excerpt"
        if calibration == "held-out"
        else "a random 10% of the evaluated data, as in the study"
    )
    return Recipe(
        f"quanto-int8-{activations}{suffix}",
        "quanto",
        f"Quanto, int8 weights and static {activations} activations calibrated on {source}.",
        "int8",
        "static",
        activations=activations,
        activation_granularity="tensor",
        calibration=calibration,
    )


def _hqq(weights: str, group_size: int) -> Recipe:
    return Recipe(
        f"hqq-{weights}-g{group_size}",
        "hqq",
        f"HQQ, {weights} weights in groups of {group_size}, fitted by half-quadratic optimization.",
        weights,
        "weight-only",
        method="asymmetric",
        granularity="group",
        group_size=group_size,
        modules=_NOT_PROJ_OUT,
        devices=("cpu", "cuda"),
    )


def _bnb4(weights: str, double_quant: bool) -> Recipe:
    suffix = "-dq" if double_quant else ""
    scales = ", the scales quantized in turn" if double_quant else ""
    return Recipe(
        f"bnb-{weights}{suffix}",
        "bitsandbytes",
        f"bitsandbytes, {weights} weights in blocks of 64{scales}.",
        weights,
        "weight-only",
        granularity="group",
        group_size=64,
        double_quant=double_quant,
        modules=_NOT_PROJ_OUT,
        devices=("cpu", "cuda"),
    )


def _quanto(weights: str, description: str, **axes) -> Recipe:
    return Recipe(f"quanto-{weights}", "quanto", description, weights, "weight-only", **axes)


def _whole(name: str, description: str, scheme: Scheme, **axes) -> Recipe:
    return Recipe(
        name,
        "whisperq",
        f"The whole model in int8, one table for reading and writing tokens; {description}.",
        "int8",
        scheme,
        modules="whole-model",
        embeddings="int8",
        rest="fp16",
        **axes,
        devices=("cpu",),
    )


def _faster_whisper(weights: str, description: str, scheme: Scheme, **axes) -> Recipe:
    return Recipe(
        f"faster-whisper-{weights}",
        "faster-whisper",
        f"{description} One utterance at a time, and its features padded with zeros, as OpenAI's"
        " own code pads them; under the corrected protocol, its own fallback.",
        weights,
        scheme,
        embeddings=weights,
        devices=("cpu",),
        **axes,
    )


def _whisper_cpp(weights: str, ending: str, description: str, scheme: Scheme, **axes) -> Recipe:
    return Recipe(
        f"whisper.cpp-{ending}",
        "whisper.cpp",
        f"whisper.cpp {description}, from your own ggml file. One utterance at a time, greedily;"
        " features are computed in the timed call, and a transcript ends after 220 tokens.",
        weights,
        scheme,
        embeddings=weights,
        devices=("cpu",),
        **axes,
    )


def _exported(backend: str, description: str, **axes) -> Recipe:
    return Recipe(
        f"{backend}-int8",
        backend,
        f"{description} Greedily; audio over 30 s is cut wherever 30 s end.",
        "int8",
        "dynamic",
        activations="int8",
        embeddings="int8",
        devices=("cpu",),
        **axes,
    )


def _mixed(smaller_pct: int, dynamic: bool) -> Recipe:
    activations = "activations scaled row by row" if dynamic else "activations in floating point"
    return Recipe(
        f"mixed-{smaller_pct}{'-dynamic' * dynamic}",
        "mixed",
        f"Bits by layer, for a model {smaller_pct} % smaller than fp32: 3 where it hurts little, 8"
        f" where it hurts; rounded by GPTQ on the dev-clean excerpt, {activations}.",
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


_GROUPED = {"method": "asymmetric", "granularity": "group", "group_size": 128}

_RECIPES = (
    _baseline("fp32", "The model as published, in 32-bit floating point."),
    _baseline("bf16", "Weights and arithmetic in bfloat16, where the device has it."),
    _baseline("fp16", "Weights and arithmetic in 16-bit floating point, where the device has it."),
    Recipe(
        "torch-int8",
        "torch",
        "PyTorch dynamic int8, one weight scale a tensor: the study's CPU recipe.",
        "int8",
        "dynamic",
        granularity="tensor",
        activations="int8",
        activation_granularity="tensor",
        devices=("cpu",),
    ),
    Recipe(
        "torch-int8-channel",
        "torch",
        "PyTorch dynamic int8, one weight scale an output channel.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="tensor",
        devices=("cpu",),
    ),
    Recipe(
        "torchao-int8-dynamic",
        "torchao",
        "torchao dynamic int8: weights scaled by channel, activations by token.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        devices=("cpu", "cuda"),
    ),
    Recipe(
        "torchao-int8",
        "torchao",
        "torchao int8 weights, activations in floating point.",
        "int8",
        "weight-only",
        devices=("cpu", "cuda"),
    ),
    _quanto("int8", "Quanto, int8 weights scaled by channel: the study's best on GPU."),
    _quanto("int4", "Quanto, int4 weights in groups of 128.", **_GROUPED),
    _quanto("int2", "Quanto, int2 weights in groups of 128.", **_GROUPED),
    _quanto("float8", "Quanto, 8-bit floating point (e4m3) weights scaled by channel."),
    _static("int8", "held-out"),
    _static("float8", "held-out"),
    _static("int8", "evaluation-10%"),
    _static("float8", "evaluation-10%"),
    _hqq("int8", 64),
    _hqq("int4", 64),
    _hqq("int3", 64),
    _hqq("int2", 64),
    Recipe(
        "bnb-int8",
        "bitsandbytes",
        "bitsandbytes LLM.int8(): int8 by row, outlier columns kept in floating point.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        modules=_NOT_PROJ_OUT,
        devices=("cpu", "cuda"),
    ),
    _bnb4("nf4", False),
    _bnb4("nf4", True),
    _bnb4("fp4", False),
    _bnb4("fp4", True),
    _whole("whole-int8", "activations in floating point", "weight-only"),
    _whole(
        "whole-int8-dynamic",
        "activations scaled row by row",
        "dynamic",
        activations="int8",
        activation_granularity="row",
    ),
    _whole(
        "whole-int8-dynamic-bf16",
        "activations scaled row by row, attention in bfloat16",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        attention="bf16",
    ),
    _faster_whisper(
        "fp32",
        "faster-whisper: CTranslate2 in 32-bit floating point.",
        "none",
        method="none",
        granularity="none",
        modules="none",
    ),
    _faster_whisper(
        "int8",
        "faster-whisper: CTranslate2 int8, every matrix, convolutions and token table included,"
        " scaled by channel, activations by row.",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        modules="whole-model",
    ),
    _whisper_cpp(
        "fp16",
        "fp16",
        "in 16-bit floating point",
        "none",
        method="none",
        granularity="none",
        modules="none",
    ),
    _whisper_cpp(
        "int8",
        "q8_0",
        "with every matrix and its inputs in int8, in groups of 32",
        "dynamic",
        granularity="group",
        group_size=32,
        activations="int8",
        activation_granularity="group",
        modules="whole-model",
        rest="fp16",
    ),
    _exported(
        "onnxruntime",
        "ONNX Runtime's dynamic int8 of PyTorch's export: weights scaled by channel, activations by"
        " batch; convolutions in fp32, the token table twice, for reading and for writing.",
        activation_granularity="tensor",
    ),
    _exported(
        "openvino",
        "OpenVINO's dynamic int8 of PyTorch's export: every matrix, convolutions and token table"
        " included, scaled by channel, activations in groups of 32.",
        method="asymmetric",
        activation_granularity="group",
        modules="whole-model",
    ),
    *(_mixed(84, dynamic) for dynamic in (False, True)),
)

CATALOGUE: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    HQQ's may name any group size, such as hqq-int4-g32, and mixed ones any percentage, such as
    mixed-82.

    Raises RecipeError with the names there are.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    base, _, size = name.rpartition("-g")
    if size in map(str, HQQ_GROUP_SIZES) and f"{base}-g64" in CATALOGUE:
        return with_group_size(CATALOGUE[f"{base}-g64"], int(size))
    if mixed := _MIXED.fullmatch(name):
        return _mixed(int(mixed[1]), bool(mixed[2]))
    raise RecipeError(f"There is no recipe named “{name}”. Known: {', '.join(CATALOGUE)}.")


def with_group_size(recipe: Recipe, group_size: int) -> Recipe:
    """The same HQQ recipe with another group size (16, 32, 64 or 128)."""
    if recipe.backend != "hqq" or group_size not in HQQ_GROUP_SIZES:
        raise RecipeError(
            f"Group size {group_size} is not offered for {recipe.name}: only HQQ's recipes take one"
            f" of {', '.join(map(str, HQQ_GROUP_SIZES))}."
        )
    return _hqq(recipe.weights, group_size)
