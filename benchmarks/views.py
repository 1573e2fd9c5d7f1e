"""How long the Trade-offs page takes to be redrawn with thousands of results.

    python -m benchmarks.views [--records 2000] [--repeats 8]

Makes a store of so many accuracy records in a temporary folder, from the shipped ones: each
utterance of a made one has the transcript, and the counts, that one of two real recipes of the same
model, set and protocol gave it, and group sizes and library versions differ, so that every record
is another. Speed records are the shipped ones. Then it starts the app on it, opens Trade-offs in
headless Chromium, switches filters of the design on and off in turn, and measures from the click to
the plot standing there with other points: the server's part and the browser's together. What the
server alone takes is measured by Streamlit's own test harness, in a process of its own that does
nothing else. Browser and server share the machine.
"""

import random
from collections import defaultdict
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path

from whisperq_core.records import AccuracyRun
from whisperq_core.store import DEFAULT_ROOT, Store

# Filters that are switched on and off in turn: label and option.
FILTERS = (("Library", "HQQ"), ("Library", "Quanto"), ("Weights", "int8"), ("Bits", "4"))


def fill(root: Path, records: int) -> None:
    """Shipped records, and made ones until there are so many accuracy records."""
    shipped = Store(DEFAULT_ROOT).runs()
    into = Store(root)
    for run in shipped:
        (into.results / f"{run.slug}.json").parent.mkdir(parents=True, exist_ok=True)
        (into.results / f"{run.slug}.json").write_text(run.model_dump_json())
    real = [run for run in shipped if isinstance(run, AccuracyRun)]
    alike = defaultdict(list)
    for run in real:
        alike[run.model, run.speech, run.spec.protocol.name].append(run)
    choose = random.Random(0)
    numbers, sources = count(1), cycle(real)
    for _ in range(records - len(real)):
        run = next(sources)
        other = choose.choice(alike[run.model, run.speech, run.spec.protocol.name])
        made = between(run, other, next(numbers), choose)
        (into.results / f"{made.slug}.json").write_text(made.model_dump_json())


def between(run: AccuracyRun, other: AccuracyRun, number: int, choose) -> AccuracyRun:
    """A record like the run's, whose utterances are each as one of the two heard them."""
    pairs = zip(run.by_id, other.by_id, strict=True)
    heard = tuple(choose.choice(pair).model_copy(update={"batch": 0}) for pair in pairs)
    recipe = run.spec.recipe
    if recipe.group_size:
        recipe = replace(recipe, group_size=choose.choice((16, 32, 64, 128, 256)))
    if run.spec.recipe.name != "fp32":
        recipe = replace(recipe, name=f"{recipe.name}-v{number}")
    spec = run.spec.model_copy(
        update={"recipe": recipe, "versions": run.spec.versions | {"made": str(number)}}
    )
    size = round(run.weights_bytes * choose.uniform(0.9, 1.1))
    changed = {"spec": spec, "utterances": heard, "batches": run.batches[:1], "weights_bytes": size}
    return run.model_copy(update=changed)
