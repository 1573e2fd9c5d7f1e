"""What conditions change in the cost of quantization, in words."""

import math
from collections.abc import Sequence

from whisperq_core.analyze.condition_effects import MEASURES, ConditionEffect, Measure
from whisperq_core.analyze.verdict_text import audio_needed, signed
from whisperq_core.errors import EvalSetError
from whisperq_core.plurals import counted
from whisperq_core.speech import conditions

NOT_MEASURED = (
    "No recipe has been evaluated both in quiet and under a condition yet, together with fp32."
)


def condition_label(name: str) -> str:
    """A condition in words: "coffee shop at 5 dB"; its name where its noise is not here."""
    try:
        return ", then ".join(one.label for one in conditions.parse(name))
    except EvalSetError:
        return name


def summary(effects: Sequence[ConditionEffect]) -> list[str]:
    """The answer, a sentence for each measure and model; what is not measured is left out."""
    models = list(dict.fromkeys(effect.model for effect in effects))
    sentences = []
    for model in models:
        for measure in MEASURES:
            own = [e for e in effects if (e.model, e.measure) == (model, measure)]
            if own:
                sentences.append(f"{_place(model, measure)}{_counts(own)}.{_most(own)}")
    return sentences


def _place(model: str, measure: Measure) -> str:
    return f"{model}, by {'WER' if measure == 'WER' else 'divergence from fp32'}: "


def _counts(effects: Sequence[ConditionEffect]) -> str:
    """Recipes that cost more under at least one condition, less under one, and the rest."""
    recipes = sorted({effect.recipe for effect in effects})
    more = {e.recipe for e in effects if e.verdict == "costs more"}
    less = {e.recipe for e in effects if e.verdict == "costs less"} - more
    rest = len(recipes) - len(more) - len(less)
    parts = [f"{len(more)} of {counted(len(recipes), 'recipe')} cost more under some condition"]
    parts += [f"{len(less)} less"] * bool(less) + [f"{rest} too close to call"] * bool(rest)
    return ", ".join(parts)


def _most(effects: Sequence[ConditionEffect]) -> str:
    shown = [effect for effect in effects if effect.verdict == "costs more"]
    if not shown:
        return ""
    most = max(shown, key=lambda effect: effect.change.value)
    where = condition_label(most.condition)
    return f" The largest change: {most.recipe}, {where}: {change_text(most)}."


def change_text(effect: ConditionEffect) -> str:
    """The change with its interval, and the costs that it is the change of."""
    value, low, high = effect.change.value, effect.change.low, effect.change.high
    if effect.measure == "divergence":
        change = f"{value:.2f} × its divergence in quiet"
        interval = f"{low:.2f} to {high:.2f}"
        costs = f"{effect.under_condition:.3g} instead of {effect.in_quiet:.3g} mnat per token"
    else:
        change = f"{signed(value)} points more than in quiet"
        interval = f"{signed(low)} to {signed(high)}"
        costs = f"{signed(effect.under_condition)} instead of {signed(effect.in_quiet)} points"
    interval = "too few speakers for an interval" if math.isnan(low) else interval
    return f"{change} ({interval}; {costs})"


def verdict_text(effect: ConditionEffect) -> str:
    """The verdict; where none is shown, how much more audio one would take."""
    if effect.minutes_needed is None:
        return effect.verdict
    return f"{effect.verdict}; {audio_needed(effect.minutes_needed - effect.minutes)}"
