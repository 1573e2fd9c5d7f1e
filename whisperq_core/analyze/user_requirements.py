"""A user's needs, and how what was measured of a recipe meets them: met, not met or not decided."""

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy import stats

from whisperq_core.analyze import paired_comparisons, verdict_text
from whisperq_core.analyze.significance import Comparison, Estimate
from whisperq_core.analyze.verdicts import CONFIDENCE, MARGIN, POWER, Verdict
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.speech.evaluation_sets import LARGER_SETS_OF_KIND, SETS_OF_KIND
from whisperq_core.whisper.protocols import STUDY

MET, NOT_MET, OPEN, NOT_MEASURED = "met", "not met", "not decided", "not measured"
# The sets that stand for a kind of speech; of those a recipe was measured on, the longest counts.
SETS_OF_SPEECH = {
    "clean": (*LARGER_SETS_OF_KIND["clean"], *SETS_OF_KIND["clean"]),
    "hard": (*LARGER_SETS_OF_KIND["other"], *SETS_OF_KIND["other"]),
}

# What a check asks of an option.
SIZE, TIME, REAL_TIME, RISE, USABLE = "size", "time beside fp32", "real time", "WER", "your speech"


@dataclass(frozen=True)
class Requirements:
    """What a user asks for; None is no limit, and no models are any.

    max_rtf_ratio: the slowest time relative to fp32's; max_rtf: relative to the audio's length, on
    the machine that was measured. max_wer_rise_points: over fp32 of the same model.
    """

    device: str = "cpu"
    max_weights_bytes: int | None = None
    max_rtf_ratio: float | None = None
    max_rtf: float | None = None
    max_wer_rise_points: float = MARGIN
    speech: Literal["clean", "hard"] = "hard"
    models: tuple[str, ...] = ()
    priority: Literal["smallest", "fastest"] = "smallest"
    protocol: str = STUDY.name


@dataclass(frozen=True)
class RequirementCheck:
    """One need beside what was measured.

    reason: figures and limit. beyond: how far past the limit as measured, as a share of it.
    """

    need: str
    status: str
    reason: str
    beyond: float = 0.0


@dataclass(frozen=True)
class Configuration:
    """A recipe for a model: what was measured of it, and how it meets the needs.

    comparison: with fp32 of the same model, at the margin asked for and Holm-corrected over the
    recipes of that model; None for fp32 itself, or without its run. keys: of the runs it rests on.
    """

    run: AccuracyRun
    keys: tuple[str, ...]
    row: pd.Series
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
    def status(self) -> str:
        """Whether all needs are met: met, not met, or not decided."""
        statuses = {check.status for check in self.checks}
        return NOT_MET if NOT_MET in statuses else MET if statuses == {MET} else OPEN

    @property
    def plausible(self) -> bool:
        """Whether it meets all needs as measured, decided or not."""
        return all(check.beyond <= 0 for check in self.checks)

    def unmet(self) -> list[RequirementCheck]:
        """What speaks against it, what is not met first."""
        order = (NOT_MET, OPEN, NOT_MEASURED)
        against = (check for check in self.checks if check.status != MET)
        return sorted(against, key=lambda check: order.index(check.status))

    @property
    def basis(self) -> str:
        """The speech it was heard in."""
        speakers = {u.speaker for u in self.run.utterances}
        whose = "unknown speakers" if None in speakers else f"{len(speakers)} speakers"
        return (
            f"{self.run.eval_set}, {len(self.run.utterances)} utterances of {whose},"
            f" {self.run.minutes:.0f} minutes"
        )

    @property
    def figures(self) -> str:
        """Size and time in a few words."""
        time = self.row["rtf_ratio"]
        facts = [f"{self.row['weights_bytes'] / 1e6:.0f} MB"]
        return ", ".join(facts + ([f"{time:.2f} × fp32's time"] if pd.notna(time) else []))


