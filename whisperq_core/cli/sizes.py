"""`whisperq sizes`: sizes of quantized models, measured on random weights."""

from whisperq_core.cli import options
from whisperq_core.evaluate.sizes import measure_size
from whisperq_core.evaluate.store import Store


def sizes(
    models: options.Models = "tiny,base,small",
    recipes: options.Recipes = "all",
    protocol: options.ProtocolOption = "study",
) -> None:
    """Measure sizes of quantized models on random weights. Nothing is downloaded."""
    store, chosen_protocol = Store(), options.protocol_of(protocol)
    chosen = options.recipes_of(recipes, "cpu", chosen_protocol)
    if options.names(recipes) == ["all"]:  # other runtimes need a whole model with real weights
        chosen = [recipe for recipe in chosen if not recipe.has_own_runtime]
    for model in options.names(models):
        for recipe in chosen:
            run = measure_size(model, recipe, store, chosen_protocol)
            print(
                f"{model:8s} {recipe.name:26s} {run.weights_bytes / 1e6:8.1f} MB"
                f"  −{run.size_reduction_pct:.1f}%",
                flush=True,
            )
