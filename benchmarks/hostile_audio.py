"""Fuzz the upload path: thousands of malformed files through the function that the app calls.

    python -m benchmarks.hostile_audio [--cases 3000] [--seed 0] [--keep FOLDER]

A process stands for the app's and gives them to `RecordingStore.add` in batches. At random it
kills or stops the decoding process, which must cost that one file only. Exit code 1 where a file
gives neither a usable recording nor an error sentence, where a limit is exceeded, or where a
process or file is left behind.
"""

import argparse
import ctypes
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import psutil
import soundfile

from benchmarks.malformed import Case, corpus
from benchmarks.processes import machine, process
from whisperq_core.errors import AudioError
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.speech import decode, isolated_decoder

BATCH = 50
BATCH_BYTES = 100_000_000
# How many files are met by a decoding process that was killed, and by one that does not answer.
KILLED, STOPPED = 1 / 100, 1 / 500
STOPPED_S = 2.0
# What the interpreter and the libraries have before the first file.
START_BYTES = 150_000_000
# From the least of the first half of the batches to the least of the second.
GROWTH_BYTES = 20_000_000
_SENTENCE = re.compile(r"[^\n\r\t]{10,400}\.")


@dataclass
class Outcome:
    """What came of one file. sentence: why it was refused; empty where it was accepted.

    harm: killed or stopped by this benchmark. seconds and memory_bytes: of the decoding process,
    the memory as the system's high-water mark, 0 where the process was gone.
    """

    kind: str
    name: str
    sentence: str
    wrong: str = ""
    harm: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0


class Watched(isolated_decoder.IsolatedDecoder):
    """The app's decoder, with a clock, and at times without its process."""

    chance = random.Random(0)
    seen: ClassVar[list[Outcome]] = []

    def decode(self, path: Path, played: Path | None) -> isolated_decoder.AudioSummary | AudioError:
        """As the decoder does."""
        outcome = Outcome("", "", "")
        limits, drawn = self.limits, self.chance.random()
        if self.process and drawn < KILLED + STOPPED:
            outcome.harm = "killed" if drawn < KILLED else "stopped"
            if outcome.harm == "stopped":
                self.limits = replace(limits, time_s=STOPPED_S)
            os.kill(self.process.pid, signal.SIGKILL if drawn < KILLED else signal.SIGSTOP)
        start = time.perf_counter()
        decoded = super().decode(path, played)
        outcome.seconds = time.perf_counter() - start
        self.limits = limits
        if self.process:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            outcome.memory_bytes = int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024
        self.seen.append(outcome)
        return decoded


def uploaded(cases: Sequence[Case], cache: Path, seed: int) -> tuple[list[Outcome], dict[str, int]]:
    """Runs in the process that stands for the app: its outcomes, its memory, what was left."""
    isolated_decoder.IsolatedDecoder = Watched
    Watched.chance, Watched.seen = random.Random(seed), []
    store = RecordingStore(cache)
    stored = store.add([(case.name, case.data) for case in cases])
    outcomes = []
    for case, one, seen in zip(cases, stored, Watched.seen, strict=True):
        refused = isinstance(one, AudioError)
        wrong = _wrong_sentence(str(one)) if refused else _wrong_sound(store, one)
        sentence = str(one) if refused else ""
        outcomes.append(
            replace(seen, kind=case.kind, name=case.name, sentence=sentence, wrong=wrong)
        )
    for recording in store.all():
        store.delete(recording.id)
    own = psutil.Process()
    return outcomes, {
        "memory": _memory_in_use(own),
        # Of all that was ended and waited for, such as those that were killed on their limit.
        "highest": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "processes": len(own.children(recursive=True)),
        "files": sum(1 for _ in Path(tempfile.gettempdir()).rglob("*"))
        + sum(1 for _ in store.folder.rglob("*")),
    }


def _wrong_sentence(sentence: str) -> str:
    if not _SENTENCE.fullmatch(sentence):
        return f"no sentence: {sentence!r}"
    told = ("Traceback", "Error", "0x", tempfile.gettempdir(), "original.")
    return next((f"a sentence with {word}: {sentence!r}" for word in told if word in sentence), "")


def _wrong_sound(store: RecordingStore, recording: Recording) -> str:
    sound, played = recording.sound, soundfile.info(store.playback_path(recording.id))
    if not 0 < sound.duration_s <= decode.DEFAULT_LIMITS.max_duration_s:
        return f"accepted at {sound.duration_s} s"
    if not all(0 <= peak <= 1 for peak in sound.outline):
        return "an outline that is not from 0 to 1"
    if played.frames != round(sound.duration_s * decode.SAMPLE_RATE):
        return "a copy of another length"
    return ""


def batches(cases: Sequence[Case]) -> list[list[Case]]:
    """At most BATCH files, and about BATCH_BYTES, in each; as one drops files on a page."""
    batches: list[list[Case]] = [[]]
    for case in cases:
        size = sum(len(other.data) for other in batches[-1])
        if len(batches[-1]) == BATCH or size + len(case.data) > BATCH_BYTES:
            batches.append([])
        batches[-1].append(case)
    return batches


