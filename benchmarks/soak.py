"""Faults at random times while a real grid runs, until a time is over; then what was lost.

    python -m benchmarks.soak [--minutes 10] [--seed 0] [--only NAME,NAME]

The grid: tiny.en, two recipes, two shipped sets. It is run once undisturbed. Then, again and again
and into a cache on a small disk of memory (a tmpfs, where this may be mounted), it is begun by the
command line or by the queue that the app uses, one fault is done to it, and it is asked for once
more, undisturbed. Whatever was finished before the fault must still be there, and what the end has
must be the undisturbed run's: identity, transcripts, scores, sizes. What a run says of a fault must
be sentences, never a stack trace: all that the command prints, and the messages of the queue's
jobs. Some faults are what other users do meanwhile (`benchmarks.soak_users`): to sets, recordings,
the clock, and as another user of the machine, where root asks. Ends with code 1 where anything was
lost, altered, not said, or shown to another user.

The clock of the system is left alone: where libfaketime is installed, the processes of a run are
shown one that is set back or forward while they work.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from benchmarks import soak_users
from benchmarks.processes import machine
from benchmarks.scale import PROJECT, results
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate.requests import requests_for
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets

RECIPES, SETS = ("fp32", "bnb-nf4"), ("jfk", "quick-look")
DISK_BYTES = 40_000_000
_TOO_LONG_S = 900
# Debian's package faketime.
FAKE_CLOCK = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")
# What a process of the queue prints of a job's end.
_SAID = "job: "
# How the lines begin that a user's process promises something by.
_PROMISES = (["added"], ["whole"], ["altered"])


class Grid:
    """One attempt at the grid, in processes of its own."""

    def __init__(self, cache: Path, through_queue: bool, **environment: str):
        self.through_queue = through_queue
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process runs)
        arguments = ["-m", "benchmarks.soak", "--queue", str(cache)]
        if not through_queue:
            arguments = ["-m", "whisperq_core", "--cache", str(cache), "run", "--models", "tiny.en"]
            arguments += ["--recipes", ",".join(RECIPES), "--sets", ",".join(SETS)]
            arguments += ["--only", "accuracy", "--threads", "1"]
        limit = int(environment.pop("LIMIT_BYTES", 0))

        def bounded() -> None:
            if limit:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        self.process = psutil.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=bounded,
        )

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Those under it whose command has the word."""
        with suppress(psutil.Error):
            below = self.process.children(recursive=True)
            return [p for p in below if word in " ".join(p.cmdline())]
        return []

    def end(self) -> str:
        """Waits; returns its output."""
        try:
            self.process.wait(_TOO_LONG_S)
        except psutil.TimeoutExpired:
            self.kill()
            return "Traceback (most recent call last): it hung."
        self.log.seek(0)
        return self.log.read()

    def kill(self) -> None:
        """All of its processes at once."""
        for process in [*self.processes(), self.process]:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()


def queue(cache: Path) -> int:
    """The grid through the app's queue; prints how each job ended."""
    queue = job_queue.JobQueue(Store(cache))
    chosen = [recipe(name) for name in RECIPES]
    requests = requests_for(["tiny.en"], chosen, SETS, speed=False, threads=1)
    try:
        jobs = queue.evaluate(queue.plan(requests))
    except WhisperQError as error:  # as the pages do
        print(f"{_SAID}{error}", flush=True)
        return 0
    pause = threading.Event()
    while not all(job.is_over for job in jobs):
        pause.wait(0.2)  # libfaketime makes time.sleep fail now and then
        queue.all()
    for job in jobs:
        print(f"{_SAID}{job.state}. {job.message}", flush=True)
    queue.close()
    return 0


