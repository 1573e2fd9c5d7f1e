"""What the engine's benchmarks share: new processes, their memory, speech, a way to print."""

import json
import multiprocessing
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import soundfile

from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import recipe as recipe_named
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance


def runs_here(subject: str) -> bool:
    """Whether this machine can run RECIPE:PROTOCOL; prints why not."""
    reason = backends.unavailable_reason(recipe_named(subject.partition(":")[0]), "cpu")
    if reason:
        print(f"{subject}: left out. {reason}")
    return reason is None


def process() -> ProcessPoolExecutor:
    """A new process that has cached nothing yet; what is submitted runs in it, one after another.

    To be used in a `with` block, which ends it.
    """
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


class PeakMemory:
    """The most resident memory this process had in the block: `bytes`, looked at every 20 ms.

    The system's own high-water mark would not do: evaluations reset it.
    """

    def __enter__(self) -> "PeakMemory":
        self.bytes, self._over = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, process.memory_info().rss)

    def __exit__(self, *exception) -> None:
        self._over.set()
        self._watcher.join()


class WatchedStore(Store):
    """A store that notes when each piece of its runs was finished, on time.perf_counter's clock.

    The first piece of a run is the model: loaded, quantized and warm. The others are its batches.
    """

    def __init__(self, root: Path):
        super().__init__(root)
        self.finished: dict[str, list[float]] = {}

    def put_piece(self, key: str, name: str, content: dict) -> None:
        """Stores a finished piece of a run."""
        super().put_piece(key, name, content)
        self.finished.setdefault(key, []).append(time.perf_counter())


def excerpts() -> list[Utterance]:
    """The utterances of both LibriSpeech excerpts."""
    names = ("test-clean-excerpt", "test-other-excerpt")
    return [u for name in names for u in evaluation_sets.by_name(name).utterances]


@contextmanager
def folder_of(utterances: Sequence[Utterance]) -> Iterator[Path]:
    """A temporary evaluation set of these utterances; one that comes again is softer each time."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, rows, times = Path(temporary), [], Counter()
        for u in utterances:
            again = times[u.id]
            times[u.id] += 1
            name = f"{u.id}-{again}.flac"
            if again:
                softer = evaluation_sets.read_audio(u) * 0.9**again
                soundfile.write(folder / name, softer, SAMPLE_RATE, subtype="PCM_16")
            else:
                shutil.copyfile(u.audio, folder / name)
            row = {"audio": name, "text": u.reference, "speaker": u.speaker}
            rows.append(json.dumps(row))
        (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
        yield folder


def spread(items: Sequence, count: int) -> list:
    """Some of the items, at even distances from the first to the last."""
    count = min(count, len(items))
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def median_and_range(values: Sequence[float], digits: int = 1) -> str:
    """Such as 5.2 (4.9 to 5.8)."""
    middle, low, high = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def machine() -> str:
    """The machine in a line."""
    here = this_machine()
    return f"{here.cpu}, {here.cores} cores, {here.memory_bytes / 1e9:.0f} GB"
