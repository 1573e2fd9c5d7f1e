"""What the engine saves on a grid of recipes, against running each utterance by itself.

    python -m benchmarks.engine [--models base] [--recipes all] [--protocol study] [--batches 1]

The naive way loads and quantizes the model for every recipe, then reads each utterance, computes
its features and transcribes it alone, in Whisper's whole window, with the library's kernels. The
engine's way is `evaluate.run`, what the pages and the command line call, under the protocol asked
for. Both measure accuracy on the two LibriSpeech excerpts.

All of it would take hours, so both ways are sampled: of the excerpts' batches (by length, as the
engine makes them) every few, and of each a few utterances for the naive way. Set-up counts once,
the rest is scaled to all batches and utterances. A round runs every recipe both ways, one after
the other, each way in a process of its own. Each naive utterance, beside the batch it is of, is an
estimate of the ratio: the range printed is theirs, and holds noise and the choice of utterances.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.processes import (
    WatchedStore,
    excerpts,
    folder_of,
    machine,
    median_and_range,
    process,
    spread,
)
from whisperq_core.evaluate import runner
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.machine import default_threads
from whisperq_core.quantize import pipeline
from whisperq_core.quantize.recipes import CATALOGUE, Recipe, recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech.evaluation_sets import Utterance, by_name, read_audio
from whisperq_core.whisper import models
from whisperq_core.whisper.protocols import SHORT_NAMES, STUDY, Protocol
from whisperq_core.whisper.transcription import plan_batches, transcribe

# After this long the naive way takes no more utterances of a recipe than one of each batch.
_ENOUGH_S = 20.0


@dataclass(frozen=True)
class Plan:
    """What a round does. utterances: for the naive way, of each of the sampled batches."""

    model: str
    recipes: tuple[Recipe, ...]
    protocol: Protocol
    batches: int
    utterances: int

    @property
    def every_batch(self) -> list[tuple[Utterance, ...]]:
        """The excerpts as the engine batches them."""
        return plan_batches(excerpts(), self.protocol.batch_size)

    @property
    def sampled(self) -> list[tuple[Utterance, ...]]:
        """The batches that are run."""
        return spread(self.every_batch, self.batches)

    def kernels(self, chosen: Recipe) -> str:
        """What the engine runs on sets as large as the excerpts: library, or dequantized."""
        whole = Request(self.model, chosen, "test-other-excerpt", protocol=self.protocol)
        return resolve(whole).spec.kernels


@dataclass(frozen=True)
class Cost:
    """What one way took for one recipe.

    setup_s: seconds until the model was ready. unit_s: for each sampled batch, seconds of its
    utterances (the naive way) or of the whole batch (the engine). texts: transcripts, by id.
    """

    setup_s: float
    unit_s: tuple[tuple[float, ...], ...]
    texts: dict[str, str]


@dataclass(frozen=True)
class Round:
    """Every recipe both ways. load_s: reading the model, once for all of the engine's."""

    load_s: float
    naive: tuple[Cost, ...]
    engine: tuple[Cost, ...]


def engine_way(plan: Plan, chosen: Recipe, folder: Path) -> Cost:
    """The engine on the sampled batches."""
    how = {"protocol": plan.protocol, "kernels": plan.kernels(chosen)}
    with tempfile.TemporaryDirectory() as cache:
        store = WatchedStore(Path(cache))
        start = time.perf_counter()
        run = runner.run(Request(plan.model, chosen, str(folder), **how), store)
    finished = store.finished[run.key]
    took = tuple((end - begin,) for begin, end in pairwise(finished))
    return Cost(finished[0] - start, took, {u.id: u.hypothesis for u in run.utterances})


def naive_way(plan: Plan, chosen: Recipe, folder: Path) -> Cost:
    """Utterance by utterance, with the library's kernels; the model is loaded for each recipe."""
    import torch

    torch.set_num_threads(default_threads())
    start = time.perf_counter()
    model = models.load(plan.model)
    quantized = pipeline.quantize_model(model, chosen, by_name(str(folder)), "cpu", STUDY)
    ready = time.perf_counter()
    strata = [spread(batch, plan.utterances) for batch in plan.sampled]
    took: list[list[float]] = [[] for _ in strata]
    texts = {}
    for turn in zip(*strata, strict=True):
        if all(took) and time.perf_counter() - ready > _ENOUGH_S:
            break
        for times, utterance in zip(took, turn, strict=True):
            began = time.perf_counter()
            audio = [read_audio(utterance)]
            result = transcribe(model, quantized.torch_model, audio, [utterance.language], STUDY)
            times.append(time.perf_counter() - began)
            texts[f"{utterance.id}-0"] = result.texts[0]
    return Cost(ready - start, tuple(map(tuple, took)), texts)


def load_s(model_name: str) -> float:
    """Seconds to load the model for all runs of the engine that follow, PyTorch once imported."""
    import torch  # noqa: F401

    start = time.perf_counter()
    pipeline.load_model(model_name)
    return time.perf_counter() - start