class Soak:
    """The cache under test, and the faults that are done to it."""

    def __init__(self, cache: Path, wanted: dict[str, dict], on_disk: bool, choose: random.Random):
        self.cache, self.wanted, self.choose = cache, wanted, choose
        self.counts: Counter = Counter()
        self.orphans: list[psutil.Process] = []
        self.lost = self.altered = self.unsaid = self.exposed = self.runs = 0
        self.faults: list[Callable[[], None]] = [
            *(
                self.killed,
                self.app_killed,
                self.part_killed,
                self.truncated,
                self.changed,
                self.aliens,
            ),
            *(self.twice, self.memory, self.library, self.other_version),
            *(self.two_adding, self.imported_while_exported),
        ]
        if FAKE_CLOCK:
            self.faults += [self.clock, self.clock_forward]
        if os.geteuid() == 0:
            self.faults.append(self.other_user)
        if on_disk:
            self.faults += [self.full, self.read_only]

    def begin(self, through_queue: bool | None = None, **environment: str) -> Grid:
        """An attempt, and a while."""
        self.runs += 1
        either = self.choose.random() < 0.5 if through_queue is None else through_queue
        return Grid(self.cache, either, **environment)

    def a_while(self) -> None:
        """Until somewhere in the run: at its start, while a model is loaded, at a piece."""
        time.sleep(self.choose.uniform(0.5, 25))

    def killed(self) -> None:
        """Everything at once, as by a power cut."""
        grid = self.begin()
        self.a_while()
        grid.kill()

    def app_killed(self) -> None:
        """The process that has the queue; its worker knows nothing of it, and may go on."""
        grid = self.begin(through_queue=True)
        self.a_while()
        self.orphans = grid.processes()
        grid.process.kill()
        grid.process.wait()

    def part_killed(self) -> None:
        """The worker, its nanny or the scheduler."""
        grid = self.begin(through_queue=True)
        self.a_while()
        if victims := grid.processes("dask"):
            with suppress(psutil.Error):
                self.choose.choice(victims).kill()
        self.wait_for(grid)

    def full(self) -> None:
        """The disk is full for a time."""
        ballast = self.cache / "ballast"
        grid = self.begin()
        self.a_while()
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(self.choose.choice((2**20, 2**12, 1))))
        self.wait_for(grid)
        ballast.unlink()

    def read_only(self) -> None:
        """The disk can only be read for a time."""
        grid = self.begin()
        self.a_while()
        if not remounted(self.cache, "ro"):  # a file was being written
            grid.kill()
            remounted(self.cache, "ro")
            grid = self.begin()
        self.wait_for(grid)
        remounted(self.cache, "rw")

    def truncated(self) -> None:
        """Files of the cache are cut, at rest and while it is used."""
        grid = self.begin()
        self.a_while()
        for path in self.some_files():
            with suppress(OSError):
                os.truncate(path, self.choose.randrange(max(1, path.stat().st_size)))
                self.forget(path)
        self.wait_for(grid)

    def changed(self) -> None:
        """Bytes of files are others."""
        grid = self.begin()
        self.a_while()
        for path in self.some_files():
            with suppress(OSError):
                data = bytearray(path.read_bytes())
                place = self.choose.randrange(max(1, len(data) - 1))
                data[place] ^= 1 << self.choose.randrange(3)
                path.write_bytes(data)
                self.forget(path)
        self.wait_for(grid)

    def aliens(self) -> None:
        """What is no result lies among the results."""
        folder = self.cache / "results"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"tiny.en_x_{self.choose.randrange(16**16):016x}"
        contents = (b"", b"[" * 100_000, b"\xff\x00", b'{"schema_version": 99}', b"null", b"{}")
        (folder / f"{name}.json").write_bytes(self.choose.choice(contents))
        (folder / f".{name}.json.0123abcd.tmp").write_bytes(b"{")
        with suppress(OSError):
            os.mkfifo(folder / f"{name[:-1]}f.json")
        self.wait_for(self.begin())

    def twice(self) -> None:
        """Two processes run the same grid."""
        first, second = self.begin(), self.begin()
        self.wait_for(first)
        self.wait_for(second)

    def memory(self) -> None:
        """There is too little memory for the model, at one point or another."""
        limit = self.choose.uniform(1.0, 4.0) * 2**30
        self.wait_for(self.begin(LIMIT_BYTES=str(int(limit))), died=True)

    def library(self) -> None:
        """A library is not there."""
        with tempfile.TemporaryDirectory() as shim:
            Path(shim, "bitsandbytes").mkdir()
            Path(shim, "bitsandbytes", "__init__.py").write_text("raise ImportError('gone')")
            self.wait_for(self.begin(PYTHONPATH=shim))

    def other_version(self) -> None:
        """A library is of another version: that makes other results, and leaves ours alone."""
        with tempfile.TemporaryDirectory() as shim:
            metadata = Path(shim, "bitsandbytes-99.0.dist-info")
            metadata.mkdir()
            about = "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 99.0\n"
            (metadata / "METADATA").write_text(about)
            self.wait_for(self.begin(PYTHONPATH=shim))

    def clock(self) -> None:
        """The clock is set back by up to a year, and forth again."""
        with shown_clock() as (file, shown):
            grid = self.begin(through_queue=False, **shown)
            for _ in range(2):
                self.a_while()
                _show(file, -self.choose.randrange(365 * 86_400))
            self.wait_for(grid)

    def two_adding(self) -> None:
        """Two users add recordings to one set while the grid runs; one of them may be killed."""
        grid = self.begin()
        users = [soak_users.start("add", self.cache, str(first)) for first in (0, soak_users.ADDS)]
        is_killed = self.choose.random() < 0.5
        if is_killed:
            self.a_while()
            users[0].kill()
        lines = [line.split() for user in users for line in self.told_by(user)]
        added = {id: digest for _, id, digest in (line for line in lines if line[0] == "added")}
        if not is_killed:
            self.lost += 2 * soak_users.ADDS - len(added)
        # An id ends with the beginning of its recording's.
        stored = soak_users.digests(UserSets(self.cache), soak_users.SET) if added else {}
        by_recording = {id[-8:]: digest for id, digest in stored.items()}
        self.lost += len(added.keys() - by_recording.keys())
        self.altered += sum(by_recording.get(id, digest) != digest for id, digest in added.items())
        self.wait_for(grid)

    def imported_while_exported(self) -> None:
        """A set is imported while another one is exported; the import may be killed."""
        sets = UserSets(self.cache)
        self.told_by(soak_users.start("add", self.cache, "0"))
        grid = self.begin()
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            Path(file.name).write_bytes(sets.export(soak_users.SET))
            importing, exporting = (
                soak_users.start(action, self.cache, file.name) for action in ("import", "export")
            )
            is_killed = self.choose.random() < 0.5
            if is_killed:
                self.a_while()
                importing.kill()
            told = [*self.told_by(importing), *self.told_by(exporting)]
            wanted = soak_users.archived(Path(file.name).read_bytes())
        self.altered += sum(line.startswith("altered") for line in told)
        if not is_killed:
            self.lost += soak_users.IMPORTS + soak_users.EXPORTS - len(told)
        # What is there after a kill is whole.
        self.altered += sum(soak_users.digests(sets, name) != wanted for name in sets.names())
        self.wait_for(grid)

    def clock_forward(self) -> None:
        """The clock is set forward by more than a year: a run, and the deletion of recordings."""
        self.told_by(soak_users.start("add", self.cache, "0"))
        recordings = {recording.id for recording in RecordingStore(self.cache).all()}
        with shown_clock() as (file, shown):
            _show(file, self.choose.randrange(365, 800) * 86_400)
            self.told_by(soak_users.start("expire", self.cache, **shown))
            # Without the queue: under libfaketime the event loops of Dask's worker never rest.
            grid = self.begin(through_queue=False, **shown)
            self.a_while()
            _show(file, self.choose.randrange(365, 800) * 86_400)
            self.wait_for(grid)
        self.told_by(soak_users.start("expire", self.cache))
        left = {recording.id for recording in RecordingStore(self.cache).all()}
        self.lost += soak_users.ADDS - len(recordings & left)

    def other_user(self) -> None:
        """Another user of the machine looks for recordings, keys and ports while it runs."""
        self.told_by(soak_users.start("add", self.cache, "0"))
        grid = self.begin(through_queue=True)
        for _ in range(3):
            self.a_while()
            seen = soak_users.seen_by_another_user(self.cache, grid.processes())
            self.exposed += len(seen)
            print("".join(f"  another user {what}\n" for what in seen), end="")
        self.wait_for(grid)

    def told_by(self, user: subprocess.Popen) -> list[str]:
        """The lines of a user's process, which has to end with sentences."""
        text, _ = user.communicate(timeout=_TOO_LONG_S)
        if "Traceback (most recent" in text or "refused: " in text:
            self.unsaid += 1
            print(f"  a user is told: {text[-2000:]}")
        return [line for line in text.splitlines() if line.split()[:1] in _PROMISES]

    def some_files(self) -> list[Path]:
        """Results or pieces, two at most."""
        files = [path for path in self.cache.rglob("*.json") if path.is_file()]
        return self.choose.sample(files, k=min(len(files), 2))

    def forget(self, path: Path) -> None:
        """A result that was damaged is not lost: it is to be measured again."""
        self.before = {key for key in self.before if not path.name.endswith(f"_{key}.json")}

    def wait_for(self, grid: Grid, died: bool = False) -> None:
        """Waits for an attempt, and checks its output. died: the system may have ended it."""
        text = grid.end()
        wrong = "Traceback (most recent" in text
        if grid.through_queue:
            # What Dask writes into the log is not what a user of the queue is told.
            told = "".join(line for line in text.splitlines() if line.startswith(_SAID))
            wrong = grid.process.returncode != 0 or "unexpected" in told
        if wrong and not died:
            self.unsaid += 1
            print(f"  not a sentence: {text[-2000:]}")

    def one(self) -> None:
        """One fault, and the undisturbed run after it."""
        fault = self.choose.choice(self.faults)
        for name in ("recordings", "sets"):
            shutil.rmtree(self.cache / name, ignore_errors=True)
        # Sometimes from the start, sometimes with some of it done.
        if self.choose.random() < 0.6:
            shutil.rmtree(self.cache / "results", ignore_errors=True)
            shutil.rmtree(self.cache / "pieces", ignore_errors=True)
        self.before = Store(self.cache).keys() & self.wanted.keys()
        start = time.perf_counter()
        fault()
        self.counts[fault.__name__] += 1
        gone = self.before - {run.key for run in Store(self.cache).runs()}
        self.lost += len(gone)
        again = self.begin(through_queue=False)
        self.wait_for(again)
        for process in self.orphans:
            with suppress(psutil.Error):
                process.kill()
        self.orphans = []
        stored = results(self.cache)
        off = [key for key in self.wanted if stored.get(key) != self.wanted[key]]
        self.altered += len(off)
        print(
            f"{fault.__name__}: {time.perf_counter() - start:.0f} s, {len(gone)} lost,"
            f" {len(off)} of {len(self.wanted)} other than undisturbed",
            flush=True,
        )