def kind_of(outcome: Outcome) -> str:
    """A sentence without the file's name and its numbers."""
    shown = outcome.sentence
    for pattern in (r"^.*? (?=(is|has|contains|changes|could|took|cannot)\b)", r"\b\d[\d.]* "):
        shown = re.sub(pattern, "… ", shown)
    return shown


def main() -> int:
    """Makes the corpus, gives it to the app's process, prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="puts the files here that were not as they must")
    arguments = parser.parse_args()
    print(machine())
    cases = list(corpus(arguments.cases, arguments.seed))
    outcomes: list[Outcome] = []
    memory_bytes, left, highest_bytes = [], Counter(), 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        temporary, cache = Path(folder) / "tmp", Path(folder) / "cache"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)  # of the processes that are started
        with process() as app:
            for number, batch in enumerate(batches(cases)):
                seed = arguments.seed * 1_000_000 + number
                try:
                    results, state = app.submit(uploaded, batch, cache, seed).result()
                except BrokenProcessPool:
                    print(f"The app's process died in batch {number}.")
                    return 1
                outcomes += results
                memory_bytes.append(state["memory"])
                highest_bytes = max(highest_bytes, state["highest"])
                left.update({k: state[k] for k in ("processes", "files")})
                progress = f"{len(outcomes)} of {len(cases)}, {state['memory'] / 1e6:.0f} MB"
                print(f"\r{progress} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    wrong = told(cases, outcomes, memory_bytes, highest_bytes, left, time.monotonic() - start)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for number, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
            if outcome.wrong or (_is_lost(outcome) and not outcome.harm):
                (arguments.keep / f"{arguments.seed}-{number}").write_bytes(case.data)
    return 1 if wrong else 0


def _memory_in_use(process: psutil.Process) -> int:
    """Resident bytes, without what the C library's allocator keeps of a large batch for later."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    return process.memory_info().rss


def _is_lost(outcome: Outcome) -> bool:
    return "could not be decoded on this machine" in outcome.sentence


def told(
    cases: Sequence[Case],
    outcomes: Sequence[Outcome],
    memory_bytes: Sequence[int],
    highest_bytes: int,
    left: Counter,
    wall_s: float,
) -> list[str]:
    """Prints the figures; returns what is not as it must be."""
    accepted = [o for o in outcomes if not o.sentence]
    lost = [o for o in outcomes if _is_lost(o) and not o.harm]
    slow = [o for o in outcomes if "took too long" in o.sentence and not o.harm]
    harmed = Counter(o.harm for o in outcomes if o.harm)
    longest = max((o for o in outcomes if o.harm != "stopped"), key=lambda o: o.seconds)
    highest_bytes = max(highest_bytes, *(o.memory_bytes for o in outcomes))
    # A leak raises the least of the second half over that of the first.
    middle = max(1, len(memory_bytes) // 2)
    low_bytes = min(memory_bytes[:middle])
    growth_bytes = min(memory_bytes[middle:], default=low_bytes) - low_bytes
    size_mb = sum(len(case.data) for case in cases) / 1e6
    print(f"{len(cases)} cases, {size_mb:.0f} MB, in {wall_s:.0f} s")
    print(f"accepted {len(accepted)}, refused {len(outcomes) - len(accepted)}:")
    for kind, count in Counter(kind_of(o) for o in outcomes if o.sentence).most_common():
        print(f"{count:7}  {kind}")
    print(f"decoding process died by itself: {len(lost)}, killed on its time limit: {len(slow)}")
    print(f"killed here: {harmed['killed']}, stopped here: {harmed['stopped']}")
    print(f"highest memory of a decoding process: {highest_bytes / 1e6:.0f} MB")
    print(f"longest time of a file: {longest.seconds:.1f} s ({longest.kind}, {longest.name!r})")
    print(
        f"the app's process: {min(memory_bytes) / 1e6:.0f} to {max(memory_bytes) / 1e6:.0f} MB; at"
        f" least {growth_bytes / 1e6:.0f} MB more in the second half of the batches"
    )
    print("after each batch, in MB:", *(round(count / 1e6) for count in memory_bytes))
    print(f"left behind: {left['processes']} processes, {left['files']} files and folders")

    limits = isolated_decoder.ProcessLimits()
    wrong = [f"{o.kind}, {o.name!r}: {o.wrong}" for o in outcomes if o.wrong]
    wrong += [
        f"{o.kind}, {o.name!r}: harmed, yet accepted" for o in accepted if o.harm == "stopped"
    ]
    refused = {"whole", "wrong ending"}
    wrong += [
        f"{o.kind}, {o.name!r}: {o.sentence}"
        for o in outcomes
        if o.kind in refused and o.sentence and not o.harm
    ]
    if highest_bytes > START_BYTES + limits.memory_bytes:
        wrong.append("A decoding process had more memory than its limit.")
    if longest.seconds > limits.time_s + STOPPED_S:
        wrong.append("A file took longer than its limit.")
    if growth_bytes > GROWTH_BYTES:
        wrong.append("The app's process has grown.")
    if left.total():
        wrong.append("Something was left behind.")
    print(*wrong or ["all as it must be"], sep="\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
