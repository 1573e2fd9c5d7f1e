"""A user's requirements, and how the measurements of a configuration meet each of them.

A configuration is a model with a recipe. Everything here is data; `present.advisor_text` words it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import pandas as pd

from whisperq_core.analyze import paired_comparisons
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import MARGIN, keeps_margin, require_margin
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.speech.evaluation_sets import LARGER_SETS_OF_KIND, SETS_OF_KIND
from whisperq_core.whisper.protocols import STUDY

KindOfSpeech = Literal["clean", "hard"]
Priority = Literal["smallest", "fastest"]

# The evaluation sets of a kind of speech; the longest that a recipe was measured on counts.
SETS_OF_SPEECH: dict[KindOfSpeech, tuple[str, ...]] = {
    "clean": (*LARGER_SETS_OF_KIND["clean"], *SETS_OF_KIND["clean"]),
    "hard": (*LARGER_SETS_OF_KIND["other"], *SETS_OF_KIND["other"]),
}


class Status(StrEnum):
    """Whether a requirement is met, at the confidence of `verdicts.CONFIDENCE`."""

    MET = "met"
    NOT_MET = "not met"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured"


class Requirement(StrEnum):
    """What is required of a configuration."""

    WER_INCREASE = "WER increase"
    SIZE = "size"
    RELATIVE_LATENCY = "relative latency"
    RTF = "RTF"
    HELD_OUT_CALIBRATION = "held-out calibration"


@dataclass(frozen=True)
class Requirements:
    """What a user asks for; None is no limit, and no models are any.

    max_rtf_ratio: latency relative to fp32; max_rtf: relative to the audio's length, on the machine
    that was measured. max_wer_rise_points: over fp32 of the same model.
    """

    device: str = "cpu"
    max_weights_bytes: int | None = None
    max_rtf_ratio: float | None = None
    max_rtf: float | None = None
    max_wer_rise_points: float = MARGIN
    speech: KindOfSpeech = "hard"
    models: tuple[str, ...] = ()
    priority: Priority = "smallest"
    protocol: str = STUDY.name

    def __post_init__(self) -> None:
        """Raises InputError for limits that nothing can meet and a WER increase that is none."""
        require_margin(self.max_wer_rise_points)
        limits = {
            "size": self.max_weights_bytes,
            "relative latency": self.max_rtf_ratio,
            "RTF": self.max_rtf,
        }
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise InputError(f"The maximum {name} must be above 0, not {limit:g}.")


@dataclass(frozen=True)
class RequirementCheck:
    """One requirement against what was measured.

    value, low, high, limit: points of WER (an increase over fp32, with its interval), bytes, or
    times (with the range of repeated passes); None where they do not apply: fp32 itself has no
    increase. beyond: how far the value is past the limit, as a share of it. more_minutes: of test
    audio, for a conclusion; infinite where that cannot be estimated. machine: that RTF is of.
    """

    requirement: Requirement
    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    beyond: float = 0.0
    more_minutes: float | None = None
    machine: str = ""


@dataclass(frozen=True)
class Configuration:
    """A model with a recipe: what was measured of it, and how it meets the requirements.

    comparison: with fp32 of the same model, at the allowed WER increase as margin, Holm-corrected
    over the recipes of that model; None for fp32 itself, or without its run. keys: of the records
    used. row: of `results_table.rows`.
    """

    run: AccuracyRun
    keys: tuple[str, ...]
    row: "pd.Series[Any]"
    wer: Estimate
    comparison: Comparison | None
    checks: tuple[RequirementCheck, ...]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.run.model

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.run.spec.recipe.name

    @property
    def is_baseline(self) -> bool:
        """Whether it is the model in fp32."""
        return self.recipe == "fp32"

    @property
    def status(self) -> Status:
        """Met where every requirement is, not met where one is not, inconclusive otherwise."""
        statuses = {check.status for check in self.checks}
        if Status.NOT_MET in statuses:
            return Status.NOT_MET
        return Status.MET if statuses == {Status.MET} else Status.INCONCLUSIVE

    @property
    def within_limits(self) -> bool:
        """Whether all measured values are within the limits, conclusive or not."""
        return all(check.beyond <= 0 for check in self.checks)

    def failed(self) -> list[RequirementCheck]:
        """The requirements that are not met."""
        return [check for check in self.checks if check.status is Status.NOT_MET]

    def unmet(self) -> list[RequirementCheck]:
        """The requirements that are not shown to be met, those that are not met first."""
        order = (Status.NOT_MET, Status.INCONCLUSIVE, Status.NOT_MEASURED)
        unmet = (check for check in self.checks if check.status is not Status.MET)
        return sorted(unmet, key=lambda check: order.index(check.status))


def check_configuration(
    run: AccuracyRun,
    row: "pd.Series[Any]",
    comparison: Comparison | None,
    fp32: AccuracyRun | None,
    requirements: Requirements,
) -> Configuration:
    """The run's configuration with a check for each requirement.

    row: the run's of `results_table.rows`. comparison: with fp32, the baseline's run.
    """
    checks = [_check_wer_increase(run, comparison, fp32, requirements.max_wer_rise_points)]
    if (max_bytes := requirements.max_weights_bytes) is not None:
        size = float(row["weights_bytes"])
        status = Status.MET if size <= max_bytes else Status.NOT_MET
        checks.append(
            RequirementCheck(
                Requirement.SIZE, status, size, limit=max_bytes, beyond=size / max_bytes - 1
            )
        )
    if (max_ratio := requirements.max_rtf_ratio) is not None:
        checks.append(_check_time(Requirement.RELATIVE_LATENCY, row, "rtf_ratio", max_ratio))
    if (max_rtf := requirements.max_rtf) is not None:
        checks.append(_check_time(Requirement.RTF, row, "rtf", max_rtf))
    if run.spec.recipe.calibration == "evaluation-10%":
        checks.append(
            RequirementCheck(Requirement.HELD_OUT_CALIBRATION, Status.NOT_MET, beyond=1.0)
        )
    keys = [run.key, *([fp32.key] if fp32 and fp32 is not run else [])]
    keys += [row["speed_key"]] if pd.notna(row["speed_key"]) else []
    wer = paired_comparisons.estimate(run)
    return Configuration(run, tuple(keys), row, wer, comparison, tuple(checks))


def _check_time(
    requirement: Requirement, row: "pd.Series[Any]", column: str, limit: float
) -> RequirementCheck:
    """Conclusive where all repeated passes are on one side of the limit."""
    value, low, high = (row[c] for c in (column, f"{column}_low", f"{column}_high"))
    if pd.isna(low):
        return RequirementCheck(requirement, Status.NOT_MEASURED, limit=limit)
    missed = Status.NOT_MET if low > limit else Status.INCONCLUSIVE
    status = Status.MET if high <= limit else missed
    return RequirementCheck(
        requirement, status, value, low, high, limit, value / limit - 1, machine=row["cpu"]
    )


def _check_wer_increase(
    run: AccuracyRun, comparison: Comparison | None, fp32: AccuracyRun | None, limit: float
) -> RequirementCheck:
    """Met where an increase below the limit is shown, not met where the interval is beyond it."""
    requirement = Requirement.WER_INCREASE
    if run.spec.recipe.name == "fp32":
        return RequirementCheck(requirement, Status.MET, limit=limit)
    if comparison is None or fp32 is None or fp32.words.rate is None:
        return RequirementCheck(requirement, Status.NOT_MEASURED, limit=limit)
    difference = comparison.difference
    kept = keeps_margin(comparison)
    status = {True: Status.MET, False: Status.NOT_MET, None: Status.INCONCLUSIVE}[kept]
    no_interval = math.isnan(difference.low)
    return RequirementCheck(
        requirement,
        status,
        difference.value,
        None if no_interval else difference.low,
        None if no_interval else difference.high,
        limit,
        beyond=(difference.value - limit) / max(fp32.words.rate, 1.0),
        more_minutes=comparison.minutes_for_margin(run.minutes) - run.minutes
        if status is Status.INCONCLUSIVE
        else None,
    )
