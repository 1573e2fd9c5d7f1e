"""An accuracy run: every batch transcribed once, then scored."""

from collections.abc import Iterable
from functools import partial

from whisperq_core.evaluate.pieces import BatchPiece, RunPieces, batch_name
from whisperq_core.evaluate.prepared_model import PreparedModel, measured_growth, peak_memory_bytes
from whisperq_core.evaluate.records import AccuracyRun, BatchTime, UtteranceResult
from whisperq_core.evaluate.resolution import ResolvedRequest
from whisperq_core.machine import this_machine
from whisperq_core.memory import MemoryGrowth
from whisperq_core.scoring import error_rates


def transcribe_batches(
    model: PreparedModel, pieces: RunPieces, batches: Iterable[int]
) -> list[BatchPiece]:
    """The pieces of these batches; those that are stored are not transcribed again."""
    return [
        pieces.get_or_compute(batch_name(batch), BatchPiece, partial(_transcribe, model, batch))
        for batch in batches
    ]


def _transcribe(model: PreparedModel, batch: int) -> BatchPiece:
    spec, utterances = model.resolved.spec, model.resolved.batches[batch]
    runtime = model.runtime  # quantized before memory is measured
    with MemoryGrowth(spec.device) as growth:
        transcripts = model.transcribe(runtime, batch)
    time = BatchTime(
        batch=batch,
        utterances=len(utterances),
        audio_s=sum(u.duration_s for u in utterances),
        wall_s=transcripts.wall_s,
    )
    return BatchPiece(
        hypotheses=transcripts.texts,
        temperatures=transcripts.temperatures,
        redone=transcripts.redone,
        time=time,
        growth_bytes=measured_growth(spec, growth.bytes),
        machine=this_machine(),
    )


def measure_accuracy(resolved: ResolvedRequest, pieces: RunPieces) -> AccuracyRun:
    """Transcribes what is not transcribed yet, and scores all of it."""
    model = PreparedModel(resolved, pieces)
    batches = transcribe_batches(model, pieces, range(len(resolved.batches)))
    quantized = model.piece()
    # Pieces of older versions do not say where they were transcribed: on this machine.
    machines = [piece.machine or this_machine() for piece in batches]
    return AccuracyRun(
        **model.record_fields(),
        machine=machines[0],
        kinds_of_machine=len({machine.kind_for(resolved.spec.device) for machine in machines}),
        peak_memory_bytes=peak_memory_bytes(quantized, [p.growth_bytes for p in batches]),
        utterances=tuple(_score(resolved, batches)),
        batches=tuple(piece.time for piece in batches),
    )


def _score(resolved: ResolvedRequest, batches: list[BatchPiece]) -> Iterable[UtteranceResult]:
    for index, (utterances, piece) in enumerate(zip(resolved.batches, batches, strict=True)):
        for utterance, hypothesis in zip(utterances, piece.by_utterance(), strict=True):
            yield UtteranceResult(
                id=utterance.id,
                speaker=utterance.speaker,
                language=utterance.language,
                duration_s=utterance.duration_s,
                reference=utterance.reference,
                hypothesis=hypothesis.text,
                batch=index,
                temperature=hypothesis.temperature,
                redone=hypothesis.redone,
                score=error_rates.score(utterance.reference, hypothesis.text, utterance.language),
            )
