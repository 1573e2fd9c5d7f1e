"""What a model predicts while it is given a known transcript, one token after the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper import short_window
from whisperq_core.whisper.cached_decoder import MAX_TOKENS
from whisperq_core.whisper.short_window import Window
from whisperq_core.whisper.torch_types import Array, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

    from whisperq_core.whisper.models import Model


class Encoded(NamedTuple):
    """An utterance after the encoder; see `short_window.encode`."""

    states: "Tensor"
    weights: "Tensor"

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return int(self.states.nbytes + self.weights.nbytes)


def encode(model: "Model", torch_model: WhisperModule, audio: Array, window: Window) -> Encoded:
    """Runs the encoder on an utterance of up to 30 s, shape (samples,).

    torch_model: fp32 or quantized, of `model`.
    """
    import torch

    first = torch_model.model.encoder.conv1.weight
    features = model.features.windows([audio]).to(first.device, first.dtype)
    with torch.no_grad():
        seconds = len(audio) / SAMPLE_RATE
        return Encoded(*short_window.encode(torch_model, features, seconds, window))


def forced_tokens(model: "Model", text: str, language: str, task: str) -> tuple[list[int], int]:
    """A transcript as a decoder sequence, and the index of its first predicted token.

    That is the first after the prompt. The sequence ends where the decoder's positions do.
    """
    tokens = model.tokens(text, language, task)[:MAX_TOKENS]
    return tokens, len(model.prompt(language, task))


def log_probabilities(
    torch_model: WhisperModule, encoded: Encoded, tokens: Sequence[int], first: int
) -> "Tensor":
    """Log-probabilities of every next token, shape (len(tokens) - first, vocabulary), fp32.

    tokens, first: of `forced_tokens`.
    """
    import torch

    with torch.no_grad():
        logits = short_window.teacher_forced_logits(torch_model, encoded, tokens, first)
    return logits.float().log_softmax(-1)