@contextmanager
def shown_clock() -> Iterator[tuple[IO[str], dict[str, str]]]:
    """A file that says how far the clock is off, and what a process needs to be shown that one."""
    with tempfile.NamedTemporaryFile("w", suffix=".clock") as file:
        # Read once a second: at every look at the clock it would make a run many times as slow.
        shown = {"FAKETIME_TIMESTAMP_FILE": file.name, "FAKETIME_CACHE_DURATION": "1"}
        # Files keep their times, as they do when a clock is set.
        shown |= {"NO_FAKE_STAT": "1"}
        shown |= {"LD_PRELOAD": FAKE_CLOCK, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        _show(file, 0)
        yield file, shown


def _show(file, offset_s: int) -> None:
    """Tells libfaketime how far its clock is off."""
    file.seek(0)
    file.write(f"{offset_s:+d}\n")
    file.truncate()
    file.flush()


def remounted(disk: Path, how: str) -> bool:
    """Whether the disk could be made read-only, or writable."""
    command = ["mount", "-o", f"remount,{how}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Prints a line a fault, and what was lost in all; 1 where anything was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queue", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="these faults")
    arguments = parser.parse_args()
    if arguments.queue:
        return queue(arguments.queue)
    with tempfile.TemporaryDirectory(prefix="whisperq-soak-") as folder:
        undisturbed, cache = Path(folder) / "undisturbed", Path(folder) / "cache"
        cache.mkdir()
        Path(folder).chmod(0o755)  # as a home is on many machines
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(cache)]
        on_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        print(f"{machine()}; {'a tmpfs' if on_disk else 'no tmpfs: no full or read-only disk'}")
        try:
            Grid(undisturbed, through_queue=False).end()
            wanted = results(undisturbed)
            if len(wanted) != len(RECIPES) * len(SETS):
                raise SystemExit("The undisturbed run did not come to its end.")
            soak = Soak(cache, wanted, on_disk, random.Random(arguments.seed))
            names = arguments.only.split(",") if arguments.only else []
            soak.faults = [f for f in soak.faults if not names or f.__name__ in names]
            if not soak.faults:
                raise SystemExit(f"There is no fault of the name {arguments.only!r} here.")
            over = time.monotonic() + 60 * arguments.minutes
            while time.monotonic() < over:
                soak.one()
        finally:
            if on_disk:
                subprocess.run(["umount", "-l", str(cache)], check=False)
    faults = ", ".join(f"{name} {count}" for name, count in sorted(soak.counts.items()))
    print(
        f"{soak.runs} runs, {soak.counts.total()} faults ({faults}); results lost {soak.lost},"
        f" altered {soak.altered}; not said in a sentence {soak.unsaid}; shown to another user"
        f" {soak.exposed}"
    )
    return 1 if soak.lost or soak.altered or soak.unsaid or soak.exposed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
