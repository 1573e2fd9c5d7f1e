"""`whisperq advise`: which configuration meets your limits."""

from typing import Annotated

import typer

from whisperq_core import api
from whisperq_core.analyze.user_requirements import ALL_SPEECH, Priority
from whisperq_core.analyze.verdicts import CONFIDENCE, MARGIN
from whisperq_core.cli import options


def advise(
    models: options.Models = "base",
    device: options.Device = "cpu",
    max_mb: Annotated[float | None, typer.Option(help="Maximum size in MB.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="Maximum peak memory in MB.")] = None,
    max_time: Annotated[
        float,
        typer.Option(
            help="Maximum latency relative to fp32 under the Study protocol; 1 is as fast, 0 is"
            " any."
        ),
    ] = 1.0,
    max_rtf: Annotated[
        float | None,
        typer.Option(help="Maximum real-time factor (RTF) on the machine that was measured."),
    ] = None,
    max_rise: Annotated[
        float, typer.Option(help="Maximum WER increase over fp32, in points.")
    ] = MARGIN,
    confidence: Annotated[
        float,
        typer.Option(
            help="Confidence that WER rises by less, from 0.5 to below 1. From 0.95 on it is"
            " corrected for all configurations that were compared."
        ),
    ] = CONFIDENCE,
    protocols: Annotated[
        str,
        typer.Option(metavar="A,B", help="Only these protocols, separated by commas."),
    ] = "",
    speech: Annotated[
        str,
        typer.Option(
            help="Test speech: all English sets (all), clean, difficult (hard), or the name of an"
            " evaluation set."
        ),
    ] = ALL_SPEECH,
    priority: Annotated[Priority, typer.Option(help="What to optimise for.")] = "smallest",
) -> None:
    """Recommend a configuration within your limits. Shows how strong the evidence is."""
    recommendation = api.advise(
        max_mb=max_mb,
        max_memory_mb=max_memory_mb,
        max_time=max_time or None,
        max_rtf=max_rtf,
        max_rise=max_rise,
        confidence=confidence,
        models=options.names(models),
        speech=speech,
        priority=priority,
        protocols=options.protocol_names(protocols),
        device=device,
    )
    print(recommendation)
