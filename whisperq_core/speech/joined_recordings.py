"""Long recordings: which utterances of a set are joined, in which order, and their samples.

In order of speaker and id, numbers as numbers, so LibriSpeech's utterances follow each other as
they were read. No speaker is in two recordings of which one has others too: recordings with the
same `speaker_of` are one speaker's or one group's, and independent of all others.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from whisperq_core.scoring.languages import unit_of
from whisperq_core.speech.conditions import SPEAKERS_AND, Samples
from whisperq_core.speech.decode import SAMPLE_RATE

if TYPE_CHECKING:
    from whisperq_core.speech.evaluation_sets import Utterance

    Parts = tuple[Utterance, ...]

# Silence between two utterances, in seconds.
PAUSE_S = 0.5
# A speaker with this part of a recording's length has recordings of their own.
LEAST_ALONE = 0.75


def groups(utterances: Iterable["Utterance"], length_s: float) -> "list[Parts]":
    """The utterances of each recording, in order; recordings are about `length_s` seconds long.

    A speaker with LEAST_ALONE of that has recordings of their own. All others are joined speaker by
    speaker; utterances without a speaker one by one. A recording has one language. One of what is
    left over may be shorter.
    """
    ordered = sorted(utterances, key=_order)
    found: list[Parts] = []
    together: dict[str, list[Parts]] = defaultdict(list)
    for (language, speaker), its in groupby(ordered, lambda u: (u.language, u.speaker)):
        own = tuple(its)
        if speaker is None or seconds(own) >= LEAST_ALONE * length_s:
            found += _divided([(one,) for one in own], length_s)
        else:
            together[language].append(own)
    for several in together.values():
        found += _divided(several, length_s)
    return sorted(found, key=lambda parts: _order(parts[0]))


def _order(utterance: "Utterance") -> tuple[Any, ...]:
    unnamed = utterance.speaker is None
    return utterance.language, unnamed, _natural(utterance.speaker or ""), _natural(utterance.id)


def _natural(text: str) -> list[str | int]:
    """Text and numbers in turn, so that 9 is before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", text))]


def _divided(units: "Sequence[Parts]", length_s: float) -> "list[Parts]":
    """The units, none of them divided, in recordings of about the same length."""
    total = sum(seconds(unit) + PAUSE_S for unit in units)
    count = max(1, int(total / length_s + 0.5))
    recordings: dict[int, list[Utterance]] = defaultdict(list)
    before = 0.0
    for unit in units:
        length = seconds(unit) + PAUSE_S
        recordings[int(count * (before + length / 2) / total)] += unit
        before += length
    return [tuple(recordings[number]) for number in sorted(recordings)]


def seconds(parts: "Sequence[Utterance]") -> float:
    """Length of the utterances joined, in seconds."""
    return round(sum(part.duration_s for part in parts) + PAUSE_S * (len(parts) - 1), 6)


def speaker_of(parts: "Sequence[Utterance]") -> str | None:
    """The speaker, or all that speak; None where none is named."""
    return SPEAKERS_AND.join(dict.fromkeys(u.speaker for u in parts if u.speaker)) or None


def reference_of(parts: "Sequence[Utterance]") -> str:
    """The words spoken, in order."""
    between = "" if unit_of(parts[0].language) == "characters" else " "
    return between.join(part.reference for part in parts if part.reference)


def join(
    parts: "Sequence[Utterance]",
    read: "Callable[[Utterance], npt.NDArray[np.float32]]",
    _: Samples,
    id: str,
    speaker: str | None,
) -> Samples:
    """The samples of all parts with silence between them, shape (samples,); a `Change`."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    pieces = [read(parts[0])]
    for part in parts[1:]:
        pieces += [pause, read(part)]
    return np.concatenate(pieces).astype(np.float64)