def one_round(plan: Plan, engine_first: bool) -> Round:
    """Runs every recipe both ways, one after the other, each way in a process of its own."""
    ways = {"naive": naive_way, "engine": engine_way}
    order = sorted(ways, reverse=not engine_first)
    costs = []
    with (
        folder_of([u for batch in plan.sampled for u in batch]) as folder,
        process() as one,
        process() as other,
    ):
        at = dict(zip(ways, (one, other), strict=True))
        at["naive"].submit(load_s, plan.model).result()  # imports are not of the comparison
        loading_s = at["engine"].submit(load_s, plan.model).result()
        for chosen in plan.recipes:
            costs.append({w: at[w].submit(ways[w], plan, chosen, folder).result() for w in order})
            print(".", end="", flush=True, file=sys.stderr)
    naive, engine = (tuple(cost[way] for cost in costs) for way in ways)
    return Round(loading_s, naive, engine)


def estimates(plan: Plan, rounds: Sequence[Round], some: Sequence[int]) -> list[tuple]:
    """Seconds of both ways, naive and engine, for all speech under some of the recipes.

    One pair for each round and each place among its naive utterances.
    """
    utterances, batches = len(excerpts()), len(plan.every_batch)
    pairs = []
    for ran in rounds:
        shared_s = ran.load_s * len(some) / len(plan.recipes)
        for stratum in range(plan.batches):
            engine_s = shared_s + sum(
                ran.engine[i].setup_s + batches * ran.engine[i].unit_s[stratum][0] for i in some
            )
            for place in range(plan.utterances):
                naive_s = 0.0
                for cost in (ran.naive[i] for i in some):
                    times = cost.unit_s[stratum]  # one only, where that took long
                    naive_s += cost.setup_s + utterances * times[place % len(times)]
                pairs.append((naive_s, engine_s))
    return pairs


def wer_and_matches(plan: Plan, rounds: Sequence[Round], some: Sequence[int]) -> str:
    """WER both ways on the naive way's utterances, and how many transcripts are the same."""
    references = {f"{u.id}-0": u.reference for u in excerpts()}
    pairs = [
        (references[id], text, ran.engine[i].texts[id])
        for ran in rounds
        for i in some
        for id, text in ran.naive[i].texts.items()
    ]
    naive, engine = (
        error_rates.total(error_rates.score(pair[0], pair[way]).words for pair in pairs).rate
        for way in (1, 2)
    )
    same = sum(one == other for _, one, other in pairs)
    return f"{naive:7.1f}{engine:8.1f}{same:7} of {len(pairs)}"


def report(plan: Plan, rounds: Sequence[Round]) -> None:
    """Prints a line for each recipe, then for the whole grid and for what does not loop in it."""

    def line(label: str, kernels: str, some: Sequence[int]) -> None:
        pairs = estimates(plan, rounds, some)
        naive, engine = (statistics.mean(way) for way in zip(*pairs, strict=True))
        ratio = median_and_range([one / other for one, other in pairs])
        times = f"{naive:9.0f}{engine:10.0f}   {ratio:20}"
        print(f"{label:26}{kernels:12}{times}{wer_and_matches(plan, rounds, some)}")

    print(
        f"{'recipe':26}{'kernels':12}{'naive s':>9}{'engine s':>10}   {'ratio':20}"
        f"{'WER':>7}{'engine':>8}  same words"
    )
    for i, chosen in enumerate(plan.recipes):
        # One activation scale per batch: transcripts depend on the batch.
        alone = chosen.scheme in ("none", "weight-only")
        line(chosen.name + ("" if alone else " *"), plan.kernels(chosen), [i])
    whole = range(len(plan.recipes))
    line(f"all {len(whole)} recipes", "", whole)
    # Two bits make some models repeat themselves up to the last token: slow by itself.
    without_2_bit = [i for i in whole if (plan.recipes[i].bits or 8) > 2]
    if without_2_bit and len(without_2_bit) < len(whole):
        line("all but the 2-bit ones", "", without_2_bit)
    print("* activations are quantized: transcripts may depend on the batch")


def main() -> None:
    """Runs the rounds of each model in fresh processes and prints a table for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="base", help="such as base,tiny.en")
    parser.add_argument("--recipes", default="all", help="names, or all that this CPU runs")
    parser.add_argument("--protocol", default="study", choices=list(SHORT_NAMES))
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--utterances", type=int, default=2, help="of a batch, the naive way")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    protocol = SHORT_NAMES[arguments.protocol]
    every = [
        r
        for r in CATALOGUE.values()
        if not r.has_own_runtime and not pipeline.unsupported_reason(r, protocol, "cpu")
    ]
    recipes = (
        every if arguments.recipes == "all" else [recipe(n) for n in arguments.recipes.split(",")]
    )
    print(machine())
    for name in arguments.models.split(","):
        plan = Plan(name, tuple(recipes), protocol, arguments.batches, arguments.utterances)
        print(
            f"\n{name}, the engine's protocol: {protocol.name}; {len(excerpts())} utterances,"
            f" sampled: {plan.batches} of {len(plan.every_batch)} batches and"
            f" {plan.utterances} utterances of each the naive way, {arguments.rounds} rounds"
        )
        start = time.perf_counter()
        rounds = [one_round(plan, turn % 2 == 1) for turn in range(arguments.rounds)]
        print(file=sys.stderr)
        report(plan, rounds)
        print(f"measured in {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
