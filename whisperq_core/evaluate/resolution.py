"""From a request, which has names, to what these names are on this machine; looked up once."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from whisperq_core.errors import EvalSetError, RecipeUnsupported
from whisperq_core.evaluate.records import RunSpec, Subject
from whisperq_core.evaluate.requests import SPEED_REPEATS, Request, divergence_refusal
from whisperq_core.machine import default_threads, this_machine
from whisperq_core.quantize import backends, calibration, pipeline, sensitivity_results
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.evaluation_sets import EvalSet, Utterance
from whisperq_core.whisper import long_recordings, model_sources, model_weights
from whisperq_core.whisper.model_sources import Source
from whisperq_core.whisper.transcription import WINDOW_S, plan_batches

# A set of up to this many utterances runs on the library's own kernels even where these are slow:
# that takes minutes at most, and measures the recipe's own time and memory.
MAX_UTTERANCES_ON_SLOW_KERNELS = 16


@dataclass(frozen=True)
class ResolvedRequest:
    """A request, its identity (`spec`) and all that was looked up for it.

    Everything below takes this instead of names: nothing is looked up twice, and what runs is what
    the key was computed from.
    """

    request: Request
    spec: RunSpec
    source: Source
    eval_set: EvalSet

    @property
    def key(self) -> str:
        """The key of the run's record and pieces."""
        return self.spec.key

    @cached_property
    def batches(self) -> list[tuple[Utterance, ...]]:
        """The evaluation set in the batches that are transcribed together."""
        return plan_batches(self.eval_set.utterances, self.spec.protocol.batch_size)

    @cached_property
    def timed_passes(self) -> list[tuple[Subject, int]]:
        """(subject, repeat) of each timed pass of a speed run, fp32 alternating with the recipe."""
        return _timed_passes(self.request.recipe)

    @property
    def piece_count(self) -> int:
        """Batches of an accuracy run, or timed passes of a speed run."""
        return piece_count(self.request, self.eval_set)


def piece_count(request: Request, eval_set: EvalSet) -> int:
    """`ResolvedRequest.piece_count`, also for a request whose weights are not here yet."""
    if request.measures == "speed":
        return len(_timed_passes(request.recipe))
    return len(plan_batches(eval_set.utterances, request.protocol.batch_size))


def _timed_passes(recipe: Recipe) -> list[tuple[Subject, int]]:
    subjects: tuple[Subject, ...] = ("recipe",) if recipe.name == "fp32" else ("fp32", "recipe")
    return [(subject, repeat) for repeat in range(SPEED_REPEATS) for subject in subjects]


def resolve(
    request: Request, *, download: bool = False, eval_set: EvalSet | None = None
) -> ResolvedRequest:
    """Looks up the model, the evaluation set, the recipe and the libraries of a request.

    The recipe is the requested one as the protocol runs it (see `pipeline.recipe_for_protocol`),
    with the formats of the model's layers where it has mixed ones.

    Args:
        request: what to look up.
        download: fetch a hub model whose weights are not on this machine.
        eval_set: the request's set, where the caller has it.

    Raises:
        RecipeUnsupported: calibration that the protocol does not allow or the set is too small for
            (before anything is downloaded), layers that were not measured, or no divergence.
        ModelUnavailable: the weights are not here; with `download`, they cannot be fetched.
        ModelError, EvalSetError: there is no model or set of that name; divergence on a set without
            an utterance of up to 30 s.
    """
    if request.measures == "divergence" and (reason := divergence_refusal(request.recipe)):
        raise RecipeUnsupported(reason)
    recipe = pipeline.recipe_for_protocol(request.recipe, request.protocol)
    source = model_sources.find(request.model)
    eval_set = eval_set or evaluation_sets.by_name(request.eval_set)
    long_ones = sum(u.duration_s > WINDOW_S for u in eval_set.utterances)
    if request.measures == "divergence" and long_ones == len(eval_set.utterances):
        raise EvalSetError(
            f"Divergence is measured within Whisper's window of 30 s, and every utterance of"
            f" {eval_set.name} is longer. Measure it on a set of shorter ones."
        )
    calibration_speech = calibration.utterances_for(recipe, eval_set)
    if download:
        source = model_sources.download(source)
    weights_digest = model_weights.digest(source)
    recipe = sensitivity_results.with_measured_layers(recipe, weights_digest)
    speed = request.measures == "speed"
    cuts = long_ones > 0 and request.protocol.is_fitted and request.measures != "divergence"
    spec = RunSpec(
        measures=request.measures,
        weights_digest=weights_digest,
        recipe=recipe,
        eval_set_digest=eval_set.digest,
        calibration_digest=calibration.digest(calibration_speech),
        protocol=request.protocol,
        kernels=request.kernels or _default_kernels(request, recipe, eval_set, cuts),
        device=request.device,
        threads=request.threads or default_threads(),
        versions=backends.versions(
            recipe,
            request.model,
            request.device,
            also=[long_recordings.DETECTOR_PACKAGE] if cuts else [],
        ),
        cpu=this_machine().cpu if speed else None,
        gpu=this_machine().gpu_kind if speed and request.device == "cuda" else None,
        repeats=SPEED_REPEATS if speed else None,
        code_version=backends.backend_of(recipe).code_version,
        cutting=long_recordings.VERSION if cuts else None,
    )
    return ResolvedRequest(request, spec, source, eval_set)


def _default_kernels(
    request: Request, recipe: Recipe, eval_set: EvalSet, cuts: bool
) -> Literal["library", "dequantized"]:
    """Dequantized weights for accuracy on a large set, the library's kernels otherwise.

    Dequantized weights run at fp32's speed. They are used only for libraries whose CPU kernels
    were shown to give the same transcripts (`backends.Backend.same_dequantized`). Speed is
    always that of the library's kernels. cuts: whether long utterances are cut; what Whisper's
    window holds of them then counts as one.
    """
    same_transcripts = (
        recipe.scheme == "weight-only"
        and request.device == "cpu"
        and backends.backend_of(recipe).same_dequantized
    )
    count = sum(
        max(1, math.ceil(u.duration_s / WINDOW_S)) if cuts else 1 for u in eval_set.utterances
    )
    large = count > MAX_UTTERANCES_ON_SLOW_KERNELS
    return (
        "dequantized" if same_transcripts and large and request.measures != "speed" else "library"
    )
