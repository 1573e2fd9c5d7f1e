"""Questions that decide a claim: each is data, and knows how the records answer it."""

import math
from dataclasses import dataclass
from typing import Literal

from whisperq_core.analyze.paired_comparisons import robustness_gap
from whisperq_core.analyze.significance import Comparison, Estimate, minus, over, time_ratio
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.evaluate.records import SpeedRun
from whisperq_core.speech.evaluation_sets import SETS_OF_KIND
from whisperq_core.study import published as paper
from whisperq_core.study.evidence import (
    INCONCLUSIVE,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    PERCENT,
    POINTS,
    REPRODUCED,
    SPLITS,
    TIMES,
    Answer,
    Evidence,
    sample_text,
)
from whisperq_core.whisper.protocols import STUDY

# A size is reproduced within this many percentage points of the published one.
SIZE_TOLERANCE = 1.0
Expectation = Literal["worse", "better", "no worse", "as published"]


def counterpart_recipe(recipe: str, protocol: str) -> str:
    """The recipe that plays the part of the study's under another protocol.

    Calibration on evaluation data is the study's; other protocols calibrate on held-out speech.
    """
    return recipe if protocol == STUDY.name else recipe.removesuffix("-eval10")


@dataclass(frozen=True)
class WerDifference:
    """WER of a recipe minus WER of another on one split of the speech.

    expects: worse, better, no worse (by the margin), or as published (the study's own difference,
    known for its models only).
    """

    recipe: str
    split: str
    expects: Expectation
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        # Larger sets of clean speech answer as well.
        where = "on clean speech" if self.split == "clean" else "on test-other"
        if self.expects == "as published":
            return (
                f"{self.recipe} changes the WER of {self.against} {where} by as much as published"
            )
        return f"{self.recipe} is {self.expects} than {self.against} {where}"

    def parts(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        recipe, against = (counterpart_recipe(r, protocol) for r in (self.recipe, self.against))
        published = self._published(model)
        if self.expects == "as published" and published is None:
            return []
        places = evidence.places(self.split, model, (recipe, against), protocol)
        if not places:
            names = SPLITS[self.split][0]
            wanted = names[0] if model not in ("base", "tiny.en") else names[-1]
            missing = tuple((model, r, wanted) for r in (against, recipe))
            return [_unmeasured(self, model, protocol, POINTS, published, missing)]
        return [self._part(evidence, model, protocol, place, published) for place in places]

    def _part(self, evidence, model, protocol, place, published) -> Answer:
        recipe, against = (counterpart_recipe(r, protocol) for r in (self.recipe, self.against))
        runs = [evidence.accuracy(model, r, place, protocol) for r in (against, recipe)]
        found = evidence.compared(*runs)
        verdict = outcome_of(found, self.expects, published)
        needed = found.minutes_needed(runs[0].minutes) if verdict == INCONCLUSIVE else None
        return Answer(
            question=self.question,
            model=model,
            protocol=protocol,
            unit=POINTS,
            verdict=verdict,
            sample=sample_text(runs[0]),
            **_numbers(found.difference),
            published=published,
            keys=tuple(run.key for run in runs),
            minutes_needed=needed,
        )

    def _published(self, model: str) -> float | None:
        first, second = (paper.published_result(model, r) for r in (self.recipe, self.against))
        if first is None or second is None:
            return None
        column = f"wer_{self.split}_pct"
        return round(getattr(first, column) - getattr(second, column), 2)


def outcome_of(found: Comparison, expects: Expectation, published: float | None) -> str:
    """What a comparison says of an expectation: reproduced, not reproduced or undecided.

    worse is refuted where it is decided that no margin is lost, better where a gain of a margin is
    excluded, "no worse" where it is decided to be worse by whatever amount, and "as published"
    where the interval excludes the published value; that it contains it only counts where the
    interval is narrow enough to tell the value from none, or within the margin.
    """
    low, high = found.difference.low, found.difference.high
    if math.isnan(low):
        return INCONCLUSIVE
    if expects == "as published":
        if not low <= published <= high:
            return NOT_REPRODUCED
        telling = not low <= 0 <= high or (high - low) / 2 <= found.margin
        return REPRODUCED if telling else INCONCLUSIVE
    holds = {
        "worse": found.verdict == Verdict.WORSE,
        "better": found.verdict == Verdict.BETTER,
        "no worse": found.verdict == Verdict.BETTER or found.non_inferior,
    }[expects]
    fails = {
        "worse": found.verdict == Verdict.BETTER or found.non_inferior,
        "better": found.verdict == Verdict.WORSE or low > -found.margin,
        "no worse": found.verdict == Verdict.WORSE,
    }[expects]
    return REPRODUCED if holds else NOT_REPRODUCED if fails else INCONCLUSIVE


@dataclass(frozen=True)
class RobustnessGapChange:
    """How much more a recipe loses on test-other than on test-clean; positive as the study says."""

    recipe: str

    @property
    def question(self) -> str:  # noqa: D102
        return f"{self.recipe} loses more on test-other than on test-clean"

    def parts(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        recipe = counterpart_recipe(self.recipe, protocol)
        names = ("fp32", recipe)
        places = {s: evidence.places(s, model, names, protocol) for s in ("other", "clean")}
        published = self._published(model)
        if not all(places.values()):
            missing = tuple((model, r, SPLITS[s][0][0]) for s in places for r in names)
            return [_unmeasured(self, model, protocol, POINTS, published, missing)]
        runs = [evidence.accuracy(model, r, places[s][0], protocol) for s in places for r in names]
        losses = [evidence.compared(*runs[:2]).difference, evidence.compared(*runs[2:]).difference]
        found = minus(*losses)
        return [
            Answer(
                question=self.question,
                model=model,
                protocol=protocol,
                unit=POINTS,
                verdict=_sign(found, 0.0),
                sample=f"{sample_text(runs[0])}; {sample_text(runs[2])}",
                **_numbers(found),
                published=published,
                keys=tuple(run.key for run in runs),
            )
        ]

    def _published(self, model: str) -> float | None:
        mine = paper.published_result(model, self.recipe)
        return round(mine.robustness_gap - mine.baseline.robustness_gap, 2) if mine else None


@dataclass(frozen=True)
class RobustnessGap:
    """WER on test-other minus WER on test-clean of one recipe, in points: a bar of Figure 1."""

    model: str
    recipe: str
    found: Estimate
    keys: tuple[str, str]


def robustness_gaps(evidence: Evidence, model: str, protocol: str) -> list[RobustnessGap]:
    """The bars of Figure 1 for every recipe measured on both splits, smallest first."""
    bars = []
    for recipe in evidence.recipes("accuracy", model, protocol):
        places = [
            evidence.places(split, model, (recipe,), protocol) for split in ("other", "clean")
        ]
        if all(places):
            runs = [evidence.accuracy(model, recipe, place[0], protocol) for place in places]
            keys = tuple(run.key for run in runs)
            bars.append(RobustnessGap(model, recipe, robustness_gap(*runs), keys))
    return sorted(bars, key=lambda bar: bar.found.value)


def _sign(found: Estimate, null: float, above: bool = True) -> str:
    """Whether the interval lies above (or below) the null value."""
    if math.isnan(found.low) or found.low <= null <= found.high:
        return INCONCLUSIVE
    return REPRODUCED if (found.low > null) == above else NOT_REPRODUCED


@dataclass(frozen=True)
class RelativeTime:
    """Time of a recipe over that of another, both measured beside fp32."""

    recipe: str
    expects: Literal["faster", "slower"]
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        return f"{self.recipe} is {self.expects} than {self.against}"

    def parts(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        names = [counterpart_recipe(r, protocol) for r in (self.recipe, self.against)]
        names = [name for name in names if name != "fp32"]
        runs = [evidence.speed(model, name, protocol) for name in names]
        published = self._published(model, evidence.device)
        if None in runs:
            missing = tuple((model, name, "") for name in names)
            return [_unmeasured(self, model, protocol, TIMES, published, missing)]
        found = (
            relative_time(runs[0])
            if len(runs) == 1
            else over(*(relative_time(run) for run in runs))
        )
        return [
            Answer(
                question=self.question,
                model=model,
                protocol=protocol,
                unit=TIMES,
                verdict=_sign(found, 1.0, above=self.expects == "slower"),
                sample=_speed_sample(runs[0]),
                **_numbers(found),
                published=published,
                keys=tuple(run.key for run in runs),
            )
        ]

    def _published(self, model: str, device: str) -> float | None:
        rows = [paper.published_result(model, r, device) for r in (self.recipe, self.against)]
        same = None not in rows and rows[0].device == rows[1].device
        return round(rows[0].rtf / rows[1].rtf, 2) if same else None


def relative_time(run: SpeedRun) -> Estimate:
    """Time over fp32's, with its interval over the interleaved repeats."""
    return time_ratio(run.ratios())


def _speed_sample(run: SpeedRun) -> str:
    audio_s = run.passes[0].audio_s
    return f"{len(run.ratios())} interleaved passes over {audio_s:.0f} s, {run.machine.cpu}"


@dataclass(frozen=True)
class SizeReduction:
    """How much smaller than fp32 a model of the study's shape is, in percent of fp32's bytes."""

    recipe: str

    @property
    def question(self) -> str:  # noqa: D102
        return f"{self.recipe} is as much smaller than fp32 as published"

    def parts(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        row, recipe = (
            paper.published_result(model, self.recipe),
            counterpart_recipe(self.recipe, protocol),
        )
        if row is None or row.size_reduction_pct is None:
            return []
        run, published = evidence.size(model, recipe, protocol), row.size_reduction_pct
        if run is None:
            missing = ((model, recipe, "size"),)
            return [_unmeasured(self, model, protocol, PERCENT, published, missing)]
        found = run.size_reduction_pct
        near = abs(found - published) <= SIZE_TOLERANCE
        return [
            Answer(
                question=self.question,
                model=model,
                protocol=protocol,
                unit=PERCENT,
                verdict=REPRODUCED if near else NOT_REPRODUCED,
                sample="serialized bytes, exact",
                **_numbers(Estimate(found, found, found, 1, "model")),
                published=published,
                keys=(run.key,),
            )
        ]


# What the study compares a choice with: its own recipes, on the CPU or on both devices.
STUDY_RECIPES = tuple(
    dict.fromkeys(row.recipe for row in (*paper.TABLE_2, *paper.TABLE_3) if row.recipe != "fp32")
)


@dataclass(frozen=True)
class RanksFirst:
    """A recipe is ahead of every other recipe of the study that was measured.

    column: time, size, or wer (on test-other). The effect is the one beside the closest rival: its
    time or bytes over the rival's, or the difference in points.
    """

    recipe: str
    column: Literal["time", "size", "wer"]
    among: tuple[str, ...] = STUDY_RECIPES

    @property
    def question(self) -> str:  # noqa: D102
        first = {"time": "fastest", "size": "smallest", "wer": "most accurate on test-other"}
        return f"{self.recipe} is the {first[self.column]} of the study's recipes"

    def parts(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        mine = counterpart_recipe(self.recipe, protocol)
        rivals = [counterpart_recipe(r, protocol) for r in self.among]
        duels = [d for r in rivals if r != mine for d in self._duel(evidence, model, protocol, r)]
        unit = POINTS if self.column == "wer" else TIMES if self.column == "time" else "× the bytes"
        if not duels:
            kind = {"time": "", "size": "size", "wer": SETS_OF_KIND["other"][0]}[self.column]
            missing = tuple((model, r, kind) for r in dict.fromkeys(("fp32", mine, *rivals)))
            return [_unmeasured(self, model, protocol, unit, None, missing)]
        verdicts = [verdict for _, verdict, *_ in duels]
        verdict = (
            NOT_REPRODUCED
            if NOT_REPRODUCED in verdicts
            else INCONCLUSIVE
            if INCONCLUSIVE in verdicts
            else REPRODUCED
        )
        closest = max(duels, key=lambda duel: duel[0].value)
        found, _, rival, sample, keys = closest
        return [
            Answer(
                question=self.question,
                model=model,
                protocol=protocol,
                unit=unit,
                verdict=verdict,
                sample=f"beside {rival}, the closest of {len(duels)}: {sample}",
                **_numbers(found),
                keys=tuple(dict.fromkeys([*keys, *(k for duel in duels for k in duel[4])])),
            )
        ]

    def _duel(self, evidence: Evidence, model: str, protocol: str, rival: str) -> list[tuple]:
        """Effect, verdict, rival, sample and keys beside one rival; empty where not measured."""
        names = (counterpart_recipe(self.recipe, protocol), rival)
        if self.column == "time":
            runs = [evidence.speed(model, name, protocol) for name in names]
            if None in runs:
                return []
            found = over(relative_time(runs[0]), relative_time(runs[1]))
            sample, verdict = _speed_sample(runs[0]), _sign(found, 1.0, above=False)
        elif self.column == "size":
            runs = [evidence.size(model, name, protocol) for name in names]
            if None in runs:
                return []
            quotient = runs[0].weights_bytes / runs[1].weights_bytes
            found = Estimate(quotient, quotient, quotient, 1, "model")
            sample, verdict = "serialized bytes, exact", _sign(found, 1.0, above=False)
        else:
            places = evidence.places("other", model, names, protocol)
            if not places:
                return []
            runs = [evidence.accuracy(model, name, places[0], protocol) for name in names]
            compared = evidence.compared(runs[1], runs[0])
            found, sample = compared.difference, sample_text(runs[0])
            verdict = outcome_of(compared, "no worse", None)
        return [(found, verdict, rival, sample, tuple(run.key for run in runs))]


def _numbers(found: Estimate) -> dict:
    known = not math.isnan(found.low)
    return {
        "effect": found.value,
        "low": found.low if known else None,
        "high": found.high if known else None,
    }


def _unmeasured(measure, model: str, protocol: str, unit: str, published, missing) -> Answer:
    return Answer(
        question=measure.question,
        model=model,
        protocol=protocol,
        unit=unit,
        verdict=NOT_MEASURABLE,
        sample="not measured",
        published=published,
        missing=missing,
    )


Measure = WerDifference | RobustnessGapChange | RelativeTime | SizeReduction | RanksFirst
