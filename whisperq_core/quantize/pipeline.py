"""From a model's name and a recipe to what transcribes."""

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.memory import SingleItemCache
from whisperq_core.quantize import backends, calibration, sensitivity_results
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.speech.evaluation_sets import EvalSet
from whisperq_core.whisper import model_sources, model_weights, models
from whisperq_core.whisper.model_sources import Source
from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.runtime import Runtime
from whisperq_core.whisper.transcription import PyTorchRuntime


def unsupported_reason(recipe: Recipe, protocol: Protocol, device: str) -> str | None:
    """Why the recipe is not run so, in a sentence; None where it is. Cheap: loads nothing."""
    return _protocol_conflict(recipe, protocol) or backends.unavailable_reason(recipe, device)


def _protocol_conflict(recipe: Recipe, protocol: Protocol) -> str | None:
    if recipe.has_own_runtime and protocol.is_fitted:
        return f"{recipe.name} always uses a 30 s window; “{protocol.label}” needs a fitted one."
    greedy = not protocol.has_fallback and protocol.beams == 1
    if (backends.backend_of(recipe).greedy_only or recipe.compiled) and not greedy:
        return f"{recipe.name} supports greedy decoding only; “{protocol.label}” is not greedy."
    return calibration.calibration_conflict(recipe, protocol)


def recipe_for_protocol(recipe: Recipe, protocol: Protocol) -> Recipe:
    """The recipe as the protocol runs it: the same name, perhaps with fewer modules.

    Raises RecipeUnsupported for what the protocol does not allow or a runtime cannot follow.
    """
    if reason := _protocol_conflict(recipe, protocol):
        raise RecipeUnsupported(reason)
    return recipe.with_tied_projection() if protocol.tied else recipe


# The computation itself. Raise it when code changes that can change a transcript or a time.
PIPELINE_VERSION = 1

# A grid asks for a model again and again.
_MODEL = SingleItemCache()


def load_model(model: str | Source) -> models.Model:
    """The fp32 model of that name or source; the last one stays in memory.

    A folder whose weights were replaced is loaded again.
    """
    source = model_sources.find(model) if isinstance(model, str) else model
    source = model_sources.download(source)
    key = source, model_weights.digest(source)
    loaded: models.Model = _MODEL.get(key, lambda: models.load(source))
    return loaded


def quantize_model(
    model: models.Model,
    recipe: Recipe,
    eval_set: EvalSet | None,
    device: str,
    protocol: Protocol,
    kernels: str = "library",
) -> backends.Quantized:
    """A copy of the model after the recipe, calibrated and mapped where the recipe wants it.

    eval_set is only looked at by recipes that calibrate on a part of it.
    """
    recipe = sensitivity_results.with_measured_layers(recipe, model.digest)
    if recipe.has_own_runtime:
        return backends.open_runtime(model, recipe, device)
    speech = calibration.utterances_for(recipe, eval_set)
    shown = calibration.SPEECH_ONLY if recipe.weights == "mixed" else None
    calibrate = calibration.calibrate_on(model, speech, protocol, shown)
    return backends.quantize(model.torch_model, recipe, device, calibrate, kernels)


def runtime_of(model: models.Model, quantized: backends.Quantized) -> Runtime:
    """What transcribes with the model after a recipe."""
    return quantized.runtime or PyTorchRuntime(model, quantized.torch_model)
