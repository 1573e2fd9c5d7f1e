"""Measures recipes one after the other, in a process that `python -m benchmarks.gpu` starts.

Everything is stored as evaluations are: transcripts and their errors, divergence from fp32, and
times that alternate with fp32's. Beside it, a profile of one batch: how many kernels were launched,
and how long they computed.
"""

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# In the order in which they are measured: what decides most first.
RECIPES = (
    *("fp32", "bf16", "bf16-compiled", "torchao-int8-dynamic-compiled"),
    *("torchao-float8-dynamic-compiled", "torchao-int8-compiled", "hqq-int4-g64-compiled"),
    *("quanto-int8", "bnb-nf4", "hqq-int3-g64", "fp16", "fp16-compiled", "bnb-int8-fp16"),
    *("bnb-nf4-fp16", "quanto-int8-fp16", "faster-whisper-fp16", "faster-whisper-int8-fp16"),
    "faster-whisper-int8-bf16",
)
# Accuracy and times of batches of up to 8; times of larger batches; one recording, to try it.
SETS = QUICK_SET, LARGE_SET, TRIAL_SET = "quick-look", "quick-look-32", "jfk"
_QUICK_UTTERANCES = 8
# What a recipe's line of the status says became of it.
NOT_REACHED, STARTED, DONE = "not reached", "started", "done"
REFUSED, FAILED, UNFINISHED = "refused", "failed", "not finished"
TIME_IS_UP = "The time was up; call the command again to go on."
STATUS, PROFILES = "status.jsonl", "profiles.jsonl"
# Exit code after a failure that may have left the GPU unusable for this process.
UNUSABLE = 4


@dataclass(frozen=True)
class Plan:
    """What is measured of every recipe. folder: of results. deadline: time.time() of the end."""

    model: str
    recipes: tuple[str, ...]
    protocols: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    device: str
    eval_set: str
    folder: str
    deadline: float

    @property
    def time_is_up(self) -> bool:
        """Whether nothing more is to be started."""
        return time.time() > self.deadline


@dataclass(frozen=True)
class KernelProfile:
    """One batch: seconds without the profiler, generated tokens, and what the device was given.

    launches: calls that start a kernel, or a whole graph of them; on a CPU, PyTorch's operations.
    kernels: what ran on the device. device_s: how long that took; None on a CPU.
    """

    recipe: str
    protocol: str
    batch: int
    wall_s: float
    tokens: int
    launches: int
    kernels: int | None
    device_s: float | None


def measure(plan: Plan) -> int:
    """Measures the plan's recipes until they or the time are at an end; returns the exit code."""
    from whisperq_core.errors import WhisperQError

    for name in plan.recipes:
        if plan.time_is_up:
            break
        report_state(plan, name, STARTED)
        start = time.perf_counter()
        try:
            for step in _steps(plan, name):
                if plan.time_is_up:
                    report_state(plan, name, UNFINISHED, reason=TIME_IS_UP)
                    return 0
                step()
        except WhisperQError as error:
            report_state(plan, name, REFUSED, reason=str(error))
        except Exception as error:  # whatever a library says of a GPU that nobody tried it on
            first_line = str(error).strip().partition("\n")[0]
            reason = f"{type(error).__name__}: {first_line}"
            report_state(plan, name, FAILED, reason=reason)
            if plan.device == "cuda":
                return UNUSABLE
        else:
            report_state(plan, name, DONE, seconds=time.perf_counter() - start)
        gc.collect()
    return 0


def report_state(plan: Plan, recipe: str, state: str, **more: Any) -> None:
    """Adds a line on a recipe to the status; more: its reason or its seconds."""
    _append(Path(plan.folder) / STATUS, {"recipe": recipe, "state": state} | more)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    """What was added to a file of the folder, line by line; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _steps(plan: Plan, name: str) -> Iterator[Any]:
    """What is measured of a recipe, as calls; requests that the recipe cannot follow are left out.

    Raises RecipeUnsupported or LibraryMissing where it does not run here at all.
    """
    from functools import partial

    from whisperq_core.evaluate import runner
    from whisperq_core.evaluate.requests import DIVERGENCE_PROTOCOL, Request, divergence_refusal
    from whisperq_core.evaluate.store import Store
    from whisperq_core.quantize import backends, pipeline
    from whisperq_core.quantize.recipes import recipe
    from whisperq_core.whisper.protocols import SHORT_NAMES, with_batch_size

    chosen, store = recipe(name), Store(plan.folder)
    backends.require(chosen, plan.device)
    protocols = [SHORT_NAMES[short] for short in plan.protocols]
    requests = [
        Request(plan.model, chosen, plan.eval_set, protocol=protocol, device=plan.device)
        for protocol in protocols
    ]
    profiled = requests[:1]
    if divergence_refusal(chosen) is None:
        common = {"protocol": DIVERGENCE_PROTOCOL, "device": plan.device}
        requests.append(Request(plan.model, chosen, plan.eval_set, "divergence", **common))
    for protocol in protocols:
        for size in plan.batch_sizes:
            speech = plan.eval_set if size <= _QUICK_UTTERANCES else LARGE_SET
            batches = with_batch_size(protocol, size)
            requests.append(
                Request(plan.model, chosen, speech, "speed", batches, device=plan.device)
            )
    possible = [
        request
        for request in requests
        if pipeline.unsupported_reason(chosen, request.protocol, plan.device) is None
    ]
    for request in possible:
        yield partial(runner.run, request, store)
        if request in profiled:
            yield partial(_profile, plan, request, store)


def _profile(plan: Plan, request: Any, store: Any) -> None:
    """Profiles the first batch and adds a line to the profiles."""
    from whisperq_core.evaluate.pieces import RunPieces
    from whisperq_core.evaluate.prepared_model import PreparedModel
    from whisperq_core.evaluate.resolution import resolve

    resolved = resolve(request)
    prepared = PreparedModel(resolved, RunPieces(store, resolved.key, request.label, 0))
    runtime = prepared.runtime
    prepared.transcribe(runtime, 0)
    plain = prepared.transcribe(runtime, 0)
    profiler = _profiler(plan.device)
    with profiler:
        prepared.transcribe(runtime, 0)
    store.drop_pieces(resolved.key)
    launches, kernels, device_s = _counts(profiler.events(), plan.device)
    profile = KernelProfile(
        recipe=request.recipe.name,
        protocol=request.protocol.name,
        batch=len(resolved.batches[0]),
        wall_s=plain.wall_s,
        tokens=plain.tokens or 0,
        launches=launches,
        kernels=kernels,
        device_s=device_s,
    )
    _append(Path(plan.folder) / PROFILES, asdict(profile))


def _profiler(device: str) -> Any:
    from torch.profiler import ProfilerActivity, profile

    on_gpu = [ProfilerActivity.CUDA] if device == "cuda" else []
    return profile(activities=[ProfilerActivity.CPU, *on_gpu], acc_events=True)


# What CUDA calls the functions that start kernels.
_LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")


def _counts(events: Any, device: str) -> tuple[int, int | None, float | None]:
    """Launches, kernels, and seconds of them, from a profile's events."""
    from torch.autograd import DeviceType

    if device != "cuda":
        return sum(event.name.startswith("aten::") for event in events), None, None
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    launches = sum(event.name.startswith(_LAUNCHES) for event in events)
    return launches, len(kernels), sum(k.time_range.elapsed_us() for k in kernels) / 1e6


if __name__ == "__main__":
    import sys

    from benchmarks.gpu import progress

    given = json.loads(sys.argv[1])
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    progress.note_always(Path(given["folder"]))
    sys.exit(measure(Plan(**fields)))
