"""Which number format each layer gets: the least loss within a number of bytes. Pure functions.

Losses of layers are taken to add up, as those of small independent disturbances do; measured
losses of whole models stand beside their predictions (sensitivity.py) to tell how well they do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize.recipes import BITS

# Offered to each layer, widest first. int8 has a scale in fp32 for each row; the others are groups
# of weights (gptq.Coded), with a unit in fp16 for each row, a step and a zero point for each group.
FORMATS = ("int8", "int6", "int5", "int4", "int3")
_SCALE_BYTES, _UNIT_BYTES, _GROUP_BYTES = 4, 2, 2


def stored_bytes(name: str, rows: int, columns: int, group_size: int) -> int:
    """Bytes of a weight of shape (rows, columns) in the format of that name."""
    weights = rows * columns
    if name == "int8":
        return weights + rows * _SCALE_BYTES
    return weights * BITS[name] // 8 + rows * _UNIT_BYTES + weights // group_size * _GROUP_BYTES


@dataclass(frozen=True)
class Choice:
    """One layer: for each format what it costs in bytes and in loss (any unit that adds up)."""

    module: str
    sizes: Mapping[str, int]
    losses: Mapping[str, float]


def allocate(choices: Sequence[Choice], budget_bytes: int) -> dict[str, str]:
    """The format of each module with the least summed loss, all sizes within the budget.

    A multiple-choice knapsack, solved exactly as a mixed-integer linear program by HiGHS.
    Raises RecipeUnsupported where even the smallest formats do not fit.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    least = sum(min(choice.sizes.values()) for choice in choices)
    if least > budget_bytes:
        raise RecipeUnsupported(
            f"The layers cannot be stored in {budget_bytes / 1e6:.1f} MB: the smallest formats take"
            f" {least / 1e6:.1f} MB. Allow a larger size."
        )
    options = [(i, name) for i, choice in enumerate(choices) for name in choice.sizes]
    losses = np.array([choices[i].losses[name] for i, name in options])
    sizes = np.array([choices[i].sizes[name] for i, name in options], dtype=float)
    layers, columns = [i for i, _ in options], range(len(options))
    one_each = csr_array((np.ones(len(options)), (layers, columns)))
    solution = milp(
        losses / losses.max(initial=1e-300),
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            # In units of the budget, so that the solver's tolerance is a share of it.
            LinearConstraint(sizes[None] / budget_bytes, -np.inf, 1),
        ],
        options={"mip_rel_gap": 1e-4},
    )
    chosen = (options[j] for j in np.flatnonzero(solution.x > 0.5))
    return {choices[i].module: name for i, name in chosen}
