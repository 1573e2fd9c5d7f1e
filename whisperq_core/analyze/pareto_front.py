"""Which results are Pareto-optimal on two metrics, and how sure that is.

A result is dominated where another is no worse on both metrics and better on at least one. Sizes
are exact; times have the range of their repeated passes; error rates have paired comparisons,
corrected for how many there are (`significance`), under the rule of `verdicts`.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from whisperq_core.analyze import paired_comparisons, verdict_text
from whisperq_core.analyze.multiple_testing import holm
from whisperq_core.analyze.paired_comparisons import error_counts, resampling_key
from whisperq_core.analyze.paired_tests import Comparison, PairedTest
from whisperq_core.analyze.results_table import METRICS, values
from whisperq_core.analyze.significance import Estimate, Unit
from whisperq_core.analyze.verdicts import (
    DIFFERENCE_LEVEL,
    INFERIORITY_LEVEL,
    MARGIN,
    require_margin,
)
from whisperq_core.derived_values import DerivedValues
from whisperq_core.evaluate.records import AccuracyRun

Booleans = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.float64]

# The columns that `with_verdicts` and `pareto_status` add to those of `results_table.rows`, with
# their headings.
LABELS = {
    "wer_low_pct": "WER, low (%)",
    "wer_high_pct": "WER, high (%)",
    "cer_low_pct": "CER, low (%)",
    "cer_high_pct": "CER, high (%)",
    "resampled": "Bootstrap over",
    "difference_points": "Difference from baseline (points)",
    "difference_low": "Difference, low",
    "difference_high": "Difference, high",
    "verdict": "Verdict",
    "verdict_rate": "Rate compared",
    "in_words": "Verdict, in full",
    "lower_wer_pct": "Probability of a lower WER (%)",
    "within_margin_pct": "Probability of no worse (%)",
    "minutes_needed": "Minutes of audio for a conclusion",
    "front": "Pareto front",
    "dominated": "Significantly dominated",
}
BASELINE, NOT_COMPARED = "baseline", "not compared"
ON_FRONT, POSSIBLY_ON_FRONT, NOT_MEASURED = "on the front", "possibly", "not measured"

# A median time up to this many times another's counts as no worse.
SAME_TIME = 1.05

_UNITS: dict[str, Unit] = {"wer_pct": "words", "cer_pct": "characters"}


def pareto_optimal(frame: pd.DataFrame, x: str, y: str) -> Booleans:
    """Rows that no other row dominates by the measured values, shape (rows,).

    Lower is better unless the metric says otherwise. Ties on both columns are kept; rows without a
    value are never optimal.
    """
    a, b = _lower_is_better(frame, x), _lower_is_better(frame, y)
    no_worse = (a[:, None] <= a) & (b[:, None] <= b)
    better = (a[:, None] < a) | (b[:, None] < b)
    dominated = (no_worse & better).any(axis=0)
    return ~dominated & ~np.isnan(a) & ~np.isnan(b)


def _lower_is_better(frame: pd.DataFrame, column: str) -> Numbers:
    shown = values(frame, column)
    return -shown if METRICS[column].higher_is_better else shown


@dataclass(frozen=True)
class PairwiseRelation:
    """Every result compared with every other on one metric: [i, j] is result i against result j.

    Booleans of shape (results, results); better implies no_worse. Where both are false, i is worse
    or the comparison is inconclusive.
    """

    better: Booleans
    no_worse: Booleans


def exact_relation(values: Numbers) -> PairwiseRelation:
    """Of values without uncertainty, such as bytes; lower is better, NaN compares with nothing."""
    return PairwiseRelation(values[:, None] < values, values[:, None] <= values)


def time_relation(median: Numbers, low: Numbers, high: Numbers) -> PairwiseRelation:
    """Of times of repeated passes: better where the whole range is below the other's range.

    No worse is a median of at most SAME_TIME times the other's.
    """
    better = high[:, None] < low
    return PairwiseRelation(better, better | (median[:, None] <= SAME_TIME * median))


def error_rate_relation(
    runs: Sequence[AccuracyRun],
    unit: Unit = "words",
    margin: float = MARGIN,
    candidates: Booleans | None = None,
    all_runs: Iterable[AccuracyRun] = (),
) -> PairwiseRelation:
    """Of error rates: better and no worse are the verdicts of paired comparisons.

    candidates: pairs to compare, all by default; Holm-corrected over those with the same j, without
    resampling: a hundred results are ten thousand pairs, which a page has no seconds for. Runs of
    other speech are neither better nor worse. all_runs: runs that later calls may ask about; they
    are compared together with the first call's, and cached. Raises InputError for a margin that is
    none.
    """
    require_margin(margin)
    better = np.zeros((len(runs), len(runs)), dtype=bool)
    no_worse = better.copy()
    if candidates is None:
        candidates = np.ones(better.shape, dtype=bool)
    everything = [*all_runs, *runs]
    pools = _by_resampling_key(everything, unit)
    for key, positions in _by_resampling_key(runs, unit).items():
        pool = tuple(dict.fromkeys(everything[position] for position in pools[key]))
        tests = _tests(pool, unit)
        position_in_pool = {run: position for position, run in enumerate(pool)}
        in_pool = np.array([position_in_pool[runs[position]] for position in positions])
        for j, baseline in enumerate(positions):
            rows = np.array([i for i in positions if candidates[i, baseline] and i != baseline])
            if rows.size:
                columns = in_pool[np.searchsorted(positions, rows)]
                is_better, is_no_worse = _against(tests[in_pool[j]], columns, margin)
                better[rows, baseline], no_worse[rows, baseline] = is_better, is_no_worse
    return PairwiseRelation(better, better | no_worse)


def _by_resampling_key(runs: Iterable[AccuracyRun], unit: Unit) -> dict[Hashable, list[int]]:
    """Positions of the runs whose counts can be resampled together."""
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for position, run in enumerate(runs):
        positions[resampling_key(run, unit)].append(position)
    return positions


def _against(test: PairedTest, family: Indices, margin: float) -> tuple[Booleans, Booleans]:
    """Which of a family of candidates are better than the test's baseline, and which no worse."""
    values = test.values[family]
    # What loses the margin or more as measured can be neither: its p-value counts as 1.
    likely = values < margin
    different = holm(np.where(likely, test.p_difference[family], 1.0))
    inferior = holm(np.where(likely, test.p_inferior(margin)[family], 1.0))
    better = (values < 0) & (np.array(different) < DIFFERENCE_LEVEL)
    return better, np.array(inferior) < INFERIORITY_LEVEL


