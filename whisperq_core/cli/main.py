"""The entry point: global options, the list of commands, errors as one sentence."""

import os
import sys
import warnings
from functools import partial
from typing import Annotated

import typer
from typer.exceptions import TyperException

from whisperq_core.cli import (
    advise,
    certificate,
    claims,
    compare,
    conditions,
    download,
    evidence,
    export,
    gate,
    hallucinations,
    history,
    machine,
    merge,
    models,
    publish,
    recipes,
    report,
    rescore,
    results,
    run,
    sensitivity,
    sets,
    sizes,
    transcribe,
)
from whisperq_core.errors import WhisperQError
from whisperq_core.file_storage import clean_path

# In the order of `whisperq --help`.
COMMANDS = (
    run.run,
    results.results,
    merge.merge,
    advise.advise,
    evidence.evidence,
    conditions.conditions,
    hallucinations.hallucinations,
    compare.compare,
    gate.gate,
    transcribe.transcribe,
    export.export,
    report.report,
    publish.publish,
    claims.claims,
    sizes.sizes,
    sensitivity.sensitivity,
    rescore.rescore,
    history.history,
    recipes.recipes,
    models.models,
    sets.sets,
    download.download,
    machine.machine,
    certificate.certificate,
)

app = typer.Typer(
    name="whisperq",
    help="Quantize Whisper, measure accuracy, speed and size, and choose a configuration.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    cache: Annotated[
        str | None,
        typer.Option(help="Folder for results, downloads and recordings. [default: cache/]"),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Folder or URL (s3://…, gs://…) for results. [default: the cache]",
        ),
    ] = None,
) -> None:
    # Settings live in the environment alone, so that worker processes have the same.
    if cache:
        os.environ["WHISPERQ_CACHE"] = str(clean_path(cache))
    if results:
        os.environ["WHISPERQ_RESULTS"] = results


for _command in COMMANDS:
    app.command()(_command)


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 for what failed, 2 for a wrong command, 130 when stopped.

    The environment is afterwards as it was, for callers that go on.
    """
    before = dict(os.environ)
    try:
        return int(app(argv, standalone_mode=False) or 0)
    except WhisperQError as error:
        print(error, file=sys.stderr)
        return 1
    except TyperException as error:  # a wrong command or option; its class is private to typer
        getattr(error, "show", partial(print, error, file=sys.stderr))()
        return int(getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        print(
            "\nStopped. Finished pieces are kept; the same command continues from there.",
            file=sys.stderr,
        )
        return 130
    finally:
        os.environ.clear()
        os.environ.update(before)


def entry() -> None:
    """The command `whisperq`."""
    warnings.simplefilter("ignore")
    sys.exit(main())
