"""When each word of a transcript is said, by the attention of the model that heard it.

Some decoder heads attend to the place in the speech whose word they write (Whisper's alignment
heads). A transcript, whoever wrote it, is given to the decoder; the way through what these heads
attend to, one place after the other, that gathers most attention tells each word's time. As
openai/whisper does (timing.py), but with one row of frames for each token (Viterbi) in place of
dynamic time warping, and with a row for the silence before the first word.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper import short_window
from whisperq_core.whisper.runtime import Segment

if TYPE_CHECKING:
    from torch import nn

    from whisperq_core.whisper.models import Model

# Of speech beyond a segment's end, where its last word may reach.
_MARGIN_S = 0.5
# Attention is smoothed over this many frames of 20 ms, as in openai/whisper.
_SMOOTHED = 7
# Frames this much quieter than the loud ones, as a share of their amplitude, are silence.
_SILENCE = 0.03
# So many silent frames in a row are a pause.
_PAUSE = 5


class TimedWord(BaseModel, frozen=True):
    """A word as written, punctuation included, and when it is said, in seconds."""

    text: str
    start_s: float
    end_s: float


def timed_words(
    model: "Model", audio: np.ndarray, segments: Sequence[Segment], language: str, task: str
) -> tuple[TimedWord, ...]:
    """The words of all segments in their order. audio: 16 kHz mono float32, shape (samples,).

    A translation's words have no places of their own, and a model may come without its alignment
    heads: words are then spread evenly over their segment.
    """
    heads = model.torch_model.generation_config.alignment_heads
    found: list[TimedWord] = []
    for segment in segments:
        words = segment.text.split()
        starts = None
        if words and heads and task == "transcribe":
            starts = _starts(model, audio, segment, words, language)
        if starts is None:
            starts = np.linspace(segment.start_s, segment.end_s, len(words) + 1)
        found += [
            TimedWord(text=word, start_s=round(float(start), 2), end_s=round(float(end), 2))
            for word, start, end in zip(words, starts[:-1], starts[1:], strict=True)
        ]
    return tuple(found)


def _starts(
    model: "Model", audio: np.ndarray, segment: Segment, words: list[str], language: str
) -> np.ndarray | None:
    """Seconds at which each word starts and the last one ends, shape (words + 1,).

    None for more text than the decoder holds, or than there are frames for.
    """
    import torch

    first = int(segment.start_s * SAMPLE_RATE)
    last = min(len(audio), int((segment.end_s + _MARGIN_S) * SAMPLE_RATE))
    piece = audio[first : min(last, first + int(30 * SAMPLE_RATE))]
    pieces = [model.tokenizer(f" {w}", add_special_tokens=False).input_ids for w in words]
    prompt = model.prompt(language, "transcribe")
    text = [token for tokens in pieces for token in tokens]
    frames = len(piece) * short_window.POSITIONS_PER_S // SAMPLE_RATE
    if len(prompt) + len(text) >= short_window.MAX_TOKENS or frames < len(text) + 2:
        return None
    features = model.features.windows([piece])
    network = model.torch_model
    conv = network.model.encoder.conv1.weight
    with torch.no_grad(), _attention(network) as seen:
        states, _ = short_window.encode(
            network,
            features.to(conv.device, conv.dtype),
            frames / short_window.POSITIONS_PER_S,
            _WINDOW,
        )
        ids = torch.tensor([[*prompt, *text]], device=conv.device)
        network(encoder_outputs=(states[None],), decoder_input_ids=ids)
        attended = torch.stack([weights[:, :frames] for weights in seen()])
    # The token before predicts a token: rows from the prompt's last on, the end's row included.
    scores = _sharpened(attended.float().cpu().numpy())[len(prompt) - 1 :]
    firsts = np.cumsum([0, *map(len, pieces)])
    starts = _after_silence(scores[firsts], _path(scores)[firsts], piece)
    at = segment.start_s + starts / short_window.POSITIONS_PER_S
    return np.minimum(at, len(audio) / SAMPLE_RATE)


def _after_silence(scores: np.ndarray, starts: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Starts moved past a pause: attention gives it to the word that comes after it.

    scores: of each word's first token, shape (words + 1, frames); starts: frames, shape (words +
    1,). A word begins where the speech does in which its attention is highest.
    """
    size = SAMPLE_RATE // short_window.POSITIONS_PER_S
    frames = piece[: len(piece) // size * size].reshape(-1, size)
    loud = np.sqrt((frames**2).mean(1))
    silent = loud < _SILENCE * np.percentile(loud, 95)
    pause = np.convolve(silent, np.ones(_PAUSE), "same") >= _PAUSE
    moved = starts.copy()
    for word, (start, end) in enumerate(pairwise(starts)):
        peak = start + int((scores[word, start:end] - 1e3 * silent[start:end]).argmax())
        pauses = np.flatnonzero(pause[start:peak])
        if len(pauses):
            moved[word] = min(peak, start + int(pauses[-1]) + _PAUSE // 2 + 1)
    return moved


_WINDOW = short_window.Window(margin_s=1.0)


@contextmanager
def _attention(network: "nn.Module") -> Iterator:
    """Records queries and keys; the value is a function giving each alignment head's attention.

    A tensor a head, shape (tokens, positions).
    """
    import torch

    kept: dict[tuple[int, str], torch.Tensor] = {}
    layers = network.model.decoder.layers
    heads = network.generation_config.alignment_heads
    hooks = [
        getattr(layers[index].encoder_attn, part).register_forward_hook(
            lambda _, __, out, at=(index, part): kept.__setitem__(at, out)
        )
        for index in {layer for layer, _ in heads}
        for part in ("q_proj", "k_proj")
    ]

    def seen() -> Iterator[torch.Tensor]:
        for index, head in heads:
            attention = layers[index].encoder_attn
            width = attention.head_dim
            mine = slice(head * width, (head + 1) * width)
            queries, keys = (kept[index, part][0, :, mine] for part in ("q_proj", "k_proj"))
            yield (queries @ keys.T * attention.scaling).softmax(-1)

    try:
        yield lambda: list(seen())
    finally:
        for hook in hooks:
            hook.remove()


def _sharpened(attended: np.ndarray) -> np.ndarray:
    """(heads, tokens, frames) → mean over heads, each frame relative to the other tokens."""
    from scipy.ndimage import median_filter

    spread = attended.std(1, keepdims=True)
    relative = (attended - attended.mean(1, keepdims=True)) / np.maximum(spread, 1e-9)
    return median_filter(relative, (1, 1, _SMOOTHED)).mean(0)


def _path(scores: np.ndarray) -> np.ndarray:
    """The frame at which each row begins on the way of the highest sum. scores: (rows, frames).

    Every row has a frame or more, in order; what comes before the first row scores 0 a frame.
    """
    rows = np.vstack([np.zeros(scores.shape[1]), scores])
    best = np.full(len(rows), -np.inf)
    best[0] = 0.0
    stepped = np.zeros(rows.shape, bool)
    for frame in range(rows.shape[1]):
        before = np.concatenate([[-np.inf], best[:-1]])
        stepped[:, frame] = before > best
        best = np.maximum(best, before) + rows[:, frame]
    starts = np.zeros(len(scores), int)
    row = len(rows) - 1
    for frame in range(rows.shape[1] - 1, -1, -1):
        if row and stepped[row, frame]:
            starts[row - 1] = frame
            row -= 1
    return starts
