"""A user's requirements, and how the measurements of a configuration meet each of them.

Everything here is data; `present.advisor_text` words it.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from whisperq_core.analyze.configurations import Configuration, Spread
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.verdicts import (
    CONFIDENCE,
    MARGIN,
    keeps_margin,
    keeps_margin_at,
    require_margin,
)
from whisperq_core.errors import InputError
from whisperq_core.speech.evaluation_sets import MORE_SETS_OF_KIND, SETS_OF_KIND

Priority = Literal["smallest", "fastest", "most accurate"]
PRIORITIES: tuple[Priority, ...] = ("smallest", "fastest", "most accurate")

# Kinds of speech, and the evaluation sets that are of each. All English sets count by default.
ALL_SPEECH = "all"
SETS_OF_SPEECH: dict[str, tuple[str, ...]] = {
    "clean": (*SETS_OF_KIND["clean"], *MORE_SETS_OF_KIND["clean"]),
    "hard": (*SETS_OF_KIND["other"], *MORE_SETS_OF_KIND["other"]),
}


class Status(StrEnum):
    """Whether a requirement is met, at the confidence that the user asks for."""

    MET = "met"
    NOT_MET = "not met"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured"


class Requirement(StrEnum):
    """What is required of a configuration."""

    WER_INCREASE = "WER increase"
    SIZE = "size"
    MEMORY = "peak memory"
    RELATIVE_LATENCY = "relative latency"
    RTF = "RTF"
    HELD_OUT_CALIBRATION = "held-out calibration"


@dataclass(frozen=True)
class Requirements:
    """What a user asks for; None is no limit, and no models or protocols are any.

    max_rtf_ratio: latency relative to the reference, the model in fp32 under the Study protocol; 1
    is as fast. max_rtf: relative to the audio's length, on the machine that was measured.
    max_wer_rise_points: over the reference. confidence, 0.5 to below 1: that the WER increase is
    below that; from 0.95 on it is corrected for all configurations that were compared, and below it
    is that of each configuration alone. speech: "all" English sets, "clean", "hard", or the name of
    an evaluation set. protocols: by name. machine: the kind whose times count; None is the one with
    most measurements.
    """

    device: str = "cpu"
    max_weights_bytes: int | None = None
    max_memory_bytes: int | None = None
    max_rtf_ratio: float | None = 1.0
    max_rtf: float | None = None
    max_wer_rise_points: float = MARGIN
    confidence: float = CONFIDENCE
    speech: str = ALL_SPEECH
    models: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    priority: Priority = "smallest"
    machine: str | None = None

    def __post_init__(self) -> None:
        """Raises InputError for limits that nothing can meet and a WER increase that is none."""
        require_margin(self.max_wer_rise_points)
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"The confidence must be from 0.5 to below 1, not {self.confidence:g}."
            )
        limits = {
            "size": self.max_weights_bytes,
            "peak memory": self.max_memory_bytes,
            "relative latency": self.max_rtf_ratio,
            "RTF": self.max_rtf,
        }
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise InputError(f"The maximum {name} must be above 0.")

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the evaluation sets that count; none are all English ones."""
        return () if self.speech == ALL_SPEECH else SETS_OF_SPEECH.get(self.speech, (self.speech,))

    @property
    def language(self) -> str | None:
        """Language of the speech that counts; None is that of a set named by the user."""
        return "en" if self.speech in (ALL_SPEECH, *SETS_OF_SPEECH) else None


