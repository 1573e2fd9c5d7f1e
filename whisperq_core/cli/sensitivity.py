"""`whisperq sensitivity`: what each layer loses when it alone is quantized."""

import sys

from whisperq_core.cli import options
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import sensitivity_measurement
from whisperq_core.quantize.sensitivity_results import Sensitivity


def sensitivity(models: options.Models = "base") -> None:
    """Measure each layer's sensitivity to quantization. Mixed recipes need it."""
    for name in options.names(models):
        _print(name, sensitivity_measurement.measure(name, Store(), _progress_of(name)))


def _progress_of(name: str) -> sensitivity_measurement.Progress:
    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{name}: {done}/{total} layers ", end="", file=sys.stderr, flush=True)

    return progress


def _print(name: str, measured: Sensitivity) -> None:
    total = sum(layer.losses["int4"].nats for layer in measured.layers)
    print(
        f"{name}: {len(measured.layers)} layers, {measured.tokens} tokens of {measured.eval_set},"
        f" {measured.measured_s:.0f} s"
    )
    for layer in sorted(measured.layers, key=lambda one: -one.losses["int4"].nats)[:10]:
        loss = layer.losses["int4"]
        print(
            f"  {layer.module:44s} int4: {loss.nats:.5f} nats per token"
            f" ({100 * loss.nats / total:.0f}%)"
        )
    print("  Whole models, on the same utterances that the formats are chosen on (not held out):")
    for check in measured.checks:
        print(
            f"  {check.name:18s} −{check.smaller_pct:.1f}%: predicted"
            f" {check.predicted_nats:.4f}, measured {check.measured.nats:.4f} nats per token,"
            f" {100 * check.measured.changed:.1f}% of tokens changed"
        )
