"""The only file that wires the stages together: a request in, a stored run out.

A request is what a user asks for, by name; its spec is what decides the result. Work is stored in
pieces (a batch of transcripts, a timed pass), so that a run that was killed goes on where it was.
"""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from whisperq_core.errors import (
    Cancelled,
    ClusterError,
    ModelUnavailable,
    WhisperQError,
)
from whisperq_core.evaluate.history import EVALUATION, WorkItem
from whisperq_core.evaluate.records import (
    AccuracyRun,
    BatchTime,
    Pass,
    RunSpec,
    SpeedRun,
    UtteranceResult,
    utc_now,
)
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import Machine, default_threads, this_machine
from whisperq_core.memory import MemoryGrowth, SingleItemCache
from whisperq_core.quantize import backends, calibration, pipeline, sensitivity_results
from whisperq_core.quantize.recipes import CATALOGUE, Recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.evaluation_sets import EvalSet
from whisperq_core.whisper import model_sources, model_weights
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.runtime import Runtime, Transcripts, combine_transcripts
from whisperq_core.whisper.transcription import plan_batches

SPEED_SET = "quick-look"
SPEED_REPEATS = 3
# Batches that one worker of several takes at a time: a minute or so of work.
SLICE_BATCHES = 2
# Sets up to this many utterances run on the library's own kernels even where these are slow.
FEW_UTTERANCES = 16

# Called with pieces done and pieces in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """One run that a user asks for, by name. threads 0 is all cores; see `resolve` for kernels."""

    model: str
    recipe: Recipe
    eval_set: str
    measures: str = "accuracy"
    protocol: Protocol = STUDY
    device: str = "cpu"
    threads: int = 0
    kernels: str | None = None

    @property
    def label(self) -> str:
        """A short name for progress and messages."""
        what = "" if self.measures == "accuracy" else ", speed"
        how = "" if self.protocol.name == STUDY.name else f", {self.protocol.name}"
        place = Path(self.eval_set).name  # of a folder, its last part
        return f"{self.model} · {self.recipe.name} · {place}{what}{how}"


@dataclass(frozen=True)
class PlannedRun:
    """A request and what would become of it: cached, to run, or refused with the reason.

    key is None where the weights have to be downloaded before they can be identified.
    """

    request: Request
    status: str
    key: str | None = None
    reason: str | None = None
    pieces: int = 0
    estimate_s: float = 0.0


def work_item(request: Request) -> WorkItem:
    """What the history says of a request."""
    return WorkItem(
        kind=EVALUATION,
        model=request.model,
        recipe=request.recipe.name,
        eval_set=request.eval_set,
        measures=request.measures,
        protocol=request.protocol.name,
        device=request.device,
        threads=request.threads or default_threads(),
    )


def requests_for(
    model_names: Sequence[str],
    recipes: Sequence[Recipe],
    sets: Sequence[str],
    *,
    speed: bool = True,
    **common,
) -> list[Request]:
    """Every combination, fp32 first: the baseline is what everything is compared with."""
    ordered = sorted(recipes, key=lambda recipe: recipe.name != "fp32")
    accuracy = [
        Request(model, recipe, name, **common)
        for model in model_names
        for recipe in ordered
        for name in sets
    ]
    if not speed:
        return accuracy
    timed = [
        Request(model, recipe, SPEED_SET, "speed", **common)
        for model in model_names
        for recipe in ordered
    ]
    return accuracy + timed


def resolve(request: Request) -> RunSpec:
    """The identity of what a request asks for.

    Its recipe is the one asked for, as the protocol runs it (see `pipeline.recipe_for_protocol`).
    Without a wish, accuracy on a large set comes from dequantized weights where these are shown to
    give the transcripts of the library's kernels (see backends.SAME_DEQUANTIZED), since they run at
    fp32's speed. Speed always takes the library's kernels.
    Raises RecipeUnsupported for calibration that the protocol does not allow or layers that were
    not measured, ModelUnavailable while a hub model is not downloaded, the errors of a bad name.
    """
    weights_digest = model_weights.digest(model_sources.find(request.model))
    speed = request.measures == "speed"
    recipe = sensitivity_results.with_measured_layers(
        pipeline.recipe_for_protocol(request.recipe, request.protocol), weights_digest
    )
    eval_set = evaluation_sets.by_name(request.eval_set)
    large = len(eval_set.utterances) > FEW_UTTERANCES
    same = (
        recipe.scheme == "weight-only"
        and request.device == "cpu"
        and recipe.backend in backends.SAME_DEQUANTIZED
    )
    kernels = request.kernels or ("dequantized" if same and large and not speed else "library")
    calibrates_on = calibration.utterances_for(recipe, eval_set)
    return RunSpec(
        measures=request.measures,
        weights_digest=weights_digest,
        recipe=recipe,
        eval_set_digest=eval_set.digest,
        calibration_digest=calibration.digest(calibrates_on),
        protocol=request.protocol,
        kernels=kernels,
        device=request.device,
        threads=request.threads or default_threads(),
        versions=backends.versions(recipe, request.model),
        cpu=this_machine().cpu if speed else None,
        repeats=SPEED_REPEATS if speed else None,
    )


