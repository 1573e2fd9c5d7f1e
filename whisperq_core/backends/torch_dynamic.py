"""PyTorch's own dynamic int8 (eager mode, CPU): int8 weights, one activation range a batch.

torch.ao.quantization warns that it will be removed in favour of torchao; it is in torch 2.13, it is
what the study measured, and it is used in this file only.
"""


def quantize(model, recipe, calibrate):
    """Replaces the Linears of the recipe by nn.quantized.dynamic.Linear.

    Weights are scaled per tensor or per channel.
    """
    import torch
    from torch.ao.quantization import (
        default_dynamic_qconfig,
        per_channel_dynamic_qconfig,
        quantize_dynamic,
    )

    qconfig = (
        default_dynamic_qconfig if recipe.granularity == "tensor" else per_channel_dynamic_qconfig
    )
    chosen = {torch.nn.Linear: qconfig}
    if recipe.modules != "all-linear":
        chosen["proj_out"] = None
    return quantize_dynamic(model, chosen, dtype=torch.qint8, inplace=True)


def weight_of(layer):
    """The dequantized weight of a dynamic quantized Linear."""
    from torch.ao.nn.quantized.dynamic import Linear

    return layer.weight().dequantize() if isinstance(layer, Linear) else None
