"""torchao, PyTorch's successor to torch.ao.quantization: int8 weights as tensor subclasses."""

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

BACKEND = Backend("torchao", "torchao", ("torchao",), imports=("torchao",), same_dequantized=True)

RECIPES = (
    Recipe(
        "torchao-int8-dynamic",
        BACKEND.name,
        "torchao dynamic int8: per-channel weight scales, per-token activation scales.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="row",
        devices=("cpu", "cuda"),
    ),
    Recipe(
        "torchao-int8",
        BACKEND.name,
        "torchao int8 weights, activations in floating point.",
        "int8",
        "weight-only",
        devices=("cpu", "cuda"),
    ),
)


def quantize(model: WhisperModule, recipe: Recipe, calibrate: Calibrate | None) -> WhisperModule:
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


def weight_of(layer: Module) -> Weight:
    """The dequantized weight where it is one of torchao's tensors."""
    from torch import nn
    from torchao.utils import TorchAOBaseTensor

    if isinstance(layer, nn.Linear) and isinstance(layer.weight.data, TorchAOBaseTensor):
        return layer.weight.data.dequantize()
    return None


def state_of(layer: Module) -> LayerState | None:
    """torchao's tensor taken apart, with its settings."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    if weight_of(layer) is None:
        return None
    tensors, settings = flatten_tensor_state_dict({"linear.weight": layer.weight.data})
    if layer.bias is not None:
        tensors["bias"] = layer.bias
    return tensors, settings


def layer_from(tensors: Tensors, settings: Settings) -> Module:
    """A Linear with torchao's tensor put together again."""
    from torch import nn
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    parts = {name: tensor for name, tensor in tensors.items() if name != "bias"}
    weight = unflatten_tensor_state_dict(parts, settings)[0]["linear.weight"]
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias="bias" in tensors, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if "bias" in tensors:
        layer.bias = nn.Parameter(tensors["bias"], requires_grad=False)
    return layer
