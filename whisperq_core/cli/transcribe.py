"""`whisperq transcribe`: recordings, transcribed by several recipes."""

import sys
from typing import Annotated, Literal

import typer

from whisperq_core.cli import options
from whisperq_core.errors import InputError, WhisperQError
from whisperq_core.quantize.file_transcription import (
    AUTO,
    Transcription,
    TranscriptionConfig,
    transcribe_file,
)
from whisperq_core.quantize.recipes import recipe as recipe_named


def transcribe(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Audio files.")],
    model: options.Model = "base",
    recipes: Annotated[
        str, typer.Option("--recipe", "--recipes", metavar="A,B", help="Recipe names.")
    ] = "fp32",
    protocol: options.ProtocolOption = "study",
    language: Annotated[
        str, typer.Option(help="Language code or name: en, en-US, English; auto: detect.")
    ] = AUTO,
    task: Annotated[
        Literal["transcribe", "translate"],
        typer.Option(help="Transcribe, or translate into English."),
    ] = "transcribe",
    device: options.Device = "cpu",
    words: Annotated[
        bool, typer.Option("--words", help="Print the start time of each word.")
    ] = False,
) -> int:
    """Transcribe recordings with one or several recipes. Files that fail are reported."""
    chosen, failed = [recipe_named(name) for name in options.names(recipes)], 0
    if not chosen:
        raise InputError("Name at least one recipe.")
    for recipe in chosen:
        config = TranscriptionConfig(model, recipe, language, task, device, protocol)
        for file in map(options.clean_path, files):
            try:
                result = transcribe_file(file, config)
            except WhisperQError as error:
                failed += 1
                print(f"{file.name} · {recipe.name}: failed. {error}", file=sys.stderr)
                continue
            how = "" if protocol == "study" else f" · {options.protocol_of(protocol).label}"
            print(f"{file.name} · {recipe.name}{how} · {result.language} · RTF {result.rtf:.2f}")
            print(result.text, *(f"Recording: {note}" for note in result.audio_notes), sep="\n")
            _warn(result)
            if words and result.words_note:
                print(result.words_note)
            for word in result.words if words else ():
                print(f"{word.start_s:8.2f} s  {word.text}")
    return 1 if failed else 0


def _warn(result: Transcription) -> None:
    """Prints what is probably hallucinated, if anything."""
    if result.silent:
        print("The recording is silent: it has no words.")
    elif not result.has_speech:
        hallucinated = ": the words are probably hallucinated" if result.text else ""
        print(f"Probably no speech in the recording{hallucinated}.")
    else:
        for phrase in result.hallucinated:
            print(f"Probably hallucinated, no speech at {phrase.start_s:.1f} s: “{phrase.text}”")
