"""Runs of the real classes with chosen texts and times, for tests of analysis and pages."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from whisperq_core.evaluate.records import (
    AccuracyRun,
    BatchTime,
    DivergenceRun,
    Pass,
    RunSpec,
    SizeRun,
    SpeedRun,
    UtteranceDivergence,
    UtteranceResult,
)
from whisperq_core.machine import Machine
from whisperq_core.quantize.recipes import recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY

MACHINE = Machine(cpu="A CPU", cores=2, memory_bytes=8 << 30, system="Linux", python="3.11")
START = datetime(2026, 1, 1, tzinfo=UTC)


def spec(recipe_name: str, measures: str, **changes) -> RunSpec:
    fields = {
        "measures": measures,
        "weights_digest": "aa" * 32,
        "recipe": recipe(recipe_name),
        "eval_set_digest": "bb" * 32,
        "protocol": STUDY,
        "kernels": "library",
        "device": "cpu",
        "threads": 2,
        "versions": {"torch": "2.13.0"},
    }
    return RunSpec(**fields | changes)


def common(model: str, eval_set: str, minutes: int, weights_bytes: int) -> dict:
    return {
        "model": model,
        "eval_set": eval_set,
        "created_at": START + timedelta(minutes=minutes),
        "machine": MACHINE,
        "load_average": 0.1,
        "modules": ("model.encoder.layers.0.fc1", "proj_out"),
        "weights_bytes": weights_bytes,
        "fp32_bytes": 200_000_000,
        "quantize_s": 1.5,
    }


def accuracy_run(
    recipe_name: str,
    texts: list[tuple[str, str]] = (("a cat sat down", "a cat sat up"),),
    *,
    model: str = "base",
    eval_set: str = "test-other-excerpt",
    minutes: int = 0,
    weights_bytes: int = 100_000_000,
    wall_s: float = 2.0,
    ids: list[str] | None = None,
    speakers: list[str] | None = None,
    **changes,
) -> AccuracyRun:
    """A run whose utterances are pairs of reference and hypothesis, 10 s each, in one batch.

    All are of one speaker where no speakers are given.
    """
    utterances = tuple(
        UtteranceResult(
            id=ids[i] if ids else f"utterance-{i}",
            speaker=speakers[i] if speakers else "1",
            language="en",
            duration_s=10.0,
            reference=reference,
            hypothesis=hypothesis,
            batch=0,
            score=error_rates.score(reference, hypothesis),
        )
        for i, (reference, hypothesis) in enumerate(texts)
    )
    audio_s = 10.0 * len(texts)
    batch = BatchTime(batch=0, utterances=len(texts), audio_s=audio_s, wall_s=wall_s)
    digest = {"eval_set_digest": eval_set_digest(eval_set)}
    return AccuracyRun(
        spec=spec(recipe_name, "accuracy", **digest | changes),
        **common(model, eval_set, minutes, weights_bytes),
        peak_memory_bytes=300_000_000,
        utterances=utterances,
        batches=(batch,),
    )


def eval_set_digest(name: str) -> str:
    shipped = evaluation_sets.shipped_sets()
    return shipped[name].digest if name in shipped else "bb" * 32


def speed_run(
    recipe_name: str,
    wall_s: list[float],
    fp32_wall_s: list[float] = (),
    *,
    model: str = "base",
    minutes: int = 0,
    **changes,
) -> SpeedRun:
    """Passes over 10 s of audio; a quarter of each is the encoder's, and 30 tokens come out."""
    passes = [
        Pass(
            subject=subject,
            repeat=i,
            audio_s=10.0,
            wall_s=wall,
            encoder_s=wall / 4,
            first_token_s=wall / 2,
            tokens=30,
        )
        for subject, walls in (("fp32", fp32_wall_s), ("recipe", wall_s))
        for i, wall in enumerate(walls)
    ]
    defaults = {"cpu": "A CPU", "repeats": len(wall_s)}
    return SpeedRun(
        spec=spec(recipe_name, "speed", **defaults | changes),
        **common(model, "quick-look", minutes, 100_000_000),
        peak_memory_bytes=400_000_000,
        passes=tuple(passes),
    )


def divergence_run(
    recipe_name: str,
    nats: list[float],
    speakers: list[str],
    *,
    model: str = "base",
    eval_set: str = "test-other-excerpt",
    minutes: int = 0,
) -> DivergenceRun:
    """Utterances of 10 tokens and 10 s with these sums of divergences; one token each changed."""
    utterances = tuple(
        UtteranceDivergence(
            id=f"utterance-{i}",
            speaker=speaker,
            language="en",
            duration_s=10.0,
            tokens=10,
            nats=total,
            changed=1,
        )
        for i, (total, speaker) in enumerate(zip(nats, speakers, strict=True))
    )
    return DivergenceRun(
        spec=spec(recipe_name, "divergence", eval_set_digest=eval_set_digest(eval_set)),
        **common(model, eval_set, minutes, 100_000_000),
        peak_memory_bytes=None,
        baseline_key="0" * 16,
        utterances=utterances,
        nats_quantiles={"0.5": 0.01, "0.9": 0.1, "0.99": 1.0},
    )


def size_run(
    recipe_name: str, weights_bytes: int, *, model: str = "base", minutes: int = 0, **changes
) -> SizeRun:
    """Of a model of 100 MB in fp32."""
    defaults = {"weights_digest": f"random weights of {model}", "eval_set_digest": "none"}
    fields = common(model, "none", minutes, weights_bytes) | {"fp32_bytes": 100_000_000}
    return SizeRun(
        spec=spec(recipe_name, "size", **defaults | changes), **fields, peak_memory_bytes=None
    )


def tiny_english(run):
    """The same run for the other model."""
    spec = run.spec.model_copy(update={"weights_digest": "cc" * 32})
    return run.model_copy(update={"model": "tiny.en", "spec": spec})


def renamed(protocol_name: str):
    """The study's protocol under another name."""
    return replace(STUDY, name=protocol_name)
