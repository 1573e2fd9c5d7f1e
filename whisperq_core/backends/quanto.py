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
