"""A divergence run: a recipe's predictions compared with fp32's along fp32's transcripts."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from whisperq_core.evaluate.pieces import DivergencePiece, RunPieces, forced_batch_name
from whisperq_core.evaluate.prepared_model import PreparedModel
from whisperq_core.evaluate.records import (
    AccuracyRun,
    DivergenceRun,
    UtteranceDivergence,
)
from whisperq_core.evaluate.resolution import ResolvedRequest
from whisperq_core.machine import this_machine
from whisperq_core.scoring import divergence
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper import teacher_forcing
from whisperq_core.whisper.teacher_forcing import Encoded
from whisperq_core.whisper.torch_types import WhisperModule
from whisperq_core.whisper.transcription import WINDOW_S, window_of

if TYPE_CHECKING:
    from torch import Tensor

# Mono at 16 kHz, shape (samples,).
Samples = npt.NDArray[np.float32]

QUANTILES = (0.5, 0.9, 0.99)
# fp32's encoder states stay in memory for the next recipe of a grid: half an hour of speech is
# about 200 MB of base's.
_MOST_CACHED_BYTES = 512 * 2**20


class _StatesCache:
    """fp32's encoder states of the utterances that were last needed."""

    def __init__(self) -> None:
        self._model: object = None
        self._states: dict[str, Encoded] = {}
        self._nbytes = 0

    def get(self, model: PreparedModel, utterance: Utterance, audio: Samples) -> Encoded:
        spec = model.resolved.spec
        key = spec.weights_digest, spec.device, spec.protocol
        if key != self._model:
            self._model, self._states, self._nbytes = key, {}, 0
        name = f"{spec.eval_set_digest}/{utterance.id}"
        if name not in self._states:
            encoded = _encode(model, model.fp32_torch_model, audio)
            if self._nbytes + encoded.nbytes > _MOST_CACHED_BYTES:
                return encoded
            self._states[name] = encoded
            self._nbytes += encoded.nbytes
        return self._states[name]


_FP32_STATES = _StatesCache()


def measure_divergence(
    resolved: ResolvedRequest, pieces: RunPieces, baseline: AccuracyRun
) -> DivergenceRun:
    """Measures the batches that are not measured yet.

    baseline: fp32's accuracy run on the same speech, under the same protocol.
    """
    model = PreparedModel(resolved, pieces)
    texts = {u.id: u.hypothesis for u in baseline.utterances}
    batches = [
        pieces.get_or_compute(
            forced_batch_name(batch), DivergencePiece, partial(_measure, model, batch, texts)
        )
        for batch in range(len(resolved.batches))
    ]
    token_nats = np.concatenate([piece.token_nats for piece in batches])
    return DivergenceRun(
        **model.record_fields(),
        machine=this_machine(),
        peak_memory_bytes=None,  # fp32 runs beside the recipe
        baseline_key=baseline.key,
        utterances=tuple(u for piece in batches for u in piece.utterances),
        nats_quantiles={str(q): float(np.quantile(token_nats, q)) for q in QUANTILES}
        if len(token_nats)
        else {},
        left_out=tuple(id for piece in batches for id in piece.left_out),
    )


def _measure(model: PreparedModel, batch: int, texts: dict[str, str]) -> DivergencePiece:
    results, token_nats, left_out = [], [], []
    for utterance in model.resolved.batches[batch]:
        text = texts[utterance.id].strip()
        # Whisper's window holds no more, and without words there is nothing to predict.
        if not text or utterance.duration_s > WINDOW_S:
            left_out.append(utterance.id)
            continue
        fp32, other = _predictions(model, utterance, text)
        nats = divergence.nats_of_tokens(fp32, other)
        token_nats += nats.tolist()
        results.append(
            UtteranceDivergence(
                id=utterance.id,
                speaker=utterance.speaker,
                language=utterance.language,
                duration_s=utterance.duration_s,
                tokens=len(nats),
                nats=float(nats.sum()),
                changed=int(divergence.changed_tokens(fp32, other).sum()),
            )
        )
    return DivergencePiece(
        utterances=tuple(results),
        token_nats=tuple(token_nats),
        left_out=tuple(left_out),
    )


def _predictions(model: PreparedModel, utterance: Utterance, text: str) -> "list[Tensor]":
    """Log-probabilities of every token by fp32 and by the recipe, (tokens, vocabulary) each."""
    protocol = model.resolved.spec.protocol
    language = protocol.language or utterance.language
    tokens, first = teacher_forcing.forced_tokens(model.model, text, language, protocol.task)
    fp32, quantized = model.fp32_torch_model, model.torch_model
    audio = evaluation_sets.read_audio(utterance)[: int(WINDOW_S * SAMPLE_RATE)]
    states = (
        (fp32, _FP32_STATES.get(model, utterance, audio)),
        (quantized, _encode(model, quantized, audio)),
    )
    return [
        teacher_forcing.log_probabilities(torch_model, encoded, tokens, first)
        for torch_model, encoded in states
    ]


def _encode(model: PreparedModel, torch_model: WhisperModule, audio: Samples) -> Encoded:
    window = window_of(model.resolved.spec.protocol)
    return teacher_forcing.encode(model.model, torch_model, audio, window)
