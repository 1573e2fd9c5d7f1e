"""Recorded noises and impulse responses: those that come with WhisperQ, and the user's own."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from whisperq_core import settings
from whisperq_core.errors import AudioError, EvalSetError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode
from whisperq_core.speech.audio_formats import AUDIO_SUFFIXES

NOISE = PROJECT / "noise"

# The end of a noise fades into its beginning, so that it repeats without a click.
_FADE_S = 0.05
# Less is repeated many times in a sentence.
_SHORTEST_S = 1.0

Samples = npt.NDArray[np.float64]
Kind = Literal["noise", "impulse response"]


@dataclass(frozen=True)
class NoiseFile:
    """A recording of a noise, or of a room's impulse response.

    attribution: author and licence; empty for the user's own.
    """

    name: str
    kind: Kind
    path: Path
    sha256: str
    attribution: str = ""


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, NoiseFile]:
    """The recordings in the project's `noise` folder by name; reads the manifest, no audio.

    Raises EvalSetError where the folder is missing.
    """
    try:
        lines = (NOISE / "manifest.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise EvalSetError(
            "The noises that come with WhisperQ are missing or altered. Install WhisperQ again."
        ) from error
    return {
        row["name"]: NoiseFile(
            row["name"],
            row["kind"],
            NOISE / row["file"],
            row["sha256"],
            f"{row['name']}: {row['author']}, {row['licence']}",
        )
        for row in rows
    }


def find(name: str, kind: Kind) -> NoiseFile:
    """The shipped recording of that name, or the user's own one in WHISPERQ_NOISES.

    Raises EvalSetError where there is none, AudioError where it cannot be decoded or is silent.
    """
    own = _own()
    known = {**own, **{n: file.path for n, file in shipped().items() if file.kind == kind}}
    if name not in known:
        raise EvalSetError(
            f"There is no {kind} {name!r}. Choose one of: {', '.join(sorted(known))}. A folder of"
            " your own recordings can be named in WHISPERQ_NOISES."
        )
    file = shipped().get(name)
    if file is None or file.kind != kind:
        content = known[name].read_bytes()
        file = NoiseFile(name, kind, known[name], hashlib.sha256(content).hexdigest())
    read(file)
    return file


def _own() -> dict[str, Path]:
    folder = settings.current().noises
    if folder is None:
        return {}
    if not folder.is_dir():
        raise EvalSetError(f"WHISPERQ_NOISES is {folder}, which is not a folder. Correct it.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
    return {path.stem: path for path in paths}


@lru_cache(maxsize=16)
def read(file: NoiseFile) -> Samples:
    """A recording as float64, 16 kHz mono, shape (samples,); a noise can be repeated as it is.

    Raises AudioError where it cannot be decoded, was altered, is silent or shorter than a second.
    """
    content = file.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise AudioError(f"{file.path.name} was altered. Restore the file.")
    samples = decode.load(content, file.path.name).astype(np.float64)
    if not samples.any():
        raise AudioError(f"{file.path.name} is silent. Choose another recording.")
    if file.kind == "impulse response":
        return samples
    if len(samples) < _SHORTEST_S * decode.SAMPLE_RATE:
        raise AudioError(f"{file.path.name} is shorter than a second. Choose a longer recording.")
    return _repeatable(samples)


def _repeatable(samples: Samples) -> Samples:
    """Samples whose last ones fade into what precedes the first, at equal power."""
    fade = int(_FADE_S * decode.SAMPLE_RATE)
    rising = np.sqrt(np.linspace(0, 1, fade))
    body, start = samples[fade:].copy(), samples[:fade]
    body[-fade:] = body[-fade:] * rising[::-1] + start * rising
    return body
