"""The results table: a data frame with one row for each accuracy run and its speed run."""

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from csv import QUOTE_NONNUMERIC
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from whisperq_core.analyze import divergences
from whisperq_core.analyze.paired_comparisons import protocol_identity
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, RunSpec, SpeedRun
from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.protocols import PROTOCOLS, Protocol


@dataclass(frozen=True)
class Metric:
    """A measured column: how it is called, its unit, and how its values are shown.

    scale turns a stored value into the unit shown (bytes into MB); decimals are those shown.
    """

    column: str
    label: str
    unit: str
    decimals: int
    scale: float = 1.0
    higher_is_better: bool = False

    @property
    def title(self) -> str:
        """Label and unit, as on an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def show(self, value: float) -> str:
        """A stored value with its unit."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{value * self.scale:.{self.decimals}f}{unit}"


_METRICS = (
    Metric("wer_pct", "WER", "%", 2),
    Metric("cer_pct", "CER", "%", 2),
    Metric("divergence_mnat", "Divergence", "mnat per token", 2),
    Metric("changed_tokens_pct", "Tokens changed", "%", 2),
    Metric("rtf", "RTF", "", 3),
    Metric("rtf_ratio", "Relative latency", "× fp32", 2),
    Metric("weights_bytes", "Size", "MB", 1, scale=1e-6),
    Metric("size_reduction_pct", "Size reduction", "%", 1, higher_is_better=True),
    Metric("peak_memory_bytes", "Peak memory", "MB", 0, scale=1e-6),
    Metric("quantize_s", "Quantization time", "s", 1),
    Metric("first_token_s", "First token", "s", 2),
    Metric("tokens_per_s", "Tokens per second", "", 0, higher_is_better=True),
)
METRICS = {metric.column: metric for metric in _METRICS}

# The design axes of a recipe, as columns, and how they are called.
AXES = {
    "family": "Family",
    "backend": "Library",
    "weights": "Weights",
    "bits": "Bits",
    "scheme": "Scheme",
    "method": "Method",
    "granularity": "Granularity",
    "group_size": "Group size",
    "activations": "Activations",
    "double_quant": "Double quantization",
    "calibration": "Calibration",
    "coverage": "Layers quantized",
    "embeddings": "Token embeddings",
    "attention": "Attention",
}

BACKEND_NAMES = {name: backend.label for name, backend in BACKENDS.items()}

# How the other columns are called, units included.
LABELS = AXES | {
    "key": "Key",
    "model": "Model",
    "recipe": "Recipe",
    "modules": "Modules",
    "set": "Evaluation set",
    "device": "Device",
    "threads": "Threads",
    "protocol": "Protocol",
    "substitutions": "Substitutions",
    "deletions": "Deletions",
    "insertions": "Insertions",
    "reference_words": "Reference words",
    "loops": "Loops",
    "fallbacks": "Fallbacks",
    "utterances": "Utterances",
    "rtf_low": "RTF, lowest",
    "rtf_high": "RTF, highest",
    "rtf_ratio_low": "Relative latency, lowest",
    "rtf_ratio_high": "Relative latency, highest",
    "rtf_source": "Source of RTF",
    "divergence_mnat_low": "Divergence, low",
    "divergence_mnat_high": "Divergence, high",
    "encoder_share": "Encoder's share of the time",
    "kernels": "Kernels",
    "cpu": "CPU",
    "created_at": "Measured (UTC)",
}

_TEXT = (
    *("key", "model", "recipe", "description", "family", "backend", "weights", "scheme"),
    *("method", "granularity", "activations", "double_quant", "calibration", "coverage"),
    *("embeddings", "attention"),
    *("set", "device", "protocol", "rtf_source", "kernels", "cpu", "speed_key"),
)
_COUNTS = (
    *("bits", "group_size", "modules", "threads", "substitutions", "deletions", "insertions"),
    *("reference_words", "loops", "fallbacks", "utterances", "weights_bytes"),
    "peak_memory_bytes",
)
_NUMBERS = (
    *("wer_pct", "cer_pct", "audio_s", "rtf", "rtf_low", "rtf_high", "rtf_ratio"),
    *("rtf_ratio_low", "rtf_ratio_high", "size_reduction_pct", "quantize_s"),
    *("encoder_share", "first_token_s", "tokens_per_s", "divergence_mnat"),
    *("divergence_mnat_low", "divergence_mnat_high", "changed_tokens_pct"),
)
COLUMNS = (
    *("key", "model", "recipe", "description", *AXES, "modules", "set", "device", "threads"),
    *("protocol", "wer_pct", "cer_pct", "substitutions", "deletions", "insertions"),
    *("reference_words", "loops", "fallbacks", "utterances", "audio_s", "divergence_mnat"),
    *("divergence_mnat_low", "divergence_mnat_high", "changed_tokens_pct", "rtf", "rtf_low"),
    *("rtf_high", "rtf_ratio", "rtf_ratio_low", "rtf_ratio_high", "rtf_source"),
    *("encoder_share", "first_token_s", "tokens_per_s", "weights_bytes"),
    *("size_reduction_pct", "peak_memory_bytes", "quantize_s", "kernels", "cpu", "created_at"),
    "speed_key",
)

