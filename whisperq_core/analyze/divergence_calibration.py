"""What divergence says of WER: over measured recipes, how well one predicts the other.

The WER that a recipe loses is taken as proportional to its divergence, with a factor that differs
from recipe to recipe:

    difference = (slope + deviation of the recipe) x divergence + sampling error

A random-effects regression through the origin (DerSimonian & Laird 1986, "Meta-analysis in clinical
trials", with effects proportional to divergence): deviations have the standard deviation `scatter`,
sampling errors are those of the paired comparisons. Both are estimated by maximum likelihood.
Utterances in which either model looped are left out: a loop of 200 words is not what many small
changes of predictions add up to, and divergence does not see it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from whisperq_core.analyze import divergences
from whisperq_core.analyze.paired_comparisons import compare_runs, unit_of_run
from whisperq_core.analyze.significance import Estimate, Numbers
from whisperq_core.analyze.verdicts import CONFIDENCE, MARGIN
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run

# Two parameters are estimated, and a prediction needs some recipes to be left out in turn.
FEWEST_RECIPES = 5


@dataclass(frozen=True)
class Point:
    """A recipe on a set: its divergence, and how much higher its WER is than fp32's.

    mnat: thousandths of a nat per token. difference: points of WER, utterances with a loop left
    out; standard_error is its own. loops: utterances in which recipe or fp32 looped.
    """

    model: str
    recipe: str
    eval_set: str
    mnat: Estimate
    difference: Estimate
    standard_error: float
    loops: int


@dataclass(frozen=True)
class Fit:
    """Points of WER per mnat: the mean over recipes, its error, and the recipes' scatter.

    degrees: of freedom. Recipes of little divergence say little of the factor, so they are one
    fewer than Kish's effective number of recipes (Kish 1965, "Survey Sampling").
    """

    slope: float
    slope_error: float
    scatter: float
    recipes: int
    degrees: float

    def predict(self, mnat: float, sampling_error: float = 0.0) -> Estimate:
        """The WER difference of one more recipe of that divergence, with its 95 % interval.

        sampling_error: of the comparison that the prediction is held against; 0 for the true
        difference.
        """
        spread = math.hypot(mnat * math.hypot(self.slope_error, self.scatter), sampling_error)
        reach = self._t * spread
        value = self.slope * mnat
        return Estimate(value, value - reach, value + reach, self.recipes, "recipe")

    def excluded_below(self, margin: float = MARGIN) -> float:
        """The divergence in mnat below which a loss of `margin` points is outside the interval."""
        steepest = self.slope + self._t * math.hypot(self.slope_error, self.scatter)
        return margin / steepest if steepest > 0 else math.inf

    @property
    def _t(self) -> float:
        return float(special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Calibration:
    """All points, the fit to all of them, and how it does on recipes that it was not fitted to."""

    points: tuple[Point, ...]

    @cached_property
    def fit(self) -> Fit:
        """Over all points."""
        return fit(self.points)

    @cached_property
    def held_out(self) -> list[tuple[Point, Estimate]]:
        """Each point with its prediction from all recipes but its own."""
        predictions = []
        for point in self.points:
            others = [p for p in self.points if (p.model, p.recipe) != (point.model, point.recipe)]
            predicted = fit(others).predict(point.mnat.value, point.standard_error)
            predictions.append((point, predicted))
        return predictions

    @cached_property
    def covered(self) -> float:
        """The share of points, 0 to 1, whose difference lies in its held-out prediction."""
        inside = [p.low <= point.difference.value <= p.high for point, p in self.held_out]
        return sum(inside) / len(inside)

    @cached_property
    def rank_correlation(self) -> float:
        """Spearman's correlation of divergence and WER difference over the points."""
        from scipy import stats  # slow to import

        mnat = [p.mnat.value for p in self.points]
        return float(stats.spearmanr(mnat, [p.difference.value for p in self.points]).statistic)


