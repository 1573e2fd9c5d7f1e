"""Whisper as two graphs, tensors in and tensors out, for runtimes that want a graph; and the greedy
loop that drives them.

    encoder   features (batch, mels, frames) → cross-attention's keys and values
    step      tokens (batch, new), self-attention's keys and values so far, cross-attention's
              → logits of the last token (batch, vocabulary), self-attention's keys and values

Keys and values are a tensor each and layer, layer by layer, of the shapes (batch, heads, width of a
head, positions) and (batch, heads, positions, width of a head), which is how attention multiplies
them: a runtime that copies what it cuts, transposes or broadcasts has nothing to copy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.runtime import Runtime, Transcripts, combine_transcripts
from whisperq_core.whisper.torch_types import Array, Module, WhisperModule
from whisperq_core.whisper.transcription import WINDOW_S

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from whisperq_core.whisper.models import Model

Run = Callable[..., Sequence[Array]]


@dataclass(frozen=True)
class Graph:
    """A module as PyTorch exported it, and names of its inputs and outputs in their order."""

    name: str
    program: "ExportedProgram"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def export_graphs(torch_model: WhisperModule) -> tuple[Graph, Graph]:
    """The encoder and the decoder's step of an fp32 model, over its own layers."""
    import torch
    from torch.export import Dim, export

    config = torch_model.config
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    positions, width = config.max_source_positions, config.d_model // heads
    encoder, step = graph_modules(torch_model)
    features = torch.zeros(2, config.num_mel_bins, 2 * positions)
    tokens = torch.zeros(2, 3, dtype=torch.long)

    def kv_example(length: int) -> list["Tensor"]:
        # Each a tensor of its own: of one that is given twice, export would make one input.
        both = (width, length), (length, width)
        return [torch.zeros(2, heads, *shape) for _ in range(layers) for shape in both]

    batch = {0: Dim.AUTO}
    grows = ({0: Dim.AUTO, 3: Dim.AUTO}, {0: Dim.AUTO, 2: Dim.AUTO}) * layers
    with torch.no_grad():
        encoder_program = export(encoder, (features,), dynamic_shapes=(batch,))
        shapes = {0: Dim.AUTO, 1: Dim.AUTO}, (*grows, *[batch] * 2 * layers)
        decoder_program = export(
            step, (tokens, *kv_example(5), *kv_example(positions)), dynamic_shapes=shapes
        )
    self_kv, cross_kv, next_kv = (_names(layers, kind) for kind in ("", "cross_", "next_"))
    return (
        Graph("encoder", encoder_program, ("features",), cross_kv),
        Graph("step", decoder_program, ("tokens", *self_kv, *cross_kv), ("logits", *next_kv)),
    )


def _names(layers: int, kind: str) -> tuple[str, ...]:
    return tuple(f"{kind}{what}_{at}" for at in range(layers) for what in ("keys", "values"))


