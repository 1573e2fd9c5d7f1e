"""What a batch of speech becomes, and what a runtime has to do for it: PyTorch's, or another one.

A runtime that is not PyTorch decodes by itself. It follows the protocol as far as it can; where it
cannot, the description of its recipe says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from whisperq_core.whisper.protocols import Protocol


@dataclass(frozen=True)
class Segment:
    """A part of the speech, in seconds from its start, and what was heard in it."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Transcripts:
    """Hypotheses of one batch in the order of its inputs, and what the generation took.

    temperatures: at which each was accepted; for audio over 30 s the highest of its windows.
    redone: which were decoded again in the whole window, as they looped in a fitted one.
    wall_s, encoder_s: seconds in all, and in the encoder; the rest is the decoder's.
    first_token_s: seconds from the start of the first attempt to its first token.
    tokens: generated tokens of all attempts, their ends included, prompts not.
    encoder_s, first_token_s and tokens are None where a runtime does not tell.
    segments: of a single input over 30 s, where a runtime tells them.
    """

    texts: tuple[str, ...]
    temperatures: tuple[float, ...]
    wall_s: float
    encoder_s: float | None = None
    first_token_s: float | None = None
    tokens: int | None = None
    redone: tuple[bool, ...] = ()
    segments: tuple[Segment, ...] = ()


def combine_transcripts(found: Sequence[Transcripts]) -> Transcripts:
    """Several as one: times and tokens added up, the time to the first token their mean."""

    def known(combine: Callable, values: list) -> float | None:
        return None if None in values else combine(values)

    return Transcripts(
        texts=tuple(text for one in found for text in one.texts),
        temperatures=tuple(heat for one in found for heat in one.temperatures),
        wall_s=sum(one.wall_s for one in found),
        encoder_s=known(sum, [one.encoder_s for one in found]),
        first_token_s=known(fmean, [one.first_token_s for one in found]),
        tokens=known(sum, [one.tokens for one in found]),
        redone=tuple(redone for one in found for redone in one.redone),
    )


class Runtime(ABC):
    """A model after a recipe, ready to transcribe."""

    @abstractmethod
    def warm_up(self, audio: Sequence[np.ndarray]) -> None:
        """One untimed look at 16 kHz mono float32 audio, so that the first timed one is no slower.

        Raises RecipeError where the model computes what cannot be transcribed.
        """

    @abstractmethod
    def transcribe(
        self, audio: Sequence[np.ndarray], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """Transcribes one batch of 16 kHz mono float32 audio, each of shape (samples,).

        languages: one code an input, None to detect it. An input over 30 s is alone in its batch.
        Raises ModelError for a language or task that the model does not know.
        """
