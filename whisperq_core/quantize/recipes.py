"""Every recipe by its name.

Recipes are declared by the backend that runs them, in quantize/backends/; `Recipe` itself is in
recipe.py.
"""

import difflib
import re

from whisperq_core.errors import RecipeError
from whisperq_core.quantize.backends import hqq, registry
from whisperq_core.quantize.backends.hqq import GROUP_SIZES as HQQ_GROUP_SIZES
from whisperq_core.quantize.recipe import (
    BITS,
    IN_PYTORCH,
    NOT_QUANTIZED,
    OTHER_RUNTIMES,
    Device,
    Recipe,
    Scheme,
)

__all__ = [
    "BITS",
    "CATALOGUE",
    "HQQ_GROUP_SIZES",
    "IN_PYTORCH",
    "NOT_QUANTIZED",
    "OTHER_RUNTIMES",
    "Device",
    "Recipe",
    "Scheme",
    "recipe",
    "with_group_size",
]

CATALOGUE: dict[str, Recipe] = {
    one.name: one for module in registry.MODULES.values() for one in module.RECIPES
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    HQQ's may name any group size, such as hqq-int4-g32, and mixed ones any percentage, such as
    mixed-82.

    Raises RecipeError that names the nearest recipes, and the allowed group sizes.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    for module in registry.MODULES.values():
        parametrized = getattr(module, "recipe_named", None)
        parsed: Recipe | None = parametrized(name) if parametrized else None
        if parsed:
            return parsed
    raise RecipeError(_unknown_name(name))


def is_known(name: str) -> bool:
    """Whether `recipe` has one of that name; stored results may be of other versions' recipes."""
    try:
        recipe(name)
    except RecipeError:
        return False
    return True


def _unknown_name(name: str) -> str:
    """Why there is no such recipe, and which ones come nearest."""
    sentences = [f"There is no recipe named “{name}”."]
    if re.search(r"-g\d+$", name):
        sizes = ", ".join(map(str, HQQ_GROUP_SIZES))
        sentences.append(f"Group sizes are {sizes}, for HQQ's recipes only.")
    stem = re.sub(r"-g\d+$", "", name)
    nearest = [one for one in CATALOGUE if stem and one.startswith(f"{stem}-")]
    nearest += difflib.get_close_matches(name, CATALOGUE, n=3, cutoff=0.6)
    if nearest:
        sentences.append(f"Nearest: {', '.join(dict.fromkeys(nearest))}.")
    sentences.append("All recipes: python -m whisperq_core recipes.")
    return " ".join(sentences)


def with_group_size(recipe: Recipe, group_size: int) -> Recipe:
    """The same HQQ recipe with another group size (16, 32, 64 or 128)."""
    if recipe.backend != hqq.BACKEND.name or group_size not in HQQ_GROUP_SIZES:
        raise RecipeError(
            f"Group size {group_size} is not offered for {recipe.name}: only HQQ's recipes take one"
            f" of {', '.join(map(str, HQQ_GROUP_SIZES))}."
        )
    return hqq.grouped(recipe.weights, group_size)
