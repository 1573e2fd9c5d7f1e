"""A quantized model taken apart into plain tensors and settings, and put together again."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from whisperq_core.errors import ExportError
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.whisper.torch_types import Module

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ModelParts:
    """What a quantized model consists of.

    tensors: every tensor by full name, contiguous, on the CPU, shared ones once.
    shared: for the name of each tensor that is another one's, the name it has in tensors.
    layers: settings of the layers that are the recipe's library's own, by module name.
    """

    tensors: dict[str, "Tensor"]
    shared: dict[str, str]
    layers: dict[str, dict[str, Any]]


def disassemble(quantized: backends.Quantized) -> ModelParts:
    """The model in parts; raises RecipeUnsupported where its library cannot give them any more."""
    backend, model = backends.module_of(quantized.recipe), quantized.torch_model
    layers: dict[str, dict[str, Any]] = {}
    every: dict[str, Tensor] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if _owner(name, layers) is None and (state := backend.state_of(module)) is not None:
            own, layers[name] = state
            every |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    plain = {n: t for n, t in model.state_dict().items() if _owner(n, layers) is None}
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    names: dict[Any, str] = {}
    for name, tensor in (plain | every).items():
        same = (tensor.data_ptr(), tensor.shape, tensor.dtype) if tensor.numel() else name
        if same in names:
            shared[name] = names[same]
        else:
            names[same] = name
            tensors[name] = tensor.detach().cpu().contiguous()
    return ModelParts(tensors, shared, layers)


def assemble(parts: ModelParts, recipe: Recipe, model: "nn.Module", device: str) -> None:
    """Gives a model without weights (on the meta device) those of the parts, in place.

    Raises ExportError for parts that do not fit it or each other, or are left over.
    """
    from torch import nn

    backend = backends.module_of(recipe)
    tensors = {name: tensor.to(device, copy=True) for name, tensor in parts.tensors.items()}
    parameters = {n: nn.Parameter(t, requires_grad=False) for n, t in tensors.items()}
    if unknown := set(parts.shared.values()) - set(tensors):
        raise ExportError(f"Weights that others share are missing: {sorted(unknown)[:3]}.")
    # The same object under both names, so that what was tied is tied again.
    for name, other in parts.shared.items():
        tensors[name], parameters[name] = tensors[other], parameters[other]
    plain: dict[str, Tensor] = {}
    of_layers: dict[str, dict[str, Tensor]] = {name: {} for name in parts.layers}
    for name, tensor in tensors.items():
        layer = _owner(name, parts.layers)
        if layer is None:
            plain[name] = parameters[name]
        else:
            of_layers[layer][name.removeprefix(f"{layer}.")] = tensor
    try:
        missing, unexpected = model.load_state_dict(plain, strict=False, assign=True)
    except RuntimeError as error:
        last = str(error).splitlines()[-1].strip()
        raise ExportError(f"The weights do not fit the model: {last}") from error
    missing = [name for name in missing if _owner(name, parts.layers) is None]
    if missing or unexpected:
        raise ExportError(f"Weights are missing or left over: {[*missing, *unexpected][:3]} …")
    for name, settings in parts.layers.items():
        try:
            _replace(model, name, backend.layer_from(of_layers[name], settings), backend)
        # Whatever a library says of parts that are not its own.
        except Exception as error:
            raise ExportError(f"The layer {name} cannot be rebuilt: {error}") from error
    if hasattr(backend, "prepare"):
        backend.prepare(model, recipe)
    # A new layer is in training mode, where bitsandbytes computes something else.
    model.requires_grad_(False).eval()
    if recipe.compiled:
        backends.compile_as(model, recipe)


def _owner(name: str, layers: Mapping[str, Any]) -> str | None:
    """The layer, of those that were taken apart as a whole, that the module or tensor is in."""
    return next((layer for layer in layers if name.startswith(f"{layer}.")), None)


def _replace(model: Module, name: str, layer: Module, backend: ModuleType) -> None:
    before = model.get_submodule(name).weight.shape
    weight = backend.weight_of(layer)
    if weight is not None and weight.shape != before:
        raise ValueError(f"its shape is {tuple(weight.shape)}, not {tuple(before)}")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
