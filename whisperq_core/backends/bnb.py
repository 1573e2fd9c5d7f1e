"""bitsandbytes: LLM.int8(), nf4 and fp4 with or without double quantization."""

from whisperq_core.backends import linears


def quantize(model, recipe, calibrate):
    """Replaces the Linears of the recipe; moving a new layer to its device quantizes it."""
    import logging

    # It would announce its cast to fp16 on every forward pass.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes as bnb
    import torch
    from torch import nn

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


def weight_of(layer):
    """The dequantized weight of a Linear4bit or Linear8bitLt."""
    import bitsandbytes as bnb

    if isinstance(layer, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    if isinstance(layer, bnb.nn.Linear8bitLt):
        scales = layer.weight.SCB.view(-1, 1).float()
        return layer.weight.data.float() * scales / 127
    return None
