"""Greedy generation in a window that fits the speech, with few steps of Python a token.

Whisper was trained on windows of 30 s, and generate() pads every utterance to one: most of what it
computes is silence. Here the encoder sees an utterance and a margin of silence. The silence beyond
is cut, or folded: one position represents many, and counts as many in attention, by the logarithm
of their number added to its scores (proportional attention of Bolya et al., Token Merging, 2023).
In the same way, pairs of positions may be merged in the upper encoder layers, which halves what the
decoder reads at every step. Every utterance has a window of its own, so that its neighbours in a
batch do not change its text, unless the recipe has one activation range a batch
(`Recipe.depends_on_batch`): the decoder is batched.

It works on the layers of any recipe. On a CPU, and where windows differ, the encoder has a batch
size of 1, so that activations stay in the CPU's caches.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from whisperq_core.memory import retain_freed_memory
from whisperq_core.whisper import static_decoder
from whisperq_core.whisper.cached_decoder import MAX_TOKENS, CachedDecoder, attention_dtype
from whisperq_core.whisper.generation import Generated, Times, synchronize
from whisperq_core.whisper.torch_types import Module, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

POSITIONS_PER_S = 50
# Rows are asked whether to stop once in so many tokens.
_STOP_CHECK_EVERY = 32
# The batch shrinks when this share of its rows or fewer are still decoded.
_SHRINK_AT = 0.75
# Positions at the end of cut features that the convolutions blend with their zero padding.
_EDGE = 2


@dataclass(frozen=True)
class Window:
    """How much of the 30 s is computed.

    margin_s: silence kept after the speech. fold: positions of the silence beyond that become one,
    None to cut it off. merge_at: the part of the encoder's layers, from 0 to 1, after which pairs
    of positions become one; None for never.
    """

    margin_s: float
    fold: int | None = None
    merge_at: float | None = None


WHOLE = Window(margin_s=30.0)


StopCheck = Callable[[list[int]], bool]


def generate(
    torch_model: WhisperModule,
    features: "Tensor",
    seconds: Sequence[float],
    prompts: Sequence[Sequence[int]],
    window: Window,
    should_stop: StopCheck | None = None,
) -> Generated:
    """Generates for a batch of log-mel features, shape (batch, mels, frames of 30 s).

    seconds: of speech in each row. prompts: first tokens of each row, all of one length.
    should_stop: called with a row's tokens every 32 tokens; True ends the row. Call it under
    no_grad.
    """
    with retain_freed_memory():
        sizes = static_decoder.sizes_of(torch_model)
        generated = _generate(torch_model, features, seconds, prompts, window, should_stop)
        if static_decoder.sizes_of(torch_model) > sizes:
            # The first batch of a size compiled what the next ones use; that is not measured.
            generated = _generate(torch_model, features, seconds, prompts, window, should_stop)
        return generated


class _Ended(Enum):
    """Why a row is no longer decoded."""

    END_TOKEN = auto()
    STOPPED = auto()  # by should_stop


@dataclass
class _Row:
    """An utterance of the batch: the tokens generated for it, and why it ended, if it did."""

    tokens: list[int] = field(default_factory=list)
    ended: _Ended | None = None

    def append(self, token: int, end_token: int, should_stop: StopCheck | None) -> None:
        """Takes the next token, unless the row has ended."""
        if self.ended:
            return
        if token == end_token:
            self.ended = _Ended.END_TOKEN
            return
        self.tokens.append(token)
        if should_stop and len(self.tokens) % _STOP_CHECK_EVERY == 0 and should_stop(self.tokens):
            self.ended = _Ended.STOPPED


def _generate(
    torch_model: WhisperModule,
    features: "Tensor",
    seconds: Sequence[float],
    prompts: Sequence[Sequence[int]],
    window: Window,
    should_stop: StopCheck | None,
) -> Generated:
    import torch

    device, end_token = features.device.type, torch_model.generation_config.eos_token_id
    synchronize(device)
    start = time.perf_counter()
    encoded = _encode_batch(torch_model, features, seconds, window)
    synchronize(device)
    encoder_s = time.perf_counter() - start
    decoder = static_decoder.decoder_for(torch_model, encoded)
    rows = [_Row() for _ in encoded]
    # The rows that the decoder computes; one that ended stays until the batch shrinks.
    computed, first_token_s = rows, 0.0
    ids = torch.tensor(prompts, device=features.device)
    while decoder.length + ids.shape[1] < MAX_TOKENS:
        next_ids = decoder.next_tokens(ids)
        tokens = next_ids.tolist()
        first_token_s = first_token_s or time.perf_counter() - start
        for row, token in zip(computed, tokens, strict=True):
            row.append(token, end_token, should_stop)
        active = [place for place, row in enumerate(computed) if not row.ended]
        if not active:
            break
        if decoder.shrinks and len(active) <= _SHRINK_AT * len(computed):
            decoder.keep(active)
            computed, next_ids = [computed[place] for place in active], next_ids[active]
        ids = next_ids[:, None]
    padded = _padded([row.tokens for row in rows], end_token)
    synchronize(device)
    return Generated(
        tokens=padded,
        avg_logprobs=(),
        token_count=sum(len(row.tokens) + (row.ended is _Ended.END_TOKEN) for row in rows),
        first_token_s=first_token_s,
        attempts=1,
        times=Times(time.perf_counter() - start, encoder_s),
    )


def _padded(rows: Sequence[list[int]], end_token: int) -> "Tensor":
    """Shape (rows, longest row), filled up with the end token."""
    import torch

    longest = max(map(len, rows))
    return torch.tensor([row + [end_token] * (longest - len(row)) for row in rows]).long()


def teacher_forced_logits(
    torch_model: WhisperModule,
    encoded: tuple["Tensor", "Tensor"],
    tokens: Sequence[int],
    first: int,
) -> "Tensor":
    """Logits of the tokens from index `first` on, shape (tokens - first, vocabulary).

    encoded: what `encode` gave for one utterance. tokens: a whole decoder sequence, of which each
    token is predicted from those before it. Call it under no_grad.
    """
    import torch

    decoder = CachedDecoder(torch_model, 1, len(encoded[0]), encoded[0])
    decoder.start([encoded])
    states = decoder.states(torch.tensor([tokens[:-1]], device=encoded[0].device))
    logits: Tensor = decoder.logits_of(states[0, first - 1 :])
    return logits


def encoder_stem(
    encoder: Module, features: "Tensor", kept: int, fold: int | None = None
) -> tuple["Tensor", "Tensor"]:
    """What the first encoder layer is given: both convolutions, and positions added.

    features: shape (rows, mels, frames). kept: positions computed from them. fold: how many of the
    remaining positions, all silence, become one; None to leave them out. Returns states of shape
    (rows, positions, width), and the logarithm of how many positions each represents, (positions,).
    """
    import torch
    from torch.nn import functional

    convolved = functional.gelu(encoder.conv1(features))
    convolved = functional.gelu(encoder.conv2(convolved)).transpose(1, 2)
    table = encoder.embed_positions.weight
    states = convolved[:, :kept] + table[:kept]
    weights = states.new_zeros(kept)
    if fold and kept < len(table):
        # Features of silence are constant, so one position has the convolutions' value of all.
        starts = torch.arange(kept, len(table), fold, device=states.device)
        counts = (len(table) - starts).clamp(max=fold)
        silence = convolved[:, kept - 1 : kept] + table[starts + counts // 2]
        states = torch.cat([states, silence], 1)
        weights = torch.cat([weights, counts.to(states.dtype).log()])
    return states, weights


def kept_positions(torch_model: WhisperModule, seconds: float, margin_s: float) -> int:
    """Encoder positions of so much speech and margin, at most those of the whole window."""
    positions = math.ceil((seconds + margin_s) * POSITIONS_PER_S)
    return min(int(torch_model.config.max_source_positions), positions)


def encode(
    torch_model: WhisperModule, features: "Tensor", seconds: float, window: Window
) -> tuple["Tensor", "Tensor"]:
    """States of one row, shape (positions, width), and each position's weight in attention.

    Weights are logarithms of how many positions one represents, shape (positions,). features has
    the shape (1, mels, frames).
    """
    states, weights = _encode_together(torch_model, features, seconds, window)
    return states[0], weights


def _encode_together(
    torch_model: WhisperModule, features: "Tensor", seconds: float, window: Window
) -> tuple["Tensor", "Tensor"]:
    """`encode` of rows with as many seconds of speech each, states (rows, positions, width)."""
    encoder = torch_model.model.encoder
    kept = kept_positions(torch_model, seconds, window.margin_s)
    frames = min(features.shape[-1], 2 * (kept + _EDGE))
    states, weights = encoder_stem(encoder, features[..., :frames], kept, window.fold)
    merge_at = round(window.merge_at * len(encoder.layers)) if window.merge_at else None
    mask = _mask_of(torch_model, weights)
    for index, layer in enumerate(encoder.layers):
        if index == merge_at:
            states, weights = _merged(states, weights, kept)
            mask = _mask_of(torch_model, weights)
        states = layer(states, attention_mask=mask)
    return encoder.layer_norm(states), weights


def _mask_of(torch_model: WhisperModule, weights: "Tensor") -> "Tensor | None":
    """What is added to attention's scores, shape (1, 1, 1, positions); None for nothing."""
    if not weights.any():
        return None
    return weights.to(attention_dtype(torch_model, weights))[None, None, None]


def _encode_batch(
    torch_model: WhisperModule, features: "Tensor", seconds: Sequence[float], window: Window
) -> list[tuple["Tensor", "Tensor"]]:
    """`encode` of each row; at once where windows are whole and the device is not a CPU."""
    if window == WHOLE and _is_parallel(features):
        states, weights = _encode_together(torch_model, features, seconds[0], window)
        return [(row, weights) for row in states]
    return [
        encode(torch_model, row[None], length, window)
        for row, length in zip(features, seconds, strict=True)
    ]


def _is_parallel(features: "Tensor") -> bool:
    """Whether a batch takes less time at once than row by row: see the module's docstring."""
    return features.device.type != "cpu"


def _merged(states: "Tensor", weights: "Tensor", count: int) -> tuple["Tensor", "Tensor"]:
    """Pairs among the first count positions become their mean, which counts as two."""
    import torch

    even = count - count % 2
    pairs = states[:, :even].unflatten(1, (-1, 2)).mean(2)  # type: ignore[no-untyped-call]
    doubled = weights[:even:2] + math.log(2)
    return torch.cat([pairs, states[:, even:]], 1), torch.cat([doubled, weights[even:]])
