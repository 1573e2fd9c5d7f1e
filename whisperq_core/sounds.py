"""What a file that somebody gave holds: its length, its outline, a copy that every browser plays.

Files from outside are decoded in a process of their own, never in the app's:
`python -m whisperq_core.sounds FILE PLAYED …`.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from pydantic import BaseModel

from whisperq_core import audio
from whisperq_core.errors import AudioError

# Values of an outline: as many as a wide screen has room for.
OUTLINE = 600
# Long enough for hours of speech on a busy machine.
_TIMEOUT_S = 300


class Sound(BaseModel, frozen=True):
    """A recording that can be used.

    outline: the peak of each of at most OUTLINE parts of equal length, from 0 to 1.
    """

    duration_s: float
    silent: bool
    outline: tuple[float, ...]


def sound_of(path: Path, played: Path) -> Sound:
    """Decodes a file and writes what of it is played: FLAC, 16 kHz, mono, 16 bits.

    Raises AudioError for what is no usable audio.
    """
    samples = audio.load(path, path.name)
    soundfile.write(played, samples, audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return Sound(
        duration_s=audio.duration_s(samples),
        silent=audio.is_silent(samples),
        outline=tuple(round(float(p), 3) for p in outline(samples)),
    )


def outline(samples: np.ndarray) -> np.ndarray:
    """Peaks of 16 kHz samples, shape (samples,) → at most (OUTLINE,), from 0 to 1."""
    starts = np.unique(np.linspace(0, len(samples), OUTLINE, endpoint=False).astype(int))
    return np.minimum(np.maximum.reduceat(np.abs(samples), starts), 1.0)


def sounds_of(pairs: Sequence[tuple[Path, Path]]) -> list[Sound | AudioError]:
    """`sound_of` for each (file, played), in another process; what cannot be used is an error."""
    if not pairs:
        return []
    command = [
        sys.executable,
        "-m",
        "whisperq_core.sounds",
        *(str(p) for pair in pairs for p in pair),
    ]
    where = Path(__file__).parent.parent
    try:
        done = subprocess.run(
            command, cwd=where, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode().splitlines()
    found: list[Sound | AudioError] = []
    for line in lines:
        told = json.loads(line)
        found.append(AudioError(told["error"]) if "error" in told else Sound(**told))
    # The process ended at a file: that one brought it down, and those after it were not reached.
    lost = (
        "{} could not be decoded on this machine. Cut it into shorter pieces, or save it as FLAC."
    )
    return found + [AudioError(lost.format(path.name)) for path, _ in pairs[len(found) :]]


if __name__ == "__main__":
    names = [Path(argument) for argument in sys.argv[1:]]
    for given, copy in zip(names[::2], names[1::2], strict=True):
        try:
            print(sound_of(given, copy).model_dump_json(), flush=True)
        except AudioError as error:
            print(json.dumps({"error": str(error)}), flush=True)
