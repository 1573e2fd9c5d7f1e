"""`whisperq hallucinations`: words a minute where nobody speaks."""

from typing import Annotated

import pandas as pd
import typer

from whisperq_core.analyze.hallucinations import hallucinations as of_runs
from whisperq_core.analyze.hallucinations import table
from whisperq_core.errors import InputError
from whisperq_core.evaluate.store import Store
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.voice_activity import speech_activity
from whisperq_core.whisper.protocols import protocol_label


def hallucinations(
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect",
            help="Also count what is left where a voice activity detector (Silero) hears speech;"
            " takes about a second a minute of audio.",
        ),
    ] = False,
) -> None:
    """Words transcribed a minute on sets without speech, such as no-speech.

    Measure them with: whisperq run --sets no-speech --only accuracy
    """
    runs = Store().runs()
    found = [one for one in of_runs(runs) if model in (None, one.run.model)]
    if detect:
        names = {one.run.eval_set for one in found}
        detected = {name: _speech_detected(name) for name in names}
        found = of_runs([one.run for one in found], detected)
    for row in table(found).to_dict("records"):
        after = ""
        if pd.notna(row["detected_words_a_minute"]):
            after = (
                f"; where speech is detected only: {row['detected_words_a_minute']:.2f}"
                f" ({row['detected_low']:.2f} to {row['detected_high']:.2f})"
            )
        print(
            f"{row['model']} · {row['recipe']} · {protocol_label(row['protocol'])} ·"
            f" {row['set']}: {row['words_a_minute']:.2f} words a minute ({row['low']:.2f} to"
            f" {row['high']:.2f}), {row['words']} in {row['minutes']:.0f} minutes, in"
            f" {row['with_words']} of {row['recordings']} recordings{after}"
        )
    if not found:
        print(
            "No set without speech was evaluated. Run:"
            " python -m whisperq_core run --sets no-speech-15-minutes"
        )


def _speech_detected(name: str) -> dict[str, bool]:
    """Whether each recording of the set is taken for speech; none where it is not here."""
    try:
        utterances = evaluation_sets.by_name(name).utterances
    except InputError:
        return {}
    return {u.id: speech_activity(evaluation_sets.read_audio(u)).has_speech for u in utterances}