Runs = Iterable[Run]


def machines(runs: Runs) -> list[str]:
    """The kinds of machine on which speed was measured, that with most results first."""
    kinds = Counter(run.machine_kind for run in runs if isinstance(run, SpeedRun))
    return sorted(kinds, key=lambda kind: (-kinds[kind], kind))


def rows(runs: Runs, machine: str | None = None) -> pd.DataFrame:
    """One row for each accuracy run, with the columns of COLUMNS; the newest of each key.

    Times are of one kind of machine, never of several: `machine`, by default the first of
    `machines`; without any, each row has its own run's.
    Speed comes from the newest SpeedRun of the same weights, recipe, protocol, device and threads:
    rtf is the median of its passes, rtf_low and rtf_high their extremes (likewise rtf_ratio), and
    peak memory is its own; encoder_share (0 to 1), first_token_s and tokens_per_s are medians too,
    where recorded. Without one, rtf is the single pass's and peak memory the accuracy run's.
    Divergence comes from the newest DivergenceRun of the same weights, recipe, speech and device,
    whatever the protocol; its low and high are a 95 % interval.
    What was not measured is missing (NaN). Units are in the names; `audio_s` is of the accuracy
    run's set.
    """
    by_age = sorted(runs, key=lambda run: (run.created_at, run.key))
    accuracy = {run.key: run for run in by_age if isinstance(run, AccuracyRun)}
    kind = machine or next(iter(machines(by_age)), None)
    of_kind = (r for r in by_age if isinstance(r, SpeedRun) and r.machine_kind == kind)
    speed = {timed_work(run.spec): run for run in of_kind}
    divergence = {_same_speech(run.spec): run for run in by_age if isinstance(run, DivergenceRun)}
    records = [
        _row(run, speed.get(timed_work(run.spec)), kind)
        | _divergence_of(divergence.get(_same_speech(run.spec)))
        for run in accuracy.values()
    ]
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    types: dict[str, Any] = dict.fromkeys(_TEXT, "str") | dict.fromkeys(_COUNTS, "Int64")
    frame = frame.astype(types | dict.fromkeys(_NUMBERS, "float64"))
    return frame.assign(created_at=pd.to_datetime(frame["created_at"], utc=True))


def timed_work(spec: RunSpec) -> Hashable:
    """What an accuracy run and the speed run that belongs to it have in common."""
    what_runs = spec.weights_digest, _axes(spec.recipe), protocol_identity(spec.protocol)
    return *what_runs, spec.device, spec.threads


def _same_speech(spec: RunSpec) -> Hashable:
    """What an accuracy run and the divergence run that belongs to it have in common."""
    return spec.weights_digest, _axes(spec.recipe), spec.eval_set_digest, spec.device


@lru_cache(maxsize=10_000)
def _axes(recipe: Recipe) -> str:
    return json.dumps(recipe.axes(), sort_keys=True)


def _protocol_name(protocol: Protocol) -> str:
    """Its name, or a summary of one that has none here."""
    is_named = PROTOCOLS.get(protocol.name) == protocol
    return protocol.name if is_named else protocol.summary


def _row(run: AccuracyRun, speed: SpeedRun | None, kind: str | None) -> dict[str, object]:
    spec, recipe, words = run.spec, run.spec.recipe, run.words
    axes = {name: getattr(recipe, name, None) for name in AXES if name != "coverage"}
    return {
        "key": run.key,
        "model": run.model,
        "recipe": recipe.name,
        "description": recipe.description,
        **axes,
        "double_quant": "yes" if recipe.double_quant else "no",
        "coverage": recipe.modules,
        "modules": len(run.modules),
        "set": run.eval_set,
        "device": spec.device,
        "threads": spec.threads,
        "protocol": _protocol_name(spec.protocol),
        "wer_pct": words.rate,
        "cer_pct": run.characters.rate,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "reference_words": words.reference_length,
        "loops": run.loops,
        "fallbacks": run.fallbacks,
        "utterances": len(run.utterances),
        "audio_s": run.audio_s,
        **_speed_of(run, speed, kind),
        "weights_bytes": run.weights_bytes,
        "size_reduction_pct": run.size_reduction_pct,
        "quantize_s": run.quantize_s,
        "kernels": spec.kernels,
        "created_at": run.created_at,
    }