@dataclass(frozen=True)
class Feasibility:
    """What the machine that would do it says of a request: its key, or why it is refused.

    Both None where the weights have to be downloaded first. threads: its cores, for a request that
    leaves it to the machine.
    """

    key: str | None = None
    reason: str | None = None
    threads: int = field(default_factory=default_threads)


def check_requests(requests: Iterable[Request]) -> list[Feasibility]:
    """What this machine says of each request; loads nothing."""
    return [_judged(request) for request in requests]


def _judged(request: Request) -> Feasibility:
    if reason := pipeline.unsupported_reason(request.recipe, request.protocol, request.device):
        return Feasibility(reason=reason)
    evaluation_sets.by_name(request.eval_set)  # raises where there is no such set
    try:
        return Feasibility(resolve(request).key)
    except ModelUnavailable:
        return Feasibility()
    except WhisperQError as error:
        return Feasibility(reason=str(error))


def plan(
    requests: Iterable[Request],
    store: Store,
    judge: Callable[[list[Request]], list[Feasibility]] = check_requests,
) -> list[PlannedRun]:
    """What each request would do, without doing any of it; judge is asked for all at once."""
    requests = list(requests)
    finished, runs = store.keys(), store.runs()
    planned = []
    for asked, judged in zip(requests, judge(requests), strict=True):
        request = replace(asked, threads=asked.threads or judged.threads)
        if judged.reason:
            planned.append(PlannedRun(request, "refused", reason=judged.reason))
            continue
        eval_set, key = evaluation_sets.by_name(request.eval_set), judged.key
        pieces = _piece_count(request, eval_set)
        if key in finished:
            planned.append(PlannedRun(request, "cached", key, pieces=pieces))
        else:
            estimate = _estimate_s(request, eval_set, runs)
            planned.append(PlannedRun(request, "to run", key, pieces=pieces, estimate_s=estimate))
    return planned


def _piece_count(request: Request, eval_set: EvalSet) -> int:
    if request.measures == "speed":
        return SPEED_REPEATS * len(_subjects(request.recipe))
    return len(plan_batches(eval_set.utterances, request.protocol.batch_size))


def _subjects(recipe: Recipe) -> tuple[str, ...]:
    return ("recipe",) if recipe.name == "fp32" else ("fp32", "recipe")


# Seconds of work per second of audio where nothing is known yet (base, fp32, two cores), and
# seconds to load and quantize.
_UNKNOWN_RTF, _OVERHEAD_S = 0.25, 12.0


def _estimate_s(request: Request, eval_set: EvalSet, runs: Sequence) -> float:
    """Rough seconds from the latest like run here, or from a typical one."""
    rtf = _UNKNOWN_RTF
    for run in runs:
        alike = run.model == request.model and run.spec.recipe.name == request.recipe.name
        if alike and run.spec.measures == request.measures:
            timed = run.batches if run.measures == "accuracy" else run.passes
            rtf = sum(t.wall_s for t in timed) / sum(t.audio_s for t in timed)
    passes = _piece_count(request, eval_set) if request.measures == "speed" else 1
    return _OVERHEAD_S + rtf * eval_set.audio_s * passes


def stored_progress(planned: PlannedRun, store: Store) -> tuple[int, int]:
    """Pieces finished and in all of a run, from what is stored."""
    if planned.key is None:
        return 0, planned.pieces
    if store.get(planned.key) is not None:
        return planned.pieces, planned.pieces
    prefix = "pass-" if planned.request.measures == "speed" else "batch-"
    return store.count_pieces(planned.key, prefix), planned.pieces


