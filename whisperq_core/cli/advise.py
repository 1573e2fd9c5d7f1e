"""`whisperq advise`: which configuration meets your limits."""

from typing import Annotated, Literal

import typer

from whisperq_core.analyze import advisor
from whisperq_core.analyze.user_requirements import Requirements
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.evaluate.store import Store
from whisperq_core.present import advisor_text


def advise(
    models: options.Models = "base",
    device: options.Device = "cpu",
    max_mb: Annotated[float | None, typer.Option(help="Maximum size in MB.")] = None,
    max_time: Annotated[
        float | None, typer.Option(help="Maximum latency relative to fp32; 1 is fp32's.")
    ] = None,
    max_rtf: Annotated[
        float | None, typer.Option(help="Maximum real-time factor on the machine measured.")
    ] = None,
    max_rise: Annotated[
        float, typer.Option(help="Maximum WER increase over fp32, in points.")
    ] = MARGIN,
    protocol: options.ProtocolOption = "study",
    speech: Annotated[
        Literal["clean", "hard"], typer.Option(help="The kind of speech to judge by.")
    ] = "hard",
    priority: Annotated[
        Literal["smallest", "fastest"], typer.Option(help="What to optimise for.")
    ] = "smallest",
) -> None:
    """Recommend a configuration that meets your limits, and show how strong the evidence is."""
    requirements = Requirements(
        device=device,
        max_weights_bytes=None if max_mb is None else round(max_mb * 1e6),
        max_rtf_ratio=max_time,
        max_rtf=max_rtf,
        max_wer_rise_points=max_rise,
        speech=speech,
        models=tuple(options.names(models)),
        priority=priority,
        protocol=options.protocol_of(protocol).name,
    )
    print(advisor_text.as_text(advisor.advise(requirements, Store().runs())))
