"""Measures recipes on this machine's GPU, without network, in a limited time: see docs/gpus.md.

    python -m benchmarks.gpu [--model base] [--to gpu-results] [--minutes 9]

Recipes run one after the other in a process of their own; one that fails, hangs or breaks the GPU
is reported, and the next one is measured in a new process. Results are stored as those of any
evaluation: `whisperq merge` takes them in. Called again with the same folder, it goes on with what
is missing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.gpu import bundle, measure, progress
from benchmarks.gpu.measure import (
    FAILED,
    NOT_REACHED,
    RECIPES,
    STARTED,
    STATUS,
    TIME_IS_UP,
    UNFINISHED,
    Plan,
)

# A recipe that makes no progress in this time hangs. How slow it is does not matter: a step of some
# minutes on a busy CPU makes progress all along.
STALL_S = 200
_POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and writes report.md beside the results."""
    options = _options(arguments)
    folder = options.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    plan = Plan(
        model=options.model,
        recipes=tuple(options.recipes.split(",")),
        protocols=tuple(options.protocols.split(",")),
        batch_sizes=tuple(int(size) for size in options.batches.split(",")),
        device=options.device,
        eval_set=options.eval_set,
        folder=str(folder),
        deadline=started + options.minutes * 60,
    )
    environment = _environment(folder)
    (folder / STATUS).write_text("")
    for name in plan.recipes:
        measure.report_state(plan, name, NOT_REACHED)
    _measure(plan, environment)
    # In a process too: the packages that it imports may be carried ones.
    report = [sys.executable, "-m", "benchmarks.gpu.report", str(folder)]
    return subprocess.run(report, env=environment, check=False).returncode


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--to", type=Path, default=Path("gpu-results"), help="folder of results")
    parser.add_argument("--minutes", type=float, default=9, help="when nothing more is started")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--protocols", default="study,fitted")
    parser.add_argument("--batches", default="8,1,32", help="sizes of batches that are timed")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--eval-set", default=measure.QUICK_SET, help="for all but large batches")
    return parser.parse_args(arguments)


def _environment(folder: Path) -> dict[str, str]:
    """That of the measuring process: it finds this project, carried packages, and its results."""
    unpacked = bundle.unpack(bundle.PROJECT)
    paths = [str(bundle.PROJECT), *([str(unpacked)] if unpacked else [])]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "WHISPERQ_CACHE": str(folder),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _measure(plan: Plan, environment: dict[str, str]) -> None:
    """Measures recipe after recipe; a new process goes on after one that failed."""
    remaining = plan.recipes
    while remaining and not plan.time_is_up:
        known = len(measure.rows(Path(plan.folder) / STATUS))
        fields = json.dumps(asdict(replace(plan, recipes=remaining)))
        command = [sys.executable, "-m", "benchmarks.gpu.measure", fields]
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            reason = _wait(process, plan)
        finally:
            _end(process)
        if reason is None and process.returncode == 0:
            return
        reason = reason or f"The process ended with {process.returncode}."
        new = measure.rows(Path(plan.folder) / STATUS)[known:]
        if not new and not plan.time_is_up:
            raise SystemExit(f"No recipe was started. {reason}")
        last = new[-1] if new else {"recipe": remaining[-1], "state": NOT_REACHED}
        if last["state"] == STARTED:
            state = UNFINISHED if plan.time_is_up else FAILED
            measure.report_state(plan, last["recipe"], state, reason=reason)
        remaining = remaining[remaining.index(last["recipe"]) + 1 :]


def _wait(process: subprocess.Popen[bytes], plan: Plan) -> str | None:
    """Waits until the process ends; returns why it has to be ended where it hangs or time is up."""
    seen, changed = "", time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_S)
        latest = progress.latest(Path(plan.folder))
        if latest != seen:
            seen, changed = latest, time.monotonic()
        if plan.time_is_up:
            return TIME_IS_UP
        if time.monotonic() - changed > STALL_S:
            place = progress.place(seen)
            return f"It made no progress for {STALL_S} s{f', in {place}' if place else ''}."
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, if it runs, with those that compile for it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
