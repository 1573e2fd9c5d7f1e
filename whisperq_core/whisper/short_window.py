"""Greedy generation in a window that fits the speech, with few steps of Python a token.

Whisper was trained on windows of 30 s, and generate() pads every utterance to one: most of what it
computes is silence. Here the encoder sees an utterance and a margin of silence. The silence beyond
is cut, or folded: one position stands for many, and counts as many in attention, by the logarithm
of their number added to its scores (proportional attention of Bolya et al., Token Merging, 2023).
In the same way, pairs of positions may be merged in the upper encoder layers, which halves what the
decoder reads at every step. Every utterance has a window of its own, so that its neighbours in a
batch do not change its text.

It works on the layers of any recipe, at batch size 1 in the encoder, where activations stay in the
CPU's caches.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from whisperq_core.memory import retain_freed_memory
from whisperq_core.whisper.generation import Generated, Times, synchronize

if TYPE_CHECKING:
    from torch import Tensor, nn

POSITIONS_PER_S = 50
MAX_TOKENS = 448
# How often, in tokens, unfinished rows are shown to the watch.
_WATCH_EVERY = 32
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


def generate(
    torch_model: "nn.Module",
    features: "Tensor",
    seconds: Sequence[float],
    prompts: Sequence[Sequence[int]],
    window: Window,
    watch: Callable[[list[int]], bool] | None = None,
) -> Generated:
    """Generates for a batch of log-mel features, shape (batch, mels, frames of 30 s).

    seconds: of speech in each row. prompts: first tokens of each row, all of one length. watch:
    asked of a row's tokens now and then; True ends the row. To be called under no_grad.
    """
    with retain_freed_memory():
        return _generate(torch_model, features, seconds, prompts, window, watch)


def _generate(torch_model, features, seconds, prompts, window, watch) -> Generated:
    import torch

    device, end = features.device.type, torch_model.generation_config.eos_token_id
    synchronize(device)
    start = time.perf_counter()
    encoded = [
        encode(torch_model, row[None], length, window)
        for row, length in zip(features, seconds, strict=True)
    ]
    synchronize(device)
    encoder_s = time.perf_counter() - start
    decoder = _Decoder(torch_model, encoded)
    found: list[list[int]] = [[] for _ in encoded]
    first_token_s, ends = 0.0, 0
    # The rows of the batch that are still decoded, by their place in it; None where one is over.
    rows: list[int | None] = list(range(len(encoded)))
    ids = torch.tensor(prompts, device=features.device)
    while decoder.length + ids.shape[1] < MAX_TOKENS:
        chosen = decoder.choose(ids)
        tokens = chosen.tolist()
        first_token_s = first_token_s or time.perf_counter() - start
        for place, row in enumerate(rows):
            if row is None:
                continue
            if tokens[place] == end:
                ends += 1
                rows[place] = None
                continue
            found[row].append(tokens[place])
            if watch and len(found[row]) % _WATCH_EVERY == 0 and watch(found[row]):
                rows[place] = None
        going = [place for place, row in enumerate(rows) if row is not None]
        if not going:
            break
        if len(going) <= 0.75 * len(rows):
            decoder.keep(going)
            rows, chosen = [rows[place] for place in going], chosen[going]
        ids = chosen[:, None]
    longest = max(map(len, found))
    padded = torch.tensor([row + [end] * (longest - len(row)) for row in found]).long()
    synchronize(device)
    return Generated(
        tokens=padded,
        avg_logprobs=(),
        chosen=sum(map(len, found)) + ends,
        first_token_s=first_token_s,
        attempts=1,
        times=Times(time.perf_counter() - start, encoder_s),
    )


def encode(
    torch_model: "nn.Module", features: "Tensor", seconds: float, window: Window
) -> tuple["Tensor", "Tensor"]:
    """States of one row, shape (positions, width), and each position's weight in attention.

    Weights are logarithms of how many positions one stands for, shape (positions,). features has
    the shape (1, mels, frames).
    """
    import torch
    from torch.nn import functional

    encoder, most = torch_model.model.encoder, torch_model.config.max_source_positions
    kept = min(most, math.ceil((seconds + window.margin_s) * POSITIONS_PER_S))
    frames = min(features.shape[-1], 2 * (kept + _EDGE))
    made = functional.gelu(encoder.conv1(features[..., :frames]))
    made = functional.gelu(encoder.conv2(made)).transpose(1, 2)
    table = encoder.embed_positions.weight
    states = made[:, :kept] + table[:kept]
    weights = states.new_zeros(kept)
    if window.fold and kept < most:
        # Features of silence are constant, so one position has the convolutions' value of all.
        starts = torch.arange(kept, most, window.fold, device=states.device)
        counts = (most - starts).clamp(max=window.fold)
        silence = made[:, kept - 1 : kept] + table[starts + counts // 2]
        states = torch.cat([states, silence], 1)
        weights = torch.cat([weights, counts.to(states.dtype).log()])
    merge_at = round(window.merge_at * len(encoder.layers)) if window.merge_at else None
    for index, layer in enumerate(encoder.layers):
        if index == merge_at:
            states, weights = _merged(states, weights, kept)
        mask = weights.to(_attention_dtype(torch_model, states))[None, None, None]
        states = layer(states, attention_mask=mask if weights.any() else None)
    return encoder.layer_norm(states)[0], weights


def _merged(states: "Tensor", weights: "Tensor", count: int) -> tuple["Tensor", "Tensor"]:
    """Pairs among the first count positions become their mean, which counts as two."""
    import torch

    even = count - count % 2
    pairs = states[:, :even].unflatten(1, (-1, 2)).mean(2)
    doubled = weights[:even:2] + math.log(2)
    return torch.cat([pairs, states[:, even:]], 1), torch.cat([doubled, weights[even:]])


def _attention_dtype(torch_model: "nn.Module", states: "Tensor"):
    """What attention computes in, where the recipe chooses it; else what everything does."""
    return getattr(torch_model, "attention_dtype", states.dtype)


class _Decoder:
    """Decoder layers with keys and values of a batch, which grow by a token a step."""

    def __init__(self, torch_model: "nn.Module", encoded: Sequence[tuple["Tensor", "Tensor"]]):
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        config, tables = torch_model.config, torch_model.generation_config
        self._model, self._decoder = torch_model, torch_model.model.decoder
        self._heads = config.decoder_attention_heads
        self._attend = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]
        self._suppressed = list(tables.suppress_tokens or [])
        self._first = list(tables.begin_suppress_tokens or [])
        self.length = 0

        states = encoded[0][0]
        count, width = len(encoded), states.shape[-1]
        longest = max(len(s) for s, _ in encoded)
        dtype = _attention_dtype(torch_model, states)
        self._mask = states.new_full((count, 1, 1, longest), -math.inf, dtype=dtype)
        shape = count, self._heads, longest, width // self._heads
        self._heard = [
            tuple(states.new_zeros(shape, dtype=dtype) for _ in range(2))
            for _ in self._decoder.layers
        ]
        for row, (states, weights) in enumerate(encoded):
            self._mask[row, ..., : len(states)] = weights
            alone = states[None]  # the same tensor for all layers: int8 recipes quantize it once
            for layer, (keys, values) in zip(self._decoder.layers, self._heard, strict=True):
                attention = layer.encoder_attn
                keys[row, :, : len(states)] = self._split(attention.k_proj(alone))[0]
                values[row, :, : len(states)] = self._split(attention.v_proj(alone))[0]
        shape = count, self._heads, MAX_TOKENS, width // self._heads
        self._said = [
            tuple(states.new_empty(shape, dtype=dtype) for _ in range(2))
            for _ in self._decoder.layers
        ]

    def _split(self, states: "Tensor") -> "Tensor":
        """(batch, length, width) → (batch, heads, length, width of a head)."""
        return states.unflatten(-1, (self._heads, -1)).transpose(1, 2)

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with some rows only."""
        self._mask = self._mask[rows]
        self._heard = [(keys[rows], values[rows]) for keys, values in self._heard]
        self._said = [(keys[rows], values[rows]) for keys, values in self._said]

    def choose(self, ids: "Tensor") -> "Tensor":
        """The likeliest next token of each row, after the new ids of shape (rows, new)."""
        logits = self._logits(ids)
        logits[:, self._suppressed] = -math.inf
        if self._first:
            logits[:, self._first] = -math.inf
            self._first = []
        return logits.argmax(-1)

    def _logits(self, ids: "Tensor") -> "Tensor":
        from torch.nn import functional

        decoder, before, now = self._decoder, self.length, self.length + ids.shape[1]
        states = decoder.embed_tokens(ids) + decoder.embed_positions.weight[before:now]
        # A prompt may not look ahead; one new token has nothing ahead.
        causal = None
        if ids.shape[1] > 1:
            shape = (ids.shape[1], now)
            causal = self._mask.new_full(shape, -math.inf).triu(before + 1)[None, None]
        for layer, said, heard in zip(decoder.layers, self._said, self._heard, strict=True):
            normed = layer.self_attn_layer_norm(states)
            attention = layer.self_attn
            said[0][:, :, before:now] = self._split(attention.k_proj(normed))
            said[1][:, :, before:now] = self._split(attention.v_proj(normed))
            past = [kept[:, :, :now] for kept in said]
            states = states + self._look(attention, normed, *past, causal)
            normed = layer.encoder_attn_layer_norm(states)
            states = states + self._look(layer.encoder_attn, normed, *heard, self._mask)
            normed = layer.final_layer_norm(states)
            states = states + layer.fc2(functional.gelu(layer.fc1(normed)))
        self.length = now
        return self._model.proj_out(decoder.layer_norm(states[:, -1]))

    def _look(self, attention: "nn.Module", normed: "Tensor", keys, values, mask) -> "Tensor":
        """What attention adds to the states, shape (rows, new, width)."""
        queries = self._split(attention.q_proj(normed) * attention.scaling).to(keys.dtype)
        found, _ = self._attend(attention, queries, keys, values, mask, dropout=0.0, scaling=1.0)
        return attention.out_proj(found.flatten(2).to(normed.dtype))
