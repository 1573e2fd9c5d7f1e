"""What identifies a run, as labels and texts."""

import shlex

import pandas as pd

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present.labels import protocol_label
from whisperq_core.whisper.protocols import short_name


def provenance_rows(run: AccuracyRun, speed_key: str | None) -> list[tuple[str, str]]:
    """Labels and texts; speed_key: of the run's speed record."""
    spec, machine = run.spec, run.machine
    load = "unknown" if run.load_average is None else f"{run.load_average:.1f}"
    calibrated = spec.calibration_digest or "none"
    return [
        ("Key:", run.key),
        ("Weights digest:", spec.weights_digest),
        ("Evaluation set digest:", spec.eval_set_digest),
        ("Calibration digest:", calibrated),
        ("Versions:", _listed(spec.versions)),
        ("Audio decoded by:", _listed(run.audio_libraries) or "not recorded"),
        ("Protocol:", f"{protocol_label(spec.protocol.name)}: {spec.protocol.summary}"),
        ("Device:", f"{spec.device}, {spec.threads} threads"),
        ("Machine:", f"{machine.cpu}, {machine.cores} cores, load average {load} at the start"),
        ("Kernels:", spec.kernels),
        ("Measured:", f"{run.created_at:%Y-%m-%d %H:%M} UTC"),
        ("Speed record's key:", "none" if pd.isna(speed_key) else speed_key),
        (f"{len(run.modules)} modules quantized:", ", ".join(run.modules)),
    ]


def command_for_batches_of_one(run: AccuracyRun) -> str:
    """The command that evaluates the run's recipe and fp32 on the same speech, each alone."""
    protocol, spec = short_name(run.spec.protocol.name), run.spec
    return (
        f"python -m whisperq_core run --models {shlex.quote(run.model)}"
        f" --recipes fp32,{shlex.quote(spec.recipe.name)} --sets {shlex.quote(run.eval_set)}"
        f" --protocol {shlex.quote(protocol)} --batch-size 1 --threads {spec.threads}"
        " --only accuracy"
    )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
