"""All English evidence: each recipe and protocol pooled over its sets, with size and latency."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from whisperq_core.analyze import results_table
from whisperq_core.analyze.pooled_comparisons import PooledComparison, pooled_comparisons
from whisperq_core.analyze.verdict_text import verdict_words
from whisperq_core.analyze.verdicts import MARGIN, Verdict
from whisperq_core.evaluate.records import AccuracyRun, Run

COLUMNS = (
    *("model", "recipe", "protocol", "weights_bytes", "size_reduction_pct", "rtf_ratio"),
    *("difference", "low", "high", "within_margin_pct", "verdict", "shown"),
    *("divergence_mnat", "minutes", "speakers", "sets", "sets_differ_p", "loops_points"),
    *("compared_with", "key"),
)


def evidence(runs: Iterable[Run], baseline: str = "fp32", margin: float = MARGIN) -> pd.DataFrame:
    """One row for each model, recipe and protocol that was compared with the baseline.

    Columns: weights_bytes; size_reduction_pct; rtf_ratio, the latency relative to fp32 under the
    same protocol; difference, low, high: points of WER over all sets, the interval simultaneous
    over compared_with recipes; within_margin_pct: the confidence that the increase is below the
    margin, of this recipe alone; verdict, in words; shown: whether it is "no worse" or "better",
    corrected for all recipes; divergence_mnat of the longest set; minutes,
    speakers, sets (names, the longest first); sets_differ_p: p-value of equal differences in all
    sets; loops_points: what loops too rare to be seen could add at most; key of the longest set's
    run. Pass all runs: see `pooled_comparisons`.
    """
    everything = list(runs)
    accuracy = [run for run in everything if isinstance(run, AccuracyRun)]
    by_key = results_table.rows(everything).set_index("key")
    lines = [
        _line(pool, by_key, baseline) for pool in pooled_comparisons(accuracy, baseline, margin)
    ]
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).astype({"shown": bool})
    return frame.sort_values(["weights_bytes", "recipe"], kind="stable", ignore_index=True)


def _line(pool: PooledComparison, by_key: pd.DataFrame, baseline: str) -> dict[str, object]:
    longest, comparison = pool.parts[0], pool.comparison
    row = by_key.loc[longest.key]
    return {
        "model": pool.model,
        "recipe": pool.recipe,
        "protocol": pool.protocol,
        "weights_bytes": row["weights_bytes"],
        "size_reduction_pct": row["size_reduction_pct"],
        "rtf_ratio": row["rtf_ratio"],
        "difference": comparison.difference.value,
        "low": comparison.difference.low,
        "high": comparison.difference.high,
        "within_margin_pct": 100 * comparison.p_within_margin,
        "verdict": verdict_words(comparison, baseline),
        "shown": comparison.verdict in (Verdict.NO_WORSE, Verdict.BETTER),
        "divergence_mnat": row["divergence_mnat"],
        "minutes": pool.minutes,
        "speakers": comparison.difference.blocks,
        "sets": ", ".join(pool.sets),
        "sets_differ_p": pool.heterogeneity.p if pool.heterogeneity else None,
        "loops_points": pool.loops.highest_cost,
        "compared_with": comparison.family,
        "key": longest.key,
    }


def smallest_shown(frame: pd.DataFrame) -> "pd.Series[Any] | None":
    """The smallest configuration that is shown to be no worse than the baseline; see `smallest`."""
    return smallest(frame[frame["shown"]])


def smallest_within(frame: pd.DataFrame, confidence: float) -> "pd.Series[Any] | None":
    """The smallest configuration whose WER increase is below the margin with this confidence.

    confidence: 0 to 1, of each configuration alone; the smallest of many is partly the luckiest, so
    it is less sure than its confidence says. See `smallest`.
    """
    return smallest(frame[frame["within_margin_pct"] >= 100 * confidence])


def smallest(frame: pd.DataFrame) -> "pd.Series[Any] | None":
    """The row of the fewest megabytes; of equals that of the lowest latency, then the surest.

    None where there is no row.
    """
    if frame.empty:
        return None
    order = frame.assign(
        megabytes=(frame["weights_bytes"] / 1e6).round(),
        latency=frame["rtf_ratio"].fillna(math.inf),
        unsure=-frame["within_margin_pct"],
    ).sort_values(["megabytes", "latency", "unsure"], kind="stable")
    best: pd.Series[Any] = frame.loc[order.index[0]]
    return best
