"""What an evaluation costs as its work grows: seconds and memory for more utterances or recipes.

    python -m benchmarks.work [--model tiny.en] [--utterances 100,300,600] [--recipes 1,4,16]

Every line is one process that does nothing else and has cached nothing. Its memory is the most that
was resident, PyTorch itself included. Speech is that of the LibriSpeech excerpts; beyond their
utterances they come again, softer each time, so that nothing is transcribed twice. Recipes are
weight-only, the kind whose weights are dequantized; each runs on the same --sample utterances. The
protocol is the fitted window, so that all of it takes minutes.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import PeakMemory, WatchedStore, excerpts, folder_of, machine, process
from whisperq_core.evaluate import runner
from whisperq_core.evaluate.requests import Request
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech.evaluation_sets import by_name
from whisperq_core.whisper.protocols import FITTED

# The first of them for a run of one, four or more.
RECIPES = (
    *("hqq-int4-g64", "quanto-int8", "torchao-int8", "quanto-int4", "quanto-float8"),
    *(f"hqq-{weights}-g{size}" for weights in ("int8", "int3") for size in (16, 32, 64, 128)),
    *(f"hqq-int4-g{size}" for size in (16, 32, 128)),
)


class Spent(NamedTuple):
    """Minutes of speech for each recipe; seconds to set up and to transcribe; bytes at the peak."""

    minutes: float
    setup_s: float
    transcribe_s: float
    peak_bytes: int


def spend(model: str, recipes: Sequence[str], utterances: int) -> Spent:
    """Runs the recipes in turn, as the command line does, on so many utterances."""
    speech = [*excerpts(), *by_name("dev-clean-excerpt").utterances]
    random.Random(0).shuffle(speech)
    chosen = list(islice(cycle(speech), utterances))
    setup_s = transcribe_s = 0.0
    with folder_of(chosen) as folder, tempfile.TemporaryDirectory() as cache, PeakMemory() as peak:
        store = WatchedStore(Path(cache))
        for name in recipes:
            start = time.perf_counter()
            how = {"protocol": FITTED, "kernels": "dequantized"}
            request = Request(model, recipe(name), str(folder), **how)
            run = runner.run(request, store)
            ready, *_ = store.finished[run.key]
            setup_s += ready - start
            transcribe_s += time.perf_counter() - ready
    return Spent(sum(u.duration_s for u in chosen) / 60, setup_s, transcribe_s, peak.bytes)


def in_new_process(*work) -> Spent:
    """`spend` in a process that does nothing else."""
    with process() as new:
        return new.submit(spend, *work).result()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    """Prints one table for utterances and one for recipes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--utterances", type=_numbers, default=[100, 300, 600], metavar="A,B")
    parser.add_argument("--recipes", type=_numbers, default=[1, 4, 16], metavar="A,B")
    parser.add_argument("--sample", type=int, default=24, help="utterances for each recipe")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.model}")
    print(f"\n{RECIPES[0]}\nutterances  speech min  set-up s  then s  s/utterance  peak MB")
    for count in arguments.utterances:
        spent = in_new_process(arguments.model, RECIPES[:1], count)
        print(
            f"{count:10}{spent.minutes:12.1f}{spent.setup_s:10.1f}{spent.transcribe_s:8.1f}"
            f"{spent.transcribe_s / count:13.3f}{spent.peak_bytes / 1e6:9.0f}"
        )
    print(f"\n{arguments.sample} utterances\n   recipes  set-up s  then s  s/recipe  peak MB")
    for count in arguments.recipes:
        spent = in_new_process(arguments.model, RECIPES[:count], arguments.sample)
        each_s = (spent.setup_s + spent.transcribe_s) / count
        print(
            f"{count:10}{spent.setup_s:10.1f}{spent.transcribe_s:8.1f}{each_s:10.2f}"
            f"{spent.peak_bytes / 1e6:9.0f}"
        )


if __name__ == "__main__":
    main()
