"""Speed and WER of recipes and protocols, compared in one run.

    python -m benchmarks.recipes [--model base] [--rounds 2] [--subjects fp32:study,…]

Every subject is a recipe under a protocol, in a process of its own, since runtimes with threads of
their own slow each other even when idle (CTranslate2's make PyTorch's small operations take 1.5
times as long). Only one works at a time: each slice of utterances is transcribed by all subjects
before the next one, so that other load on the machine affects all alike; a round goes through all
sets once. Times are those of generation, as everywhere (see docs/measurement.md). Ratios are of a
round's total times; printed is their median and range over rounds. WER is of the first round, its
difference from fp32's paired, with speakers as blocks.
"""

import argparse
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from benchmarks.processes import machine, median_and_range, process, runs_here
from whisperq_core.analyze.paired_tests import compare
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.machine import default_threads
from whisperq_core.quantize import pipeline
from whisperq_core.quantize.recipes import recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper.protocols import SHORT_NAMES
from whisperq_core.whisper.transcription import plan_batches

SETS = ("test-clean-excerpt", "test-other-excerpt")
BASELINE = "fp32:study"
SUBJECTS = (
    BASELINE,
    "torch-int8:study",
    "faster-whisper-int8:study",
    "onnxruntime-int8:study",
    "openvino-int8:study",
    "whole-int8-dynamic:study",
    "fp32:fitted",
    "whole-int8-dynamic:fitted",
    "whole-int8-dynamic-bf16:fitted",
    "mixed-84-dynamic:fitted",
    "whole-int8-dynamic-bf16:merged",
)
# Utterances a slice: a multiple of every protocol's batch, so that batches stay a whole set's.
SLICE = 16


@dataclass
class Subject:
    """A recipe under a protocol, and what was measured of it: seconds a round, counts by set."""

    name: str
    process: ProcessPoolExecutor
    weights_bytes: int
    rounds_s: list[float] = field(default_factory=list)
    counts: dict[str, list[error_rates.Counts]] = field(default_factory=dict)
    redone: int = 0


@lru_cache
def opened(model_name: str, name: str):
    """In a subject's process: what transcribes, its protocol, and its bytes; warm."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(default_threads())
    what, _, how = name.partition(":")
    protocol = SHORT_NAMES[how or "study"]
    model = pipeline.load_model(model_name)
    chosen = pipeline.recipe_for_protocol(recipe(what), protocol)
    quantized = pipeline.quantize_model(model, chosen, None, "cpu", protocol)
    runtime = pipeline.runtime_of(model, quantized)
    shortest = ordered(SETS[0])[-1]
    runtime.transcribe([evaluation_sets.read_audio(shortest)], [shortest.language], protocol)
    return runtime, protocol, quantized.weights_bytes


def weights_bytes(model_name: str, name: str) -> int:
    """In a subject's process: bytes of its model."""
    return opened(model_name, name)[2]


def transcribe_slice(
    model_name: str, name: str, place: str, start: int
) -> tuple[float, list[str], int]:
    """In a subject's process: seconds of generation for a slice, transcripts, how many redone."""
    runtime, protocol, _ = opened(model_name, name)
    batches = []
    for batch in plan_batches(ordered(place)[start : start + SLICE], protocol.batch_size):
        audio = [evaluation_sets.read_audio(u) for u in batch]
        batches.append(runtime.transcribe(audio, [u.language for u in batch], protocol))
    texts = [text for one in batches for text in one.texts]
    return sum(one.wall_s for one in batches), texts, sum(sum(one.redone) for one in batches)


@lru_cache
def ordered(place: str) -> list[Utterance]:
    """A set's utterances as an evaluation batches them, longest first."""
    utterances = evaluation_sets.by_name(place).utterances
    return [u for batch in plan_batches(utterances, SLICE) for u in batch]


def transcribe(model: str, one: Subject, place: str, start: int, first: bool) -> float:
    """Seconds of generation for a slice; the first round's transcripts are scored."""
    took, texts, redone = one.process.submit(
        transcribe_slice, model, one.name, place, start
    ).result()
    if first:
        pairs = zip(ordered(place)[start : start + SLICE], texts, strict=True)
        one.counts.setdefault(place, []).extend(
            error_rates.score(u.reference, text, u.language).words for u, text in pairs
        )
        one.redone += redone
    return took


def errors(one: Subject, place: str, speakers: list) -> ErrorCounts:
    """Counts of the subject in the form that comparisons take."""
    counts = one.counts[place]
    return ErrorCounts(
        np.array([c.errors for c in counts]),
        np.array([c.reference_length for c in counts]),
        tuple(speakers),
    )


def main() -> None:
    """Prints one line a subject: size, RTF, ratios, WERs and whether they are fp32's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    arguments = parser.parse_args()
    started = time.perf_counter()
    with ExitStack() as processes:
        subjects = []
        for name in filter(runs_here, arguments.subjects.split(",")):
            own = processes.enter_context(process())
            size = own.submit(weights_bytes, arguments.model, name).result()
            subjects.append(Subject(name, own, size))
        for number in range(arguments.rounds):
            took = dict.fromkeys((one.name for one in subjects), 0.0)
            for place in SETS:
                for start in range(0, len(ordered(place)), SLICE):
                    for one in subjects:
                        first = number == 0
                        took[one.name] += transcribe(arguments.model, one, place, start, first)
            for one in subjects:
                one.rounds_s.append(took[one.name])
    report(arguments.model, subjects, time.perf_counter() - started)


def report(model: str, subjects: list[Subject], took_s: float) -> None:
    """Prints the table."""
    order = {place: ordered(place) for place in SETS}
    audio_s = sum(u.duration_s for us in order.values() for u in us)
    print(
        f"{model}, {', '.join(order)} ({audio_s / 60:.1f} min), {len(subjects[0].rounds_s)} rounds,"
        f" {default_threads()} threads; {machine()},"
        f" load {os.getloadavg()[0]:.1f}; {took_s / 60:.1f} min in all"
    )
    by_name = {one.name: one for one in subjects}
    baseline, peer = by_name.get(BASELINE), by_name.get("faster-whisper-int8:study")
    for one in subjects:
        print(f"\n{one.name}: {one.weights_bytes / 1e6:.1f} MB")
        print(f"  RTF {median_and_range([s / audio_s for s in one.rounds_s], 4)}")
        for label, other in (("fp32 at the study's protocol", baseline), ("its int8 peer", peer)):
            if other and other is not one:
                ratios = [a / b for a, b in zip(one.rounds_s, other.rounds_s, strict=True)]
                name = label if other is baseline else other.name
                print(f"  time / {name}: {median_and_range(ratios, 3)}")
        for place in (*order, "both"):
            if place == "both":
                for each in filter(None, (one, baseline)):
                    each.counts["both"] = [c for name in order for c in each.counts[name]]
                speakers = [u.speaker for us in order.values() for u in us]
            else:
                speakers = [u.speaker for u in order[place]]
            own = errors(one, place, speakers)
            line = f"  WER {own.rate:.2f}% on {place}"
            if baseline and baseline is not one:
                comparison = compare(errors(baseline, place, speakers), own, MARGIN)
                low, high = comparison.difference.low, comparison.difference.high
                line += f", {comparison.difference.value:+.2f} ({low:+.2f} to {high:+.2f}) points:"
                line += f" {comparison.verdict}"
            print(line)
        if one.redone:
            print(f"  {one.redone} utterances decoded again in the whole window")


if __name__ == "__main__":
    main()
