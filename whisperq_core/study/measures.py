"""Measures by which claims are judged: each is a statement, checked against the stored results."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from whisperq_core.analyze import paired_comparisons
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.significance import Estimate, minus, over, time_ratio
from whisperq_core.analyze.verdicts import Verdict, supports
from whisperq_core.evaluate.records import AccuracyRun, SizeRun, SpeedRun
from whisperq_core.study import published
from whisperq_core.study.evidence import (
    BYTES,
    PERCENT,
    POINTS,
    SPLITS,
    TIMES,
    Answer,
    Evidence,
    MissingRun,
    Outcome,
    Split,
    Unit,
    sample_text,
)
from whisperq_core.whisper.protocols import STUDY

# A size is reproduced within this many percentage points of the published one.
SIZE_TOLERANCE = 1.0


class Measure(Protocol):
    """A statement about a model, judged once for each evaluation set that was measured."""

    @property
    def question(self) -> str:
        """The statement that holds or does not."""
        ...

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:
        """An answer for each set; one without an effect where nothing was measured.

        Empty where the measure does not apply to the model.
        """
        ...


def counterpart_recipe(recipe: str, protocol: str) -> str:
    """The recipe that corresponds to the study's under a protocol.

    Only the study calibrates on evaluation data; other protocols calibrate on held-out speech.
    """
    return recipe if protocol == STUDY.name else recipe.removesuffix("-eval10")


def expected_outcome(comparison: Comparison, expected: Verdict) -> Outcome:
    """Whether a comparison confirms an expected verdict, by the rule of `verdicts.supports`."""
    if math.isnan(comparison.difference.low):
        return Outcome.INCONCLUSIVE
    supported = supports(comparison, expected)
    if supported is None:
        return Outcome.INCONCLUSIVE
    return Outcome.REPRODUCED if supported else Outcome.NOT_REPRODUCED


def published_outcome(comparison: Comparison, value: float) -> Outcome:
    """Whether a comparison confirms a published difference, in points.

    Not reproduced where the interval excludes the value. Reproduced where the interval contains it
    and either excludes zero or has a half-width of at most the margin; else inconclusive.
    """
    low, high = comparison.difference.low, comparison.difference.high
    if math.isnan(low):
        return Outcome.INCONCLUSIVE
    if not low <= value <= high:
        return Outcome.NOT_REPRODUCED
    narrow = not low <= 0 <= high or (high - low) / 2 <= comparison.margin
    return Outcome.REPRODUCED if narrow else Outcome.INCONCLUSIVE


def _side(effect: Estimate, null: float, above: bool = True) -> Outcome:
    """Reproduced where the whole interval is above (or below) the null value."""
    if math.isnan(effect.low) or effect.low <= null <= effect.high:
        return Outcome.INCONCLUSIVE
    return Outcome.REPRODUCED if (effect.low > null) == above else Outcome.NOT_REPRODUCED


# A verdict on WER, between two recipes in a statement.
_RELATIONS = {
    "better": "has a lower WER than",
    "worse": "has a higher WER than",
    "no worse": "is no worse than",
}


@dataclass(frozen=True)
class WerDifference:
    """WER of a recipe minus WER of another on one split, in points.

    expects: a verdict, or "as published": the study's own difference, which it gives for its own
    models only.
    """

    recipe: str
    split: Split
    expects: Literal["better", "worse", "no worse", "as published"]
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        # "Clean speech", because larger sets than test-clean are judged, too.
        where = "on clean speech" if self.split == "clean" else "on test-other"
        if self.expects == "as published":
            return f"WER increase of {self.recipe} over {self.against} {where} is as published"
        return f"{self.recipe} {_RELATIONS[self.expects]} {self.against} {where}"

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        published_points = self._published(model)
        if self.expects == "as published" and published_points is None:
            return []
        recipes = [counterpart_recipe(r, protocol) for r in (self.against, self.recipe)]
        pairs = evidence.paired_runs(self.split, model, recipes, protocol)
        if not pairs:
            eval_sets = SPLITS[self.split].best_first
            eval_set = eval_sets[-1] if model in ("base", "tiny.en") else eval_sets[0]
            missing = [MissingRun(model, recipe, "accuracy", eval_set) for recipe in recipes]
            return [_unmeasured(self, model, protocol, POINTS, missing, published_points)]
        answers = []
        for baseline, candidate in pairs:
            comparison = evidence.compare(baseline, candidate)
            outcome = self._outcome(comparison, published_points)
            inconclusive = outcome is Outcome.INCONCLUSIVE
            needed = comparison.minutes_needed(baseline.minutes) if inconclusive else None
            answers.append(
                _measured(
                    self,
                    model,
                    protocol,
                    POINTS,
                    outcome,
                    sample_text(baseline),
                    comparison.difference,
                    keys=(baseline.key, candidate.key),
                    published_value=published_points,
                    minutes_needed=needed,
                )
            )
        return answers

    def _outcome(self, comparison: Comparison, published_points: float | None) -> Outcome:
        if self.expects != "as published":
            return expected_outcome(comparison, Verdict(self.expects))
        if published_points is None:
            return Outcome.INCONCLUSIVE
        return published_outcome(comparison, published_points)

    def _published(self, model: str) -> float | None:
        results = (published.published_result(model, r) for r in (self.recipe, self.against))
        recipe, against = results
        if recipe is None or against is None:
            return None
        return round(recipe.wer_pct(self.split) - against.wer_pct(self.split), 2)


@dataclass(frozen=True)
class RobustnessGapChange:
    """WER increase over fp32 on test-other minus that on test-clean, in points."""

    recipe: str

    @property
    def question(self) -> str:  # noqa: D102
        return f"WER increase of {self.recipe} is larger on test-other than on test-clean"

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        recipes = ("fp32", counterpart_recipe(self.recipe, protocol))
        other, clean = (
            evidence.paired_runs(split, model, recipes, protocol) for split in _GAP_SPLITS
        )
        published_points = self._published(model)
        if not other or not clean:
            missing = [
                MissingRun(model, recipe, "accuracy", SPLITS[split].best_first[0])
                for split in _GAP_SPLITS
                for recipe in recipes
            ]
            return [_unmeasured(self, model, protocol, POINTS, missing, published_points)]
        runs = (*other[0], *clean[0])
        change = minus(
            evidence.compare(*other[0]).difference, evidence.compare(*clean[0]).difference
        )
        return [
            _measured(
                self,
                model,
                protocol,
                POINTS,
                _side(change, 0.0),
                f"{sample_text(other[0][0])}; {sample_text(clean[0][0])}",
                change,
                keys=tuple(run.key for run in runs),
                published_value=published_points,
            )
        ]

    def _published(self, model: str) -> float | None:
        result = published.published_result(model, self.recipe)
        if result is None:
            return None
        return round(result.robustness_gap - result.baseline.robustness_gap, 2)


_GAP_SPLITS: tuple[Split, Split] = ("other", "clean")


@dataclass(frozen=True)
class RobustnessGap:
    """WER on test-other minus WER on test-clean of one recipe, in points: a bar of Figure 1.

    keys: of the runs on test-other and on test-clean.
    """

    model: str
    recipe: str
    points: Estimate
    keys: tuple[str, str]


def robustness_gaps(evidence: Evidence, model: str, protocol: str) -> list[RobustnessGap]:
    """The bars of Figure 1 for every recipe measured on both splits, smallest first."""
    gaps = []
    for recipe in evidence.recipes(model, protocol):
        other, clean = (
            evidence.paired_runs(split, model, (recipe,), protocol) for split in _GAP_SPLITS
        )
        if other and clean:
            (harder,), (easier,) = other[0], clean[0]
            points = paired_comparisons.robustness_gap(harder, easier)
            gaps.append(RobustnessGap(model, recipe, points, (harder.key, easier.key)))
    return sorted(gaps, key=lambda gap: gap.points.value)


@dataclass(frozen=True)
class RelativeTime:
    """Time of a recipe over that of another, both measured interleaved with fp32."""

    recipe: str
    expects: Literal["faster", "slower"]
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        return f"{self.recipe} is {self.expects} than {self.against}"

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        recipes = [counterpart_recipe(r, protocol) for r in (self.recipe, self.against)]
        recipes = [recipe for recipe in recipes if recipe != "fp32"]
        runs = [evidence.speed(model, recipe, protocol) for recipe in recipes]
        present = [run for run in runs if run is not None]
        published_ratio = self._published(model, evidence.device)
        if len(present) < len(recipes):
            missing = [MissingRun(model, recipe, "speed") for recipe in recipes]
            return [_unmeasured(self, model, protocol, TIMES, missing, published_ratio)]
        ratios = [relative_time(run) for run in present]
        ratio = over(*ratios) if len(ratios) == 2 else ratios[0]
        return [
            _measured(
                self,
                model,
                protocol,
                TIMES,
                _side(ratio, 1.0, above=self.expects == "slower"),
                _speed_sample(present[0]),
                ratio,
                keys=tuple(run.key for run in present),
                published_value=published_ratio,
            )
        ]

    def _published(self, model: str, device: str) -> float | None:
        recipe = published.published_result(model, self.recipe, device)
        against = published.published_result(model, self.against, device)
        if recipe is None or against is None or recipe.device != against.device:
            return None
        return round(recipe.rtf / against.rtf, 2)


def relative_time(run: SpeedRun) -> Estimate:
    """Time over fp32's, with its 95% interval over the interleaved passes."""
    return time_ratio(run.ratios())


