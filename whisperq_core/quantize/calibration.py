"""The speech that static recipes take their scales from, and how it is shown to a model."""

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.memory import SingleItemCache
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import EvalSet, Utterance
from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.short_window import Window
from whisperq_core.whisper.torch_types import Array, WhisperModule
from whisperq_core.whisper.transcription import WINDOW_S, forward, transcribe

if TYPE_CHECKING:
    from whisperq_core.quantize.backends import Calibrate
    from whisperq_core.whisper.models import Model

# Most of 30 s is silence after the speech: weights that are rounded for what they are multiplied
# with would be rounded for silence.
SPEECH_ONLY = Window(margin_s=1.0)

# Of fewer utterances even one is more than a tenth.
_SMALLEST_EVALUATION = 10

# Static recipes follow each other in a grid: fp32 transcribes their speech once.
_TRANSCRIBED = SingleItemCache()


def calibration_conflict(recipe: Recipe, protocol: Protocol) -> str | None:
    """Why the protocol forbids the recipe's calibration, in a sentence; None where it does not."""
    if not protocol.held_out_only or recipe.calibration != "evaluation-10%":
        return None
    return (
        f"{recipe.name} calibrates on the speech it is evaluated on, which the protocol"
        f" “{protocol.label}” does not allow. Use {recipe.name.removesuffix('-eval10')}, which is"
        " calibrated on held-out speech."
    )


def utterances_for(recipe: Recipe, eval_set: EvalSet | None) -> tuple[Utterance, ...]:
    """What the recipe calibrates on; empty where it does not calibrate.

    eval_set is only looked at by recipes that calibrate on a part of it. Raises RecipeUnsupported
    for a set of which no utterance is as little as a tenth.
    """
    if recipe.calibration == "held-out":
        return evaluation_sets.by_name(evaluation_sets.CALIBRATION_SET).utterances
    if recipe.calibration == "evaluation-10%" and eval_set is not None:
        ordered = sorted(eval_set.utterances, key=lambda u: u.id)
        if len(ordered) < _SMALLEST_EVALUATION:
            share = 100 * math.ceil(len(ordered) / 10) / max(len(ordered), 1)
            raise RecipeUnsupported(
                f"{recipe.name} calibrates on 10% of the evaluated utterances, and of the"
                f" {len(ordered)} of this set one alone is {share:.0f}%. Evaluate at least"
                f" {_SMALLEST_EVALUATION}, or take {recipe.name.removesuffix('-eval10')}."
            )
        return tuple(random.Random(0).sample(ordered, math.ceil(len(ordered) / 10)))
    return ()


def digest(utterances: Sequence[Utterance]) -> str | None:
    """Identifies calibration speech as an EvalSet's digest does; None where there is none."""
    return EvalSet("calibration", "", tuple(utterances), "").digest if utterances else None


def teacher_forced_inputs(
    model: "Model", utterances: Sequence[Utterance], protocol: Protocol
) -> list[tuple[Array, list[int]]]:
    """The first 30 s of each utterance, and their fp32 transcript as a whole decoder sequence.

    A teacher-forced pass sees one window, and the decoder holds so many tokens at most.
    """
    most = model.torch_model.config.max_target_positions

    def transcribe_all() -> list[tuple[Array, list[int]]]:
        inputs = []
        for utterance in utterances:
            audio = evaluation_sets.read_audio(utterance)[: int(WINDOW_S * SAMPLE_RATE)]
            language = utterance.language
            text = transcribe(model, model.torch_model, [audio], [language], protocol).texts[0]
            inputs.append((audio, model.tokens(text, language, protocol.task)[:most]))
        return inputs

    inputs: list[tuple[Array, list[int]]] = _TRANSCRIBED.get(
        (model.digest, tuple(utterances), protocol), transcribe_all
    )
    return inputs


def calibrate_on(
    model: "Model",
    utterances: Sequence[Utterance],
    protocol: Protocol,
    window: Window | None = None,
) -> "Calibrate | None":
    """A function that shows a quantized model the calibration speech, encoder and decoder.

    window: what is shown of each utterance's 30 s, all of them where it is None.

    The decoder is fed what fp32 hears in it, teacher-forced: generate() cannot run while Quanto
    calibrates. None without utterances.
    """
    if not utterances:
        return None
    samples = teacher_forced_inputs(model, utterances, protocol)

    def calibrate(torch_model: WhisperModule) -> None:
        for audio, tokens in samples:
            forward(model, torch_model, [audio], [tokens], window)

    return calibrate
