"""`whisperq advise`: which configuration meets your limits."""

from typing import Annotated, Literal

import typer

from whisperq_core import api
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options


def advise(
    models: options.Models = "base",
    device: options.Device = "cpu",
    max_mb: Annotated[float | None, typer.Option(help="Maximum size in MB.")] = None,
    max_time: Annotated[
        float | None, typer.Option(help="Maximum relative latency (× fp32); 1 is as fast as fp32.")
    ] = None,
    max_rtf: Annotated[
        float | None,
        typer.Option(help="Maximum real-time factor (RTF) on the machine that was measured."),
    ] = None,
    max_rise: Annotated[
        float, typer.Option(help="Maximum WER increase over fp32, in points.")
    ] = MARGIN,
    protocol: options.ProtocolOption = "study",
    speech: Annotated[
        Literal["clean", "hard"], typer.Option(help="Test speech: clean, or difficult (hard).")
    ] = "hard",
    priority: Annotated[
        Literal["smallest", "fastest"], typer.Option(help="What to optimise for.")
    ] = "smallest",
) -> None:
    """Recommend a configuration within your limits. Shows how strong the evidence is."""
    recommendation = api.advise(
        max_mb=max_mb,
        max_time=max_time,
        max_rtf=max_rtf,
        max_rise=max_rise,
        models=options.names(models),
        speech=speech,
        priority=priority,
        protocol=protocol,
        device=device,
    )
    print(recommendation)
