"""`whisperq compare`: two stored runs of the same speech."""

from typing import Annotated

import typer

from whisperq_core.analyze import paired_comparisons, verdict_text
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.errors import StoreError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store


def compare(
    baseline: Annotated[
        str, typer.Argument(metavar="KEY", help="First digits of a stored run's key.")
    ],
    candidate: Annotated[str, typer.Argument(metavar="KEY", help="Those of the other run.")],
    margin: options.Margin = MARGIN,
) -> None:
    """Compare the WER of two stored runs of the same speech, utterance by utterance."""
    runs = [run for run in Store().runs() if isinstance(run, AccuracyRun)]
    pair = [_by_key(runs, prefix) for prefix in (baseline, candidate)]
    compared = paired_comparisons.compare_runs(pair[0], pair[1], margin=margin)
    for run in pair:
        estimate = paired_comparisons.estimate(run, compared.unit)
        print(
            f"{run.slug}, {run.spec.protocol.name}:"
            f" {compared.rate_name} {estimate.value:.2f}%"
            f" ({estimate.low:.2f} to {estimate.high:.2f}), {run.loops} loops"
        )
    print(verdict_text.describe_runs(compared, pair[0], pair[1]))


def _by_key(runs: list[AccuracyRun], prefix: str) -> AccuracyRun:
    """The one run whose key starts so; raises StoreError where there is none or several."""
    matching = [run for run in runs if run.key.startswith(prefix)]
    if len(matching) != 1:
        count = "No stored run has" if not matching else f"{len(matching)} stored runs have"
        raise StoreError(f"{count} a key that starts with {prefix}. Keys end the files' names.")
    return matching[0]
