"""Does quantization cost more in noise, in a room, on a telephone or after a lossy codec?

    python -m benchmarks.conditions [--models base] [--recipes A,B] [--only divergence]
        [--threads 0] [--plan]

Evaluates ten recipes and fp32 in quiet and in two noises at four levels, and four recipes in a
room, on a telephone and after two codecs: the same 15 minutes of speech by 25 speakers each time,
under the protocol `fitted`. First the divergences, which fewer words decide, condition by
condition, with fp32's transcripts of each, then all transcripts. Results are stored as those of
`whisperq run`; the same command goes on where it was stopped. `whisperq conditions` then says what
they show.
"""

import argparse
import sys
from collections.abc import Sequence

from whisperq_core.cli.run import run_and_print
from whisperq_core.evaluate import planner
from whisperq_core.evaluate.requests import Request, divergence_refusal, fp32_transcripts
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import FITTED

SET = "test-other-15-minutes"
RECIPES = (
    *("torch-int8", "torch-int8-channel", "quanto-int8", "whole-int8-dynamic"),
    *("mixed-84-dynamic", "hqq-int4-g64", "bnb-nf4", "bnb-fp4", "quanto-int4", "hqq-int3-g64"),
)
FEWER_RECIPES = ("torch-int8", "whole-int8-dynamic", "hqq-int4-g64", "bnb-nf4")
NOISES, LEVELS_DB = ("noise:coffee-shop", "babble"), (0, 5, 10, 20)
CHANNELS = ("room:0.6s", "telephone", "opus@12k", "mp3@32k")


def grid(
    model: str, threads: int = 0, only: str | None = None, chosen: Sequence[str] = RECIPES
) -> list[Request]:
    """All requests: divergences condition by condition, transcripts recipe by recipe.

    So fp32's encoder states are shared by the recipes, and a quantized model by the conditions.
    only: "divergence" or "accuracy"; fp32's transcripts are needed by both.
    """
    noisy = [f"{SET}+{noise}@{level}dB" for level in LEVELS_DB for noise in NOISES]
    cells = [(eval_set, RECIPES) for eval_set in (SET, *noisy)]
    cells += [(f"{SET}+{channel}", FEWER_RECIPES) for channel in CHANNELS]
    divergence = [
        Request(model, CATALOGUE[recipe], eval_set, "divergence", FITTED, threads=threads)
        for eval_set, recipes in cells
        for recipe in recipes
        if recipe in chosen and divergence_refusal(CATALOGUE[recipe]) is None
    ]
    accuracy = [
        Request(model, CATALOGUE[recipe], eval_set, protocol=FITTED, threads=threads)
        for recipe in chosen
        for eval_set, recipes in cells
        if recipe in recipes
    ]
    requests: list[Request] = []
    if only != "accuracy":
        # Condition by condition, so that what is measured first can be compared first.
        for request in divergence:
            requests += [fp32_transcripts(request), request]
    if only != "divergence":
        requests += [*map(fp32_transcripts, accuracy), *accuracy]
    return list(dict.fromkeys(requests))


def main() -> int:
    """Runs what is missing; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", default="base")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--only", choices=("divergence", "accuracy"))
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--plan", action="store_true", help="show the plan; run nothing")
    options = parser.parse_args()
    store = Store()
    recipes = options.recipes.split(",")
    requests = [
        request
        for model in options.models.split(",")
        for request in grid(model, options.threads, options.only, recipes)
    ]
    items = planner.plan(requests, store)
    failed = 0
    for number, item in enumerate(items, 1):
        label = f"[{number}/{len(items)}] {item.request.label}"
        if options.plan or item.status == "refused":
            print(f"{label}: {item.status}. {item.reason or ''}")
        elif not run_and_print(item, store, label):
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