def graph_modules(torch_model: WhisperModule) -> tuple[Module, Module]:
    """What the two graphs are exported from."""
    import torch
    from torch import nn
    from torch.nn import functional

    heads = torch_model.config.decoder_attention_heads

    def split(states: "Tensor") -> "Tensor":
        by_head: Tensor = states.unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]
        return by_head.transpose(1, 2)

    def keys_and_values(layer: Module, states: "Tensor") -> tuple["Tensor", "Tensor"]:
        return split(layer.k_proj(states)).transpose(2, 3), split(layer.v_proj(states))

    def attend(
        layer: Module,
        states: "Tensor",
        keys: "Tensor",
        values: "Tensor",
        mask: "Tensor | None" = None,
    ) -> "Tensor":
        queries = split(layer.q_proj(states)) * values.shape[-1] ** -0.5
        weights = torch.bmm(queries.flatten(0, 1), keys.flatten(0, 1))
        weights = (weights if mask is None else weights + mask).softmax(-1)
        mixed = torch.bmm(weights, values.flatten(0, 1))
        by_head = mixed.unflatten(0, (-1, heads))  # type: ignore[no-untyped-call]
        output: Tensor = layer.out_proj(by_head.transpose(1, 2).flatten(2))
        return output

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.layers = torch_model.model.encoder, torch_model.model.decoder.layers

        def forward(self, features: "Tensor") -> tuple["Tensor", ...]:
            states = self.encoder(features).last_hidden_state
            cross_kv = [keys_and_values(layer.encoder_attn, states) for layer in self.layers]
            return tuple(tensor for pair in cross_kv for tensor in pair)

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.proj_out = torch_model.model.decoder, torch_model.proj_out

        def forward(self, tokens: "Tensor", *states: "Tensor") -> tuple["Tensor", ...]:
            self_kv, cross_kv = states[: len(states) // 2], states[len(states) // 2 :]
            past, new = self_kv[0].shape[3], tokens.shape[1]
            places = torch.arange(new) + past
            later = torch.arange(past + new)[None] > places[:, None]
            mask = torch.where(later, torch.finfo(torch.float32).min, 0.0)
            positions = self.decoder.embed_positions.weight[places]
            hidden = self.decoder.embed_tokens(tokens) + positions
            next_kv: list[Tensor] = []
            for at, layer in enumerate(self.decoder.layers):
                before, of_layer = layer.self_attn_layer_norm(hidden), slice(2 * at, 2 * at + 2)
                keys, values = keys_and_values(layer.self_attn, before)
                old_keys, old_values = self_kv[of_layer]
                grown = torch.cat([old_keys, keys], 3), torch.cat([old_values, values], 2)
                hidden = hidden + attend(layer.self_attn, before, *grown, mask)
                next_kv += grown
                before = layer.encoder_attn_layer_norm(hidden)
                hidden = hidden + attend(layer.encoder_attn, before, *cross_kv[of_layer])
                before = layer.final_layer_norm(hidden)
                hidden = hidden + layer.fc2(functional.gelu(layer.fc1(before)))
            return self.proj_out(self.decoder.layer_norm(hidden[:, -1])), *next_kv

    return Encoder().eval(), Step().eval()


class GraphRuntime(Runtime):
    """Decodes greedily with the two graphs, in the batches and from the features of Transformers.

    encode and step run them: arrays in and out, in the graphs' order.
    """

    def __init__(self, model: "Model", encode: Run, step: Run) -> None:
        self.model, self.encode, self.step = model, encode, step
        self._tables = model.torch_model.generation_config
        self._longest = model.torch_model.config.max_target_positions
        self._suppressed = np.zeros(model.torch_model.config.vocab_size, np.float32)
        self._suppressed[self._tables.suppress_tokens] = -np.inf
        self._suppressed_first = self._suppressed.copy()
        self._suppressed_first[self._tables.begin_suppress_tokens] = -np.inf

    def warm_up(self, audio: Sequence[Array]) -> None:
        """Transcribes the beginning of the audio."""
        self.transcribe([audio[0][:SAMPLE_RATE]], ["en"], STUDY)

    def transcribe(
        self, audio: Sequence[Array], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """Transcribes a batch; longer audio in pieces of 30 s, cut wherever these end."""
        self.model.require_english(languages, protocol.task)
        window = int(WINDOW_S * SAMPLE_RATE)
        if len(audio) > 1 or len(audio[0]) <= window:
            return self._window(audio, languages, protocol.task)
        pieces = [audio[0][at : at + window] for at in range(0, len(audio[0]), window)]
        windows = [self._window([piece], languages, protocol.task) for piece in pieces]
        combined = combine_transcripts(windows)
        return replace(combined, texts=(" ".join(combined.texts),), temperatures=(0.0,))

    def _window(
        self, audio: Sequence[Array], languages: Sequence[str | None], task: str
    ) -> Transcripts:
        features = self.model.features.windows(audio).numpy()
        start = time.perf_counter()
        cross_kv = self.encode(features)
        encoder_s = time.perf_counter() - start
        empty_kv = [c[..., :0, :] if at % 2 else c[..., :0] for at, c in enumerate(cross_kv)]
        if self.model.multilingual and None in languages:
            languages = self._detected(empty_kv, cross_kv)
        ids = np.array([self.model.prompt(language, task) for language in languages])
        self_kv, first_token_s = empty_kv, 0.0
        generated: list[Array] = []
        ended, count = np.zeros(len(audio), bool), 0
        while self_kv[0].shape[3] + ids.shape[1] < self._longest:
            logits, *self_kv = self.step(ids, *self_kv, *cross_kv)
            suppressed = self._suppressed if generated else self._suppressed_first
            tokens = np.where(ended, self._tables.eos_token_id, (logits + suppressed).argmax(-1))
            count += int((~ended).sum())
            generated.append(tokens)
            first_token_s = first_token_s or time.perf_counter() - start
            ended |= tokens == self._tables.eos_token_id
            if ended.all():
                break
            ids = tokens[:, None]
        wall_s = time.perf_counter() - start
        texts = self.model.tokenizer.batch_decode(np.array(generated).T, skip_special_tokens=True)
        return Transcripts(
            texts=tuple(text.strip() for text in texts),
            temperatures=(0.0,) * len(texts),
            wall_s=wall_s,
            encoder_s=encoder_s,
            first_token_s=first_token_s,
            tokens=count,
        )

    def _detected(self, empty_kv: Sequence[Array], cross_kv: Sequence[Array]) -> list[str]:
        """The most probable language of each row, by the first token of Whisper's decoder."""
        start = np.full((len(cross_kv[0]), 1), self._tables.decoder_start_token_id)
        codes, ids = zip(*self._tables.lang_to_id.items(), strict=True)
        best = self.step(start, *empty_kv, *cross_kv)[0][:, ids].argmax(-1)
        return [codes[at].strip("<|>") for at in best]
