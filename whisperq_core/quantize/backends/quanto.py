"""Optimum-Quanto: int8, int4, int2 and float8 weights; static int8 or float8 activations."""

from typing import Any

from whisperq_core.quantize.backends.backend import (
    Backend,
    Calibrate,
    LayerState,
    Settings,
    Tensors,
    Weight,
)
from whisperq_core.quantize.recipe import Calibration, Recipe
from whisperq_core.whisper.torch_types import Module, WhisperModule

BACKEND = Backend(
    "quanto", "Quanto", ("optimum-quanto",), imports=("optimum",), same_dequantized=True
)


def _weight_only(
    weights: str, description: str, group_size: int | None = None, **axes: Any
) -> Recipe:
    return Recipe(
        f"quanto-{weights}{'-fp16' * bool(axes)}",
        BACKEND.name,
        description,
        weights,
        "weight-only",
        method="asymmetric" if group_size else "symmetric",
        granularity="group" if group_size else "channel",
        group_size=group_size,
        **axes,
    )


def _static(activations: str, calibration: Calibration) -> Recipe:
    held_out = calibration == "held-out"
    source = (
        "the dev-clean excerpt"
        if held_out
        else "a random 10% of the evaluated data, as in the study"
    )
    return Recipe(
        f"quanto-int8-{activations}{'' if held_out else '-eval10'}",
        BACKEND.name,
        f"Quanto, int8 weights and static {activations} activations calibrated on {source}.",
        "int8",
        "static",
        activations=activations,
        activation_granularity="tensor",
        calibration=calibration,
    )


RECIPES = (
    _weight_only(
        "int8",
        "Quanto, int8 weights, per-channel scales; the study's most accurate recipe on a GPU.",
    ),
    _weight_only("int4", "Quanto, int4 weights in groups of 128.", 128),
    _weight_only("int2", "Quanto, int2 weights in groups of 128.", 128),
    _weight_only("float8", "Quanto, 8-bit floating point (e4m3) weights, per-channel scales."),
    _weight_only(
        "int8",
        "Quanto, int8 weights, per-channel scales; the rest in 16-bit floating point.",
        embeddings="fp16",
        compute="fp16",
        devices=("cuda",),
    ),
    _static("int8", "held-out"),
    _static("float8", "held-out"),
    _static("int8", "evaluation-10%"),
    _static("float8", "evaluation-10%"),
)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
    """Replaces the Linears of the recipe by QLinear; static ones are calibrated, then frozen.

    generate() cannot copy the quantized tensor that a static layer puts out, so proj_out, whose
    output generate() reads, has quantized weights but not activations.
    """
    from optimum import quanto

    weights = getattr(quanto, f"q{recipe.weights}")
    tied = recipe.modules != "all-linear"
    if recipe.scheme != "static":
        quanto.quantize(model, weights=weights, exclude=["proj_out"] if tied else None)
    else:
        activations = getattr(quanto, f"q{recipe.activations}")
        quanto.quantize(model, weights=weights, activations=activations, exclude=["proj_out"])
        if not tied:
            quanto.quantize(model, weights=weights, include=["proj_out"])
        assert calibrate is not None  # a static recipe has calibration speech
        with quanto.Calibration():
            calibrate(model)
    quanto.freeze(model)
    return model


def weight_of(layer: Module) -> Weight:
    """The dequantized weight of a QLinear."""
    from optimum.quanto import QLinear

    return layer.weight.dequantize() if isinstance(layer, QLinear) else None


def state_of(layer: Module) -> LayerState | None:
    """Packed weight and scales of a QLinear, or of a QLayerNorm, which a static recipe has too.

    Its weight stays in floating point and its output is quantized.
    """
    from optimum.quanto import QLayerNorm, QLinear

    if isinstance(layer, QLinear):
        shape = {"in_features": layer.in_features, "out_features": layer.out_features}
        shape["weights"] = layer.weight_qtype.name
    elif isinstance(layer, QLayerNorm):
        shape = {"normalized_shape": list(layer.normalized_shape), "eps": layer.eps}
    else:
        return None
    if (activations := layer.activation_qtype) is not None:
        # Calibration takes the hook away where nothing wants the output quantized.
        hook = layer._quantize_hooks["output"]
        activations = {"type": activations.name, "output": hook.id in layer._forward_hooks}
    return layer.state_dict(), shape | {"activations": activations}


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """A frozen QLinear, or a QLayerNorm, again."""
    from optimum.quanto import QLayerNorm, QLinear, qtypes

    activations = settings["activations"]
    common = {
        "bias": "bias" in tensors,
        "dtype": tensors["output_scale"].dtype,
        "device": "meta",
        "activations": activations and qtypes[activations["type"]],
    }
    if "weights" in settings:
        layer = QLinear(
            settings["in_features"],
            settings["out_features"],
            weights=qtypes[settings["weights"]],
            quantize_input=True,
            **common,
        )
    else:
        layer = QLayerNorm(settings["normalized_shape"], settings["eps"], **common)
    if activations and not activations["output"]:
        layer.disable_output_quantization()
    layer.load_state_dict(tensors, assign=True)
    return layer
