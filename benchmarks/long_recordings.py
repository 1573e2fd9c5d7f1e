"""Time and WER of one long recording: WhisperQ's recipes and faster-whisper, in one run.

    python -m benchmarks.long_recordings [--set test-other-25-speakers] [--minutes 10] [--rounds 3]

The recording is the first utterances of the set by id, joined with 0.5 s of silence; a folder may
be named in place of a set. Every subject is in a process of its own and transcribes all of it once
a round, one after another, so that other load on the machine affects all alike. Timed is the whole
call from samples to text: voice activity, features, every attempt. faster-whisper decodes greedily
without fallback, batched with 8 windows at once; other options are its own. Ratios are of the times
in one round; printed is their median and range over the rounds.
"""

import argparse
import os
import time
import warnings
from contextlib import ExitStack
from functools import lru_cache

import numpy as np

from benchmarks.processes import machine, median_and_range, process, runs_here
from whisperq_core.machine import default_threads
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE

BASELINE = "fp32:study"
SUBJECTS = (
    BASELINE,
    "whole-int8-dynamic:study",
    "fp32:fitted",
    "whole-int8-dynamic:fitted",
    "whole-int8-dynamic-bf16:fitted",
    "faster-whisper-int8:sequential",
    "faster-whisper-int8:batched",
)
PEERS = ("faster-whisper-int8:sequential", "faster-whisper-int8:batched")
PAUSE_S, BATCH = 0.5, 8


@lru_cache
def recording(place: str, minutes: float) -> tuple[np.ndarray, str]:
    """Samples of the joined utterances, and their reference."""

    def by_id(utterance: evaluation_sets.Utterance) -> list[tuple[int, str]]:
        return [(int(part) if part.isdigit() else 0, part) for part in utterance.id.split("-")]

    parts, references, seconds = [], [], 0.0
    for one in sorted(evaluation_sets.by_name(place).utterances, key=by_id):
        if seconds >= 60 * minutes:
            break
        parts += [evaluation_sets.read_audio(one), np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)]
        references.append(one.reference)
        seconds += one.duration_s + PAUSE_S
    return np.concatenate(parts), " ".join(references)


@lru_cache
def opened(model_name: str, name: str):
    """In a subject's process: a function from samples to text; warm."""
    import torch

    from whisperq_core.quantize.quantized_model import quantize

    warnings.simplefilter("ignore")
    torch.set_num_threads(default_threads())
    recipe, _, how = name.partition(":")
    if how not in ("sequential", "batched"):
        model = quantize(model_name, recipe, protocol=how)
        model.warm_up(np.zeros(SAMPLE_RATE, np.float32))
        return lambda samples: model.transcribe(samples, "en", protocol=how).text
    runtime = quantize(model_name, recipe)._runtime
    peer = runtime.opened
    peer.model = runtime.watched._model  # without the watch of an evaluation
    options = {"language": "en", "beam_size": 1, "temperature": [0.0]}
    if how == "sequential":
        options["condition_on_previous_text"] = False
    else:
        from faster_whisper import BatchedInferencePipeline

        peer = BatchedInferencePipeline(peer)
        options |= {"batch_size": BATCH, "without_timestamps": True}

    def transcribe(samples: np.ndarray) -> str:
        segments, _ = peer.transcribe(samples, **options)
        return " ".join(segment.text for segment in segments)

    transcribe(np.zeros(SAMPLE_RATE, np.float32))
    return transcribe


def timed(model_name: str, name: str, place: str, minutes: float) -> tuple[float, str]:
    """In a subject's process: seconds of the whole call, and its text."""
    transcribe = opened(model_name, name)
    samples, _ = recording(place, minutes)
    start = time.perf_counter()
    text = transcribe(samples)
    return time.perf_counter() - start, text


def main() -> None:
    """Prints one line a subject: time, ratios, WER with its parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--set", default="test-other-25-speakers", help="name or folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    arguments = parser.parse_args()
    what = arguments.set, arguments.minutes
    samples, reference = recording(*what)
    names = [name for name in arguments.subjects.split(",") if runs_here(name)]
    took: dict[str, list[float]] = {name: [] for name in names}
    texts: dict[str, str] = {}
    with ExitStack() as processes:
        own = {name: processes.enter_context(process()) for name in names}
        for name in names:  # loaded and warm before anything is timed
            own[name].submit(timed, arguments.model, name, arguments.set, 0.1).result()
        for _ in range(arguments.rounds):
            for name in names:
                seconds, texts[name] = (
                    own[name].submit(timed, arguments.model, name, *what).result()
                )
                took[name].append(seconds)
    print(
        f"{arguments.model}, {len(samples) / SAMPLE_RATE:.0f} s of {arguments.set},"
        f" {arguments.rounds} rounds, {default_threads()} threads; {machine()},"
        f" load {os.getloadavg()[0]:.1f}"
    )
    for name in names:
        counts = error_rates.score(reference, texts[name], "en").words
        print(f"\n{name}: {median_and_range(took[name])} s")
        for other in (BASELINE, *PEERS):
            if other in took and other != name:
                ratios = [a / b for a, b in zip(took[name], took[other], strict=True)]
                print(f"  time / {other}: {median_and_range(ratios, 3)}")
        print(
            f"  WER {counts.rate:.2f}%: {counts.substitutions} substitutions,"
            f" {counts.deletions} deletions, {counts.insertions} insertions"
        )


if __name__ == "__main__":
    main()
