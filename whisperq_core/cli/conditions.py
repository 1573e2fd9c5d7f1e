"""`whisperq conditions`: does quantization cost more in noise than in quiet?"""

from typing import Annotated

import typer

from whisperq_core.analyze.condition_effects import MEASURES, condition_effects
from whisperq_core.evaluate.store import Store
from whisperq_core.present import condition_text
from whisperq_core.whisper.protocols import protocol_label


def conditions(
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
) -> None:
    """Compare what recipes cost under conditions, such as noise, with what they cost in quiet.

    By divergence a change is a factor, by WER points. Intervals hold for all that was measured on
    the same speech with the same model and protocol. `python -m benchmarks.conditions` measures a
    grid.
    """
    runs = Store().runs()
    effects = [e for measure in MEASURES for e in condition_effects(runs, measure)]
    effects = [effect for effect in effects if model in (None, effect.model)]
    for effect in effects:
        print(
            f"{effect.model} · {effect.recipe} · {protocol_label(effect.protocol)} ·"
            f" {effect.eval_set} · {condition_text.condition_label(effect.condition)}:"
            f" {condition_text.change_text(effect)}: {condition_text.verdict_text(effect)}"
        )
    print("\n".join(condition_text.summary(effects) or [condition_text.NOT_MEASURED]))
