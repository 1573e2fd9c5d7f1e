"""Model × speech → transcripts, and what exactly is timed.

Timed is `generate` alone: encoder and greedy decoding of one batch, the device synchronised before
and after. Reading audio, computing features and turning tokens into text are not timed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whisperq_core.audio import SAMPLE_RATE
from whisperq_core.errors import ModelError, RecipeError
from whisperq_core.eval_sets import Utterance
from whisperq_core.protocols import Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from whisperq_core.models import Model

WINDOW_S = 30.0


@dataclass(frozen=True)
class Transcripts:
    """Hypotheses of one batch in the order of its inputs, and the generation's wall time."""

    texts: tuple[str, ...]
    wall_s: float


def plan_batches(utterances: Sequence[Utterance], batch_size: int) -> list[tuple[Utterance, ...]]:
    """Batches by length, longest first, ties by id; over 30 s an utterance is a batch of its own.

    Depends on nothing but its arguments, since a batch's composition can change its transcripts.
    """
    ordered = sorted(utterances, key=lambda u: (-u.duration_s, u.id))
    batches = [(u,) for u in ordered if u.duration_s > WINDOW_S]
    short = ordered[len(batches) :]
    return batches + [tuple(short[i : i + batch_size]) for i in range(0, len(short), batch_size)]


def _inputs(model: "Model", torch_model: "nn.Module", audio: Sequence[np.ndarray]) -> dict:
    """Log-mel features, shape (batch, mels, frames), on the model's device in its precision."""
    long = len(audio) == 1 and len(audio[0]) > WINDOW_S * SAMPLE_RATE
    shape = {"truncation": False, "padding": "longest"} if long else {}
    found = model.features(
        list(audio),
        sampling_rate=SAMPLE_RATE,
        return_tensors="pt",
        return_attention_mask=True,
        **shape,
    )
    conv = torch_model.model.encoder.conv1.weight
    inputs = {"input_features": found.input_features.to(conv.device, conv.dtype)}
    if long:
        inputs |= {
            "attention_mask": found.attention_mask.to(conv.device),
            "return_timestamps": True,
        }
    return inputs


def _options(model: "Model", protocol: Protocol, languages: Sequence[str | None]) -> dict:
    options = {"num_beams": protocol.beams, "do_sample": False}
    if protocol.timestamps:
        options["return_timestamps"] = True
    if model.multilingual:
        chosen = list(languages)
        options |= {"task": protocol.task, "language": None if None in chosen else chosen}
    elif protocol.task != "transcribe" or set(languages) - {"en", None}:
        raise ModelError(
            f"{model.name} knows English only. Choose a multilingual model, such as base, to"
            " transcribe other languages or to translate."
        )
    return options


def synchronize(device: str) -> None:
    """Waits until the device has done what was asked of it."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def transcribe(
    model: "Model",
    torch_model: "nn.Module",
    audio: Sequence[np.ndarray],
    languages: Sequence[str | None],
    protocol: Protocol,
) -> Transcripts:
    """Transcribes one batch of 16 kHz mono float32 audio, each of shape (samples,).

    torch_model is `model` after a recipe. languages: one code an input, None to detect it. An input
    over 30 s has to be alone in its batch.
    """
    import torch

    inputs = _inputs(model, torch_model, audio)
    options = _options(model, protocol, languages)
    device = inputs["input_features"].device.type
    # no_grad, not inference_mode: Quanto's packed weights cannot be inference tensors.
    with torch.no_grad():
        synchronize(device)
        start = time.perf_counter()
        tokens = torch_model.generate(**inputs, **options)
        synchronize(device)
        wall_s = time.perf_counter() - start
    texts = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return Transcripts(tuple(text.strip() for text in texts), wall_s)


def warm_up(model: "Model", torch_model: "nn.Module", audio: Sequence[np.ndarray]) -> None:
    """One untimed forward pass, which also looks at the logits.

    Raises RecipeError when they are not numbers: generate() would silently return empty text.
    """
    import torch

    logits = forward(model, torch_model, audio, [[model.torch_model.config.decoder_start_token_id]])
    if not torch.isfinite(logits).all():
        raise RecipeError(
            "The quantized model computes values that are not numbers (NaN), so it cannot"
            " transcribe. Choose another recipe for this model."
        )


def forward(
    model: "Model",
    torch_model: "nn.Module",
    audio: Sequence[np.ndarray],
    tokens: Sequence[Sequence[int]],
) -> "Tensor":
    """Logits of a teacher-forced pass, shape (batch, tokens, vocabulary).

    One row of tokens serves the whole batch where there is only one.
    """
    import torch

    features = _inputs(model, torch_model, audio)["input_features"]
    ids = torch.tensor(tokens, device=features.device).expand(len(audio), -1)
    with torch.no_grad():
        return torch_model(input_features=features, decoder_input_ids=ids).logits


def detect_language(model: "Model", audio: np.ndarray) -> str:
    """Code of the language spoken in the first 30 s, by the fp32 model; "en" for English-only."""
    import torch

    if not model.multilingual:
        return "en"
    first = audio[: int(WINDOW_S * SAMPLE_RATE)]
    with torch.no_grad():
        token = model.torch_model.detect_language(**_inputs(model, model.torch_model, [first]))
    return model.tokenizer.decode(token[0]).strip("<|>")
