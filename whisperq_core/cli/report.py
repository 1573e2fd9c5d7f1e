"""`whisperq report`: stored results as one file to share."""

from typing import Annotated

import typer

from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.api import ProtocolName
from whisperq_core.cli import options
from whisperq_core.errors import StoreError
from whisperq_core.evaluate import records
from whisperq_core.evaluate.store import Store
from whisperq_core.present import report as report_files
from whisperq_core.present import report_sections


def report(
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="File to write: .html (opens offline, prints to PDF), .csv or .json.",
        ),
    ] = "report.html",
    models: Annotated[
        str, typer.Option(metavar="A,B", help="Models. [default: all with results]")
    ] = "",
    sets: Annotated[
        str, typer.Option(metavar="A,B", help="Evaluation sets. [default: all with results]")
    ] = "",
    recipes: Annotated[
        str, typer.Option(metavar="A,B", help="Recipes. [default: all with results]")
    ] = "",
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="Protocol. [default: all with results]")
    ] = None,
    baseline: Annotated[str, typer.Option(help="Recipe that the others are compared with.")] = (
        "fp32"
    ),
    margin: options.Margin = MARGIN,
) -> None:
    """Write stored results as one self-contained file to share."""
    selected = report_sections.select_runs(
        Store().runs(),
        models=options.names(models),
        sets=options.names(sets),
        recipes=[] if options.names(recipes) == ["all"] else options.names(recipes),
        protocols=[options.protocol_of(protocol).name] if protocol else [],
        baseline=baseline,
    )
    path = options.clean_path(out)
    content = report_files.render(
        selected, path.suffix.lower(), date=records.utc_now(), baseline=baseline, margin=margin
    )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}).") from error
    print(f"{path}: {len(content) / 1e3:.0f} kB")
