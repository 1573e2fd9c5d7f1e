"""`whisperq evidence`: every configuration over all English sets together."""

from typing import Annotated

import pandas as pd
import typer

from whisperq_core.analyze import evidence_table
from whisperq_core.analyze.configurations import configurations
from whisperq_core.analyze.verdict_text import signed
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.cli import options
from whisperq_core.errors import InputError
from whisperq_core.evaluate.store import Store
from whisperq_core.whisper.protocols import protocol_label


def evidence(
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    margin: options.Margin = MARGIN,
) -> None:
    """Compare configurations over all English sets together, the smallest first.

    Each is compared with fp32 of the same model under the Study protocol, which is how Transformers
    runs it by default.
    """
    store = Store()
    measured = configurations(store.runs(), margin=margin, derived=store.derived)
    frame = evidence_table.evidence(measured)
    if model:
        frame = frame[frame["model"] == model]
    if frame.empty:
        raise InputError("There is no result" + (f" of {model}." if model else "."))
    for row in frame.to_dict("records"):
        latency = f"{row['latency']:.2f} × fp32" if pd.notna(row["latency"]) else "not measured"
        wer = f"WER {row['wer_pct']:.2f} %"
        if pd.notna(row["difference"]):
            difference, low, high = (signed(row[name]) for name in ("difference", "low", "high"))
            wer += f", {difference} points ({low} to {high})"
        print(
            f"{row['model']} · {row['recipe']} · {protocol_label(row['protocol'])}:"
            f" {row['weights_bytes'] / 1e6:.0f} MB, latency {latency}, {wer}"
            f" on {row['minutes']:.0f} minutes, {row['speakers']} speakers: {row['verdict']}"
        )
