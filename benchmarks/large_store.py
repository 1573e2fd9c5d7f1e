"""A store of thousands of records, made from the shipped ones.

    python -m benchmarks.large_store FOLDER [--records 2000]

Each utterance of a synthetic accuracy record has the transcript, and the counts, that one of two
real recipes of the same model, set and protocol gave it; names, group sizes, sizes in bytes and
library versions differ, so that every record is another. A variant of a recipe was run on all sets
of the recipe, as a real one is. Records of speed, divergence and size are the shipped ones. Files
are written as evaluations write them.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE


def fill(root: Path, records: int) -> None:
    """Shipped records, and synthetic ones until there are so many accuracy records."""
    shipped, into = Store(SHIPPED_CACHE).runs(), Store(root)
    for run in shipped:
        into.put(run)
    real = [run for run in shipped if isinstance(run, AccuracyRun)]
    alike = defaultdict(list)
    for run in real:
        alike[run.model, run.speech_digest, run.spec.protocol.name].append(run)
    choose = random.Random(0)
    for run, version in islice(_variants(real), max(0, records - len(real))):
        other = choose.choice(alike[run.model, run.speech_digest, run.spec.protocol.name])
        into.put(between(run, other, version, choose))


def _variants(runs: Sequence[AccuracyRun]) -> Iterator[tuple[AccuracyRun, int]]:
    """A record to vary and a number: the same one on all sets of a recipe and protocol."""
    of_configuration = defaultdict(list)
    for run in runs:
        if run.spec.recipe.name != "fp32":
            key = run.model, run.spec.recipe.name, run.spec.protocol.name
            of_configuration[key].append(run)
    for version in count(1):
        for alike in of_configuration.values():
            yield from ((run, version) for run in alike)


def between(
    run: AccuracyRun, other: AccuracyRun, version: int, choose: random.Random
) -> AccuracyRun:
    """A record like the run's, each of whose utterances is taken from one of the two."""
    pairs = zip(run.by_id, other.by_id, strict=True)
    utterances = tuple(choose.choice(pair).model_copy(update={"batch": 0}) for pair in pairs)
    recipe = run.spec.recipe
    if recipe.group_size:
        recipe = replace(recipe, group_size=choose.choice((16, 32, 64, 128, 256)))
    recipe = replace(recipe, name=f"{recipe.name}-v{version}")
    spec = run.spec.model_copy(
        update={"recipe": recipe, "versions": run.spec.versions | {"synthetic": str(version)}}
    )
    changed = {
        "spec": spec,
        "utterances": utterances,
        "batches": run.batches[:1],
        "weights_bytes": round(run.weights_bytes * choose.uniform(0.9, 1.1)),
    }
    return run.model_copy(update=changed)


def main() -> None:
    """Makes the store and says what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=2000)
    arguments = parser.parse_args()
    fill(arguments.folder, arguments.records)
    files = list((arguments.folder / "results").glob("*.json"))
    size_bytes = sum(file.stat().st_size for file in files)
    print(f"{len(files)} records, {size_bytes / 1e6:.0f} MB, in {arguments.folder}")


if __name__ == "__main__":
    main()