def calibrate(runs: Iterable[Run]) -> Calibration | None:
    """The calibration over all recipes that have a divergence and a WER compared with fp32's.

    One point a model, recipe and set: of the protocol under which divergence is measured. Speech in
    languages written without spaces has none: its rate is the CER. Nor has speech under a
    condition, such as noise. None with fewer than FEWEST_RECIPES recipes.
    """
    by_age = sorted(
        (run for run in runs if not run.condition), key=lambda run: (run.created_at, run.key)
    )
    accuracy = {_work(run): run for run in by_age if isinstance(run, AccuracyRun)}
    points = []
    for run in {_work(run): run for run in by_age if isinstance(run, DivergenceRun)}.values():
        candidate = accuracy.get(_work(run))
        baseline = next((one for one in accuracy.values() if one.key == run.baseline_key), None)
        if (
            candidate
            and baseline
            and candidate.speech_digest == baseline.speech_digest
            and unit_of_run(baseline) == "words"
        ):
            points.append(_point(run, baseline, candidate))
    if len({(p.model, p.recipe) for p in points}) < FEWEST_RECIPES:
        return None
    return Calibration(tuple(sorted(points, key=lambda p: (p.mnat.value, p.recipe, p.eval_set))))


def _work(run: AccuracyRun | DivergenceRun) -> tuple[object, ...]:
    spec = run.spec
    return (
        *(spec.weights_digest, spec.recipe.name, spec.eval_set_digest),
        *(spec.protocol, spec.device),
    )


def _point(run: DivergenceRun, baseline: AccuracyRun, candidate: AccuracyRun) -> Point:
    comparison = compare_runs(baseline, candidate, "words", loops=False)
    looped = sum(
        a.score.looped or b.score.looped
        for a, b in zip(baseline.by_id, candidate.by_id, strict=True)
    )
    return Point(
        run.model,
        run.spec.recipe.name,
        run.eval_set,
        divergences.mean_mnat(run),
        comparison.difference,
        comparison.standard_error,
        looped,
    )


def fit(points: Sequence[Point]) -> Fit:
    """The random-effects regression of the module's description, by maximum likelihood.

    The points of one recipe share its deviation, so that its sets do not count as recipes.
    """
    recipes = sorted({(p.model, p.recipe) for p in points})
    groups = [[p for p in points if (p.model, p.recipe) == recipe] for recipe in recipes]
    # Each recipe's own factor: points of WER per mnat, by weighted least squares, and its error.
    x = [np.array([p.mnat.value for p in group]) for group in groups]
    precision = [np.array([p.standard_error for p in group]) ** -2 for group in groups]
    y = [np.array([p.difference.value for p in group]) for group in groups]
    information = np.array([(w * a * a).sum() for a, w in zip(x, precision, strict=True)])
    factors = np.array([(w * a * b).sum() for a, b, w in zip(x, y, precision, strict=True)])
    factors = factors / information

    def slope_and_weights(scatter: float) -> tuple[float, Numbers]:
        weights: Numbers = 1 / (1 / information + scatter**2)
        return float((weights * factors).sum() / weights.sum()), weights

    def minus_log_likelihood(scatter: float) -> float:
        slope, weights = slope_and_weights(scatter)
        residuals = weights * (factors - slope) ** 2
        # Restricted likelihood: the slope is estimated, too, which costs a degree of freedom.
        return float((residuals - np.log(weights)).sum() + math.log(weights.sum())) / 2

    from scipy import optimize  # slow to import

    largest = float(np.ptp(factors)) or 1.0
    scatter = float(
        optimize.minimize_scalar(minus_log_likelihood, bounds=(0.0, largest), method="bounded").x
    )
    slope, weights = slope_and_weights(scatter)
    degrees = max(weights.sum() ** 2 / (weights**2).sum() - 1, 1.0)
    return Fit(slope, 1 / math.sqrt(weights.sum()), scatter, len(recipes), float(degrees))
