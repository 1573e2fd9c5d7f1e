"""What would become of requests, without running any: cached, to run, or refused."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from whisperq_core.errors import ModelUnavailable, WhisperQError
from whisperq_core.evaluate import pieces
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, SpeedRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import piece_count, resolve
from whisperq_core.evaluate.speakers import SetSpeakers, with_speakers
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import default_threads
from whisperq_core.quantize import pipeline
from whisperq_core.speech import evaluation_sets

# Seconds of work per second of audio where no run of the model and recipe is stored: about what
# base takes in fp32 on two cores.
_DEFAULT_RTF = 0.25
# Seconds to load a model and quantize it: about what base takes with most recipes.
_OVERHEAD_S = 12.0


@dataclass(frozen=True)
class Feasibility:
    """Whether the machine that would run a request can, and under which key it stores the result.

    key is None with a reason where the request is refused, and without one where the weights have
    to be downloaded before they can be identified. threads: that machine's cores, for a request
    that leaves them open. pieces, audio_s, speakers: size of the work and the set's speakers, where
    it is not refused.
    """

    key: str | None = None
    reason: str | None = None
    threads: int = field(default_factory=default_threads)
    pieces: int = 0
    audio_s: float = 0.0
    speakers: SetSpeakers | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A request and its status; reason: why it is refused.

    key is None where it is refused, or the weights have to be downloaded before they can be
    identified. estimate_s: a rough estimate of the run's duration in seconds.
    """

    request: Request
    status: Literal["cached", "to run", "refused"]
    key: str | None = None
    reason: str | None = None
    pieces: int = 0
    estimate_s: float = 0.0


def check_requests(requests: Iterable[Request]) -> list[Feasibility]:
    """The feasibility of each request on this machine; loads no model.

    Raises EvalSetError where there is no set of the name.
    """
    speakers: dict[str, SetSpeakers] = {}
    return [_check(request, speakers) for request in requests]


def _check(request: Request, speakers: dict[str, SetSpeakers]) -> Feasibility:
    """speakers: of the sets of earlier requests, so that each set has one object of them."""
    reason = pipeline.unsupported_reason(request.recipe, request.protocol, request.device)
    if reason:
        return Feasibility(reason=reason)
    eval_set = evaluation_sets.by_name(request.eval_set)
    key = None
    try:
        key = resolve(request, eval_set=eval_set).key
    except ModelUnavailable:
        pass  # it will be downloaded
    except WhisperQError as error:
        return Feasibility(reason=str(error))
    if request.eval_set not in speakers:
        speakers[request.eval_set] = SetSpeakers.of(eval_set.utterances)
    return Feasibility(
        key,
        pieces=piece_count(request, eval_set),
        audio_s=eval_set.audio_s,
        speakers=speakers[request.eval_set],
    )


def plan(
    requests: Iterable[Request],
    store: Store,
    check: Callable[[list[Request]], list[Feasibility]] = check_requests,
) -> list[PlannedRun]:
    """The status of each request.

    check: called once with all requests, on the machine that would run them.
    """
    requests = list(requests)
    finished, runs = store.keys(), store.runs()
    runs_by_key = {run.key: run for run in runs}
    planned = []
    for requested, feasibility in zip(requests, check(requests), strict=True):
        request = replace(requested, threads=requested.threads or feasibility.threads)
        key, count = feasibility.key, feasibility.pieces
        if feasibility.reason:
            planned.append(PlannedRun(request, "refused", reason=feasibility.reason))
        elif _has_other_speakers(runs_by_key.get(key or ""), feasibility.speakers):
            # No model is loaded for it: `run` stores the set's speakers with the transcripts.
            planned.append(PlannedRun(request, "to run", key, pieces=count))
        elif key in finished:
            planned.append(PlannedRun(request, "cached", key, pieces=count))
        else:
            estimate = _estimate_s(request, feasibility, runs)
            planned.append(PlannedRun(request, "to run", key, pieces=count, estimate_s=estimate))
    return planned


def _has_other_speakers(run: Run | None, speakers: SetSpeakers | None) -> bool:
    """Whether the stored run has other speakers than its set has now."""
    if not isinstance(run, AccuracyRun | DivergenceRun) or speakers is None:
        return False
    return with_speakers(run, speakers) is not run


def _estimate_s(request: Request, feasibility: Feasibility, runs: Sequence[Run]) -> float:
    """Rough seconds, from the latest stored run of the same model, recipe and measurement."""
    rtf = _DEFAULT_RTF
    for run in runs:
        if (run.model, run.spec.recipe.name) == (request.model, request.recipe.name):
            if isinstance(run, AccuracyRun) and request.measures == "accuracy":
                rtf = sum(b.wall_s for b in run.batches) / sum(b.audio_s for b in run.batches)
            elif isinstance(run, SpeedRun) and request.measures == "speed":
                rtf = sum(p.wall_s for p in run.passes) / sum(p.audio_s for p in run.passes)
    passes = feasibility.pieces if request.measures == "speed" else 1
    return _OVERHEAD_S + rtf * feasibility.audio_s * passes


def stored_progress(planned: PlannedRun, store: Store) -> tuple[int, int]:
    """Pieces finished and in all of a planned run, from what is stored."""
    if planned.key is None:
        return 0, planned.pieces
    if store.get(planned.key) is not None:
        return planned.pieces, planned.pieces
    prefix = pieces.PREFIXES[planned.request.measures]
    return store.count_pieces(planned.key, prefix), planned.pieces
