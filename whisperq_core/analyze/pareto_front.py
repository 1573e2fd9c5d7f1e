"""How sure the table's rows are: intervals, verdicts, and where each stands to the Pareto front."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from whisperq_core.analyze import dominance, paired_comparisons
from whisperq_core.analyze.results_table import METRICS, pareto, values
from whisperq_core.analyze.significance import MARGIN, Comparison, Estimate
from whisperq_core.evaluate.records import AccuracyRun

# What `judged` and `standings` add to the columns of `table.rows`, and how it is called.
LABELS = {
    "wer_low_pct": "WER, low (%)",
    "wer_high_pct": "WER, high (%)",
    "cer_low_pct": "CER, low (%)",
    "cer_high_pct": "CER, high (%)",
    "resampled": "Interval over",
    "difference_points": "WER − baseline (points)",
    "difference_low": "Difference, low",
    "difference_high": "Difference, high",
    "verdict": "Verdict",
    "in_words": "Verdict in words",
    "lower_wer_pct": "Probability of a lower WER (%)",
    "minutes_needed": "Minutes of speech to decide",
    "front": "Front",
    "beaten": "Decidedly dominated",
}
BASELINE, NOT_COMPARED = "baseline", "not compared"
ON, MAYBE, NOT_MEASURED = "on the front", "may be on it", "not measured"

_UNITS = {"wer_pct": "words", "cer_pct": "characters"}


def with_verdicts(
    frame: pd.DataFrame,
    runs: Iterable[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
) -> pd.DataFrame:
    """The rows with intervals of WER and CER and a verdict against the baseline recipe.

    runs: those of the rows, and of the baseline where no row shows it. Verdicts are Holm-corrected
    over the rows that share a baseline; minutes_needed is of speech in all, missing where it is
    decided. Differences are in points of WER.
    """
    by_key = {run.key: run for run in sorted(runs, key=lambda run: run.created_at)}
    shown = set(frame["key"])
    family = [r for r in by_key.values() if r.key in shown or r.spec.recipe.name == baseline]
    compared = paired_comparisons.verdicts(family, baseline, margin)
    mine = [by_key[key] for key in frame["key"]]
    rates = zip(
        paired_comparisons.estimates(mine),
        paired_comparisons.estimates(mine, "characters"),
        strict=True,
    )
    added = [
        _row(run, *found, compared.get(run.key), baseline)
        for run, found in zip(mine, rates, strict=True)
    ]
    texts = ("resampled", "verdict", "in_words")
    numbers = [c for c in LABELS if c not in (*texts, "front", "beaten")]
    columns = pd.DataFrame(added, columns=[*numbers, *texts], index=frame.index)
    return frame.join(columns.astype(dict.fromkeys(texts, "str") | dict.fromkeys(numbers, float)))


def _row(
    run: AccuracyRun, wer: Estimate, cer: Estimate, found: Comparison | None, baseline: str
) -> dict:
    added = {
        "wer_low_pct": wer.low,
        "wer_high_pct": wer.high,
        "cer_low_pct": cer.low,
        "cer_high_pct": cer.high,
        "resampled": f"{wer.blocks} {wer.block}s",
        "verdict": NOT_COMPARED,
        "in_words": f"not compared: {baseline} was not run on the same speech",
    }
    if found is None:
        if run.spec.recipe.name == baseline:
            added |= {"verdict": BASELINE, "in_words": "the baseline"}
        return added
    difference = found.difference
    return added | {
        "difference_points": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "verdict": found.verdict,
        "in_words": paired_comparisons.in_words(found, baseline, run.minutes),
        "lower_wer_pct": math.nan if math.isnan(difference.low) else 100 * found.p_better,
        "minutes_needed": found.minutes_needed(run.minutes),
    }


def pareto_status(
    frame: pd.DataFrame, runs: Iterable[AccuracyRun], x: str, y: str, margin: float = MARGIN
) -> pd.DataFrame:
    """The rows with `front`, in words, and `beaten`: decidedly dominated on the columns x and y.

    A row off the measured front may still be on the true one, unless another is decided to
    dominate it: see dominance.dominance, and `judged` for what is decided of error rates.
    """
    by_key = {run.key: run for run in runs}
    mine = [by_key[key] for key in frame["key"]]
    rates, others = sorted({x, y} & _UNITS.keys()), sorted({x, y} - _UNITS.keys())
    found, asked = [_besides(frame, column) for column in others], None
    if found:
        asked = found[0].no_worse
    found += [
        dominance.by_errors(mine, _UNITS[column], margin, asked, by_key.values())
        for column in rates
    ]
    dominates = dominance.dominance(found[0], found[-1])
    measured = pareto(frame, x, y)
    known = frame[[x, y]].notna().all(axis=1).to_numpy()
    dominates &= known[:, None] & known
    names = _names(frame)
    signed = -values(frame, y) if METRICS[y].higher_is_better else values(frame, y)
    beaten = dominates.any(axis=0)
    # The dominating result to name: undominated itself where there is one, and lowest.
    rank = np.argsort(np.lexsort((signed, beaten)))
    first = np.where(dominates, rank[:, None], len(frame)).argmin(axis=0) if len(frame) else []
    words = []
    for i in range(len(frame)):
        best = names[first[i]] if beaten[i] else ""
        if not known[i]:
            words.append(NOT_MEASURED)
        elif measured[i]:
            words.append(
                f"{ON} as measured, but dominated by {best} within the margins" if best else ON
            )
        else:
            words.append(f"dominated by {best}" if best else MAYBE)
    return frame.assign(front=words, beaten=beaten)


def _besides(frame: pd.DataFrame, column: str) -> dominance.PairwiseRelation:
    shown = values(frame, column)
    if f"{column}_low" in frame:
        low, high = (values(frame, f"{column}_{end}") for end in ("low", "high"))
        return dominance.by_passes(shown, low, high)
    return dominance.exactly(-shown if METRICS[column].higher_is_better else shown)


def _names(frame: pd.DataFrame) -> list[str]:
    parts = ["recipe", *(c for c in ("model", "device", "threads") if frame[c].nunique() > 1)]
    return [" · ".join(str(v) for v in row) for row in frame[parts].itertuples(index=False)]