@lru_cache(maxsize=4)
def _tests(runs: tuple[AccuracyRun, ...], unit: Unit) -> tuple[PairedTest, ...]:
    """Each run as the baseline of all."""
    return PairedTest.of_each([error_counts(run, unit) for run in runs])


def dominates(first: PairwiseRelation, second: PairwiseRelation) -> Booleans:
    """[i, j]: i significantly dominates j: no worse on both metrics, better on one or both.

    "No worse" has a margin, so results can dominate one another in a circle; those are left out, so
    that something is always undominated.
    """
    dominating = first.no_worse & second.no_worse & (first.better | second.better)
    # Two results are in one circle where each reaches the other.
    _, circle = connected_components(csr_array(dominating), connection="strong")
    result: Booleans = dominating & (circle[:, None] != circle)
    return result


def pareto_status(
    frame: pd.DataFrame, runs: Iterable[AccuracyRun], x: str, y: str, margin: float = MARGIN
) -> pd.DataFrame:
    """The rows with `front` (text) and `dominated` (bool), on the columns x and y.

    A row off the measured front may still be on the true one, unless another is shown to dominate
    it: see `dominates`, and `error_rate_relation` for error rates.
    """
    by_key = {run.key: run for run in runs}
    runs_of_rows = [by_key[key] for key in frame["key"]]
    rates, others = sorted({x, y} & _UNITS.keys()), sorted({x, y} - _UNITS.keys())
    relations = [_relation_of_column(frame, column) for column in others]
    # Comparing error rates is slow: only pairs that the other metric leaves open are compared.
    candidates = relations[0].no_worse if relations else None
    relations += [
        error_rate_relation(runs_of_rows, _UNITS[column], margin, candidates, by_key.values())
        for column in rates
    ]
    measured: Booleans = frame[[x, y]].notna().all(axis=1).to_numpy(dtype=bool)
    dominating: Booleans = dominates(relations[0], relations[-1]) & measured[:, None] & measured
    dominated: Booleans = np.asarray(dominating.any(axis=0))
    dominators = _dominators(frame, y, dominating)
    optimal = pareto_optimal(frame, x, y)
    texts = [
        _front_text(bool(measured[i]), bool(optimal[i]), bool(dominated[i]), dominator)
        for i, dominator in enumerate(dominators)
    ]
    return frame.assign(front=texts, dominated=dominated)


