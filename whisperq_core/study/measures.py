"""Measures by which claims are judged: each is a statement, checked against the stored results.

Each answers with an effect and two one-sided tests: that its statement holds, and that it fails.
How small their p-values must be is the claim's to say (`judge`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from whisperq_core.analyze import effects
from whisperq_core.analyze.effects import UNKNOWN, Effect, ExactEffect, OneSided
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.evaluate.records import SpeedRun
from whisperq_core.study import published
from whisperq_core.study.answers import (
    PERCENT,
    POINTS,
    TIMES,
    Answer,
    MissingRun,
    Outcome,
    next_set,
    pool_sample,
    with_interval,
)
from whisperq_core.study.evidence import SPLITS, Device, Evidence, Split, WerComparison
from whisperq_core.whisper.protocols import STUDY

# A size is reproduced within this many percentage points of the published one.
SIZE_TOLERANCE = 1.0
# A relative latency is reproduced within this factor of the published one.
TIME_TOLERANCE = 1.1


class Measure(Protocol):
    """A statement about a model."""

    @property
    def question(self) -> str:
        """The statement that holds or does not."""
        ...

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:
        """The answer, without an effect where nothing was measured.

        None where the measure does not apply to the model.
        """
        ...


def counterpart_recipe(recipe: str, protocol: str) -> str:
    """The recipe that corresponds to the study's under a protocol.

    Only the study calibrates on evaluation data; other protocols calibrate on held-out speech.
    """
    return recipe if protocol == STUDY.name else held_out(recipe)


def held_out(recipe: str) -> str:
    """The same recipe, calibrated on held-out speech if it is calibrated at all."""
    return recipe.removesuffix(_ON_EVALUATED_SPEECH)


_ON_EVALUATED_SPEECH = "-eval10"


Expected = Literal["better", "worse", "no worse"]


def wer_tests(effect: Effect, expects: Expected) -> tuple[OneSided, OneSided]:
    """Tests that a statement on a WER difference holds, and that it fails.

    "worse" fails where a loss of the margin is excluded, "better" where a gain of the margin is
    excluded, "no worse" where any loss is shown.
    """
    match expects:
        case "worse":
            return effect.above(0.0), effect.below(MARGIN)
        case "better":
            return effect.below(0.0), effect.above(-MARGIN)
        case "no worse":
            return effect.below(MARGIN), effect.above(0.0)


def published_tests(
    effect: Effect, value: float, low: float, high: float
) -> tuple[OneSided, OneSided]:
    """Tests that an effect equals a published value.

    It does where it is shown to lie between `low` and `high` (two one-sided tests: Schuirmann 1987,
    "A comparison of the two one-sided tests procedure and the power approach"), and does not where
    it is shown to differ from the value.
    """
    inside = max(effect.above(low), effect.below(high), key=p_value)
    return inside, min(effect.above(value), effect.below(value), key=p_value)


def p_value(test: OneSided) -> float:
    """For sorting tests."""
    return test.p


# A verdict on WER, between two recipes in a statement.
_RELATIONS = {
    "better": "has a lower WER than",
    "worse": "has a higher WER than",
    "no worse": "is no worse than",
}


@dataclass(frozen=True)
class WerDifference:
    """WER of a recipe minus WER of another on one split, in points.

    expects: a relation, or "as published": the study's own difference, which it gives for its own
    models only.
    """

    recipe: str
    split: Split
    expects: Expected | Literal["as published"]
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        # "Clean speech", because other sets than test-clean are pooled with it.
        where = "on clean speech" if self.split == "clean" else "on test-other"
        if self.expects == "as published":
            return f"WER increase of {self.recipe} over {self.against} {where} is as published"
        return f"{self.recipe} {_RELATIONS[self.expects]} {self.against} {where}"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        points = self._published(model)
        if self.expects == "as published" and points is None:
            return None
        against, recipe = (counterpart_recipe(r, protocol) for r in (self.against, self.recipe))
        compared = evidence.compare(self.split, model, against, recipe, protocol)
        missing = missing_speech(model, (against, recipe), self.split, compared)
        answer = Answer(self.question, model, protocol, POINTS, published=points, missing=missing)
        if compared is None:
            return answer
        if self.expects == "as published":
            value = points or 0.0
            tests = published_tests(compared.effect, value, value - MARGIN, value + MARGIN)
        else:
            tests = wer_tests(compared.effect, self.expects)
        answer = replace(
            tested(answer, compared.effect.estimate, tests, [compared]),
            sample=pool_sample(compared.pool),
        )
        if self.expects == "worse" and recipe != held_out(recipe):
            return self._refuted_by_held_out(answer, evidence, recipe)
        return answer

    def _refuted_by_held_out(self, answer: Answer, evidence: Evidence, recipe: str) -> Answer:
        """The same, refuted by what is calibrated on held-out speech, or by nothing.

        Calibration on evaluated speech flatters a recipe: damage in spite of it is damage, but no
        damage says nothing.
        """
        better_founded = evidence.compare(
            self.split, answer.model, self.against, held_out(recipe), answer.protocol
        )
        if better_founded is None:
            return replace(answer, fails=UNKNOWN)
        effect = better_founded.effect
        fails = wer_tests(effect, "worse")[1]
        points = with_interval(effect.estimate, signed=True)
        text = f"calibrated on held-out speech: {points}"
        return replace(
            answer,
            fails=fails,
            sample=f"{answer.sample}; {text}",
            keys=(*answer.keys, *keys_of([better_founded])),
        )

    def _published(self, model: str) -> float | None:
        results = (published.published_result(model, r) for r in (self.recipe, self.against))
        recipe, against = results
        if recipe is None or against is None:
            return None
        return round(recipe.wer_pct(self.split) - against.wer_pct(self.split), 2)


def keys_of(compared: Iterable[WerComparison]) -> tuple[str, ...]:
    """Of the results that comparisons rest on."""
    return tuple(
        key for one in compared for part in one.pool.parts for key in (part.baseline_key, part.key)
    )


def missing_speech(
    model: str, recipes: Iterable[str], split: Split, compared: WerComparison | None
) -> tuple[MissingRun, ...]:
    """The runs of recipes on the set of a split that adds the most to what was compared."""
    eval_set = next_set(split, model, compared.pool if compared else None)
    if eval_set is None:
        return ()
    return tuple(MissingRun(model, recipe, "accuracy", eval_set) for recipe in recipes)


def tested(
    answer: Answer,
    effect: Estimate,
    tests: tuple[OneSided, OneSided],
    compared: Iterable[WerComparison] = (),
) -> Answer:
    """An answer with its effect, its tests (holds, fails) and the comparisons that it rests on."""
    compared = list(compared)
    return replace(
        answer,
        effect=effect,
        holds=tests[0],
        fails=tests[1],
        keys=keys_of(compared),
        pools=tuple(one.pool for one in compared),
        outcome=Outcome.INCONCLUSIVE,
    )


@dataclass(frozen=True)
class RobustnessGapChange:
    """WER on test-other minus WER on test-clean of a recipe, minus that of another, in points.

    Equal to the WER difference between the two on test-other minus that on test-clean.
    """

    recipe: str
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        where = "from clean speech to test-other"
        return f"WER rises more {where} with {self.recipe} than with {self.against}"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        against, recipe = (counterpart_recipe(r, protocol) for r in (self.against, self.recipe))
        points = self._published(model)
        by_split = {
            split: evidence.compare(split, model, against, recipe, protocol) for split in SPLITS
        }
        missing = tuple(
            run
            for split, compared in by_split.items()
            for run in missing_speech(model, (against, recipe), split, compared)
        )
        answer = Answer(self.question, model, protocol, POINTS, published=points, missing=missing)
        clean, other = by_split["clean"], by_split["other"]
        if clean is None or other is None:
            return answer
        effect = effects.difference(other.effect.comparison, clean.effect.comparison)
        holds, fails = wer_tests(effect, "worse")
        if recipe != held_out(recipe):
            # Flattered by its calibration: see `WerDifference`.
            fails = UNKNOWN
        return replace(
            tested(answer, effect.estimate, (holds, fails), (other, clean)),
            sample=f"{pool_sample(other.pool)}; {pool_sample(clean.pool)}",
        )

    def _published(self, model: str) -> float | None:
        of_recipe = published.published_result(model, self.recipe)
        against = published.published_result(model, self.against)
        if of_recipe is None or against is None:
            return None
        return round(of_recipe.robustness_gap - against.robustness_gap, 2)


@dataclass(frozen=True)
class RelativeTime:
    """Time of a recipe over that of another, both measured interleaved with fp32.

    "as published": within TIME_TOLERANCE of the study's. device: that the statement is about.
    """

    recipe: str
    expects: Literal["faster", "slower", "as published"]
    against: str = "fp32"
    device: Device = "cpu"

    @property
    def question(self) -> str:  # noqa: D102
        where = " on a GPU" if self.device == "cuda" else ""
        if self.expects == "as published":
            return f"latency of {self.recipe} relative to {self.against}{where} is as published"
        return f"{self.recipe} is {self.expects} than {self.against}{where}"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        recipes = [counterpart_recipe(r, protocol) for r in (self.recipe, self.against)]
        recipes = [recipe for recipe in recipes if recipe != "fp32"]
        runs = [evidence.speed(model, recipe, protocol, self.device) for recipe in recipes]
        present = [run for run in runs if run is not None]
        answer = Answer(
            self.question,
            model,
            protocol,
            TIMES,
            published=self._published(model),
            missing=tuple(MissingRun(model, recipe, "speed") for recipe in recipes),
        )
        if len(present) < len(recipes):
            return replace(answer, needs_gpu=self.device == "cuda")
        times = [relative_time(run) for run in present]
        effect = effects.quotient(*times) if len(times) == 2 else times[0]
        return replace(
            tested(answer, effect.estimate, self._tests(effect)),
            sample=speed_sample(present[0]),
            keys=tuple(run.key for run in present),
            missing=(),
        )

    def _tests(self, effect: Effect) -> tuple[OneSided, OneSided]:
        match self.expects:
            case "faster":
                return effect.below(1.0), effect.above(1.0)
            case "slower":
                return effect.above(1.0), effect.below(1.0)
        ratio = self._stated
        if ratio is None:
            return UNKNOWN, UNKNOWN
        return published_tests(effect, ratio, ratio / TIME_TOLERANCE, ratio * TIME_TOLERANCE)

    @property
    def _stated(self) -> float | None:
        """The study's ratio for the model that its statement is about, whisper-small."""
        return self._published("small")

    def _published(self, model: str) -> float | None:
        model = "small" if self.expects == "as published" else model
        recipe = published.published_result(model, self.recipe, self.device)
        against = published.published_result(model, self.against, self.device)
        if recipe is None or against is None or recipe.device != against.device:
            return None
        return round(recipe.rtf / against.rtf, 2)