def _speed_of(run: AccuracyRun, speed: SpeedRun | None, kind: str | None) -> dict[str, object]:
    if speed is None or not speed.rtfs():
        elsewhere = kind is not None and run.machine_kind != kind
        rtf = None if elsewhere else run.rtf
        source = "not measured" if rtf is None else "single pass"
        if run.machine_was_busy and run.spec.kernels == "library":
            source = "not measured: other processes kept the machine busy"
        return {
            "rtf": rtf,
            "rtf_source": "not measured on this kind of machine" if elsewhere else source,
            "peak_memory_bytes": run.peak_memory_bytes,
            "cpu": run.machine.cpu,
        }
    rtfs, ratios = speed.rtfs(), speed.ratios()
    return {
        "rtf": median(rtfs),
        "rtf_low": min(rtfs),
        "rtf_high": max(rtfs),
        "rtf_ratio": median(ratios),
        "rtf_ratio_low": min(ratios),
        "rtf_ratio_high": max(ratios),
        "rtf_source": f"{len(rtfs)} passes alternating with fp32",
        "encoder_share": speed.encoder_share(),
        "first_token_s": speed.first_token_s(),
        "tokens_per_s": speed.tokens_per_s(),
        "peak_memory_bytes": speed.peak_memory_bytes,
        "cpu": speed.machine.cpu,
        "speed_key": speed.key,
    }


def _divergence_of(run: DivergenceRun | None) -> dict[str, object]:
    if run is None or not run.utterances:
        return {}
    mean = divergences.mean_mnat(run)
    return {
        "divergence_mnat": mean.value,
        "divergence_mnat_low": mean.low,
        "divergence_mnat_high": mean.high,
        "changed_tokens_pct": divergences.changed_pct(run).value,
    }


def values(frame: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """A metric's column as floats in the unit shown (MB for bytes); missing values are NaN."""
    scale = METRICS[column].scale if column in METRICS else 1.0
    return frame[column].to_numpy(dtype=float, na_value=np.nan) * scale


def compared_rate(frame: pd.DataFrame) -> str:
    """The rate that verdicts on most of the rows compare: WER, or CER.

    frame: the columns of `pareto_front.with_verdicts`; WER where nothing is compared.
    """
    rates = frame["verdict_rate"].dropna() if "verdict_rate" in frame else frame.iloc[:0]
    return str(rates.mode().iloc[0]) if len(rates) else "WER"


def rate_column(rate: str) -> str:
    """The column of a rate, WER or CER, in percent."""
    return f"{rate.lower()}_pct"


@dataclass(frozen=True)
class Highlight:
    """A row that is first in something as measured; baseline is its baseline's row, if measured."""

    title: str
    row: "pd.Series[Any]"
    baseline: "pd.Series[Any] | None"


def highlights(frame: pd.DataFrame, baseline: str = "fp32", points: float = 0.5) -> list[Highlight]:
    """The lowest WER, the lowest latency relative to fp32, and the smallest within `points` of WER.

    Where verdicts compare CER, that is the rate instead of WER.
    As measured, with no claim that a difference is more than chance. What is not known (no speed
    measured together with fp32's, no run of the baseline) is left out.
    """
    conditions = list(frame[_CONDITION].itertuples(index=False, name=None))
    order = np.argsort(frame["created_at"].to_numpy(), kind="stable")
    recipes = frame["recipe"].tolist()
    baselines = {conditions[i]: frame.iloc[i] for i in order if recipes[i] == baseline}
    rate = compared_rate(frame)
    column = rate_column(rate)
    limits = [baselines[c][column] + points if c in baselines else np.nan for c in conditions]
    close = values(frame, column) <= np.array(limits, dtype=float)
    everything = np.ones(len(frame), dtype=bool)
    plural = "point" if points == 1 else "points"
    ranked = (
        (f"Lowest {rate}", everything, column),
        ("Lowest relative latency", everything, "rtf_ratio"),
        (f"Smallest within {points:g} {plural} of {baseline}'s {rate}", close, "weights_bytes"),
    )
    sizes, leaders = values(frame, "weights_bytes"), []
    for title, eligible, column in ranked:
        shown = values(frame, column)
        candidates = np.flatnonzero(eligible & ~np.isnan(shown))
        if len(candidates):
            order_of = [(shown[i], sizes[i], recipes[i], i) for i in candidates]
            best = int(min(order_of)[-1])
            leaders.append(Highlight(title, frame.iloc[best], baselines.get(conditions[best])))
    return leaders


# What a result and its baseline have in common.
_CONDITION = ["model", "set", "device", "threads", "protocol"]


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame in the units shown (MB for bytes)."""
    return frame.assign(**{column: values(frame, column) for column in METRICS})


# Beginnings of a text that spreadsheets run as a formula, East Asian full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe in front of texts that a spreadsheet would run as a formula.

    For what is saved as CSV, also by the button that Streamlit gives every table.
    """

    def is_risky(cell: object) -> bool:
        return isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA)

    changed = {}
    for column in frame.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz"]):
        cells = frame[column].tolist()
        # Hardly any column has one, and to make it anew takes long.
        if any(map(is_risky, cells)):
            changed[str(column)] = [f"'{cell}" if is_risky(cell) else cell for cell in cells]
    return frame.assign(**changed)


def csv(frame: pd.DataFrame) -> bytes:
    """The frame as CSV in UTF-8, texts in double quotes, none of them a formula."""
    return (
        without_formulas(frame)
        .to_csv(index=False, lineterminator="\n", quoting=QUOTE_NONNUMERIC)
        .encode()
    )
