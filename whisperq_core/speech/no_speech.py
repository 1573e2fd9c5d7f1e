"""Recordings in which nobody speaks: stretches of the shipped noises, alone and in pairs, silence.

Whatever is transcribed of them is hallucinated. The same number is the same recording on every
machine of one kind.
"""

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from whisperq_core.speech import noises
from whisperq_core.speech.conditions import Condition, Samples, stretch_of
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.noises import NoiseFile

LENGTH_S = 20.0
# Of the mean power, in turn.
LEVELS_DBFS = (-30, -40, -50)
# All shipped noises but the coffee shop, in which people talk.
_NOISES = {"city", "rain", "storm", "train", "wind"}
# The sets by name, and how many recordings each has: an hour, and the first quarter of it.
SETS = {"no-speech": 180, "no-speech-15-minutes": 45}


@dataclass(frozen=True)
class NoSpeech:
    """One recording: made from `file` by `condition`. source: the noises that are in it."""

    id: str
    source: str
    file: NoiseFile
    condition: Condition


def _files() -> list[NoiseFile]:
    return [file for name, file in sorted(noises.shipped().items()) if name in _NOISES]


def attribution() -> str:
    """Authors and licences of the noises."""
    return "; ".join(file.attribution for file in _files())


def recordings(count: int) -> list[NoSpeech]:
    """The first recordings: all sources in turn, at one level after the other."""
    files = _files()
    sources: list[tuple[NoiseFile, ...]] = [(), *((file,) for file in files)]
    sources += combinations(files, 2)
    listed = []
    for number in range(count):
        chosen = sources[number % len(sources)]
        level = LEVELS_DBFS[number // len(sources) % len(LEVELS_DBFS)]
        source = " and ".join(file.name for file in chosen) or "silence"
        condition = Condition(
            f"{LENGTH_S:g} s of {source} at {level} dBFS",
            source,
            partial(_noise_alone, chosen, level),
            tuple(file.sha256 for file in chosen),
        )
        id = f"{number:03}-{source.replace(' ', '-')}"
        listed.append(NoSpeech(id, source, files[0], condition))
    return listed


def _noise_alone(
    files: tuple[NoiseFile, ...], level_dbfs: float, _: Samples, id: str, speaker: str | None
) -> Samples:
    """Noises that are equally loud, together at the level."""
    length = round(LENGTH_S * SAMPLE_RATE)
    total = np.zeros(length)
    for file in files:
        stretch = stretch_of(file, id, length)
        total += stretch / float(np.sqrt(np.square(stretch).mean()) or 1.0)
    power = float(np.square(total).mean())
    return total * (10 ** (level_dbfs / 20) / float(np.sqrt(power))) if power else total
