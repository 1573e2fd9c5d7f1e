"""The transcripts of a batch, and the interface of every runtime, PyTorch or another.

A runtime that is not PyTorch decodes by itself. It follows the protocol as far as it can; where it
cannot, the description of its recipe says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.torch_types import Array


@dataclass(frozen=True)
class Segment:
    """A part of the speech, in seconds from its start, and its transcript.

    over_speech: whether anyone probably speaks there; where not, the text is probably hallucinated.
    """

    start_s: float
    end_s: float
    text: str
    over_speech: bool = True


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


def combine_transcripts(parts: Sequence[Transcripts]) -> Transcripts:
    """Several as one: times and tokens added up, the time to the first token their mean.

    What one of them does not tell, all do not.
    """
    encoder = [part.encoder_s for part in parts if part.encoder_s is not None]
    first_token = [part.first_token_s for part in parts if part.first_token_s is not None]
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return Transcripts(
        texts=tuple(text for part in parts for text in part.texts),
        temperatures=tuple(one for part in parts for one in part.temperatures),
        wall_s=sum(part.wall_s for part in parts),
        encoder_s=sum(encoder) if len(encoder) == len(parts) else None,
        first_token_s=fmean(first_token) if len(first_token) == len(parts) else None,
        tokens=sum(tokens) if len(tokens) == len(parts) else None,
        redone=tuple(redone for part in parts for redone in part.redone),
    )


class Runtime(ABC):
    """A model after a recipe, ready to transcribe."""

    @abstractmethod
    def warm_up(self, audio: Sequence[Array]) -> None:
        """Runs once, untimed, on 16 kHz mono float32 audio: the first timed run is then no slower.

        Raises RecipeError where the model computes what cannot be transcribed.
        """

    @abstractmethod
    def transcribe(
        self, audio: Sequence[Array], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """Transcribes one batch of 16 kHz mono float32 audio, each of shape (samples,).

        languages: one code an input, None to detect it. An input over 30 s is alone in its batch.
        Raises ModelError for a language or task that the model does not know.
        """
