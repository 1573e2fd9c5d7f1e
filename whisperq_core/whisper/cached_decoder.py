"""Whisper's decoder over a cache of keys and values that is allocated once for a batch."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from whisperq_core.whisper.torch_types import Module, WhisperModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_TOKENS = 448


class KeyValue(NamedTuple):
    """Keys and values of one attention layer, each (rows, heads, positions, width of a head)."""

    keys: "Tensor"
    values: "Tensor"

    def rows(self, chosen: Sequence[int]) -> "KeyValue":
        """Those of the chosen rows."""
        return KeyValue(self.keys[chosen], self.values[chosen])


def attention_dtype(torch_model: WhisperModule, states: "Tensor") -> "torch.dtype":
    """What attention computes in, where the recipe chooses it; else what everything does."""
    dtype: torch.dtype = getattr(torch_model, "attention_dtype", states.dtype)
    return dtype


def split_heads(states: "Tensor", heads: int) -> "Tensor":
    """(batch, length, width) → (batch, heads, length, width of a head)."""
    split: Tensor = states.unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]
    return split.transpose(1, 2)


def attend(
    layer: Module,
    attention: Callable[..., Any],
    heads: int,
    normed: "Tensor",
    cache: KeyValue,
    mask: "Tensor | None",
) -> "Tensor":
    """What an attention layer adds to the states, shape (rows, new, width)."""
    queries = split_heads(layer.q_proj(normed) * layer.scaling, heads).to(cache.keys.dtype)
    attended, _ = attention(layer, queries, *cache, mask, dropout=0.0, scaling=1.0)
    output: Tensor = layer.out_proj(attended.flatten(2).to(normed.dtype))
    return output


class CachedDecoder:
    """Decoder layers with a key/value cache of a batch, which grows by a token a step.

    rows, positions: of the batch, and of its longest encoder states. like: a tensor on the model's
    device in the precision of its states. length: tokens in the cache, the prompt included.
    shrinks: whether `keep` may drop rows.
    """

    shrinks = True

    def __init__(
        self, torch_model: WhisperModule, rows: int, positions: int, like: "Tensor"
    ) -> None:
        import torch
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        config, tables = torch_model.config, torch_model.generation_config
        self._model, self._decoder = torch_model, torch_model.model.decoder
        self._heads = config.decoder_attention_heads
        self._attention = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]
        self._suppressed, self._suppressed_first = (
            torch.tensor(list(ids or []), dtype=torch.long, device=like.device)
            for ids in (tables.suppress_tokens, tables.begin_suppress_tokens)
        )
        self.length = 0

        dtype = attention_dtype(torch_model, like)
        self._cross_mask = like.new_full((rows, 1, 1, positions), -math.inf, dtype=dtype)
        width = like.shape[-1] // self._heads

        def caches(allocate: Callable[..., "Tensor"], length: int) -> list[KeyValue]:
            shape = rows, self._heads, length, width
            return [
                KeyValue(*(allocate(shape, dtype=dtype) for _ in range(2)))
                for _ in self._decoder.layers
            ]

        # What a mask hides has to be finite; what is not computed yet is not looked at.
        self._cross_kv = caches(like.new_zeros, positions)
        self._self_kv = caches(like.new_empty, MAX_TOKENS)

    def start(self, encoded: Sequence[tuple["Tensor", "Tensor"]]) -> None:
        """Takes the encoder states of a batch, of which nothing is decoded yet."""
        self.length = 0
        self._fill_cross(encoded)

    def _fill_cross(self, encoded: Iterable[tuple["Tensor", "Tensor"]]) -> None:
        """Cross-attention's cache and mask, row by row."""
        for row, (states, weights) in enumerate(encoded):
            self._cross_mask[row, ..., : len(states)] = weights
            batch = states[None]  # the same tensor for all layers: int8 recipes quantize it once
            for layer, cache in zip(self._decoder.layers, self._cross_kv, strict=True):
                attention = layer.encoder_attn
                keys, values = attention.k_proj(batch), attention.v_proj(batch)
                cache.keys[row, :, : len(states)] = split_heads(keys, self._heads)[0]
                cache.values[row, :, : len(states)] = split_heads(values, self._heads)[0]

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these."""
        self._cross_mask = self._cross_mask[rows]
        self._cross_kv = [cache.rows(rows) for cache in self._cross_kv]
        self._self_kv = [cache.rows(rows) for cache in self._self_kv]

    def next_tokens(self, ids: "Tensor") -> "Tensor":
        """The most probable next token of each row, (rows,), after new ids of (rows, new)."""
        first = self.length == 0
        logits = self.logits_of(self.states(ids)[:, -1])
        return self._chosen(logits, first)

    def _chosen(self, logits: "Tensor", first: bool) -> "Tensor":
        """The most probable token that is not suppressed, shape (rows,); changes the logits."""
        logits.index_fill_(1, self._suppressed, -math.inf)
        if first:
            logits.index_fill_(1, self._suppressed_first, -math.inf)
        return logits.argmax(-1)

    def logits_of(self, states: "Tensor") -> "Tensor":
        """Logits of states of shape (…, width), shape (…, vocabulary)."""
        logits: Tensor = self._model.proj_out(self._decoder.layer_norm(states))
        return logits

    def states(self, ids: "Tensor") -> "Tensor":
        """States after the last layer at each of the new ids, shape (rows, new, width)."""
        from torch.nn import functional

        decoder, before, now = self._decoder, self.length, self.length + ids.shape[1]
        states: Tensor = decoder.embed_tokens(ids) + decoder.embed_positions.weight[before:now]
        # A prompt may not look ahead; one new token has nothing ahead.
        causal = None
        if ids.shape[1] > 1:
            shape = (ids.shape[1], now)
            causal = self._cross_mask.new_full(shape, -math.inf).triu(before + 1)[None, None]
        for layer, self_kv, cross_kv in zip(
            decoder.layers, self._self_kv, self._cross_kv, strict=True
        ):
            normed = layer.self_attn_layer_norm(states)
            attention = layer.self_attn
            self_kv.keys[:, :, before:now] = split_heads(attention.k_proj(normed), self._heads)
            self_kv.values[:, :, before:now] = split_heads(attention.v_proj(normed), self._heads)
            past = KeyValue(self_kv.keys[:, :, :now], self_kv.values[:, :, :now])
            states = states + self._attend(attention, normed, past, causal)
            normed = layer.encoder_attn_layer_norm(states)
            states = states + self._attend(layer.encoder_attn, normed, cross_kv, self._cross_mask)
            normed = layer.final_layer_norm(states)
            states = states + layer.fc2(functional.gelu(layer.fc1(normed)))
        self.length = now
        return states

    def _attend(
        self, layer: Module, normed: "Tensor", cache: KeyValue, mask: "Tensor | None"
    ) -> "Tensor":
        return attend(layer, self._attention, self._heads, normed, cache, mask)
