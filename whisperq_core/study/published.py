"""The study's published tables as data, and the results measured here next to them.

The published sizes show which layers each library quantized. Quantizing every linear layer, with
the output projection untied from the token embeddings and these left in fp32, makes base 36 %
smaller, tiny 19 % and small 57 %: the sizes published for PyTorch and Quanto. HQQ and bitsandbytes
did not quantize the tied projection: base in nf4 is then 139.2 MB instead of 290.5 MB, 52.1 %
smaller, as published. The recipes of WhisperQ do the same for each library.

What the study calls dynamic is weight-only here for Quanto, HQQ and bitsandbytes: activations stay
in floating point. The study gives neither HQQ's group size (64 here) nor the device of Table 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from whisperq_core.quantize.recipes import IN_PYTORCH
from whisperq_core.study.evidence import SPLITS, most_complete

AUTHORS = "Arthur Söhler, Julian Irigoyen, Andreas Søeborg Kirkedal"
TITLE = "Quantizing Whisper: How Design Choices Affect ASR Performance"
CITATION = f"{AUTHORS}: {TITLE}."


@dataclass(frozen=True)
class PublishedResult:
    """A row of Table 2 or 3: WER and CER in percent on test-clean and test-other.

    recipe: name in the catalogue. device: None where the study does not name it.
    size_reduction_pct: of fp32's bytes; None for fp32.
    """

    table: int
    model: str
    device: str | None
    label: str
    recipe: str
    wer_clean_pct: float
    wer_other_pct: float
    cer_clean_pct: float
    cer_other_pct: float
    rtf: float
    size_reduction_pct: float | None

    @property
    def baseline(self) -> "PublishedResult":
        """The study's fp32 row of the same table, model and device."""
        return next(
            row
            for row in (*TABLE_2, *TABLE_3)
            if row.recipe == "fp32"
            and (row.table, row.model, row.device) == (self.table, self.model, self.device)
        )

    @property
    def rtf_ratio(self) -> float:
        """RTF over fp32's, which can be compared across hardware within limits."""
        return self.rtf / self.baseline.rtf

    def wer_pct(self, split: Literal["clean", "other"]) -> float:
        """WER on test-clean or test-other, in percent."""
        return self.wer_clean_pct if split == "clean" else self.wer_other_pct

    @property
    def robustness_gap(self) -> float:
        """WER on test-other minus WER on test-clean, in points, as in Figure 1."""
        return self.wer_other_pct - self.wer_clean_pct


@dataclass(frozen=True)
class PublishedChoice:
    """A row of Table 4: a priority, the study's choice for it, and its drawbacks.

    worse: metrics that are higher than fp32's. column: of the results table, in which the choice
    should have the lowest value.
    """

    priority: str
    label: str
    recipe: str
    worse: tuple[str, ...]
    column: str


_FP32 = "Baseline (fp32)", "fp32"
_TORCH = "PyTorch int8 (dyn.)", "torch-int8"
_QUANTO = "Quanto int8 (dyn.)", "quanto-int8"
_STATIC = "Quanto int8/fp8 (stat.)", "quanto-int8-float8-eval10"
_HQQ4 = "HQQ int4 (dyn.)", "hqq-int4-g64"
_HQQ3 = "HQQ int3 (dyn.)", "hqq-int3-g64"
_NF4 = "BNB nf4 (dyn.)", "bnb-nf4"

TABLE_2 = (
    PublishedResult(2, "small", "cpu", *_FP32, 3.48, 11.88, 1.02, 3.62, 0.121, None),
    PublishedResult(2, "small", "cpu", *_TORCH, 3.72, 13.67, 1.11, 4.21, 0.077, 57.0),
    PublishedResult(2, "small", "cpu", *_HQQ4, 3.52, 14.09, 1.09, 4.38, 0.155, 69.0),
    PublishedResult(2, "small", "cpu", *_STATIC, 5.95, 15.92, 1.83, 5.03, 0.169, 57.0),
    PublishedResult(2, "small", "cuda", *_FP32, 3.48, 11.88, 1.02, 3.62, 0.006, None),
    PublishedResult(2, "small", "cuda", *_QUANTO, 3.41, 10.65, 0.97, 3.29, 0.008, 57.0),
    PublishedResult(2, "small", "cuda", *_NF4, 3.54, 13.49, 1.05, 4.05, 0.008, 70.0),
    PublishedResult(2, "small", "cuda", *_HQQ3, 4.11, 12.93, 1.22, 3.77, 0.019, 71.0),
)