def _dominators(frame: pd.DataFrame, y: str, dominating: Booleans) -> list[str]:
    """For each row the result to name as dominating it; arbitrary where there is none.

    One that is undominated itself where there is one, and the best on y of those.
    """
    if not len(frame):
        return []
    names = _names(frame)
    rank = np.argsort(np.lexsort((_lower_is_better(frame, y), dominating.any(axis=0))))
    first = np.where(dominating, rank[:, None], len(frame)).argmin(axis=0)
    return [names[position] for position in first]


def _front_text(measured: bool, optimal: bool, dominated: bool, dominator: str) -> str:
    if not measured:
        return NOT_MEASURED
    if optimal and dominated:
        return f"{ON_FRONT} as measured, but dominated by {dominator} within the margins"
    if optimal:
        return ON_FRONT
    return f"dominated by {dominator}" if dominated else POSSIBLY_ON_FRONT


def _relation_of_column(frame: pd.DataFrame, column: str) -> PairwiseRelation:
    if f"{column}_low" in frame:
        low, high = (values(frame, f"{column}_{end}") for end in ("low", "high"))
        return time_relation(values(frame, column), low, high)
    return exact_relation(_lower_is_better(frame, column))


def _names(frame: pd.DataFrame) -> list[str]:
    parts = ["recipe", *(c for c in ("model", "device", "threads") if frame[c].nunique() > 1)]
    return [" · ".join(str(v) for v in row) for row in frame[parts].itertuples(index=False)]


def with_verdicts(
    frame: pd.DataFrame,
    runs: Iterable[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
    derived: DerivedValues | None = None,
) -> pd.DataFrame:
    """The rows with intervals of WER and CER and a verdict against the baseline recipe.

    runs: all that there are under the rows' conditions, shown or not: verdicts and intervals of
    differences are corrected for all of them, so that no selection changes a verdict. They are of
    the newest run of the baseline. minutes_needed is of audio in all, missing where there is a
    conclusion. verdict_rate: WER, or CER where most of the audio is in languages written without
    spaces; differences are in points of it. derived: where comparisons are stored: `family_cache`.
    """
    by_key = {run.key: run for run in sorted(runs, key=lambda run: run.created_at)}
    comparisons = paired_comparisons.verdicts(by_key.values(), baseline, margin, derived)
    runs_of_rows = [by_key[key] for key in frame["key"]]
    wers = paired_comparisons.estimates(runs_of_rows)
    cers = paired_comparisons.estimates(runs_of_rows, "characters")
    added = [
        _verdict_columns(run, wer, cer, comparisons.get(run.key), baseline)
        for run, wer, cer in zip(runs_of_rows, wers, cers, strict=True)
    ]
    texts = ("resampled", "verdict", "verdict_rate", "in_words")
    numbers = [c for c in LABELS if c not in (*texts, "front", "dominated")]
    columns = pd.DataFrame(added, columns=[*numbers, *texts], index=frame.index)
    types: dict[str, Any] = dict.fromkeys(texts, "str") | dict.fromkeys(numbers, float)
    return frame.join(columns.astype(types))


def _verdict_columns(
    run: AccuracyRun, wer: Estimate, cer: Estimate, comparison: Comparison | None, baseline: str
) -> dict[str, object]:
    columns: dict[str, object] = {
        "wer_low_pct": wer.low,
        "wer_high_pct": wer.high,
        "cer_low_pct": cer.low,
        "cer_high_pct": cer.high,
        "resampled": f"{wer.blocks} {wer.block}s",
        "verdict": NOT_COMPARED,
        "in_words": f"not compared: {baseline} was not run on the same speech",
    }
    if comparison is None:
        if run.spec.recipe.name == baseline:
            columns |= {"verdict": BASELINE, "in_words": "the baseline"}
        return columns
    difference = comparison.difference
    return columns | {
        "difference_points": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "verdict": comparison.verdict.value,
        "verdict_rate": comparison.rate_name,
        "in_words": verdict_text.describe(comparison, baseline, run.minutes),
        "lower_wer_pct": math.nan if math.isnan(difference.low) else 100 * comparison.p_better,
        "within_margin_pct": math.nan
        if math.isnan(difference.low)
        else 100 * comparison.p_within_margin,
        "minutes_needed": comparison.minutes_needed(run.minutes),
    }
