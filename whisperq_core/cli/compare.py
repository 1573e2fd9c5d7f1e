"""`whisperq compare`: two stored runs of the same speech."""

from typing import Annotated

import typer

from whisperq_core.analyze import paired_comparisons, verdict_text
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.errors import StoreError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.plurals import counted


def compare(
    baseline: Annotated[
        str,
        typer.Argument(metavar="BASELINE", help="Key of the baseline run, or its first digits."),
    ],
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="Key of the other run, or its first digits.")
    ],
    margin: options.Margin = MARGIN,
) -> None:
    """Compare the WER of two stored runs. Both must be of the same speech."""
    runs = [run for run in Store().runs() if isinstance(run, AccuracyRun)]
    pair = [_by_key(runs, prefix) for prefix in (baseline, candidate)]
    compared = paired_comparisons.compare_runs(pair[0], pair[1], margin=margin)
    for run in pair:
        estimate = paired_comparisons.estimate(run, compared.unit)
        print(
            f"{run.slug}, {run.spec.protocol.label}:"
            f" {compared.rate_name} {estimate.value:.2f}%"
            f" ({estimate.low:.2f} to {estimate.high:.2f}), {counted(run.loops, 'loop')}"
        )
    print(verdict_text.describe_runs(compared, pair[0], pair[1]))


def _by_key(runs: list[AccuracyRun], prefix: str) -> AccuracyRun:
    """The one run whose key starts so; raises StoreError where there is none or several."""
    matching = [run for run in runs if run.key.startswith(prefix)]
    if len(matching) != 1:
        count = "No stored run has" if not matching else f"{len(matching)} stored runs have"
        raise StoreError(
            f"{count} a key that starts with {prefix}. Result files' names end with their keys."
        )
    return matching[0]
