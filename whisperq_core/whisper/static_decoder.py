"""Compiled models: a decoder step whose tensors keep shape and place, as one CUDA graph.

On a GPU, a step of a small Whisper takes less time than launching its some hundred kernels. Here a
layer's step is compiled, once for all layers, and all layers of a step are recorded as one CUDA
graph, which is launched as a whole. So attention covers the whole cache, masked beyond the current
token, and batches are padded to a few sizes, each with a graph of its own. On other devices the
same step runs without a graph; tests run it there.

Compiling takes seconds and is no part of any measured time: `short_window.generate` runs a batch of
a new size twice and measures the second.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from whisperq_core.whisper.cached_decoder import (
    MAX_TOKENS,
    CachedDecoder,
    KeyValue,
    attend,
    split_heads,
)
from whisperq_core.whisper.torch_types import Module, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

# torch.compile's. Tests replace it by "eager", which traces and generates no code.
COMPILER = "inductor"
# Encoder positions are padded to a multiple of this, and rows to a power of two.
_POSITIONS = 512
# Each recipe, batch size and length compiles the same function anew; PyTorch's limit is 8.
_MOST_COMPILATIONS = 64
# Steps before a graph is recorded, so that libraries have chosen their kernels.
_WARM_UP_STEPS = 3

_ATTRIBUTE = "compiled_decoding"


@dataclass
class _Compiled:
    """What a compiled model carries: its decoders by rows and positions.

    least_rows: batches are padded to so many.
    """

    least_rows: int
    decoders: dict[tuple[int, int], "StaticDecoder"] = field(default_factory=dict)


def compile_model(torch_model: WhisperModule, least_rows: int = 1) -> None:
    """Makes the model generate by compiled layers and static decoders; compiles nothing yet.

    least_rows: batches are padded to so many, for kernels that need them.
    """
    import torch

    torch._dynamo.config.recompile_limit = _MOST_COMPILATIONS
    for layer in torch_model.model.encoder.layers:
        layer.compile(backend=COMPILER, fullgraph=True, dynamic=True)
    setattr(torch_model, _ATTRIBUTE, _Compiled(least_rows))


def is_compiled(torch_model: WhisperModule) -> bool:
    """Whether `compile_model` was called with it."""
    return hasattr(torch_model, _ATTRIBUTE)


def sizes_of(torch_model: WhisperModule) -> int:
    """Sizes of batches that have a decoder; 0 for a model that is not compiled."""
    return len(getattr(torch_model, _ATTRIBUTE).decoders) if is_compiled(torch_model) else 0


def decoder_for(
    torch_model: WhisperModule, encoded: Sequence[tuple["Tensor", "Tensor"]]
) -> CachedDecoder:
    """What decodes the batch, its encoder states taken: a static decoder for a compiled model."""
    rows, positions = len(encoded), max(len(states) for states, _ in encoded)
    like = encoded[0][0]
    if is_compiled(torch_model):
        compiled: _Compiled = getattr(torch_model, _ATTRIBUTE)
        rows = 1 << (max(rows, compiled.least_rows) - 1).bit_length()
        positions = math.ceil(positions / _POSITIONS) * _POSITIONS
        if (rows, positions) not in compiled.decoders:
            made = StaticDecoder(torch_model, rows, positions, like)
            compiled.decoders[rows, positions] = made
        decoder: CachedDecoder = compiled.decoders[rows, positions]
    else:
        decoder = CachedDecoder(torch_model, rows, positions, like)
    decoder.start(encoded)
    return decoder


def _layer_step(
    layer: Module,
    attention: Callable[..., Any],
    heads: int,
    states: "Tensor",
    self_kv: tuple["Tensor", ...],
    cross_kv: tuple["Tensor", ...],
    position: "Tensor",
    self_mask: "Tensor",
    cross_mask: "Tensor",
) -> "Tensor":
    """A decoder layer at one new token of each row, shape (rows, 1, width), in place in the cache.

    position: of the token, shape (1,). self_mask: hides what comes after it.
    """
    from torch.nn import functional

    normed = layer.self_attn_layer_norm(states)
    own = layer.self_attn
    for cache, projection in zip(self_kv, (own.k_proj, own.v_proj), strict=True):
        cache.index_copy_(2, position, split_heads(projection(normed), heads).to(cache.dtype))
    states = states + attend(own, attention, heads, normed, KeyValue(*self_kv), self_mask)
    normed = layer.encoder_attn_layer_norm(states)
    cross = layer.encoder_attn
    states = states + attend(cross, attention, heads, normed, KeyValue(*cross_kv), cross_mask)
    normed = layer.final_layer_norm(states)
    output: Tensor = states + layer.fc2(functional.gelu(layer.fc1(normed)))
    return output


class StaticDecoder(CachedDecoder):
    """A decoder for batches of up to some size, one after the other; its step is recorded once."""

    shrinks = False

    def __init__(
        self, torch_model: WhisperModule, rows: int, positions: int, like: "Tensor"
    ) -> None:
        import torch

        super().__init__(torch_model, rows, positions, like)
        for cache in (tensor for pair in self._self_kv for tensor in pair):
            cache.zero_()  # a step attends to all of it, under a mask
        device = like.device
        self._layer_step = torch.compile(
            _layer_step, backend=COMPILER, fullgraph=True, dynamic=False
        )
        self._ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(1, dtype=torch.long, device=device)
        self._places = torch.arange(MAX_TOKENS, device=device)
        self._tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self._records = device.type == "cuda"
        self._graph: Any = None

    def start(self, encoded: Sequence[tuple["Tensor", "Tensor"]]) -> None:
        """As in `CachedDecoder`; rows beyond the batch attend to zeros, whose result is finite."""
        self._cross_mask.fill_(-math.inf)
        self._cross_mask[len(encoded) :] = 0
        super().start(encoded)

    def keep(self, rows: Sequence[int]) -> None:
        """Raises ValueError: every row stays."""
        raise ValueError("the rows of a static decoder stay")

    def next_tokens(self, ids: "Tensor") -> "Tensor":
        """As in `CachedDecoder`: the prompt at once, then one recorded step after the other."""
        import torch

        rows = len(ids)
        if self.length == 0:
            padding = ids[:1].expand(len(self._ids) - rows, -1)
            return super().next_tokens(torch.cat([ids, padding]))[:rows]
        self._ids[:rows] = ids
        self._position.fill_(self.length)
        self._run_step()
        self.length += 1
        return self._tokens[:rows]

    def _run_step(self) -> None:
        """One step: ids and position in, tokens and a longer cache out."""
        import torch

        if not self._records:
            self._step()
            return
        if self._graph is None:
            # Whatever these steps write to the cache, the recorded one writes again.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_STEPS):
                    self._step()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._step()
        self._graph.replay()

    def _step(self) -> None:
        decoder = self._decoder
        states = decoder.embed_tokens(self._ids) + decoder.embed_positions.weight[self._position]
        hidden = (self._places > self._position)[None, None, None]
        self_mask = self._cross_mask.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)
        for layer, self_kv, cross_kv in zip(
            decoder.layers, self._self_kv, self._cross_kv, strict=True
        ):
            states = self._layer_step(
                layer,
                self._attention,
                self._heads,
                states,
                tuple(self_kv),
                tuple(cross_kv),
                self._position,
                self_mask,
                self._cross_mask,
            )
        self._tokens.copy_(self._chosen(self.logits_of(states[:, -1]), first=False))
