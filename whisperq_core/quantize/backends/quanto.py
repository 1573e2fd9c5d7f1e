"""Optimum-Quanto: int8, int4, int2 and float8 weights; static int8 or float8 activations."""


def quantize(model, recipe, calibrate):
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
        with quanto.Calibration():
            calibrate(model)
    quanto.freeze(model)
    return model


def weight_of(layer):
    """The dequantized weight of a QLinear."""
    from optimum.quanto import QLinear

    return layer.weight.dequantize() if isinstance(layer, QLinear) else None


def state_of(layer):
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


def layer_from(tensors, settings):
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
