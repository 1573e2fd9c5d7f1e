"""Which of the study's recipes is the fastest, the smallest or the most accurate."""

from dataclasses import dataclass, replace
from typing import Literal

from whisperq_core.analyze import effects
from whisperq_core.analyze.effects import ExactEffect, OneSided
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import INFERIORITY_LEVEL
from whisperq_core.evaluate.records import SizeRun, SpeedRun
from whisperq_core.study.answers import BYTES, POINTS, TIMES, Answer, MissingRun, Unit, pool_sample
from whisperq_core.study.evidence import Evidence, WerComparison
from whisperq_core.study.measures import (
    EXACT_SAMPLE,
    counterpart_recipe,
    held_out,
    keys_of,
    missing_speech,
    relative_time,
    speed_sample,
    tested,
    wer_tests,
)
from whisperq_core.study.published import STUDY_RECIPES


@dataclass(frozen=True)
class _RivalComparison:
    """A recipe against one rival: below 1, or below 0 points, the recipe is ahead."""

    rival: str
    effect: Estimate
    holds: OneSided
    fails: OneSided
    sample: str
    keys: tuple[str, ...]
    compared: WerComparison | None = None


@dataclass(frozen=True)
class RanksFirst:
    """A recipe is ahead of every other measured recipe of the study.

    metric: time (on a CPU), size, or wer (on test-other, where no worse is enough). It holds where
    it does against each rival, and fails where it does against any, corrected for their number. The
    effect is the comparison that decides: time or bytes over the rival's, or WER minus the rival's
    in points. among: the rivals.
    """

    recipe: str
    metric: Literal["time", "size", "wer"]
    among: tuple[str, ...] = STUDY_RECIPES

    @property
    def question(self) -> str:  # noqa: D102
        first = {"time": "fastest", "size": "smallest", "wer": "most accurate on test-other"}
        return f"{self.recipe} is the {first[self.metric]} of the study's recipes"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        recipe = counterpart_recipe(self.recipe, protocol)
        rivals = [self._rival(name, protocol) for name in self.among if name != self.recipe]
        compared = [self._compare_with(evidence, model, protocol, rival) for rival in rivals]
        comparisons = [one for one in compared if one is not None]
        unit: Unit = {"time": TIMES, "size": BYTES, "wer": POINTS}[self.metric]
        answer = Answer(self.question, model, protocol, unit)
        if not comparisons:
            names = dict.fromkeys(("fp32", recipe, *rivals))
            missing = tuple(run for name in names for run in self._missing(model, name))
            return replace(answer, missing=missing)
        worst = min(comparisons, key=lambda one: (one.fails.p, -one.effect.value))
        least_sure = max(comparisons, key=lambda one: (one.holds.p, one.effect.value))
        fails = replace(worst.fails, p=min(1.0, len(comparisons) * worst.fails.p))
        shown = worst if fails.p < INFERIORITY_LEVEL else least_sure
        pools = [shown.compared] if shown.compared else []
        keys = (*shown.keys, *(key for c in comparisons for key in c.keys))
        return replace(
            tested(answer, shown.effect, (least_sure.holds, fails), pools),
            sample=f"compared with {shown.rival}, of {len(comparisons)} rivals: {shown.sample}",
            keys=tuple(dict.fromkeys(keys)),
            missing=missing_speech(model, (recipe, shown.rival), "other", shown.compared)
            if pools
            else (),
        )

    def _rival(self, name: str, protocol: str) -> str:
        """A rival calibrated on evaluated speech would win unfairly."""
        return held_out(name) if self.metric == "wer" else counterpart_recipe(name, protocol)

    def _missing(self, model: str, recipe: str) -> tuple[MissingRun, ...]:
        if self.metric == "wer":
            return missing_speech(model, (recipe,), "other", None)
        return (MissingRun(model, recipe, "speed" if self.metric == "time" else "size"),)

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
            case "wer":
                compared = evidence.compare("other", model, rival, recipe, protocol)
                return _compare_wers(compared, rival) if compared else None


def _compare_times(run: SpeedRun, rival_run: SpeedRun, rival: str) -> _RivalComparison:
    effect = effects.quotient(relative_time(run), relative_time(rival_run))
    tests = effect.below(1.0), effect.above(1.0)
    keys = run.key, rival_run.key
    return _RivalComparison(rival, effect.estimate, *tests, speed_sample(run), keys)


def _compare_sizes(run: SizeRun, rival_run: SizeRun, rival: str) -> _RivalComparison:
    effect = ExactEffect(run.weights_bytes / rival_run.weights_bytes)
    tests = effect.below(1.0), effect.above(1.0)
    keys = run.key, rival_run.key
    return _RivalComparison(rival, effect.estimate, *tests, EXACT_SAMPLE, keys)


def _compare_wers(compared: WerComparison, rival: str) -> _RivalComparison:
    return _RivalComparison(
        rival,
        compared.effect.estimate,
        *wer_tests(compared.effect, "no worse"),
        pool_sample(compared.pool),
        keys_of([compared]),
        compared,
    )