TABLE_3 = (
    PublishedResult(3, "base", None, *_FP32, 5.08, 12.87, 1.93, 6.76, 0.0022, None),
    PublishedResult(3, "base", None, *_QUANTO, 5.10, 14.72, 1.93, 7.60, 0.0037, 36.2),
    PublishedResult(3, "base", None, *_NF4, 6.05, 18.09, 2.31, 10.16, 0.0036, 52.1),
    PublishedResult(3, "tiny", None, *_FP32, 7.60, 23.69, 2.98, 12.84, 0.0015, None),
    PublishedResult(3, "tiny", None, *_QUANTO, 7.64, 24.64, 2.99, 13.24, 0.0025, 19.3),
    PublishedResult(3, "tiny", None, *_NF4, 11.16, 32.19, 4.78, 20.20, 0.0026, 37.5),
)

TABLE_4 = (
    PublishedChoice("Fastest inference", *_TORCH, ("WER",), "rtf_ratio"),
    PublishedChoice("Best accuracy", *_QUANTO, ("RTF",), "wer_pct"),
    PublishedChoice("Best size reduction", *_HQQ3, ("WER", "RTF"), "weights_bytes"),
)


# What its choices are compared with: its own quantized recipes.
STUDY_RECIPES = tuple(
    dict.fromkeys(row.recipe for row in (*TABLE_2, *TABLE_3) if row.recipe != "fp32")
)


def published_result(model: str, recipe: str, device: str | None = None) -> PublishedResult | None:
    """The study's row of a model and recipe; None if there is none. device: None for any."""
    for row in (*TABLE_2, *TABLE_3):
        if (row.model, row.recipe) == (model, recipe) and device in (None, row.device):
            return row
    return None


# Models to compare with the study's, best first; all but the first are other models.
STAND_INS = {"small": ("small", "base"), "base": ("base",), "tiny": ("tiny", "tiny.en")}

STUDY, HERE = "study", "here"
# A recipe with more than this many times fp32's WER is no longer usable.
MAX_WER_RATIO = 2.0


def stand_in(model: str, frame: pd.DataFrame) -> str | None:
    """The measured model to compare with the study's; None where there is none."""
    return next((m for m in STAND_INS[model] if (frame["model"] == m).any()), None)


def measured_row(
    model: str, recipe: str, eval_set: str, frame: pd.DataFrame
) -> "pd.Series[Any] | None":
    """The newest row of a model and recipe on an evaluation set, or None.

    Rows with a speed result (interleaved with fp32) are preferred.
    """
    of_set = frame[(frame["model"] == model) & (frame["set"] == eval_set)]
    rows = of_set[of_set["recipe"] == recipe]
    if rows.empty:
        # The counterpart under other protocols, which calibrates on held-out speech.
        rows = of_set[of_set["recipe"] == recipe.removesuffix("-eval10")]
    if rows.empty:
        return None
    timed = rows.assign(timed=rows["speed_key"].notna())
    return timed.sort_values(["timed", "created_at"]).iloc[-1]


def common_sets(model: str, recipes: Iterable[str], frame: pd.DataFrame) -> dict[str, str]:
    """For each split the set that most of the recipes were run on: see `most_complete`."""
    names = {name for recipe in recipes for name in (recipe, recipe.removesuffix("-eval10"))}
    rows = frame[(frame["model"] == model) & frame["recipe"].isin(names)]
    sets = rows.drop_duplicates(["recipe", "set"])["set"]
    return {split: most_complete(split, sets) for split in SPLITS}