def relative_time(run: SpeedRun) -> effects.StudentEffect:
    """Time over fp32's, over the interleaved passes."""
    return effects.time_effect(run.ratios())


def speed_sample(run: SpeedRun) -> str:
    """How a time was measured, as text."""
    audio_s = run.passes[0].audio_s
    return f"{len(run.ratios())} interleaved passes over {audio_s:.0f} s, {run.machine.cpu}"


EXACT_SAMPLE = "size of the saved model, exact"


@dataclass(frozen=True)
class SizeReduction:
    """Size reduction from fp32, in percent of fp32's bytes."""

    recipe: str

    @property
    def question(self) -> str:  # noqa: D102
        return f"size reduction of {self.recipe} is as published"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        result = published.published_result(model, self.recipe)
        if result is None or result.size_reduction_pct is None:
            return None
        recipe, published_pct = counterpart_recipe(self.recipe, protocol), result.size_reduction_pct
        run = evidence.size(model, recipe, protocol)
        answer = Answer(
            self.question,
            model,
            protocol,
            PERCENT,
            published=published_pct,
            missing=(MissingRun(model, recipe, "size"),),
        )
        if run is None:
            return answer
        deviation = ExactEffect(abs(run.size_reduction_pct - published_pct))
        tests = deviation.below(SIZE_TOLERANCE), deviation.above(SIZE_TOLERANCE)
        measured = tested(answer, ExactEffect(run.size_reduction_pct).estimate, tests)
        return replace(measured, sample=EXACT_SAMPLE, keys=(run.key,), missing=())
