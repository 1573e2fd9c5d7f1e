"""torchao, PyTorch's successor to torch.ao.quantization: int8 weights as tensor subclasses."""

from whisperq_core.backends import linears


def quantize(model, recipe, calibrate):
    """Swaps the weight of every Linear of the recipe for torchao's int8 tensor."""
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    chosen = {layer for _, _, layer in linears(model, recipe)}
    dynamic = recipe.scheme == "dynamic"
    config = Int8DynamicActivationInt8WeightConfig() if dynamic else Int8WeightOnlyConfig()
    quantize_(model, config, lambda layer, name: layer in chosen)
    return model


def weight_of(layer):
    """The dequantized weight where it is one of torchao's tensors."""
    from torch import nn
    from torchao.utils import TorchAOBaseTensor

    if isinstance(layer, nn.Linear) and isinstance(layer.weight.data, TorchAOBaseTensor):
        return layer.weight.data.dequantize()
    return None