def _speed_sample(run: SpeedRun) -> str:
    audio_s = run.passes[0].audio_s
    return f"{len(run.ratios())} interleaved passes over {audio_s:.0f} s, {run.machine.cpu}"


@dataclass(frozen=True)
class SizeReduction:
    """Size reduction from fp32, in percent of fp32's bytes."""

    recipe: str

    @property
    def question(self) -> str:  # noqa: D102
        return f"size reduction of {self.recipe} is as published"

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        result = published.published_result(model, self.recipe)
        if result is None or result.size_reduction_pct is None:
            return []
        recipe, published_pct = counterpart_recipe(self.recipe, protocol), result.size_reduction_pct
        run = evidence.size(model, recipe, protocol)
        if run is None:
            missing = [MissingRun(model, recipe, "size")]
            return [_unmeasured(self, model, protocol, PERCENT, missing, published_pct)]
        reduction = run.size_reduction_pct
        near = abs(reduction - published_pct) <= SIZE_TOLERANCE
        return [
            _measured(
                self,
                model,
                protocol,
                PERCENT,
                Outcome.REPRODUCED if near else Outcome.NOT_REPRODUCED,
                _EXACT_SAMPLE,
                _exact(reduction),
                keys=(run.key,),
                published_value=published_pct,
            )
        ]


