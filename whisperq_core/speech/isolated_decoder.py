"""Decode uploaded files in a process of their own, never in the app's.

The process is `python -m whisperq_core.speech.isolated_decoder`. It reads one JSON request a line
on its standard input and writes one JSON answer a line. Time and memory are limited; a file that
crashes the process costs the other files nothing.
"""

import io
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import BaseModel, ValidationError

from whisperq_core.errors import AudioError, StoreError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode

# Points of an outline: about the pixels of a wide screen.
OUTLINE_POINTS = 600
# Until the length is known, one peak is kept of this many samples: 1 ms.
_SAMPLES_PER_PEAK = 16
# Decoding processes at the same time in one app, for all its users; other files wait.
MAX_CONCURRENT = 2
_slots = threading.BoundedSemaphore(MAX_CONCURRENT)
# Time for a new process to import its libraries; more characters than any answer has.
_START_S, _MAX_ANSWER_CHARS = 60, 1 << 20
# One thread a library: more would only reserve memory.
_SINGLE_THREAD_ENV = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}

_CRASHED = (
    "{} could not be decoded on this machine. Cut it into shorter pieces, or save it as FLAC."
)
_TIMED_OUT = "{} took too long to decode. Cut it into shorter pieces, or save it as FLAC."


class AudioSummary(BaseModel, frozen=True):
    """What is known of a decoded recording without its samples.

    outline: peak amplitude of each of at most OUTLINE_POINTS parts of equal length, from 0 to 1.
    notes: sentences on what was done to its samples or is unusual, see `decode.AudioStream`.
    """

    duration_s: float
    silent: bool
    outline: tuple[float, ...]
    notes: tuple[str, ...] = ()


# The process is started as this module.
_MODULE = "whisperq_core.speech.isolated_decoder"


@dataclass(frozen=True)
class ProcessLimits:
    """What decoding one file may take, in addition to `decode.Limits`.

    time_s: the process is killed after it, with its children; the next file gets a new process.
    Should the app itself be gone, the decoding process ends by an alarm soon after.
    memory_bytes: beyond what the process has at its start, enforced by Linux (RLIMIT_DATA). Other
    systems do not enforce it; there, memory is bounded by decoding, mixing and writing block by
    block within `decode.Limits`.
    """

    time_s: float = 120.0
    memory_bytes: int = 512 << 20


def decode_file(path: Path, playback: Path | None = None) -> AudioSummary:
    """Decode a file in this process; write `playback`, a copy as FLAC, 16 kHz, mono, 16 bits.

    Raises AudioError for what is no usable audio, StoreError where the copy cannot be written; then
    no copy is left.
    """
    stream, frames, peaks = decode.AudioStream(path), 0, []
    copy = _PlaybackCopy(playback) if playback else None
    try:
        for block in stream:
            frames += len(block)
            starts = range(0, len(block), _SAMPLES_PER_PEAK)
            peaks.append(np.maximum.reduceat(np.abs(block), starts))
            if copy:
                copy.write(block)
        if copy:
            copy.close()
    except (AudioError, StoreError):
        if copy:
            copy.discard()
        raise
    all_peaks = np.concatenate(peaks)
    return AudioSummary(
        duration_s=frames / decode.SAMPLE_RATE,
        silent=stream.silent,
        notes=tuple(stream.notes),
        outline=tuple(round(float(p), 3) for p in peak_outline(all_peaks)),
    )


class _PlaybackCopy:
    """A FLAC file that is being written. What fails says that it is the disk, not the audio."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = _NotingErrors(path, "w+b")
        except OSError as error:
            raise self._problem(error) from error
        self._sound = soundfile.SoundFile(
            self._file, "w", decode.SAMPLE_RATE, 1, subtype="PCM_16", format="FLAC"
        )

    def write(self, block: npt.NDArray[np.float32]) -> None:
        """Write samples, shape (samples,). Raises StoreError."""
        self._check(lambda: self._sound.write(block))

    def close(self) -> None:
        """Write the rest. Raises StoreError."""
        self._check(self._sound.close)
        self._file.close()

    def discard(self) -> None:
        """Remove the file."""
        with suppress(RuntimeError, AssertionError):
            self._sound.close()
        self._file.close()
        if self._path.is_file():
            self._path.unlink()

    def _check(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (RuntimeError, AssertionError):  # fewer samples written than there are
            if self._file.error is None:
                raise
        if self._file.error is not None:
            raise self._problem(self._file.error) from self._file.error

    def _problem(self, error: OSError) -> StoreError:
        return StoreError(
            f"The recording could not be stored in {self._path.parent.parent}"
            f" ({error.strerror or error}). Free some space or set WHISPERQ_CACHE to a folder that"
            " can be written."
        )


class _NotingErrors(io.FileIO):
    """A file that keeps the error of a write: libsndfile, which calls it, would drop it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            return 0