@dataclass(frozen=True)
class RequirementCheck:
    """One requirement against what was measured.

    value, low, high, limit: points of WER (an increase over the reference, with its interval),
    bytes, or times (with the range of repeated passes); None where they do not apply: the reference
    itself has no increase. beyond: how far the value is past the limit, as a share of it.
    more_minutes: of test audio, for a conclusion; infinite where that cannot be estimated. machine:
    that RTF is of.
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
class Candidate:
    """A configuration with a check of each requirement."""

    configuration: Configuration
    checks: tuple[RequirementCheck, ...]

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

    def meets(self, but: Collection[Requirement] = ()) -> bool:
        """Whether all requirements, `but` aside, are met."""
        return all(c.status is Status.MET for c in self.checks if c.requirement not in but)

    def check(self, requirement: Requirement) -> RequirementCheck | None:
        """The check of that requirement; None where it is not asked for."""
        return next((check for check in self.checks if check.requirement is requirement), None)

    def failed(self) -> list[RequirementCheck]:
        """The requirements that are not met."""
        return [check for check in self.checks if check.status is Status.NOT_MET]

    def unmet(self) -> list[RequirementCheck]:
        """The requirements that are not shown to be met, those that are not met first."""
        order = (Status.NOT_MET, Status.INCONCLUSIVE, Status.NOT_MEASURED)
        unmet = (check for check in self.checks if check.status is not Status.MET)
        return sorted(unmet, key=lambda check: order.index(check.status))


def check_configuration(configuration: Configuration, requirements: Requirements) -> Candidate:
    """The configuration with a check for each requirement."""
    checks = [_check_wer_increase(configuration, requirements)]
    if (size := requirements.max_weights_bytes) is not None:
        checks.append(_check_bytes(Requirement.SIZE, configuration.weights_bytes, size))
    if (memory := requirements.max_memory_bytes) is not None:
        checks.append(_check_bytes(Requirement.MEMORY, configuration.peak_memory_bytes, memory))
    cpu = str(configuration.row["cpu"])
    for requirement, spread, limit in (
        (Requirement.RELATIVE_LATENCY, configuration.latency, requirements.max_rtf_ratio),
        (Requirement.RTF, configuration.rtf, requirements.max_rtf),
    ):
        if limit is not None:
            checks.append(_check_time(requirement, spread, limit, cpu))
    if configuration.run.spec.recipe.calibration == "evaluation-10%":
        checks.append(
            RequirementCheck(Requirement.HELD_OUT_CALIBRATION, Status.NOT_MET, beyond=1.0)
        )
    return Candidate(configuration, tuple(checks))


def _check_bytes(requirement: Requirement, size: int | None, limit: int) -> RequirementCheck:
    if size is None:
        return RequirementCheck(requirement, Status.NOT_MEASURED, limit=limit)
    status = Status.MET if size <= limit else Status.NOT_MET
    return RequirementCheck(requirement, status, size, limit=limit, beyond=size / limit - 1)


def _check_time(
    requirement: Requirement, spread: Spread | None, limit: float, machine: str
) -> RequirementCheck:
    """Conclusive where all repeated passes are on one side of the limit."""
    if spread is None:
        return RequirementCheck(requirement, Status.NOT_MEASURED, limit=limit)
    missed = Status.NOT_MET if spread.low > limit else Status.INCONCLUSIVE
    status = Status.MET if spread.high <= limit else missed
    return RequirementCheck(
        requirement,
        status,
        spread.value,
        spread.low,
        spread.high,
        limit,
        spread.value / limit - 1,
        machine=machine,
    )


def _check_wer_increase(
    configuration: Configuration, requirements: Requirements
) -> RequirementCheck:
    """Met where an increase below the limit is shown, not met where a larger one is."""
    requirement, limit = Requirement.WER_INCREASE, requirements.max_wer_rise_points
    if configuration.is_reference:
        return RequirementCheck(requirement, Status.MET, limit=limit)
    comparison = configuration.comparison
    if comparison is None:
        return RequirementCheck(requirement, Status.NOT_MEASURED, limit=limit)
    difference = comparison.difference
    kept = is_within_margin(comparison, requirements.confidence)
    status = {True: Status.MET, False: Status.NOT_MET, None: Status.INCONCLUSIVE}[kept]
    no_interval = math.isnan(difference.low)
    minutes = configuration.minutes
    return RequirementCheck(
        requirement,
        status,
        difference.value,
        None if no_interval else difference.low,
        None if no_interval else difference.high,
        limit,
        beyond=(difference.value - limit) / max(configuration.reference_rate_pct, 1.0),
        more_minutes=comparison.minutes_for_margin(minutes) - minutes
        if status is Status.INCONCLUSIVE
        else None,
    )


def is_within_margin(comparison: Comparison, confidence: float) -> bool | None:
    """Whether a loss below the margin is shown with that confidence; False for a larger one.

    From CONFIDENCE on it takes the verdict that is corrected for all comparisons, too; below that
    it is the confidence in this comparison alone.
    """
    alone = keeps_margin_at(comparison, confidence)
    if confidence < CONFIDENCE:
        return alone
    corrected = keeps_margin(comparison)
    if corrected is False:
        return False
    return True if corrected and alone else None
