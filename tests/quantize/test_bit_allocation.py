from itertools import product

import pytest

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize.bit_allocation import FORMATS, Choice, allocate, stored_bytes

LAYERS = [
    Choice("a", {"int8": 80, "int4": 40, "int3": 30}, {"int8": 0.1, "int4": 1.0, "int3": 9.0}),
    Choice("b", {"int8": 80, "int4": 40, "int3": 30}, {"int8": 0.0, "int4": 5.0, "int3": 6.0}),
    Choice("c", {"int8": 160, "int4": 80, "int3": 60}, {"int8": 0.2, "int4": 0.3, "int3": 0.5}),
]


def best_of_all(budget):
    """Every combination."""
    fitting = []
    for names in product(("int8", "int4", "int3"), repeat=len(LAYERS)):
        size = sum(layer.sizes[name] for layer, name in zip(LAYERS, names, strict=True))
        loss = sum(layer.losses[name] for layer, name in zip(LAYERS, names, strict=True))
        fitting += [(loss, names)] if size <= budget else []
    return min(fitting)


@pytest.mark.parametrize("budget", range(120, 331, 10))
def test_it_is_the_best_of_all_combinations(budget):
    found = allocate(LAYERS, budget)
    loss, names = best_of_all(budget)
    assert sum(layer.losses[found[layer.module]] for layer in LAYERS) == pytest.approx(loss)
    assert tuple(found.values()) == names
    assert sum(layer.sizes[found[layer.module]] for layer in LAYERS) <= budget


def test_what_hurts_gets_the_bits():
    assert allocate(LAYERS, 200) == {"a": "int4", "b": "int8", "c": "int4"}


def test_a_budget_below_the_smallest_formats_is_refused():
    with pytest.raises(RecipeUnsupported, match="smallest formats take"):
        allocate(LAYERS, 119)


def test_every_format_is_smaller_than_the_one_before():
    sizes = [stored_bytes(name, 384, 1536, 64) for name in FORMATS]
    assert sizes == sorted(sizes, reverse=True)
    # 4 bits a weight, 16 for each group of 64, 16 for each row.
    assert stored_bytes("int4", 384, 1536, 64) == 384 * (1536 * 4 + 1536 // 64 * 16 + 16) // 8
