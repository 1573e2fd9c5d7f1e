"""Runs requests: a request is resolved, its pieces are computed, and its record is stored.

    Request → ResolvedRequest → pieces → AccuracyRun, DivergenceRun or SpeedRun → Store

Pieces (a batch of transcripts, a timed pass) are stored as they are finished: a run that was
stopped or killed resumes with the first missing one.
"""

import platform
from collections.abc import Callable, Iterable
from functools import partial

from whisperq_core.errors import ClusterError
from whisperq_core.evaluate.accuracy_runner import measure_accuracy, transcribe_batches
from whisperq_core.evaluate.divergence_runner import measure_divergence
from whisperq_core.evaluate.pieces import (
    Progress,
    RunPieces,
    Stop,
    ignore_progress,
    never_stop,
)
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.prepared_model import PreparedModel
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, EvaluatedRun, SpeedRun
from whisperq_core.evaluate.requests import Request, fp32_transcripts
from whisperq_core.evaluate.resolution import ResolvedRequest, resolve
from whisperq_core.evaluate.speakers import SetSpeakers, with_speakers
from whisperq_core.evaluate.speed_runner import measure_speed
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import backends
from whisperq_core.speech.evaluation_sets import EvalSet

# Batches that one worker of a cluster transcribes at a time: a minute or so of work, so that a lost
# worker costs no more, and loading the model is a small part of it.
SLICE_BATCHES = 2


def run(
    request: Request, store: Store, progress: Progress = ignore_progress, stop: Stop = never_stop
) -> EvaluatedRun:
    """Carries out a request, or returns its stored result; finished pieces are not repeated.

    Args:
        request: what to run; hub weights are downloaded where they are not here.
        store: of the result and its pieces.
        progress: called with pieces finished and in all, after each piece.
        stop: asked before each piece whether the user stopped the run.

    Raises:
        RecipeUnsupported, LibraryMissing: before anything is downloaded.
        Cancelled: stop() was true; a later call resumes.
    """
    resolved = _prepare(request)
    finished = store.get(resolved.key)
    if isinstance(finished, AccuracyRun | DivergenceRun | SpeedRun):
        store.drop_pieces(resolved.key)  # left by a process that was killed before it could
        return _with_current_speakers(finished, resolved.eval_set, store)
    pieces = _pieces(resolved, store, progress, stop)
    result: EvaluatedRun
    match request.measures:
        case "accuracy":
            result = measure_accuracy(resolved, pieces)
        case "divergence":
            baseline = run(fp32_transcripts(request), store, stop=stop)
            assert isinstance(baseline, AccuracyRun)
            result = measure_divergence(resolved, pieces, baseline)
        case "speed":
            result = measure_speed(resolved, pieces)
    store.put(result)
    return result


def _with_current_speakers(run: EvaluatedRun, eval_set: EvalSet, store: Store) -> EvaluatedRun:
    """The finished run with the speakers that the set has now, stored so where they changed."""
    if isinstance(run, SpeedRun):
        return run
    # The set is the one that was measured: its digest is part of the key.
    current = with_speakers(run, SetSpeakers.of(eval_set.utterances))
    if current is not run:
        store.put(current)
    return current


def run_all(
    requests: Iterable[Request],
    store: Store,
    progress: Callable[[Request, int, int], None] = lambda request, done, total: None,
    stop: Stop = never_stop,
) -> list[EvaluatedRun]:
    """Carries out requests one after the other, as `run` does, and returns their results in order.

    progress: called with the request under way, its pieces finished and in all.
    """
    return [run(request, store, partial(progress, request), stop) for request in requests]


def _prepare(request: Request) -> ResolvedRequest:
    """Checks that the recipe can run here, downloads the model and looks everything up."""
    backends.require(request.recipe, request.device)
    return resolve(request, download=True)


def _pieces(resolved: ResolvedRequest, store: Store, progress: Progress, stop: Stop) -> RunPieces:
    total = resolved.piece_count
    return RunPieces(store, resolved.key, resolved.request.label, total, progress, stop)


def batch_slices(planned: PlannedRun) -> list[range]:
    """The batches of an accuracy run in slices for different workers.

    None for speed, whose passes belong together, for divergence, which is quick, and where the key,
    under which slices are stored, is not known yet.
    """
    if planned.key is None or planned.request.measures != "accuracy":
        return []
    return [
        range(start, min(start + SLICE_BATCHES, planned.pieces))
        for start in range(0, planned.pieces, SLICE_BATCHES)
    ]


def transcribe_slice(
    planned: PlannedRun, batches: range, store: Store, stop: Stop = never_stop
) -> None:
    """Stores the pieces of some batches, which `run` later assembles, on whichever machine.

    Batches that are stored are not transcribed again. Raises ClusterError where the key is another
    one on this machine, which has other libraries than the machine that planned the run.
    """
    resolved = _prepare(planned.request)
    if resolved.key != planned.key:
        raise ClusterError(
            f"A worker ({platform.node()}) has different libraries, weights or audio from the"
            " process that planned the work. Install the same requirements.txt and data on all"
            " workers."
        )
    if store.get(resolved.key) is None:
        pieces = _pieces(resolved, store, ignore_progress, stop)
        transcribe_batches(PreparedModel(resolved, pieces), pieces, batches)
