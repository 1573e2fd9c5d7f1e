"""Measures a model's loss when a single layer is quantized, for each layer.

See sensitivity_results. In the fp32 model the layer's weight is replaced by its dequantized
values. Only what follows the layer is computed again: the encoder's output is cached for layers of
the decoder, the input of its block for a layer of the encoder.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from whisperq_core.errors import Cancelled
from whisperq_core.machine import this_machine
from whisperq_core.quantize import backends, calibration, gptq
from whisperq_core.quantize.backends import Calibrate, mixed_precision
from whisperq_core.quantize.bit_allocation import FORMATS, stored_bytes
from whisperq_core.quantize.calibration import SPEECH_ONLY
from whisperq_core.quantize.recipes import recipe
from whisperq_core.quantize.sensitivity_results import (
    CODE_VERSION,
    AdditivityCheck,
    Conditions,
    FormatLoss,
    LayerLosses,
    Sensitivity,
    store_measurement,
    stored_measurements,
)
from whisperq_core.scoring import divergence
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper import model_sources, model_weights, models
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.short_window import encoder_stem, kept_positions
from whisperq_core.whisper.torch_types import Module

if TYPE_CHECKING:
    from torch import Tensor

# Losses are measured on the shortest utterances of the calibration set, which bounds the time.
# Weights are rounded for the other utterances, so that losses are not measured on the same speech.
UTTERANCES = 6
# Recipes whose losses are also measured on whole models, to check whether losses of layers add up.
CHECKED = (recipe("mixed-80"), recipe("mixed-84"))

# Weights of fewer than 8 bits share a step in groups of this many in every mixed recipe.
_GROUP_SIZE = 64

Progress = Callable[[int, int], None]


class Pieces(Protocol):
    """Stores finished parts of an interrupted measurement; `evaluate.store.Store` is one."""

    def piece(self, key: str, name: str) -> dict[str, Any] | None:
        """A finished piece, or None."""

    def put_piece(self, key: str, name: str, content: dict[str, Any]) -> None:
        """Stores a finished piece."""

    def drop_pieces(self, key: str) -> None:
        """Removes the pieces of a finished measurement."""


def conditions_of(name: str) -> tuple[Conditions, list[Utterance], list[Utterance]]:
    """The identity of a measurement of the model of that name, and the speech of both kinds.

    First the utterances that losses are measured on, then those that weights are rounded for.
    """
    speech = evaluation_sets.by_name(evaluation_sets.CALIBRATION_SET).utterances
    ordered = sorted(speech, key=lambda u: (u.duration_s, u.id))
    measured, rounding_speech = ordered[:UTTERANCES], ordered[UTTERANCES:]
    conditions = Conditions(
        weights_digest=model_weights.digest(model_sources.find(name)),
        speech_digest=calibration.digest(measured) or "",
        calibration_digest=calibration.digest(rounding_speech) or "",
        margin_s=SPEECH_ONLY.margin_s,
        formats=FORMATS,
        group_size=_GROUP_SIZE,
        versions=backends.versions(CHECKED[0], name),
        code_version=CODE_VERSION,
    )
    return conditions, measured, rounding_speech


def measure(
    name: str,
    pieces: Pieces,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Sensitivity:
    """Measures every layer of the model of that name, or returns what was measured before.

    Goes on where it was stopped. Raises Cancelled when stop() says so, between two layers, and the
    errors of a bad name.
    """
    model_sources.download(model_sources.find(name))
    conditions, utterances, rounding_speech = conditions_of(name)
    key = conditions.key
    stored = [one for one in stored_measurements() if one.conditions.key == key]
    if stored:
        return stored[0]
    model = models.load(name)
    speech = CachedActivations(model, utterances)
    linears = _linears(model.torch_model)
    pieces_of_layers: list[dict[str, Any]] = []
    calibrate = calibration.calibrate_on(model, rounding_speech, STUDY, SPEECH_ONLY)
    assert calibrate is not None  # the calibration set is not empty
    moments = gptq.input_second_moments(model.torch_model, linears, calibrate)
    for done, (module, layer) in enumerate(linears.items()):
        piece = pieces.piece(key, f"layer-{module}")
        if piece is None:
            if stop():
                raise Cancelled(f"The measurement of {name} was stopped; finished layers are kept.")
            start = time.perf_counter()
            lost = losses(speech, module, layer, moments[module], conditions.group_size)
            piece = lost.model_dump() | {"wall_s": time.perf_counter() - start}
            pieces.put_piece(key, f"layer-{module}", piece)
        pieces_of_layers.append(piece)
        progress(done + 1, len(linears))
    measured_s = sum(piece.pop("wall_s") for piece in pieces_of_layers)
    layers = tuple(LayerLosses.model_validate(piece) for piece in pieces_of_layers)
    sensitivity = _with_checks(model, conditions, speech, layers, measured_s, calibrate)
    store_measurement(sensitivity)
    pieces.drop_pieces(key)
    return sensitivity


def _with_checks(
    model: models.Model,
    conditions: Conditions,
    speech: "CachedActivations",
    layers: tuple[LayerLosses, ...],
    measured_s: float,
    calibrate: Calibrate | None,
) -> Sensitivity:
    """The measurement with sizes and checks of whole models, once all layers are measured."""
    start = time.perf_counter()
    uniform = dict.fromkeys((layer.module for layer in layers), "int4")
    quantized = _quantized(model, uniform, calibrate)
    weights = sum(
        stored_bytes("int4", layer.rows, layer.columns, conditions.group_size) for layer in layers
    )
    sensitivity = Sensitivity(
        conditions=conditions,
        model=model.name,
        eval_set=evaluation_sets.CALIBRATION_SET,
        utterances=tuple(u.id for u in speech.utterances),
        tokens=len(speech.fp32_log_probs),
        created_at=datetime.now(UTC),
        machine=this_machine(),
        measured_s=measured_s,
        fp32_bytes=backends.serialized_bytes(model.torch_model),
        rest_bytes=quantized.weights_bytes - weights,
        layers=layers,
        checks=(),
    )
    checks = [_check(sensitivity, "int4 everywhere", uniform, quantized, speech)]
    for mixture in CHECKED:
        assert mixture.smaller_pct is not None
        formats = sensitivity.formats_for(mixture.smaller_pct)
        whole = _quantized(model, formats, calibrate)
        checks.append(_check(sensitivity, mixture.name, formats, whole, speech))
    measured_s += time.perf_counter() - start
    return sensitivity.model_copy(update={"checks": tuple(checks), "measured_s": measured_s})


def _check(
    sensitivity: Sensitivity,
    name: str,
    formats: dict[str, str],
    quantized: backends.Quantized,
    speech: "CachedActivations",
) -> AdditivityCheck:
    return AdditivityCheck(
        name=name,
        smaller_pct=100 * (1 - quantized.weights_bytes / sensitivity.fp32_bytes),
        predicted_nats=sensitivity.predicted_nats(formats),
        measured=speech.loss(quantized.torch_model, 0),
    )


def _quantized(
    model: models.Model, formats: dict[str, str], calibrate: Calibrate | None
) -> backends.Quantized:
    mixture = CHECKED[0].with_layers(formats)
    return backends.quantize(model.torch_model, mixture, "cpu", calibrate, "dequantized")


def _linears(torch_model: Module) -> dict[str, Module]:
    from torch import nn

    return {name: m for name, m in torch_model.named_modules() if type(m) is nn.Linear}


def losses(
    speech: "CachedActivations", module: str, layer: Module, moments: "Tensor", group_size: int
) -> LayerLosses:
    """What a layer loses in each format. moments: second moments of its inputs."""
    torch_model, weight = speech.torch_model, layer.weight
    block = re.search(r"encoder\.layers\.(\d+)\.", module)
    first = int(block[1]) if block else None
    losses = {}
    try:
        for name in FORMATS:
            changed = mixed_precision.dequantized(weight.data, moments, name, group_size)
            set_weight(torch_model, layer, changed)
            losses[name] = speech.loss(torch_model, first)
    finally:
        set_weight(torch_model, layer, weight.data)
    rows, columns = weight.shape
    return LayerLosses(module=module, rows=rows, columns=columns, losses=losses)


def set_weight(torch_model: Module, layer: Module, weight: "Tensor") -> None:
    """Replaces a layer's weight, also in the token embeddings where the layer is tied to it."""
    from torch import nn

    layer.weight = nn.Parameter(weight, requires_grad=False)
    if layer is torch_model.proj_out:
        torch_model.model.decoder.embed_tokens.weight = layer.weight


