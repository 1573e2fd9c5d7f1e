"""All configurations as a table: size, latency, and the WER difference from the reference."""

from collections.abc import Iterable

import pandas as pd

from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.verdict_text import verdict_words
from whisperq_core.analyze.verdicts import Verdict

COLUMNS = (
    *("model", "recipe", "protocol", "device", "threads", "weights_bytes", "size_reduction_pct"),
    *("peak_memory_bytes", "latency", "latency_low", "latency_high", "rtf", "cpu"),
    *("wer_pct", "reference_wer_pct", "difference", "low", "high", "within_margin_pct"),
    *("verdict", "shown"),
    *("divergence_mnat", "minutes", "speakers", "sets", "sets_differ_p", "loops_points"),
    *("compared_with", "is_reference", "key"),
)


def evidence(configurations: Iterable[Configuration]) -> pd.DataFrame:
    """One row for each configuration, the smallest first.

    Columns: weights_bytes; size_reduction_pct; peak_memory_bytes; latency relative to the
    reference's, the median of repeated passes with their lowest and highest; wer_pct over all its
    sets, and reference_wer_pct over the same; difference, low, high: points of WER from the
    reference, the interval simultaneous over compared_with configurations; within_margin_pct: the
    confidence that the increase is below the margin, of this one alone; verdict, in words; shown:
    whether it is "no worse" or "better", corrected for all; divergence_mnat of the longest set;
    minutes, speakers, sets (names, the longest first); sets_differ_p: p-value of equal differences
    in all sets; loops_points: what loops too rare to be seen could add at most; key of the longest
    set's run. What was not measured or does not apply is missing.
    """
    lines = [_line(configuration) for configuration in configurations]
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    numbers = (
        *("latency", "latency_low", "latency_high", "rtf", "reference_wer_pct", "difference"),
        *("low", "high", "within_margin_pct", "sets_differ_p", "loops_points"),
    )
    types = dict.fromkeys(("shown", "is_reference"), "bool") | dict.fromkeys(numbers, "float64")
    return frame.astype(types).sort_values(
        ["weights_bytes", "recipe"], kind="stable", ignore_index=True
    )


def _line(configuration: Configuration) -> dict[str, object]:
    run, latency, row = configuration.run, configuration.latency, configuration.row
    line: dict[str, object] = {
        "model": configuration.model,
        "recipe": configuration.recipe,
        "protocol": configuration.protocol.name,
        "device": run.spec.device,
        "threads": run.spec.threads,
        "weights_bytes": configuration.weights_bytes,
        "size_reduction_pct": configuration.size_reduction_pct,
        "peak_memory_bytes": configuration.peak_memory_bytes,
        "rtf": configuration.rtf.value if configuration.rtf else None,
        "cpu": row["cpu"],
        "wer_pct": configuration.rate_pct,
        "reference_wer_pct": configuration.reference_rate_pct,
        "shown": False,
        "divergence_mnat": row["divergence_mnat"],
        "minutes": configuration.minutes,
        "speakers": configuration.speakers,
        "sets": ", ".join(configuration.sets),
        "is_reference": configuration.is_reference,
        "verdict": "reference" if configuration.is_reference else "not compared",
        "key": run.key,
    }
    if latency is not None:
        line |= {
            "latency": latency.value,
            "latency_low": latency.low,
            "latency_high": latency.high,
        }
    return line | _compared(configuration)


def _compared(configuration: Configuration) -> dict[str, object]:
    pool = configuration.pool
    if pool is None:
        return {}
    comparison = pool.comparison
    return {
        "difference": comparison.difference.value,
        "low": comparison.difference.low,
        "high": comparison.difference.high,
        "within_margin_pct": 100 * comparison.p_within_margin,
        "verdict": verdict_words(comparison, "fp32"),
        "shown": comparison.verdict in (Verdict.NO_WORSE, Verdict.BETTER),
        "sets_differ_p": pool.heterogeneity.p if pool.heterogeneity else None,
        "loops_points": pool.loops.highest_cost,
        "compared_with": comparison.family,
    }
