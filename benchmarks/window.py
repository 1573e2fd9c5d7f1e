"""Which margin, fold and merging a fitted window needs, on held-out speech.

    python -m benchmarks.window [--model base] [--recipe fp32] [--set dev-clean-excerpt]

For each window: how much its transcripts disagree with those of the whole window (words, in
percent), how many utterances loop before they are decoded again, and the time relative to the
whole window's, in alternating batches.
"""

import argparse

from benchmarks.processes import machine
from whisperq_core.machine import default_threads
from whisperq_core.quantize import pipeline
from whisperq_core.quantize.recipes import recipe
from whisperq_core.scoring import error_rates, loops
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import short_window
from whisperq_core.whisper.protocols import FITTED
from whisperq_core.whisper.short_window import WHOLE, Window
from whisperq_core.whisper.transcription import plan_batches

WINDOWS = (
    WHOLE,
    Window(4.0),
    Window(2.0),
    Window(1.0, 16),
    Window(0.5, 32),
    Window(0.3, 64),
    Window(0.5, 32, merge_at=0.5),
    Window(0.5, 32, merge_at=0.67),
)


def main() -> None:
    """Prints one line a window."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--recipe", default="fp32")
    parser.add_argument("--set", default=evaluation_sets.CALIBRATION_SET)
    arguments = parser.parse_args()
    torch.set_num_threads(default_threads())
    model = pipeline.load_model(arguments.model)
    chosen = recipe(arguments.recipe)
    quantized = pipeline.quantize_model(model, chosen, None, "cpu", FITTED).torch_model
    utterances = evaluation_sets.by_name(arguments.set).utterances
    transcripts: dict[Window, list[str]] = {window: [] for window in WINDOWS}
    took = dict.fromkeys(WINDOWS, 0.0)
    batches = plan_batches(utterances, FITTED.batch_size)
    for batch in batches:
        audio = [evaluation_sets.read_audio(u) for u in batch]
        mel = model.features.windows(audio)
        seconds = [u.duration_s for u in batch]
        prompts = [model.prompt(u.language, FITTED.task) for u in batch]
        for window in WINDOWS:
            with torch.no_grad():
                generation = short_window.generate(quantized, mel, seconds, prompts, window)
            took[window] += generation.times.wall_s
            transcripts[window] += model.tokenizer.batch_decode(
                generation.tokens, skip_special_tokens=True
            )
    ordered = [u for batch in batches for u in batch]
    print(f"{arguments.model}, {chosen.name}, {arguments.set}: {len(ordered)} utterances;")
    print(machine())
    for window in WINDOWS:
        pairs = zip(transcripts[WHOLE], transcripts[window], ordered, strict=True)
        apart = error_rates.total(
            error_rates.score(a, b, u.language).words for a, b, u in pairs
        ).rate
        hypotheses = zip(ordered, transcripts[window], strict=True)
        wer = error_rates.total(
            error_rates.score(u.reference, t, u.language).words for u, t in hypotheses
        ).rate
        looped = sum(loops.is_looped(text) for text in transcripts[window])
        print(
            f"{described(window):46s} disagreement {apart:6.2f}%  WER {wer:6.2f}%"
            f"  loops {looped}  time {took[window] / took[WHOLE]:.2f}"
        )


def described(window: Window) -> str:
    """The window in a few words."""
    if window is WHOLE:
        return "whole window"
    silence = f"silence folded by {window.fold}" if window.fold else "silence cut"
    merged = f", merged after {window.merge_at:.0%}" if window.merge_at else ""
    return f"speech + {window.margin_s:g} s, {silence}{merged}"


if __name__ == "__main__":
    main()
