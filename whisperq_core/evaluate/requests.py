"""Requests: which model, recipe and evaluation set a user wants evaluated, by name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from whisperq_core.errors import InputError
from whisperq_core.evaluate.history import EVALUATION, WorkItem
from whisperq_core.file_storage import clean_path
from whisperq_core.machine import default_threads
from whisperq_core.quantize.recipes import CATALOGUE, Recipe
from whisperq_core.whisper.protocols import FITTED, STUDY, Protocol

# Speed is timed on one short set, so that the times of all recipes are of the same audio.
SPEED_SET = "quick-look"
# Timed passes of the recipe and of fp32 each; three show whether the machine was quiet.
SPEED_REPEATS = 3
# Divergence is measured in a fitted window, which costs a third of the whole one's time.
DIVERGENCE_PROTOCOL = FITTED
# More than any machine has cores; PyTorch would start them all.
MAX_THREADS = 1024


@dataclass(frozen=True)
class Request:
    """One run, by names.

    model, eval_set: a name, or the path of a folder, as `clean_path` reads it. threads: 0 is all
    cores. kernels: "library" or "dequantized"; None leaves the choice to `resolution.resolve`.
    """

    model: str
    recipe: Recipe
    eval_set: str
    measures: Literal["accuracy", "divergence", "speed"] = "accuracy"
    protocol: Protocol = STUDY
    device: str = "cpu"
    threads: int = 0
    kernels: Literal["library", "dequantized"] | None = None

    def __post_init__(self) -> None:
        """Raises InputError for a number of threads that makes no sense."""
        for field in ("model", "eval_set"):
            if typed := getattr(self, field).strip():
                object.__setattr__(self, field, str(clean_path(typed)))
        if not 0 <= self.threads <= MAX_THREADS:
            raise InputError(
                f"The number of threads must be 0 (all cores) to {MAX_THREADS}, not {self.threads}."
            )

    @property
    def label(self) -> str:
        """A short name for progress and messages."""
        measures = "" if self.measures == "accuracy" else f", {self.measures}"
        protocol = "" if self.protocol.name == STUDY.name else f", {self.protocol.label}"
        eval_set = Path(self.eval_set).name  # the last part of a folder's path
        return f"{self.model} · {self.recipe.name} · {eval_set}{measures}{protocol}"


def divergence_refusal(recipe: Recipe) -> str | None:
    """Why a recipe has no divergence, in a sentence; None where it has."""
    if recipe.name == "fp32":
        return "Divergence is measured relative to fp32, so fp32 itself has none."
    if recipe.has_own_runtime:
        return f"{recipe.name} runs outside PyTorch, where divergence cannot be measured."
    return None


def requests_for(
    model_names: Sequence[str],
    recipes: Sequence[Recipe],
    sets: Sequence[str],
    *,
    speed: bool = True,
    divergence: bool = False,
    **common: Any,
) -> list[Request]:
    """Every combination, fp32 first, since every recipe is compared with it.

    speed: also time each model and recipe on `SPEED_SET`. divergence: also measure it on every set,
    for recipes that run in PyTorch; always under `DIVERGENCE_PROTOCOL`, since it is the recipe's.
    common: further fields of all requests.

    Raises:
        InputError: no model, recipe or set, or a field that makes no sense.
    """
    for wanted, what in ((model_names, "model"), (recipes, "recipe"), (sets, "evaluation set")):
        if not wanted:
            raise InputError(f"Name at least one {what}.")
    ordered = sorted(recipes, key=lambda recipe: recipe.name != "fp32")
    accuracy = [
        Request(model, recipe, name, **common)
        for model in model_names
        for recipe in ordered
        for name in sets
    ]
    if divergence:
        accuracy += [
            replace(request, measures="divergence", protocol=DIVERGENCE_PROTOCOL)
            for request in accuracy
            if divergence_refusal(request.recipe) is None
        ]
    if not speed:
        return accuracy
    timed = [
        Request(model, recipe, SPEED_SET, "speed", **common)
        for model in model_names
        for recipe in ordered
    ]
    return accuracy + timed


def fp32_transcripts(request: Request) -> Request:
    """The accuracy run whose transcripts a divergence run gives to both models."""
    return replace(request, recipe=CATALOGUE["fp32"], measures="accuracy", kernels=None)


def work_item(request: Request) -> WorkItem:
    """The request as the history describes it."""
    return WorkItem(
        kind=EVALUATION,
        model=request.model,
        recipe=request.recipe.name,
        eval_set=request.eval_set,
        measures=request.measures,
        protocol=request.protocol.name,
        device=request.device,
        threads=request.threads or default_threads(),
    )