def side_by_side(results: Iterable[PublishedResult], frame: pd.DataFrame) -> pd.DataFrame:
    """The study's rows, each followed by the results measured here for the same recipe.

    Rows of one model are on the same sets, those that most of the recipes were run on.

    Columns: label, recipe, source (STUDY or HERE), model, what (sets and device), wer_clean_pct,
    wer_other_pct, gap_points, cer_clean_pct, cer_other_pct, rtf, rtf_ratio, size_reduction_pct, and
    for measured rows the keys of their results: clean_key, other_key, speed_key.
    A recipe that was not measured has a row without numbers, whose `what` is "not measured here".
    """
    results = list(results)
    lines = []
    for result in results:
        model = stand_in(result.model, frame)
        alike = [other.recipe for other in results if other.model == result.model]
        sets = common_sets(model, alike, frame) if model else {}
        lines += [_study_line(result), _here_line(result, model, sets, frame)]
    return pd.DataFrame(lines)


def _study_line(result: PublishedResult) -> dict[str, object]:
    device = f", {_DEVICES[result.device]}" if result.device else ""
    return {
        "label": result.label,
        "recipe": result.recipe,
        "source": STUDY,
        "model": result.model,
        "what": f"full sets{device}",
        "wer_clean_pct": result.wer_clean_pct,
        "wer_other_pct": result.wer_other_pct,
        "gap_points": result.robustness_gap,
        "cer_clean_pct": result.cer_clean_pct,
        "cer_other_pct": result.cer_other_pct,
        "rtf": result.rtf,
        "rtf_ratio": result.rtf_ratio,
        "size_reduction_pct": result.size_reduction_pct,
    }


_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def _here_line(
    result: PublishedResult, model: str | None, sets: dict[str, str], frame: pd.DataFrame
) -> dict[str, object]:
    line: dict[str, Any] = {
        "label": result.label,
        "recipe": result.recipe,
        "source": HERE,
        "model": model or result.model,
    }
    rows: dict[str, pd.Series[Any]] = {}
    for split, eval_set in sets.items():
        row = measured_row(str(model), result.recipe, eval_set, frame)
        if row is not None:
            rows[split] = row
    if not rows:
        return line | {"what": "not measured here"}
    for split, row in rows.items():
        line |= {f"wer_{split}_pct": row["wer_pct"], f"cer_{split}_pct": row["cer_pct"]}
        line[f"{split}_key"] = row["key"]
    if len(rows) == 2:
        line["gap_points"] = line["wer_other_pct"] - line["wer_clean_pct"]
    timed = next((row for row in rows.values() if pd.notna(row["speed_key"])), None)
    if timed is not None:
        line |= {name: timed[name] for name in ("rtf", "rtf_ratio", "speed_key")}
    any_row = next(iter(rows.values()))
    if result.size_reduction_pct is not None:
        line["size_reduction_pct"] = any_row["size_reduction_pct"]
    return line | {"what": _extent(list(rows.values()))}


def _extent(rows: "Sequence[pd.Series[Any]]") -> str:
    """The sets of the rows with their numbers of utterances, and the device."""
    names = [row["set"] for row in rows]
    counts = " + ".join(str(row["utterances"]) for row in rows)
    device = rows[0]["device"]
    return f"{', '.join(names)} ({counts}), {_DEVICES.get(device, device)}"


def best_measured_here(
    choice: PublishedChoice, frame: pd.DataFrame, model: str = "base"
) -> "pd.Series[Any] | None":
    """The row with the lowest value in the choice's column, on the set of test-other with most.

    Only usable recipes: with at most MAX_WER_RATIO times fp32's WER, where fp32 was measured. Only
    recipes quantized in PyTorch, as in the study. None where the column was not measured.
    """
    of_model = frame[frame["model"] == model]
    in_pytorch = of_model[of_model["family"] == IN_PYTORCH]
    measured = in_pytorch.drop_duplicates(["recipe", "set"])["set"]
    rows = of_model[of_model["set"] == most_complete("other", measured)]
    baseline = rows.loc[rows["recipe"] == "fp32", "wer_pct"].max()
    usable = rows["wer_pct"] <= MAX_WER_RATIO * baseline if pd.notna(baseline) else True
    candidates = rows[(rows["family"] == IN_PYTORCH) & usable].dropna(subset=[choice.column])
    if candidates.empty:
        return None
    return candidates.sort_values([choice.column, "wer_pct", "recipe"]).iloc[0]