def check_configuration(
    run: AccuracyRun,
    row: pd.Series,
    compared: Comparison | None,
    fp32: AccuracyRun | None,
    needs: Requirements,
) -> Configuration:
    """The run beside the needs. row: its row of `table.rows`; compared: with the run of fp32."""
    checks = [_rise(run, compared, fp32, needs.max_wer_rise_points)]
    if needs.max_weights_bytes is not None:
        size, limit = row["weights_bytes"], needs.max_weights_bytes
        reason = f"{size / 1e6:.0f} MB, at most {limit / 1e6:.0f} MB"
        checks.append(
            RequirementCheck(SIZE, MET if size <= limit else NOT_MET, reason, size / limit - 1)
        )
    if needs.max_rtf_ratio is not None:
        checks.append(_time(TIME, row, "rtf_ratio", needs.max_rtf_ratio, "× fp32's time"))
    if needs.max_rtf is not None:
        unit = f"of the audio's length on {row['cpu']}"
        checks.append(_time(REAL_TIME, row, "rtf", needs.max_rtf, unit))
    if run.spec.recipe.calibration == "evaluation-10%":
        reason = "calibrated on a part of the evaluated speech, which there is not of yours"
        checks.append(RequirementCheck(USABLE, NOT_MET, reason, 1.0))
    keys = [run.key, *([fp32.key] if fp32 and fp32 is not run else [])]
    keys += [row["speed_key"]] if pd.notna(row["speed_key"]) else []
    return Configuration(
        run, tuple(keys), row, paired_comparisons.estimate(run), compared, tuple(checks)
    )


def _time(need: str, row: pd.Series, column: str, limit: float, unit: str) -> RequirementCheck:
    """Decided where all passes are on one side of the limit."""
    at, low, high = (row[c] for c in (column, f"{column}_low", f"{column}_high"))
    if pd.isna(low):
        return RequirementCheck(need, NOT_MEASURED, "its time was not measured beside fp32")
    status = MET if high <= limit else NOT_MET if low > limit else OPEN
    reason = f"{at:.2f} {unit} ({low:.2f} to {high:.2f} in repeated passes), at most {limit:.2f}"
    return RequirementCheck(need, status, reason, at / limit - 1)


def _rise(
    run: AccuracyRun, found: Comparison | None, fp32: AccuracyRun | None, limit: float
) -> RequirementCheck:
    """Not met where the whole interval is past the limit; met only where that is decided."""
    if run.spec.recipe.name == "fp32":
        return RequirementCheck(RISE, MET, "no rise: it is the baseline")
    if found is None or fp32 is None:
        return RequirementCheck(RISE, NOT_MEASURED, "fp32 was not run on the same speech")
    d = found.difference
    beyond = (d.value - limit) / max(fp32.words.rate, 1.0)
    if math.isnan(d.low):
        return RequirementCheck(RISE, OPEN, "too little speech to say how sure its WER is", beyond)
    points = f"{d.value:+.2f} points beside fp32 ({d.low:+.2f} to {d.high:+.2f})"
    reason = f"{points.replace('-', '−')}, at most +{limit:g}"
    if found.verdict == Verdict.BETTER or found.non_inferior:
        return RequirementCheck(RISE, MET, reason, beyond)
    if d.low > limit:
        return RequirementCheck(RISE, NOT_MET, reason, beyond)
    more = verdict_text.audio_needed(minutes_to_settle(found, run.minutes) - run.minutes)
    return RequirementCheck(RISE, OPEN, f"{reason}; {more}", beyond)


def minutes_to_settle(found: Comparison, minutes: float) -> float:
    """Minutes of speech in all that would tell, with a chance of POWER, which side of the margin.

    As Comparison.minutes_needed, but for the margin alone: less than it or more. Infinite where
    nothing can be said.
    """
    if math.isnan(found.standard_error):
        return math.inf
    tail = (1 - CONFIDENCE) / 2 / found.family
    quantiles = stats.t.isf(tail, found.difference.blocks - 1) + stats.norm.ppf(POWER)
    distance = max(abs(found.margin - found.difference.value), 1e-3)
    error = max(found.standard_error, found.margin_error)
    return minutes * max(1.0, float(quantiles * error / distance) ** 2)
