"""`whisperq report`: what to use, and stored results, as one file to share."""

from typing import Annotated

import typer

from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.errors import InputError, StoreError
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
    models: options.ReportedModels = "",
    sets: Annotated[
        str, typer.Option(metavar="A,B", help="Evaluation sets. [default: all with results]")
    ] = "",
    recipes: options.ReportedRecipes = "",
    protocol: options.ReportedProtocol = None,
    baseline: Annotated[str, typer.Option(help="Recipe that the others are compared with.")] = (
        "fp32"
    ),
    margin: options.Margin = MARGIN,
    slides: Annotated[
        bool,
        typer.Option(
            "--slides", help="Write the answer as five slides (.html, prints to PDF) instead."
        ),
    ] = False,
) -> None:
    """Write what to use, and the stored results, as one self-contained file to share."""
    path = options.clean_path(out)
    selection = report_sections.Selection(
        models=tuple(options.names(models)),
        sets=tuple(options.names(sets)),
        recipes=() if options.names(recipes) == ["all"] else tuple(options.names(recipes)),
        protocols=(options.protocol_of(protocol).name,) if protocol else (),
    )
    content = _content(
        path.suffix.lower(), slides, baseline=baseline, margin=margin, selection=selection
    )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}).") from error
    print(f"{path}: {len(content) / 1e3:.0f} kB")


def _content(
    suffix: str,
    slides: bool,
    *,
    baseline: str,
    margin: float,
    selection: report_sections.Selection,
) -> bytes:
    store, date = Store(), records.utc_now()
    runs = store.runs()
    if slides and suffix != ".html":
        raise InputError("Slides are written as .html, which prints to PDF.")
    if slides:
        page = report_files.slides_html(runs, date=date, margin=margin, selection=selection)
        return page.encode()
    return report_files.render(
        runs,
        suffix,
        date=date,
        baseline=baseline,
        margin=margin,
        selection=selection,
        notes=store.notes(),
    )