_EXACT_SAMPLE = "size of the saved model, exact"


def _exact(value: float) -> Estimate:
    """An estimate without uncertainty."""
    return Estimate(value, value, value, 1, "model")


# What the study's choices are compared with: its own quantized recipes.
STUDY_RECIPES = tuple(
    dict.fromkeys(
        result.recipe
        for result in (*published.TABLE_2, *published.TABLE_3)
        if result.recipe != "fp32"
    )
)


@dataclass(frozen=True)
class _RivalComparison:
    """A recipe against one rival: below 1, or below 0 points, the recipe is ahead."""

    rival: str
    effect: Estimate
    outcome: Outcome
    sample: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class RanksFirst:
    """A recipe is ahead of every other measured recipe of the study.

    metric: time, size, or wer (on test-other). The effect is the comparison with the closest rival:
    time or bytes over the rival's, or WER minus the rival's in points. among: the rivals.
    """

    recipe: str
    metric: Literal["time", "size", "wer"]
    among: tuple[str, ...] = STUDY_RECIPES

    @property
    def question(self) -> str:  # noqa: D102
        first = {"time": "fastest", "size": "smallest", "wer": "most accurate on test-other"}
        return f"{self.recipe} is the {first[self.metric]} of the study's recipes"

    def answers(self, evidence: Evidence, model: str, protocol: str) -> list[Answer]:  # noqa: D102
        recipe = counterpart_recipe(self.recipe, protocol)
        rivals = [counterpart_recipe(rival, protocol) for rival in self.among]
        comparisons = [
            comparison
            for rival in rivals
            if rival != recipe
            and (comparison := self._compare_with(evidence, model, protocol, rival)) is not None
        ]
        unit = {"time": TIMES, "size": BYTES, "wer": POINTS}[self.metric]
        if not comparisons:
            names = dict.fromkeys(("fp32", recipe, *rivals))
            missing = [self._missing(model, name) for name in names]
            return [_unmeasured(self, model, protocol, unit, missing)]
        closest = max(comparisons, key=lambda comparison: comparison.effect.value)
        keys = (*closest.keys, *(key for c in comparisons for key in c.keys))
        return [
            _measured(
                self,
                model,
                protocol,
                unit,
                _worst([comparison.outcome for comparison in comparisons]),
                f"compared with {closest.rival}, the closest of {len(comparisons)} rivals:"
                f" {closest.sample}",
                closest.effect,
                keys=tuple(dict.fromkeys(keys)),
            )
        ]

    def _missing(self, model: str, recipe: str) -> MissingRun:
        if self.metric == "wer":
            return MissingRun(model, recipe, "accuracy", SPLITS["other"].best_first[0])
        return MissingRun(model, recipe, "speed" if self.metric == "time" else "size")

    def _compare_with(
        self, evidence: Evidence, model: str, protocol: str, rival: str
    ) -> _RivalComparison | None:
        """None where the two are not both measured."""
        recipe = counterpart_recipe(self.recipe, protocol)
        match self.metric:
            case "time":
                first, second = (evidence.speed(model, r, protocol) for r in (recipe, rival))
                return _compare_times(first, second, rival) if first and second else None
            case "size":
                small, large = (evidence.size(model, r, protocol) for r in (recipe, rival))
                return _compare_sizes(small, large, rival) if small and large else None
        pairs = evidence.paired_runs("other", model, (recipe, rival), protocol)
        return _compare_wers(evidence, pairs[0][0], pairs[0][1], rival) if pairs else None