def peak_outline(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Peaks of samples, shape (samples,), or of peaks → at most (OUTLINE_POINTS,), from 0 to 1."""
    starts = np.unique(np.linspace(0, len(samples), OUTLINE_POINTS, endpoint=False).astype(int))
    return np.minimum(np.maximum.reduceat(np.abs(samples), starts), 1.0)


def decode_files(
    files: Sequence[tuple[Path, Path | None]], limits: ProcessLimits = ProcessLimits()
) -> list[AudioSummary | AudioError]:
    """`decode_file` for each (file, playback) in another process; AudioErrors are returned.

    Raises StoreError where a copy cannot be written.

    A file that crashes the process or exceeds a limit only costs a new process, which the next
    file gets. No process is left at the end.
    """
    results: list[AudioSummary | AudioError] = []
    with IsolatedDecoder(limits) as decoder:
        for path, playback in files:
            with _slots:
                results.append(decoder.decode(path, playback))
    return results


def durations_s(files: Sequence[Path]) -> list[float | AudioError]:
    """Lengths in seconds, by the header where it can be relied on, in another process.

    Errors are returned, not raised.
    """
    results: list[float | AudioError] = []
    with IsolatedDecoder(ProcessLimits()) as decoder:
        for path in files:
            with _slots:
                summary = decoder.decode(path, None, only_duration=True)
            results.append(summary if isinstance(summary, AudioError) else summary.duration_s)
    return results


class IsolatedDecoder:
    """The decoding process: started for the first file, and again after it died."""

    def __init__(self, limits: ProcessLimits):
        self.limits = limits
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "IsolatedDecoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._kill()

    def decode(
        self, path: Path, playback: Path | None, only_duration: bool = False
    ) -> AudioSummary | AudioError:
        """`decode_file` in the process, with its AudioError returned; raises its StoreError."""
        process = self.process or self._start()
        if process is None:
            return AudioError(_CRASHED.format(path.name))
        answer: str | None
        try:
            assert process.stdin
            request = [str(path), playback and str(playback), only_duration]
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = _read_answer(process, self.limits.time_s)
        except OSError:  # the process is gone
            answer = ""
        try:
            fields = json.loads(answer or "")
            if "storage" in fields:
                raise StoreError(fields["storage"])
            if "error" in fields:
                return AudioError(fields["error"])
            return AudioSummary.model_validate(fields)
        except (ValueError, TypeError, ValidationError):
            self._kill()
        return AudioError((_TIMED_OUT if answer is None else _CRASHED).format(path.name))

    def _start(self) -> "subprocess.Popen[str] | None":
        """A process that waits for files; None where none could be started."""
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, json.dumps(asdict(self.limits))],
                cwd=PROJECT,
                env=os.environ | _SINGLE_THREAD_ENV | {"MALLOC_ARENA_MAX": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            ready = _read_answer(self.process, _START_S)
        except OSError:
            ready = ""
        if not ready:
            self._kill()
        return self.process

    def _kill(self) -> None:
        """End the process and its children at once: it has nothing to finish."""
        process, self.process = self.process, None
        if process is None:
            return
        # It was not waited for yet, so its process id cannot be another's.
        os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):  # a request it never read
                    pipe.close()
        process.wait()


def _read_answer(process: "subprocess.Popen[str]", within_s: float) -> str | None:
    """The next line; None where it does not come in time, empty where the process ended."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(within_s):
            return None
    return process.stdout.readline(_MAX_ANSWER_CHARS)


def _limit_memory(memory_bytes: int) -> None:
    """Allow this process so many more bytes of its own, as ProcessLimits explains."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack, see proc(5)
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(path: Path, playback: Path | None, only_duration: bool) -> str:
    """An AudioSummary as JSON; without its outline where only the length is wanted."""
    length_s = decode.file_duration_s(path) if only_duration else None
    if length_s is None:
        return decode_file(path, playback).model_dump_json()
    return AudioSummary(duration_s=length_s, silent=False, outline=()).model_dump_json()


def _serve(limits: ProcessLimits) -> None:
    """Answer each request line until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what decoders print is no answer
    _limit_memory(limits.memory_bytes)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        path, playback, only_duration = json.loads(line)
        # Nobody may be left to kill this process.
        signal.alarm(math.ceil(limits.time_s) + 5)
        try:
            answer = _answer(Path(path), playback and Path(playback), only_duration)
        except AudioError as error:
            answer = json.dumps({"error": str(error)})
        except StoreError as error:
            answer = json.dumps({"storage": str(error)})
        print(answer, file=answers, flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    _serve(ProcessLimits(**json.loads(sys.argv[1])))
