"""A speed run: timed passes over one set, fp32 alternating with the recipe in one process."""

from functools import partial

from whisperq_core.evaluate.pieces import PassPiece, RunPieces, pass_name
from whisperq_core.evaluate.prepared_model import PreparedModel, measured_growth, peak_memory_bytes
from whisperq_core.evaluate.records import Pass, SpeedRun, Subject
from whisperq_core.evaluate.resolution import ResolvedRequest
from whisperq_core.machine import this_machine
from whisperq_core.memory import MemoryGrowth
from whisperq_core.whisper.runtime import combine_transcripts


def measure_speed(resolved: ResolvedRequest, pieces: RunPieces) -> SpeedRun:
    """Times the passes that are not timed yet."""
    model = PreparedModel(resolved, pieces)
    passes = [
        pieces.get_or_compute(
            pass_name(subject, repeat), PassPiece, partial(_time_pass, model, subject, repeat)
        )
        for subject, repeat in resolved.timed_passes
    ]
    quantized = model.piece()
    growths = [piece.growth_bytes for piece in passes if piece.timed.subject == "recipe"]
    return SpeedRun(
        **model.record_fields(),
        machine=this_machine(),
        peak_memory_bytes=peak_memory_bytes(quantized, growths),
        passes=tuple(piece.timed for piece in passes),
    )


def _time_pass(model: PreparedModel, subject: Subject, repeat: int) -> PassPiece:
    # Both are ready before the first pass, so that memory and caches are alike for all of them.
    runtimes = {"recipe": model.runtime, "fp32": model.fp32_runtime}
    with MemoryGrowth(model.resolved.spec.device) as growth:
        transcripts = combine_transcripts(
            [
                model.transcribe(runtimes[subject], batch)
                for batch in range(len(model.resolved.batches))
            ]
        )
    timed = Pass(
        subject=subject,
        repeat=repeat,
        audio_s=model.resolved.eval_set.audio_s,
        wall_s=transcripts.wall_s,
        encoder_s=transcripts.encoder_s,
        first_token_s=transcripts.first_token_s,
        tokens=transcripts.tokens,
    )
    growth_bytes = measured_growth(model.resolved.spec, growth.bytes)
    return PassPiece.model_validate({"pass": timed, "growth_bytes": growth_bytes})
