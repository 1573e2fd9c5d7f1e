"""`whisperq run`: evaluate models x recipes x sets."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from whisperq_core.cli import options
from whisperq_core.errors import StoreError, WhisperQError
from whisperq_core.evaluate import history, planner, runner
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, EvaluatedRun, Run, SpeedRun
from whisperq_core.evaluate.requests import requests_for, work_item
from whisperq_core.evaluate.store import Store
from whisperq_core.plurals import counted
from whisperq_core.serve import cluster
from whisperq_core.serve.job_queue import JobQueue, JobState
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.evaluation_sets import EvalSet, SetPreview
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import with_batch_size

_POLL_S = 0.5


def run(
    models: options.Models = "base",
    recipes: options.Recipes = "fp32,whole-int8-dynamic",
    sets: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Evaluation sets: shipped, downloaded (test-clean, test-other), own, or folders.",
        ),
    ] = "quick-look",
    protocol: options.ProtocolOption = "study",
    batch_size: options.BatchSize = None,
    device: options.Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
    only: Annotated[
        Literal["accuracy", "divergence", "speed"] | None,
        typer.Option(help="Measure only this."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler of a cluster: its address (tls://host:8786) or scheduler file."
            " [default: $WHISPERQ_SCHEDULER, else this machine]",
        ),
    ] = None,
    tls: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the cluster's certificate. [default: $WHISPERQ_TLS]",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan; run nothing.")] = False,
) -> int:
    """Evaluate models × recipes × evaluation sets. Stored results are reused."""
    store = Store()
    chosen_protocol = with_batch_size(options.protocol_of(protocol), batch_size)
    set_names = [UserSets(store.root).path_of(name) for name in options.names(sets)]
    for name in set_names:
        _print_what_is_left_out(evaluation_sets.by_name(name))
    requests = requests_for(
        options.names(models),
        options.recipes_of(recipes, device, chosen_protocol),
        set_names,
        speed=only in (None, "speed"),
        divergence=only in (None, "divergence"),
        device=device,
        threads=threads,
        protocol=chosen_protocol,
    )
    if only:
        requests = [request for request in requests if request.measures == only]
    for name in options.names(models):
        model_sources.find(name)
    elsewhere = cluster.from_environment()
    if scheduler:
        elsewhere = cluster.Cluster(scheduler, tls or (elsewhere.tls if elsewhere else None))
    queue = JobQueue(store, elsewhere=elsewhere) if elsewhere else None
    items = queue.plan(requests) if queue else planner.plan(requests, store)
    labels = [f"[{n}/{len(items)}] {item.request.label}" for n, item in enumerate(items, 1)]
    todo = []
    for item, label in zip(items, labels, strict=True):
        if item.status == "refused":
            print(f"{label}: refused. {item.reason}")
        elif plan:
            print(f"{label}: {item.status}" + f", about {item.estimate_s:.0f} s" * (not item.key))
        else:
            todo.append((item, label))
    if queue:
        return _run_on_cluster(queue, todo)
    return 0 if all([run_and_print(item, store, label) for item, label in todo]) else 1


def _print_what_is_left_out(eval_set: EvalSet) -> None:
    """Files of a folder that no result is about, so that nobody takes them for measured."""
    if eval_set.skipped:
        print(eval_set.name, *SetPreview.of(eval_set).sentences, sep="\n", file=sys.stderr)


def _run_on_cluster(queue: JobQueue, todo: list[tuple[PlannedRun, str]]) -> int:
    """Runs a grid on a cluster's workers, and prints each result as it comes."""
    # The outcome of each job is printed below, in a sentence.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    start, failed = time.perf_counter(), 0
    for item, label in todo:
        if item.status == "cached":
            print(f"{label}: {_figures(_stored(queue, item.key))} [cached]", flush=True)
    waiting = queue.evaluate([item for item, _ in todo])
    to_run = [label for item, label in todo if item.status == "to run"]
    labels = dict(zip(waiting, to_run, strict=True))
    try:
        while waiting:
            time.sleep(_POLL_S)
            queue.all()
            for job in [job for job in waiting if job.is_over]:
                waiting.remove(job)
                label, elapsed_s = labels[job], time.perf_counter() - start
                if job.state == JobState.DONE:
                    figures = _figures(_stored(queue, job.result))
                    print(f"{label}: {figures} [{elapsed_s:.0f} s since the start]", flush=True)
                else:
                    failed += 1
                    print(f"{label}: {job.state}. {job.message}", file=sys.stderr)
    except KeyboardInterrupt:
        for job in waiting:
            queue.stop(job)
        raise
    finally:
        queue.close()
    return 1 if failed else 0


def _stored(queue: JobQueue, key: str | None) -> Run:
    run = queue.store.get(key) if key else None
    if run is None:
        raise StoreError("A finished result is no longer in the folder of results. Run it again.")
    return run


def run_and_print(item: PlannedRun, store: Store, label: str) -> bool:
    """Runs one evaluation in this process; whether it succeeded."""
    start = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{label}: {done}/{total} ", end="", file=sys.stderr, flush=True)

    try:
        result = run_and_record(item, store, progress)
    except WhisperQError as error:
        print(f"{label}: failed. {error}", file=sys.stderr)
        return False
    print(f"{label}: {_figures(result)} [{time.perf_counter() - start:.0f} s]", flush=True)
    return True


def run_and_record(
    item: PlannedRun, store: Store, progress: Callable[[int, int], None]
) -> EvaluatedRun:
    """Runs one evaluation, or takes its stored result; what runs has an entry in the history."""
    if item.status == "cached":
        return runner.run(item.request, store, progress)
    with history.record(store.root, work_item(item.request)) as note:
        result = runner.run(item.request, store, progress)
        note.key = result.key
    return result


def _figures(result: Run) -> str:
    figures = ""
    if isinstance(result, AccuracyRun):
        words, characters = result.words, result.characters
        if words.rate is None or characters.rate is None:
            figures = f"no reference words, {counted(words.insertions, 'insertion')}"
        else:
            figures = f"WER {words.rate:.2f}%, CER {characters.rate:.2f}%"
        figures += f", {counted(result.loops, 'loop')}" if result.loops else ""
        figures += f", {counted(result.fallbacks, 'fallback')}" if result.fallbacks else ""
        figures += f", RTF {result.rtf:.3f}" if result.rtf else ""
    elif isinstance(result, DivergenceRun):
        nats, changed = result.sums.nats_per_token, result.sums.changed_share
        figures = f"{1000 * nats:.2f} mnat per token from fp32, {changed:.1%} of tokens changed"
    elif isinstance(result, SpeedRun):
        ratios = sorted(result.ratios())
        figures = f"relative latency {ratios[len(ratios) // 2]:.2f} × fp32"
        figures += f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"{figures}, −{result.size_reduction_pct:.1f}% size"
