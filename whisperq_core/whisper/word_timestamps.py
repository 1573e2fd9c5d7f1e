"""Start, end and probability of each word of a transcript, by teacher forcing.

Some decoder heads attend to the part of the speech whose word they write (Whisper's alignment
heads). A transcript, whatever wrote it, is teacher-forced; the monotonic path of the highest
attention through these heads gives each word's time. As openai/whisper does (timing.py), but with
a Viterbi alignment, one state for each token, instead of dynamic time warping, and with a state for
the silence before the first word. The same pass tells how probable the model finds each word.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper import short_window
from whisperq_core.whisper.cached_decoder import MAX_TOKENS
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.torch_types import Array, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

    from whisperq_core.whisper.models import Model

# Seconds beyond a segment's end into which its last word may reach.
_MARGIN_S = 0.5
# Attention is smoothed over this many frames of 20 ms, as in openai/whisper.
_SMOOTHED = 7
# Frames this much quieter than the loud ones, as a share of their amplitude, are silence.
_SILENCE = 0.03
# So many silent frames in a row are a pause.
_PAUSE = 5


class TimedWord(BaseModel, frozen=True):
    """A word as written, punctuation included, with its start and end in seconds.

    over_speech: whether anyone probably speaks there; where not, the word is probably hallucinated.
    probability: of the word after the words before it, 0 to 1, the geometric mean over its tokens,
    by the model that timed it; None where it could not be aligned.
    """

    text: str
    start_s: float
    end_s: float
    over_speech: bool = True
    probability: float | None = None


class _Aligned(NamedTuple):
    """Seconds at which each word starts and the last one ends, (words + 1,); and probabilities."""

    starts_s: Array
    probabilities: Sequence[float | None]


def timed_words(
    model: "Model", audio: Array, segments: Sequence[Segment], language: str, task: str
) -> tuple[TimedWord, ...]:
    """The words of all segments in their order. audio: 16 kHz mono float32, shape (samples,).

    Words are spread evenly over their segment where they cannot be aligned: in a translation, and
    with a model that has no alignment heads.
    """
    can_align = alignment_problem(model, task) is None
    words = [segment.text.split() for segment in segments]
    aligned = [
        (_align(model, audio, segment, of_segment, language) if of_segment and can_align else None)
        or _spread(segment, len(of_segment))
        for segment, of_segment in zip(segments, words, strict=True)
    ]
    starts = [np.minimum(one.starts_s, len(audio) / SAMPLE_RATE) for one in aligned]
    # A last word may reach into the margin, but not past the first word of the next segment.
    for before, after in reversed(list(pairwise(starts))):
        np.minimum(before, after[0], out=before)
    return tuple(
        TimedWord(
            text=word,
            start_s=round(float(start), 2),
            end_s=round(float(end), 2),
            probability=probability,
        )
        for of_segment, times, one in zip(words, starts, aligned, strict=True)
        for word, (start, end), probability in zip(
            of_segment, pairwise(times), one.probabilities, strict=True
        )
    )


def _spread(segment: Segment, count: int) -> _Aligned:
    """So many words evenly over the segment."""
    starts = np.linspace(segment.start_s, segment.end_s, count + 1)
    return _Aligned(starts, [None] * count)


def alignment_problem(model: "Model", task: str) -> str | None:
    """Why words are spread evenly over their segments, in a sentence; None where they are not."""
    if task != "transcribe":
        return "Word times are estimates: a translation's words have no places in the speech."
    if not model.torch_model.generation_config.alignment_heads:
        return (
            f"Word times are estimates: {model.name} has no alignment heads, or some that name"
            " layers it does not have (alignment_heads in generation_config.json)."
        )
    return None


def _align(
    model: "Model", audio: Array, segment: Segment, words: list[str], language: str
) -> _Aligned | None:
    """The words of a segment; None for more text than the decoder holds or there are frames for."""
    first = int(segment.start_s * SAMPLE_RATE)
    last = min(len(audio), int((segment.end_s + _MARGIN_S) * SAMPLE_RATE))
    piece = audio[first : min(last, first + int(30 * SAMPLE_RATE))]
    pieces = [model.tokenizer(f" {w}", add_special_tokens=False).input_ids for w in words]
    prompt = model.prompt(language, "transcribe")
    text = [token for tokens in pieces for token in tokens]
    frames = len(piece) * short_window.POSITIONS_PER_S // SAMPLE_RATE
    if len(prompt) + len(text) >= MAX_TOKENS or frames < len(text) + 2:
        return None
    attention, log_probabilities = _teacher_forced(model, piece, frames, [*prompt, *text])
    # The token before predicts a token: rows from the prompt's last on, the end's row included.
    scores = _sharpened(attention)[len(prompt) - 1 :]
    firsts = np.cumsum([0, *map(len, pieces)])
    starts = _after_silence(scores[firsts], _path(scores)[firsts], piece)
    of_text = log_probabilities[len(prompt) - 1 :]
    return _Aligned(
        segment.start_s + starts / short_window.POSITIONS_PER_S,
        [round(float(np.exp(of_text[a:b].mean())), 4) for a, b in pairwise(firsts)],
    )


def _teacher_forced(
    model: "Model", piece: Array, frames: int, tokens: Sequence[int]
) -> tuple[Array, Array]:
    """Cross-attention of the alignment heads, and what the model thinks of the tokens; float32.

    Attention has the shape (heads, tokens, frames). The others are the log-probabilities of every
    token but the first, shape (tokens - 1,).
    """
    import torch

    network, features = model.torch_model, model.features.windows([piece])
    conv = network.model.encoder.conv1.weight
    with torch.no_grad(), _alignment_attention(network) as attention:
        states, _ = short_window.encode(
            network,
            features.to(conv.device, conv.dtype),
            frames / short_window.POSITIONS_PER_S,
            _WINDOW,
        )
        ids = torch.tensor([tokens], device=conv.device)
        output = network(encoder_outputs=(states[None],), decoder_input_ids=ids)
        by_head = torch.stack([weights[:, :frames] for weights in attention()])
        logits = output.logits[0, :-1].float()
        chosen = logits.gather(-1, ids[0, 1:, None])[:, 0] - logits.logsumexp(-1)
    return by_head.float().cpu().numpy(), chosen.cpu().numpy()


def _after_silence(scores: Array, starts: Array, piece: Array) -> Array:
    """Starts moved past a pause: attention assigns it to the word that comes after it.

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
def _alignment_attention(network: WhisperModule) -> Iterator[Callable[[], list["Tensor"]]]:
    """Records cross-attention's queries and keys; the value computes each alignment head's weights.

    A tensor for each head, shape (tokens, positions).
    """
    recorded: dict[tuple[int, str], Tensor] = {}
    layers = network.model.decoder.layers
    heads = network.generation_config.alignment_heads

    def record(at: tuple[int, str]) -> Callable[..., None]:
        return lambda _module, _inputs, output: recorded.__setitem__(at, output)

    hooks = [
        getattr(layers[index].encoder_attn, part).register_forward_hook(record((index, part)))
        for index in {layer for layer, _ in heads}
        for part in ("q_proj", "k_proj")
    ]

    def weights(index: int, head: int) -> "Tensor":
        attention = layers[index].encoder_attn
        width = attention.head_dim
        of_head = slice(head * width, (head + 1) * width)
        queries, keys = (recorded[index, part][0, :, of_head] for part in ("q_proj", "k_proj"))
        scores: Tensor = queries @ keys.T * attention.scaling
        return scores.softmax(-1)

    try:
        yield lambda: [weights(index, head) for index, head in heads]
    finally:
        for hook in hooks:
            hook.remove()


def _sharpened(attention: Array) -> Array:
    """(heads, tokens, frames) → mean over heads, each frame relative to the other tokens."""
    from scipy.ndimage import median_filter

    spread = attention.std(1, keepdims=True)
    relative = (attention - attention.mean(1, keepdims=True)) / np.maximum(spread, 1e-9)
    sharpened: Array = median_filter(relative, (1, 1, _SMOOTHED)).mean(0)
    return sharpened


def _path(scores: Array) -> Array:
    """The frame at which each row begins on the path of the highest sum. scores: (rows, frames).

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
