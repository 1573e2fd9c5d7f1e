"""HQQ: grouped int8 to int2 weights with zero points, fitted by half-quadratic optimization."""

from whisperq_core.backends import linears


def quantize(model, recipe, calibrate):
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


def weight_of(layer):
    """The dequantized weight of an HQQLinear."""
    from hqq.core.quantize import HQQLinear

    return layer.dequantize() if isinstance(layer, HQQLinear) else None
