"""Sizes of quantized models on random weights of the right shape: no speech, no download.

How many bytes a recipe leaves depends on the shapes of the weights, not on their values.
"""

from typing import Any

from whisperq_core.evaluate.records import RunSpec, SizeRun, utc_now
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize import backends
from whisperq_core.quantize.pipeline import recipe_for_protocol
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.whisper import models
from whisperq_core.whisper.protocols import STUDY, Protocol


def measure_size(model: str, recipe: Recipe, store: Store, protocol: Protocol = STUDY) -> SizeRun:
    """The size of the recipe on a model of that name's shape: the stored one, or measured now.

    Raises ModelError for a name without a known shape, RecipeUnsupported or LibraryMissing.
    """
    backends.require(recipe, "cpu")
    recipe = recipe_for_protocol(recipe, protocol)
    spec = RunSpec(
        measures="size",
        weights_digest=f"random weights of {model}",
        recipe=recipe,
        eval_set_digest="none",
        protocol=protocol,
        kernels="library",
        device="cpu",
        threads=0,
        versions=backends.versions(recipe, model),
    )
    stored = store.get(spec.key)
    if isinstance(stored, SizeRun):
        return stored
    fp32 = models.random_model(model)
    quantized = backends.quantize(fp32, recipe, "cpu", _calibrate)
    run = SizeRun(
        spec=spec,
        model=model,
        eval_set="none",
        created_at=utc_now(),
        machine=this_machine(),
        load_average=None,
        modules=quantized.modules,
        weights_bytes=quantized.weights_bytes,
        fp32_bytes=backends.serialized_bytes(fp32),
        quantize_s=quantized.quantize_s,
        peak_memory_bytes=None,
    )
    store.put(run)
    return run


def _calibrate(torch_model: Any) -> None:
    """Shows the model silence: static recipes store one scale a layer whatever the input is."""
    import torch

    config = torch_model.config
    frames = 2 * config.max_source_positions
    with torch.no_grad():
        torch_model(
            input_features=torch.zeros(1, config.num_mel_bins, frames),
            decoder_input_ids=torch.tensor([[config.decoder_start_token_id]]),
        )
