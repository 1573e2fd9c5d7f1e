"""`whisperq publish`: a static site of results."""

import sys
from typing import Annotated

import typer

from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.errors import InputError
from whisperq_core.evaluate import records
from whisperq_core.evaluate.store import Store
from whisperq_core.present import site
from whisperq_core.present.report_sections import Selection
from whisperq_core.speech import evaluation_sets


def publish(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write, or to replace.")],
    models: options.ReportedModels = "",
    sets: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Evaluation sets; your own only if you name them. [default: all public ones]",
        ),
    ] = "",
    recipes: options.ReportedRecipes = "",
    protocol: options.ReportedProtocol = None,
    margin: options.Margin = MARGIN,
    audio: Annotated[
        bool, typer.Option("--audio", help="Also publish the recordings of shipped sets.")
    ] = False,
) -> None:
    """Write results as a static site: it needs no server, no network and no WhisperQ."""
    store, named = Store(), options.names(sets)
    runs = store.runs()
    names = {run.eval_set for run in runs if run.measures == "accuracy"}
    published = named or sorted(filter(evaluation_sets.is_public, names))
    if unknown := [name for name in named if name not in names]:
        raise InputError(f"There is no result on {', '.join(unknown)}. See: whisperq results")
    content = site.Site(
        # Times and sizes are of no set of their own.
        tuple(run for run in runs if run.eval_set in published or run.eval_set not in names),
        records.utc_now(),
        tuple(store.notes()),
        margin,
        Selection(
            models=tuple(options.names(models)),
            sets=tuple(named),
            recipes=() if options.names(recipes) == ["all"] else tuple(options.names(recipes)),
            protocols=(options.protocol_of(protocol).name,) if protocol else (),
        ),
        audio,
    )
    path = options.clean_path(out)
    size = site.write(path, content.files())
    print(f"{path / 'index.html'}: {len(content.links)} runs, {size / 1e6:.1f} MB")
    left_out = sorted(names - set(published))
    if private := [name for name in left_out if not evaluation_sets.is_public(name)]:
        print(
            f"Left out, since they are your own sets: {', '.join(private)}. To publish their"
            " transcripts, too, name them with --sets.",
            file=sys.stderr,
        )
