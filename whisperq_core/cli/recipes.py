"""`whisperq recipes`: the recipes, and where each runs."""

from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE


def recipes() -> None:
    """List the recipes, and the devices that cannot run them."""
    width = max(map(len, CATALOGUE))
    for recipe in CATALOGUE.values():
        print(f"{recipe.name:{width}s} {recipe.description}")
        if recipe.batch_note:
            command = "python -m whisperq_core run --batch-size 1"
            print(f"{'':{width}s}   {recipe.batch_note} Measure that: {command}")
        for device in ("cpu", "cuda", "mps"):
            if reason := backends.unavailable_reason(recipe, device):
                print(f"{'':{width}s}   not on {device}: {reason}")
