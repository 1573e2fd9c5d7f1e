"""How a grid of evaluations spreads over workers on other addresses, and what a lost one costs.

    python -m benchmarks.scale [--workers 1,2,4] [--recipes A,B] [--set NAME]

Each worker, and the scheduler, is a process in a network namespace of its own, pinned to one core,
started as in docs/many-machines.md over TLS; they share the folder of results. First the grid is
run in a single process, on one core. Then by so many workers, each time into an empty store; then
once more by as many as there are cores, of which one is killed (SIGKILL, with its nanny) when a
third of the pieces is there. Wall time is that of the command `python -m whisperq_core run`, from
its start to its end: planning, loading of models in each worker, all of it. Every result is
compared with the single process's: identity, transcripts, scores, sizes; times and dates aside.

With more workers than cores they share these, and cannot be faster: the line says so.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.networks import PROJECT, Network, network
from benchmarks.processes import machine
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import default_threads
from whisperq_core.serve import cluster, cluster_certificate
from whisperq_core.serve.cluster import Cluster
from whisperq_core.speech import evaluation_sets

# What may differ between two runs of the same work.
_TIMES = {"created_at", "machine", "kinds_of_machine", "load_average", "quantize_s"}
_TIMES |= {"peak_memory_bytes", "batches"}
_READY_S, _RUN_S = 120, 1800


class Grid:
    """The work: the same command each time, into another store."""

    def __init__(self, recipes: str, speech: str):
        self.recipes, self.speech = recipes, speech
        self.audio_s = len(recipes.split(",")) * sum(
            u.duration_s for u in evaluation_sets.by_name(speech).utterances
        )

    def start(self, cache: Path, *where: str) -> subprocess.Popen:
        """Begins the run: on one core of this process's, or elsewhere."""
        return subprocess.Popen(
            [
                *(() if where else ("taskset", "-c", "0")),
                *(sys.executable, "-m", "whisperq_core", "--cache", str(cache), "run"),
                *("--models", "tiny.en", "--recipes", self.recipes, "--sets", self.speech),
                *("--only", "accuracy", "--threads", "1", *where),
            ],
            cwd=PROJECT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )


def taken_s(run: subprocess.Popen, start: float) -> float:
    """Seconds until the command has ended, as it should."""
    if run.wait(_RUN_S):
        raise SystemExit("The run failed; its messages are above.")
    return time.perf_counter() - start


def results(cache: Path) -> dict[str, dict]:
    """The results by key, without what differs from run to run."""
    return {r.key: r.model_dump(exclude=_TIMES) for r in Store(cache).runs()}


def differing(cache: Path, wanted: dict[str, dict]) -> int:
    """How many results are missing, more than there should be, or other than wanted."""
    measured = results(cache)
    return sum(measured.get(key) != wanted.get(key) for key in measured.keys() | wanted.keys())


class Machines:
    """A scheduler and workers: `with Machines(net, 2, folder) as machines`."""

    def __init__(self, net: Network, workers: int, folder: Path):
        self.net, self.folder, self.file = net, folder, folder / "cluster.json"
        self.tls, self.count = folder / "tls", workers
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Machines":
        cluster_certificate.create_certificate(self.tls)
        file, cores = str(self.file), default_threads()
        self._start(["scheduler", "--protocol", "tls", "--scheduler-file", file], cores - 1)
        while not self.file.exists():
            time.sleep(0.1)
        for number in range(self.count):
            how = ["--nthreads", "1", "--resources", f"{cluster.DEVICE}=1"]
            self._start(["worker", "--scheduler-file", file, *how], number % cores)
        client = cluster.connect(Cluster(file, self.tls))
        client.wait_for_workers(self.count, timeout=_READY_S)
        client.close()
        return self

    def _start(self, arguments: list[str], cpu: int) -> None:
        log = self.folder / "cluster.log"
        self.processes.append(self.net.start(self.net.add(), arguments, cpu, self.tls, log))

    def kill_one(self) -> None:
        """The last worker, and the nanny that would start it again."""
        os.killpg(self.processes.pop().pid, signal.SIGKILL)

    def __exit__(self, *failure) -> None:
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def third(cache: Path, batches: int, run: subprocess.Popen) -> None:
    """Waits until a third of the batches, or of the results, is there."""
    while run.poll() is None:
        finished = len(list((cache / "pieces").glob("*/batch-*.json")))
        finished += batches * len(list((cache / "results").glob("*.json")))
        if finished >= batches:
            return
        time.sleep(0.05)


def measured(
    net: Network, workers: int, grid: Grid, wanted: dict[str, dict], kill: bool = False
) -> tuple[float, int]:
    """Seconds of the grid by so many workers, and how many results are other than wanted."""
    temporary = tempfile.TemporaryDirectory(prefix="whisperq-scale-")
    with temporary as folder, Machines(net, workers, Path(folder)) as machines:
        cache = Path(folder) / "cache"
        start = time.perf_counter()
        run = grid.start(cache, "--scheduler", str(machines.file), "--tls", str(machines.tls))
        if kill:
            recipes = len(grid.recipes.split(","))
            utterances = len(evaluation_sets.by_name(grid.speech).utterances)
            third(cache, max(1, recipes * -(-utterances // 8) // 3), run)
            machines.kill_one()
        return taken_s(run, start), differing(cache, wanted)


def main() -> int:
    """Prints a line for each number of workers; 1 where a result differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--recipes", default="fp32,torch-int8,bnb-nf4,hqq-int4-g64")
    parser.add_argument("--set", default="test-clean-excerpt")
    arguments = parser.parse_args()
    grid, cores = Grid(arguments.recipes, arguments.set), default_threads()
    wrong = 0
    with network() as net, tempfile.TemporaryDirectory() as folder:
        print(f"{machine()}; {net.kind}; load {os.getloadavg()[0]:.1f}")
        start, alone = time.perf_counter(), Path(folder) / "cache"
        single_s = taken_s(grid.start(alone), start)
        wanted = results(alone)
        print(f"single process: {single_s:.0f} s, {grid.audio_s / single_s:.1f} × real time")
        undisturbed = {}
        counts = [int(number) for number in arguments.workers.split(",")]
        lossy = max((count for count in counts if 1 < count <= cores), default=counts[-1])
        for count, kill in [*((count, False) for count in counts), (lossy, True)]:
            took_s, off = measured(net, count, grid, wanted, kill)
            wrong += off
            line = f"{count} workers: {took_s:.0f} s, {grid.audio_s / took_s:.1f} × real time"
            if kill:
                before_s = undisturbed[count]
                line += f"; one killed: {took_s - before_s:+.0f} s ({took_s / before_s:.2f} ×)"
            else:
                undisturbed[count] = took_s
                first = counts[0]
                efficiency = undisturbed[first] * first / (took_s * count)
                line += f", efficiency {efficiency:.2f}"
            line += f" ({count} on {cores} cores)" if count > cores else ""
            print(f"{line}; {len(wanted)} results, {off} differ", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