class CachedActivations:
    """The fp32 model's activations on some utterances: inputs of the encoder's blocks, its output.

    fp32_log_probs: log-probabilities of next tokens, shape (tokens, vocabulary).
    """

    def __init__(self, model: models.Model, utterances: Sequence[Utterance]):
        self.torch_model, self.utterances = model.torch_model, utterances
        inputs = calibration.teacher_forced_inputs(model, utterances, STUDY)
        self._tokens = [tokens for _, tokens in inputs]
        # The first token compared is the one after the prompt's last.
        prompt = model.torch_model.generation_config.no_timestamps_token_id
        self._first = self._tokens[0].index(prompt)
        self._states = []
        for samples, _ in inputs:
            seconds = len(samples) / SAMPLE_RATE
            positions = kept_positions(model.torch_model, seconds, SPEECH_ONLY.margin_s)
            self._states.append(self._encoder_states(model.features.windows([samples]), positions))
        self.fp32_log_probs = self._log_probs(model.torch_model, None)

    def loss(self, torch_model: Module, first: int | None) -> FormatLoss:
        """Divergence of a changed model from fp32.

        first: the first block of the encoder that differs; None where only the decoder does.
        """
        log_probs = self._log_probs(torch_model, first)
        nats = divergence.nats_of_tokens(self.fp32_log_probs, log_probs)
        changed = divergence.changed_tokens(self.fp32_log_probs, log_probs)
        return FormatLoss(nats=nats.mean().item(), changed=changed.float().mean().item())

    def _encoder_states(self, features: "Tensor", positions: int) -> list["Tensor"]:
        """The input of each block of the encoder, then the encoder's output."""
        import torch

        encoder = self.torch_model.model.encoder
        with torch.no_grad():
            states = [encoder_stem(encoder, features, positions)[0]]
            for block in encoder.layers:
                states.append(block(states[-1], attention_mask=None))
            return [*states[:-1], encoder.layer_norm(states[-1])]

    def _log_probs(self, torch_model: Module, first: int | None) -> "Tensor":
        import torch

        encoder, log_probs = torch_model.model.encoder, []
        with torch.no_grad():
            for cached, tokens in zip(self._states, self._tokens, strict=True):
                states = cached[-1] if first is None else cached[first]
                if first is not None:
                    for block in encoder.layers[first:]:
                        states = block(states, attention_mask=None)
                    states = encoder.layer_norm(states)
                ids = torch.tensor([tokens[:-1]])
                logits = torch_model(encoder_outputs=(states,), decoder_input_ids=ids).logits
                log_probs.append(logits[0, self._first :].log_softmax(-1))
        return torch.cat(log_probs)