def run(
    request: Request,
    store: Store,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> AccuracyRun | SpeedRun:
    """Carries out a request, or returns its stored result; what is finished is never done twice.

    Raises RecipeUnsupported or LibraryMissing before anything is downloaded, and Cancelled between
    two pieces when stop() says so; a later call goes on from there.
    """
    spec = _ready(request)
    finished = store.get(spec.key)
    if finished is not None:
        store.drop_pieces(spec.key)  # of a process that was killed before it could
        return finished
    eval_set = evaluation_sets.by_name(request.eval_set)
    work = _Work(request, spec, eval_set, store, progress, stop)
    result = work.speed() if request.measures == "speed" else work.accuracy()
    store.put(result)
    return result


def _ready(request: Request) -> RunSpec:
    backends.require(request.recipe, request.device)
    pipeline.recipe_for_protocol(
        request.recipe, request.protocol
    )  # raises where the protocol refuses it
    model_sources.download(model_sources.find(request.model))
    return resolve(request)


def batch_slices(planned: PlannedRun) -> list[range]:
    """The batches of an evaluation in slices that workers can transcribe apart; none of a timing.

    Where the key is not known yet, there is nothing to store slices under: none either.
    """
    if planned.key is None or planned.request.measures == "speed":
        return []
    return [
        range(start, min(start + SLICE_BATCHES, planned.pieces))
        for start in range(0, planned.pieces, SLICE_BATCHES)
    ]


def transcribe_slice(
    planned: PlannedRun, batches: range, store: Store, stop: Callable[[], bool] = lambda: False
) -> None:
    """Stores the pieces of some batches; `run` puts them together, wherever they were made.

    A batch that is stored is not transcribed again. Raises ClusterError where this machine would
    give the work another key, having other libraries than the one that planned it.
    """
    request, spec = planned.request, _ready(planned.request)
    if spec.key != planned.key:
        raise ClusterError(
            f"A worker ({platform.node()}) has other libraries, weights or speech than the one that"
            " planned the work. Install the same requirements.txt and data on all workers."
        )
    if store.get(spec.key) is None:
        eval_set = evaluation_sets.by_name(request.eval_set)
        _Work(request, spec, eval_set, store, lambda done, total: None, stop).transcribe(batches)


def rescore(store: Store) -> int:
    """Scores stored transcripts again, with today's normalisers; returns how many runs changed."""
    changed = 0
    for run in store.runs():
        if run.measures != "accuracy":
            continue
        again = tuple(
            u.model_copy(update={"score": error_rates.score(u.reference, u.hypothesis, u.language)})
            for u in run.utterances
        )
        if again != run.utterances:
            store.put(run.model_copy(update={"utterances": again}))
            changed += 1
    return changed


# A grid asks for a quantized model once for each set.
_QUANTIZED = SingleItemCache()


class _Work:
    """One run under way; every method does one kind of piece and stores it."""

    def __init__(self, request, spec, eval_set, store, progress, stop):
        self.request, self.spec, self.eval_set = request, spec, eval_set
        self.store, self.progress, self.stop = store, progress, stop
        self.quantized = None
        self.batches = plan_batches(eval_set.utterances, spec.protocol.batch_size)

    def transcribe(self, batches: Iterable[int]) -> list[dict]:
        return [self._piece(f"batch-{i:04d}", self._transcribe, i) for i in batches]

    def accuracy(self) -> AccuracyRun:
        done = self.transcribe(range(len(self.batches)))
        made = self._made()
        # Pieces of older versions do not say where they were made: here.
        machines = [Machine.model_validate(p.get("machine") or this_machine()) for p in done]
        hypotheses = [heard for piece in done for heard in _heard(piece)]
        ordered = [(u, i) for i, batch in enumerate(self.batches) for u in batch]
        return AccuracyRun(
            **self._common(made, machines[0]),
            kinds_of_machine=len({machine.kind for machine in machines}),
            peak_memory_bytes=_peak(made, [piece["growth_bytes"] for piece in done]),
            utterances=[
                UtteranceResult(
                    id=u.id,
                    speaker=u.speaker,
                    language=u.language,
                    duration_s=u.duration_s,
                    reference=u.reference,
                    hypothesis=text,
                    batch=batch,
                    temperature=temperature,
                    redone=redone,
                    score=error_rates.score(u.reference, text, u.language),
                )
                for (u, batch), (text, temperature, redone) in zip(ordered, hypotheses, strict=True)
            ],
            batches=[BatchTime.model_validate(piece["time"]) for piece in done],
        )

    def speed(self) -> SpeedRun:
        order = [
            (subject, repeat)
            for repeat in range(self.spec.repeats)
            for subject in _subjects(self.request.recipe)
        ]
        done = [self._piece(f"pass-{r}-{s}", self._time_pass, s, r) for s, r in order]
        made = self._made()
        growth = [piece["growth_bytes"] for piece in done if piece["pass"]["subject"] == "recipe"]
        return SpeedRun(
            **self._common(made, this_machine()),
            peak_memory_bytes=_peak(made, growth),
            passes=[Pass.model_validate(piece["pass"]) for piece in done],
        )

    def _piece(self, name: str, make: Callable, *arguments) -> dict:
        piece = self.store.piece(self.spec.key, name)
        if piece is None:
            if self.stop():
                raise Cancelled(f"{self.request.label} was stopped; finished pieces are kept.")
            piece = make(*arguments)
            self.store.put_piece(self.spec.key, name, piece)
        kind = name.split("-")[0]
        total = _piece_count(self.request, self.eval_set)
        self.progress(self.store.count_pieces(self.spec.key, f"{kind}-"), total)
        return piece

    def _made(self) -> dict:
        """What is known of the quantized model, from the pieces or by making it."""
        made = self.store.piece(self.spec.key, "model")
        if made is None:
            self._quantize()
            made = self.store.piece(self.spec.key, "model")
        return made

    def _quantize(self) -> None:
        import torch

        torch.set_num_threads(self.spec.threads)
        load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        model, spec = pipeline.load_model(self.request.model), self.spec
        self.model = model
        # The set and the kind of measurement do not change what is made.
        other = {"eval_set_digest": "", "measures": "accuracy", "cpu": None, "repeats": None}
        how = spec.device, spec.protocol, spec.kernels
        self.quantized = _QUANTIZED.get(
            spec.model_copy(update=other),
            lambda: pipeline.quantize_model(model, spec.recipe, self.eval_set, *how),
        )
        self.runtimes = {"recipe": pipeline.runtime_of(model, self.quantized)}
        self.runtimes["recipe"].warm_up(self._audio(0)[:1])
        content = {
            "modules": self.quantized.modules,
            "weights_bytes": self.quantized.weights_bytes,
            "fp32_bytes": backends.serialized_bytes(model.torch_model),
            "quantize_s": self.quantized.quantize_s,
            "load_average": load_average,
        }
        self.store.put_piece(self.spec.key, "model", content)

    def _audio(self, index: int) -> list:
        return [evaluation_sets.read_audio(u) for u in self.batches[index]]

    def _generate(self, runtime: Runtime, index: int) -> Transcripts:
        languages = [self.spec.protocol.language or u.language for u in self.batches[index]]
        return runtime.transcribe(self._audio(index), languages, self.spec.protocol)

    def _transcribe(self, index: int) -> dict:
        if self.quantized is None:
            self._quantize()
        with MemoryGrowth(self.spec.device) as growth:
            found = self._generate(self.runtimes["recipe"], index)
        batch = self.batches[index]
        time = BatchTime(
            batch=index,
            utterances=len(batch),
            audio_s=sum(u.duration_s for u in batch),
            wall_s=found.wall_s,
        )
        # Dequantized weights need fp32's memory, which is not the recipe's.
        measured = self.spec.kernels == "library"
        return {
            "hypotheses": found.texts,
            "temperatures": found.temperatures,
            "redone": found.redone,
            "time": time.model_dump(),
            "growth_bytes": growth.bytes if measured else None,
            "machine": this_machine().model_dump(),
        }

    def _time_pass(self, subject: str, repeat: int) -> dict:
        if self.quantized is None:
            self._quantize()
            baseline = backends.quantize(
                self.model.torch_model, CATALOGUE["fp32"], self.spec.device
            )
            self.runtimes["fp32"] = pipeline.runtime_of(self.model, baseline)
            self.runtimes["fp32"].warm_up(self._audio(0)[:1])
        with MemoryGrowth(self.spec.device) as growth:
            batches = range(len(self.batches))
            found = combine_transcripts(
                [self._generate(self.runtimes[subject], i) for i in batches]
            )
        timed = Pass(
            subject=subject,
            repeat=repeat,
            audio_s=self.eval_set.audio_s,
            wall_s=found.wall_s,
            encoder_s=found.encoder_s,
            first_token_s=found.first_token_s,
            tokens=found.tokens,
        )
        return {"pass": timed.model_dump(), "growth_bytes": growth.bytes}

    def _common(self, made: dict, machine: Machine) -> dict:
        return {
            "spec": self.spec,
            "model": self.request.model,
            "eval_set": self.eval_set.name,
            "created_at": utc_now(),
            "machine": machine,
            **made,
        }


def _heard(piece: dict) -> Iterable[tuple[str, float, bool]]:
    """Text, temperature and whether redone of each utterance; older pieces have texts only."""
    texts = piece["hypotheses"]
    temperatures = piece.get("temperatures") or [0.0] * len(texts)
    return zip(texts, temperatures, piece.get("redone") or [False] * len(texts), strict=True)


def _peak(made: dict, growths: Sequence[int | None]) -> int | None:
    """Serialized weights plus the largest growth of memory while transcribing a batch."""
    known = [growth for growth in growths if growth is not None]
    return made["weights_bytes"] + max(known) if known else None
