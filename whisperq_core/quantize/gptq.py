"""Weights rounded to few bits in groups, what each column loses made good by the columns after it.

The rounding is GPTQ's (Frantar et al., 2022, arXiv:2210.17323): of all weights that a layer could
be rounded to, it looks for those that change least what the layer puts out for inputs with known
second moments. Each group of a row has a step and a zero point, both in 8 bits: the step in units
of the row's, the zero point in 256ths of the range of codes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whisperq_core.whisper.torch_types import Module

if TYPE_CHECKING:
    from torch import Tensor

# Added to the diagonal of the second moments, times their mean: little speech says little of the
# directions it does not reach. Chosen on held-out speech from 0.01 to 1.
_DAMPING = 0.3
# Columns between two updates of all that follow.
_BLOCK = 128
# The largest step of a row over what its weights need before any error was made good in them.
_HEADROOM = 1.25


@dataclass(frozen=True)
class GroupedWeight:
    """A weight of shape (rows, columns): (codes − zeros · 2^bits / 256) · steps · units.

    codes: uint8 below 2^bits, shape (rows, columns). steps, zeros: uint8, shape (rows, groups).
    units: fp16, shape (rows,).
    """

    bits: int
    codes: "Tensor"
    steps: "Tensor"
    zeros: "Tensor"
    units: "Tensor"


def dequantize(
    codes: Any, steps: "Tensor", zeros: "Tensor", units: "Tensor", bits: int
) -> "Tensor":
    """The weight in fp32, or some rows of it; see GroupedWeight."""
    groups: Tensor = codes.unflatten(-1, (steps.shape[-1], -1)).float()
    groups.sub_(zeros.float().mul_(2**bits / 256)[..., None])
    return groups.mul_((steps.float() * units.float()[..., None])[..., None]).flatten(-2)


def input_second_moments(
    model: Module, layers: Mapping[str, Module], show: Callable[[Module], None]
) -> dict[str, "Tensor"]:
    """Mean of x xᵀ over the inputs x of each layer, shape (in, in), while show runs the model."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)

    def watch(name: str, layer: Module) -> Any:
        def see(_: Module, inputs: tuple["Tensor", ...]) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1])
            sums[name] = sums.get(name, 0) + rows.T @ rows
            counts[name] += len(rows)

        return layer.register_forward_pre_hook(see)

    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        show(model)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def quantize_weight(
    weight: "Tensor", moments: "Tensor", bits: int, group_size: int
) -> GroupedWeight:
    """The weight, shape (rows, columns), in groups along its rows.

    moments: second moments of the layer's inputs, shape (columns, columns). group_size: divides
    both the columns and the 128 that are rounded between two updates of all that follow.
    """
    import torch

    work: Any = weight.clone()  # torch does not type unflatten
    (rows, columns), top = weight.shape, 2**bits - 1
    spread = _spread(moments)
    whole = work.unflatten(-1, (-1, group_size))
    need = (whole.amax(-1).clamp(min=0) - whole.amin(-1).clamp(max=0)).amax(1) / top
    units = (need * _HEADROOM / 255).clamp(min=2.0**-24).half()
    codes = torch.empty_like(weight, dtype=torch.uint8)
    steps = torch.empty(rows, columns // group_size, dtype=torch.uint8)
    zeros = torch.empty_like(steps)
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        # A column after the other in memory: a step reads and writes whole ones.
        block = work[:, start:end].T.contiguous()
        block_codes = torch.empty_like(block, dtype=torch.uint8)
        errors = torch.empty_like(block)
        for column in range(start, end):
            if column % group_size == 0:
                group = column // group_size
                grid = _grid(block[column - start :][:group_size].T, units, bits)
                steps[:, group], zeros[:, group] = grid
                step = grid[0].float() * units.float()
                zero = grid[1].float() * (2**bits / 256)
            value = block[column - start]
            code = (value / step + zero).round_().clamp_(0, top)
            block_codes[column - start] = code
            lost = value - (code - zero) * step
            block[column - start + 1 :].addr_(spread[column, column + 1 : end], lost, alpha=-1)
            errors[column - start] = lost
        codes[:, start:end] = block_codes.T
        work[:, end:] -= errors.T.contiguous() @ spread[start:end, end:]
    return GroupedWeight(bits, codes, steps, zeros, units)


def _spread(moments: "Tensor") -> "Tensor":
    """How an error in a column (row index) is taken off each later one (column index).

    From the upper Cholesky factor of the inverse of the damped moments.
    """
    import torch

    damped: Any = moments.clone()
    damped.diagonal().add_(_DAMPING * moments.diagonal().mean() + 1e-12)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)
    spread: Tensor = factor / factor.diagonal()[:, None]
    return spread


def _grid(group: "Tensor", units: "Tensor", bits: int) -> tuple["Tensor", "Tensor"]:
    """Steps and zero points, uint8, that reach from each row's least to its greatest value."""
    import torch

    least, most = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
    steps = ((most - least) / ((2**bits - 1) * units.float())).ceil_().clamp_(1, 255)
    zeros = (-least / (steps * units.float()) * (256 / 2**bits)).round_().clamp_(0, 255)
    return steps.to(torch.uint8), zeros.to(torch.uint8)