def _compare_times(run: SpeedRun, rival_run: SpeedRun, rival: str) -> _RivalComparison:
    ratio = over(relative_time(run), relative_time(rival_run))
    outcome, keys = _side(ratio, 1.0, above=False), (run.key, rival_run.key)
    return _RivalComparison(rival, ratio, outcome, _speed_sample(run), keys)


def _compare_sizes(run: SizeRun, rival_run: SizeRun, rival: str) -> _RivalComparison:
    ratio = _exact(run.weights_bytes / rival_run.weights_bytes)
    outcome, keys = _side(ratio, 1.0, above=False), (run.key, rival_run.key)
    return _RivalComparison(rival, ratio, outcome, _EXACT_SAMPLE, keys)


def _compare_wers(
    evidence: Evidence, run: AccuracyRun, rival_run: AccuracyRun, rival: str
) -> _RivalComparison:
    comparison = evidence.compare(rival_run, run)
    outcome = expected_outcome(comparison, Verdict.NO_WORSE)
    keys = (run.key, rival_run.key)
    return _RivalComparison(rival, comparison.difference, outcome, sample_text(run), keys)


def _worst(outcomes: list[Outcome]) -> Outcome:
    for outcome in (Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.REPRODUCED


def _measured(
    measure: Measure,
    model: str,
    protocol: str,
    unit: Unit,
    outcome: Outcome,
    sample: str,
    effect: Estimate,
    *,
    keys: tuple[str, ...],
    published_value: float | None = None,
    minutes_needed: float | None = None,
) -> Answer:
    no_interval = math.isnan(effect.low)
    return Answer(
        question=measure.question,
        model=model,
        protocol=protocol,
        unit=unit,
        outcome=outcome,
        sample=sample,
        effect=effect.value,
        low=None if no_interval else effect.low,
        high=None if no_interval else effect.high,
        published=published_value,
        keys=keys,
        minutes_needed=minutes_needed,
    )


def _unmeasured(
    measure: Measure,
    model: str,
    protocol: str,
    unit: Unit,
    missing: list[MissingRun],
    published_value: float | None = None,
) -> Answer:
    return Answer(
        question=measure.question,
        model=model,
        protocol=protocol,
        unit=unit,
        outcome=Outcome.NOT_MEASURABLE,
        sample="not measured",
        published=published_value,
        missing=tuple(missing),
    )
