"""`whisperq gate`: hold a recipe to a margin, for CI."""

import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from whisperq_core.analyze.gate import Outcome, title_of
from whisperq_core.analyze.gate import gate as hold
from whisperq_core.analyze.verdicts import MARGIN, PROBABLE, require_confidence, require_margin
from whisperq_core.api import ProtocolName
from whisperq_core.cli import options
from whisperq_core.cli.run import run_and_record
from whisperq_core.errors import RecipeUnsupported, StoreError, WhisperQError
from whisperq_core.evaluate import planner
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.store import Store
from whisperq_core.present import junit
from whisperq_core.quantize.recipes import recipe as recipe_named
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.whisper.protocols import with_batch_size

# 2 is a wrong command, for every command.
EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.OPEN: 3}
NOT_MEASURED = 4
# The shipped speech of most speakers; no recipe was tuned on it.
_SETS = "test-clean-34-speakers,test-other-25-speakers"


def gate(
    recipe: Annotated[str, typer.Option(help="The recipe to hold to the margin.")],
    model: options.Model = "base",
    baseline: Annotated[str, typer.Option(help="The recipe to compare with.")] = "fp32",
    margin: Annotated[
        float, typer.Option(help="Points of WER that the recipe may lose, at most.")
    ] = MARGIN,
    confidence: Annotated[
        float,
        typer.Option(help="Confidence that it loses more, from which it fails: 0.5 to below 1."),
    ] = PROBABLE,
    sets: Annotated[
        str,
        typer.Option(
            "--sets",
            "--set",
            metavar="A,B",
            help="Evaluation sets of one language, compared together.",
        ),
    ] = _SETS,
    protocol: options.ProtocolOption = "study",
    baseline_protocol: Annotated[
        ProtocolName,
        typer.Option(help="Of the baseline; study is how Transformers runs Whisper by default."),
    ] = "study",
    batch_size: options.BatchSize = None,
    device: options.Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
    junit_file: Annotated[
        str | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")
    ] = None,
) -> int:
    """Hold a recipe's WER to a margin, for CI: exit code 0 pass, 1 fail, 3 too close to call.

    4 means that it could not be measured, 2 a wrong command. Evaluates what is not stored.
    """
    start = time.perf_counter()
    held = with_batch_size(options.protocol_of(protocol), batch_size)
    reference = with_batch_size(options.protocol_of(baseline_protocol), batch_size)
    try:
        require_margin(margin)
        require_confidence(confidence)
        store = Store()
        names = [UserSets(store.root).path_of(name) for name in options.names(sets)]
        requests = [
            Request(
                *(model, recipe_named(name), eval_set),
                protocol=by,
                device=device,
                threads=threads,
            )
            for name, by in ((baseline, reference), (recipe, held))
            for eval_set in names
        ]
        runs = _runs(requests, store)
        result = hold(runs[: len(names)], runs[len(names) :], margin, confidence)
        _write(junit_file, junit.gate_xml(result, time.perf_counter() - start))
    except WhisperQError as error:
        print(f"Not measured: {error}", file=sys.stderr)
        title = title_of(recipe, held.label, model, baseline, reference.label)
        with suppress(StoreError):
            _write(junit_file, junit.error_xml(title, str(error), time.perf_counter() - start))
        return NOT_MEASURED
    print(f"{result.outcome.upper()}. {result.paragraph}")
    return EXIT_CODES[result.outcome]


def _runs(requests: list[Request], store: Store) -> list[AccuracyRun]:
    """The results of the requests; none is run if one of them cannot be."""
    items = planner.plan(requests, store)
    for item in items:
        if item.status == "refused":
            raise RecipeUnsupported(f"{item.request.label}: {item.reason}")
    runs = []
    for item in items:
        if item.status == "to run":
            print(f"Evaluating {item.request.label}", file=sys.stderr)
        run = run_and_record(item, store, lambda done, total: None)
        assert isinstance(run, AccuracyRun)
        runs.append(run)
    return runs


def _write(file: str | None, content: bytes) -> None:
    """Writes the JUnit file, if there is to be one."""
    if not file:
        return
    path = options.clean_path(file)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}).") from error
