"""What this CPU could do at best, and how near the encoder comes.

    python -m benchmarks.roofline [--model base]

Measured peaks: products of matrices of the encoder's shapes in fp32, bf16 and int8, and reading
memory. Counted: the encoder's products for a window of 30 s and for a fitted one. Time at the peak
is work / peak, printed next to the time that the encoder takes.
"""

import argparse
import statistics
import time

from benchmarks.processes import machine
from whisperq_core.machine import default_threads
from whisperq_core.quantize import backends, pipeline
from whisperq_core.quantize.recipes import recipe
from whisperq_core.whisper import short_window
from whisperq_core.whisper.short_window import WHOLE, Window

SPEECH_S = 7.4  # the mean utterance of the two excerpts
FITTED = Window(0.5, 32)


def best_s(work, repeats: int = 15) -> float:
    """The shortest time of a call, in seconds."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peaks(width: int) -> dict[str, float]:
    """Products a second (multiply and add are two) of (500, width) × (width, 4 width)."""
    import torch
    from torch.nn.functional import linear

    x, w = torch.randn(500, width), torch.randn(4 * width, width)
    xb, wb = x.bfloat16(), w.bfloat16()
    xi, wi = (t.mul(20).clamp(-127, 127).to(torch.int8) for t in (x, w))
    work = 2 * 500 * width * 4 * width
    ways = {
        "fp32": lambda: linear(x, w),
        "bf16": lambda: linear(xb, wb),
        "int8": lambda: torch._int_mm(xi, wi.t()),
    }
    return {name: work / best_s(way) for name, way in ways.items()}


def bandwidth() -> float:
    """Bytes a second of reading 256 MB."""
    import torch

    data = torch.ones(64 * 2**20)
    return data.nbytes / best_s(lambda: data.sum(), 7)


def encoder_work(config, positions: int) -> dict[str, float]:
    """Products of one pass over so many positions: Linear layers, attention, convolutions."""
    width, ffn, layers = config.d_model, config.encoder_ffn_dim, config.encoder_layers
    linear = 2 * positions * (4 * width * width + 2 * width * ffn) * layers
    attention = 4 * positions**2 * width * layers
    convolutions = 2 * 3 * positions * (2 * config.num_mel_bins * width + width * width)
    return {"linear": linear, "attention": attention, "convolutions": convolutions}


def main() -> None:
    """Prints peaks, work, time at the peak and measured time."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    torch.set_num_threads(default_threads())
    model = pipeline.load_model(parser.parse_args().model)
    config = model.torch_model.config
    print(f"{model.name}; {machine()}, {default_threads()} threads")
    peak = peaks(config.d_model)
    for name, rate in peak.items():
        print(f"peak of {name} products: {rate / 1e9:.0f} G/s")
    print(f"reading memory: {bandwidth() / 1e9:.1f} GB/s")
    mel = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    for label, seconds, window in (
        ("window of 30 s", 30.0, WHOLE),
        (f"{SPEECH_S} s of speech, fitted", SPEECH_S, FITTED),
    ):
        with torch.no_grad():
            positions = len(short_window.encode(model.torch_model, mel, seconds, window)[0])
        work = encoder_work(config, positions)
        print(f"\n{label}: {positions} positions, {sum(work.values()) / 1e9:.1f} G products")
        for name, formats in (
            ("fp32", ("fp32", "fp32", "fp32")),
            ("bf16", ("bf16", "bf16", "bf16")),
            ("whole-int8-dynamic-bf16", ("int8", "bf16", "bf16")),
        ):
            if backends.unavailable_reason(recipe(name), "cpu"):
                continue
            least = sum(part / peak[f] for part, f in zip(work.values(), formats, strict=True))
            encoder = backends.quantize(model.torch_model, recipe(name)).torch_model
            features = mel.to(encoder.model.encoder.conv1.weight.dtype)
            with torch.no_grad():
                times = [timed(encoder, features, seconds, window) for _ in range(9)]
            took = statistics.median(times[2:])
            print(
                f"  {name}: {took * 1e3:.0f} ms, at the peak {least * 1e3:.0f} ms"
                f" ({least / took:.0%} of it)"
            )


def timed(torch_model, mel, seconds: float, window: Window) -> float:
    """Seconds of one pass of the encoder."""
    start = time.perf_counter()
    short_window.encode(torch_model, mel, seconds, window)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
