"""How fast recipes and protocols are beside each other, at which WER, in one run.

    python -m benchmarks.recipes [--model base] [--rounds 3] [--subjects fp32:study,…]

Every subject is a recipe under a protocol. Each batch of utterances is transcribed by all subjects
before the next one, so that the machine's moods meet all alike; a round goes through all sets once.
Times are those of generation, as everywhere (see README, “What the numbers mean”). Ratios are of a
round's total times; printed is their median and range over rounds. WER is of the first round, its
difference to fp32's paired, with speakers as blocks.
"""

import argparse
import os
import statistics
import time
from dataclasses import dataclass, field

import numpy as np

from whisperq_core import eval_sets, evaluate, scores
from whisperq_core.machine import default_threads, this_machine
from whisperq_core.protocols import SHORT_NAMES, Protocol
from whisperq_core.recipes import Recipe, recipe
from whisperq_core.significance import MARGIN, Errors, compare
from whisperq_core.transcribe import plan_batches, runtime_of

SETS = ("test-clean-excerpt", "test-other-excerpt")
BASELINE = "fp32:study"
SUBJECTS = (
    BASELINE,
    "torch-int8:study",
    "faster-whisper-int8:study",
    "whole-int8-dynamic:study",
    "fp32:fitted",
    "whole-int8-dynamic-bf16:fitted",
    "whole-int8-dynamic-bf16:merged",
)
# Utterances a slice: a multiple of every protocol's batch, so that batches stay a whole set's.
SLICE = 16


@dataclass
class Subject:
    """A recipe under a protocol, and what was measured of it: seconds a round, counts by set."""

    name: str
    recipe: Recipe
    protocol: Protocol
    runtime: object = None
    weights_bytes: int = 0
    rounds_s: list[float] = field(default_factory=list)
    counts: dict[str, list[scores.Counts]] = field(default_factory=dict)
    redone: int = 0


def subject(name: str) -> Subject:
    """The subject named recipe:protocol."""
    what, _, how = name.partition(":")
    protocol = SHORT_NAMES[how or "study"]
    return Subject(name, evaluate.recipe_under(recipe(what), protocol), protocol)


def transcribe(one: Subject, utterances, first: bool, place: str) -> float:
    """Seconds of generation for a slice; the first round's transcripts are scored."""
    took = 0.0
    for batch in plan_batches(utterances, one.protocol.batch_size):
        audio = [eval_sets.read_audio(u) for u in batch]
        found = one.runtime.transcribe(audio, [u.language for u in batch], one.protocol)
        took += found.wall_s
        if first:
            heard = zip(batch, found.texts, strict=True)
            one.counts.setdefault(place, []).extend(
                scores.score(u.reference, text, u.language).words for u, text in heard
            )
            one.redone += sum(getattr(found, "redone", ()))
    return took


def errors(one: Subject, place: str, speakers: list) -> Errors:
    """Counts of the subject in the form that comparisons take."""
    counts = one.counts[place]
    return Errors(
        np.array([c.errors for c in counts]),
        np.array([c.reference_length for c in counts]),
        tuple(speakers),
    )


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Prints one line a subject: size, RTF, ratios, WERs and whether they are fp32's."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    arguments = parser.parse_args()
    started = time.perf_counter()
    torch.set_num_threads(default_threads())
    model = evaluate.load_model(arguments.model)
    subjects = [subject(name) for name in arguments.subjects.split(",")]
    sets = {name: eval_sets.by_name(name).utterances for name in SETS}
    # The order of batches: longest first, as in an evaluation.
    order = {
        name: [u for batch in plan_batches(found, SLICE) for u in batch]
        for name, found in sets.items()
    }
    for one in subjects:
        made = evaluate.quantize_model(model, one.recipe, None, "cpu", one.protocol)
        one.runtime, one.weights_bytes = runtime_of(model, made), made.weights_bytes
        one.runtime.transcribe(
            [eval_sets.read_audio(sets[SETS[0]][0])], [sets[SETS[0]][0].language], one.protocol
        )
    for number in range(arguments.rounds):
        took = dict.fromkeys((one.name for one in subjects), 0.0)
        for place, utterances in order.items():
            for start in range(0, len(utterances), SLICE):
                for one in subjects:
                    part = utterances[start : start + SLICE]
                    took[one.name] += transcribe(one, part, number == 0, place)
        for one in subjects:
            one.rounds_s.append(took[one.name])
    report(arguments.model, subjects, order, time.perf_counter() - started)


def report(model: str, subjects: list[Subject], order: dict, took_s: float) -> None:
    """Prints the table."""
    machine, audio_s = this_machine(), sum(u.duration_s for us in order.values() for u in us)
    print(
        f"{model}, {', '.join(order)} ({audio_s / 60:.1f} min), {len(subjects[0].rounds_s)} rounds,"
        f" {default_threads()} threads; {machine.cpu}, {machine.cores} cores,"
        f" load {os.getloadavg()[0]:.1f}; {took_s / 60:.1f} min in all"
    )
    by_name = {one.name: one for one in subjects}
    baseline, peer = by_name.get(BASELINE), by_name.get("faster-whisper-int8:study")
    for one in subjects:
        print(f"\n{one.name}: {one.weights_bytes / 1e6:.1f} MB")
        print(f"  RTF {spread([s / audio_s for s in one.rounds_s])}")
        for label, other in (("fp32 at the study's protocol", baseline), ("its int8 peer", peer)):
            if other and other is not one:
                ratios = [a / b for a, b in zip(one.rounds_s, other.rounds_s, strict=True)]
                name = label if other is baseline else other.name
                print(f"  time / {name}: {spread(ratios)}")
        for place in (*order, "both"):
            if place == "both":
                for each in filter(None, (one, baseline)):
                    each.counts["both"] = [c for name in order for c in each.counts[name]]
                speakers = [u.speaker for us in order.values() for u in us]
            else:
                speakers = [u.speaker for u in order[place]]
            mine = errors(one, place, speakers)
            line = f"  WER {mine.rate:.2f}% on {place}"
            if baseline and baseline is not one:
                found = compare(errors(baseline, place, speakers), mine, MARGIN)
                low, high = found.difference.low, found.difference.high
                line += f", {found.difference.value:+.2f} ({low:+.2f} to {high:+.2f}) points:"
                line += f" {found.verdict}"
            print(line)
        if one.redone:
            print(f"  {one.redone} utterances decoded again in the whole window")


if __name__ == "__main__":
    main()
