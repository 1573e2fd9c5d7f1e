"""What a file that somebody gave holds: its length, its outline, a copy that every browser plays.

Files from outside are decoded in a process of their own, never in the app's, one after another:
`python -m whisperq_core.speech.isolated_decoder`, which is asked on its standard input and
answers on its output.
"""

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from pydantic import BaseModel, ValidationError

from whisperq_core.errors import AudioError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode

# Values of an outline: as many as a wide screen has room for.
OUTLINE = 600
# Peaks are kept of this many samples each, a millisecond, until the length is known.
_PEAK_OF = 16
# As many files are decoded at once in an app, whoever gave them; others wait.
AT_ONCE = 2
_turns = threading.BoundedSemaphore(AT_ONCE)
# Until a new process has its libraries; more than an answer is long.
_START_S, _ANSWER_CHARS = 60, 1 << 20

LOST = "{} could not be decoded on this machine. Cut it into shorter pieces, or save it as FLAC."
SLOW = "{} took too long to decode. Cut it into shorter pieces, or save it as FLAC."


class Sound(BaseModel, frozen=True):
    """A recording that can be used.

    outline: the peak of each of at most OUTLINE parts of equal length, from 0 to 1.
    """

    duration_s: float
    silent: bool
    outline: tuple[float, ...]


# The process is started as this module.
_MODULE = "whisperq_core.speech.isolated_decoder"


@dataclass(frozen=True)
class Bounds:
    """What decoding one file may take, beside the limits of `audio.load`.

    time_s: then the process is killed, with whatever it started; the next file has a new one. Where
    the asking process is gone itself, the system ends the decoding process soon after.
    memory_bytes: beyond what the process has at its start. Linux's kernel holds it to that
    (RLIMIT_DATA). Elsewhere nothing does; what is left there is that sound is decoded, mixed
    and written block by block, within `audio.Limits`.
    """

    time_s: float = 120.0
    memory_bytes: int = 512 << 20


def sound_of(path: Path, played: Path | None = None) -> Sound:
    """Decodes a file and writes what of it is played: FLAC, 16 kHz, mono, 16 bits.

    Raises AudioError for what is no usable audio; then no copy is left.
    """
    frames, peaks = 0, []
    copy = played and soundfile.SoundFile(
        played, "w", decode.SAMPLE_RATE, 1, subtype="PCM_16", format="FLAC"
    )
    try:
        for block in decode.blocks(path, path.name):
            frames += len(block)
            peaks.append(np.maximum.reduceat(np.abs(block), range(0, len(block), _PEAK_OF)))
            if copy:
                copy.write(block)
    except AudioError:
        if played:
            played.unlink(missing_ok=True)
        raise
    finally:
        if copy:
            copy.close()
    peaks = np.concatenate(peaks)
    return Sound(
        duration_s=frames / decode.SAMPLE_RATE,
        silent=decode.is_silent(peaks),
        outline=tuple(round(float(p), 3) for p in outline(peaks)),
    )


def outline(samples: np.ndarray) -> np.ndarray:
    """Peaks of samples, shape (samples,), or of peaks → at most (OUTLINE,), from 0 to 1."""
    starts = np.unique(np.linspace(0, len(samples), OUTLINE, endpoint=False).astype(int))
    return np.minimum(np.maximum.reduceat(np.abs(samples), starts), 1.0)


def sounds_of(
    pairs: Sequence[tuple[Path, Path | None]], bounds: Bounds = Bounds()
) -> list[Sound | AudioError]:
    """`sound_of` for each (file, played), in another process; what cannot be used is an error.

    A file that brings the process down, or passes a bound, costs the others nothing but a new
    process. None is left at the end.
    """
    found: list[Sound | AudioError] = []
    with Decoder(bounds) as decoder:
        for path, played in pairs:
            with _turns:
                found.append(decoder.sound_of(path, played))
    return found


class Decoder:
    """The decoding process, started when there is something to decode, and again where it died."""

    def __init__(self, bounds: Bounds):
        self.bounds = bounds
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *exception) -> None:
        self._end()

    def sound_of(self, path: Path, played: Path | None) -> Sound | AudioError:
        """As the function, with the AudioError returned."""
        if self.process is None and not self._start():
            return AudioError(LOST.format(path.name))
        try:
            self.process.stdin.write(json.dumps([str(path), played and str(played)]) + "\n")
            self.process.stdin.flush()
            answer = self._answer(self.bounds.time_s)
        except OSError:  # it is gone
            answer = ""
        try:
            told = json.loads(answer or "")
            return AudioError(told["error"]) if "error" in told else Sound.model_validate(told)
        except (ValueError, TypeError, ValidationError):
            self._end()
        return AudioError((SLOW if answer is None else LOST).format(path.name))

    def _start(self) -> bool:
        """Whether there is a process now that waits for files."""
        # Threads would only reserve memory.
        calm = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, json.dumps(asdict(self.bounds))],
                cwd=PROJECT,
                env=os.environ | calm | {"MALLOC_ARENA_MAX": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            ready = self._answer(_START_S)
        except OSError:
            ready = ""
        if not ready:
            self._end()
        return bool(ready)

    def _answer(self, within_s: float) -> str | None:
        """The next line; None where it does not come in time, empty where the process ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(within_s):
                return None
        return self.process.stdout.readline(_ANSWER_CHARS)

    def _end(self) -> None:
        """Kills the process and what it started: it has nothing to finish."""
        if self.process is None:
            return
        # Not waited for yet, its number is still its own.
        os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what it was to be told and never read
                pipe.close()
        self.process.wait()
        self.process = None


def _bound_memory(memory_bytes: int) -> None:
    """Lets this process have so many bytes more of its own; says why in Bounds."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack, see proc(5)
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(bounds: Bounds) -> None:
    """Answers a line of JSON with a line of JSON until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what decoders print is no answer
    _bound_memory(bounds.memory_bytes)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        given, copy = json.loads(line)
        # Nobody may be left to kill it.
        signal.alarm(math.ceil(bounds.time_s) + 5)
        try:
            answer = sound_of(Path(given), copy and Path(copy)).model_dump_json()
        except AudioError as error:
            answer = json.dumps({"error": str(error)})
        print(answer, file=answers, flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    _serve(Bounds(**json.loads(sys.argv[1])))
