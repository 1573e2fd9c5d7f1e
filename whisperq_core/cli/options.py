"""Options that several commands share, and what their values stand for."""

from typing import Annotated, get_args

import typer

from whisperq_core.api import DeviceName, ProtocolName
from whisperq_core.errors import InputError
from whisperq_core.file_storage import clean_path as clean_path
from whisperq_core.quantize import pipeline
from whisperq_core.quantize.recipes import CATALOGUE, Recipe, recipe
from whisperq_core.whisper.protocols import SHORT_NAMES, Protocol

Models = Annotated[
    str,
    typer.Option("--models", metavar="A,B", help="Model names or folders, separated by commas."),
]
Model = Annotated[str, typer.Option("--model", help="Model name or folder.")]
Recipes = Annotated[
    str,
    typer.Option(
        "--recipes",
        metavar="A,B",
        help="Recipe names, separated by commas; “all”: every recipe that the device and the"
        " protocol support.",
    ),
]
Device = Annotated[DeviceName, typer.Option("--device", help="Device that runs the model.")]
ProtocolOption = Annotated[
    ProtocolName,
    typer.Option("--protocol", help="Transcription protocol: decoding, window and batches."),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Utterances per batch in place of the protocol's; 1 is how single recordings are"
        " transcribed. Recipes with one activation range per batch (torch-int8) depend on it.",
    ),
]
ReportedModels = Annotated[
    str, typer.Option("--models", metavar="A,B", help="Models. [default: all with results]")
]
ReportedRecipes = Annotated[
    str, typer.Option("--recipes", metavar="A,B", help="Recipes. [default: all with results]")
]
ReportedProtocol = Annotated[
    ProtocolName | None,
    typer.Option("--protocol", help="Protocol. [default: all with results]"),
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin",
        help="Non-inferiority margin: WER increase, in points, that still counts as no worse.",
    ),
]


def names(text: str) -> list[str]:
    """The names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def protocol_names(text: str) -> list[ProtocolName]:
    """Short names of protocols in a list separated by commas; InputError for one that is none."""
    wanted = names(text)
    for name in wanted:
        if name not in SHORT_NAMES:
            raise InputError(f"There is no protocol {name!r}. There are: {', '.join(SHORT_NAMES)}.")
    return [name for name in get_args(ProtocolName) if name in wanted]


def protocol_of(name: str) -> Protocol:
    """The protocol of that short name."""
    return SHORT_NAMES[name]


def recipes_of(text: str, device: str, protocol: Protocol) -> list[Recipe]:
    """The recipes of these names; “all” is what the device and the protocol support."""
    if names(text) != ["all"]:
        return [recipe(name) for name in names(text)]
    return [
        one
        for one in CATALOGUE.values()
        if pipeline.unsupported_reason(one, protocol, device) is None
    ]
