"""Finding, untying, sharing and restoring the Linear layers of a PyTorch model; its formats."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from whisperq_core.quantize.recipe import NOT_PROJ_OUT, Recipe

_TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def dtype_of(number_format: str) -> Any:
    """The torch.dtype of fp32, bf16 or fp16."""
    import torch

    return getattr(torch, _TORCH_NAMES[number_format])


def linears(model: Any, recipe: Recipe) -> list[tuple[Any, str, Any]]:
    """The nn.Linear layers the recipe quantizes, as (parent, attribute, layer) to be replaced."""
    from torch import nn

    skipped = model.proj_out if recipe.modules == NOT_PROJ_OUT else None
    return [
        (parent, attribute, layer)
        for parent in model.modules()
        for attribute, layer in parent.named_children()
        if type(layer) is nn.Linear and layer is not skipped
    ]


def copy_sharing_tensors(model: Any) -> Any:
    """A model of its own layers over the same memory: tensors are not copied.

    Parameters are new objects, so that replacing, casting or moving one leaves the given model's
    alone. No backend may write into the memory itself (tests/quantize/test_backends.py).
    """
    from torch import nn

    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()
    }
    shared |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def untie(model: Any) -> None:
    """Gives proj_out a weight of its own, as quantizing every Linear does (the study's sizes)."""
    from torch import nn

    model.config.tie_word_embeddings = False
    model.proj_out.weight = nn.Parameter(model.proj_out.weight.clone(), requires_grad=False)


def restore_fp32(model: Any, names: Iterable[str], weight_of: Callable[[Any], Any]) -> None:
    """Replaces the named quantized layers by fp32 ones with their dequantized weights."""
    from torch import nn

    for name in names:
        layer = model.get_submodule(name)
        weight = weight_of(layer).float()
        bias = getattr(layer, "bias", None)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        if bias is not None:
            plain.bias = nn.Parameter(bias.detach().float(), requires_grad=False)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, plain)
