import math

import numpy as np
import pytest

from tests.support.sample_runs import accuracy_run, divergence_run
from tests.support.spoken_runs import in_language
from whisperq_core.analyze.divergence_calibration import (
    FEWEST_RECIPES,
    Calibration,
    Point,
    calibrate,
    fit,
)
from whisperq_core.analyze.significance import Estimate
from whisperq_core.evaluate.records import AccuracyRun


def points(
    random: np.random.Generator, recipes: int = 25, slope=0.02, scatter=0.008, error=0.3
) -> list[Point]:
    """Two sets a recipe; divergences over three orders of magnitude."""
    made = []
    for recipe in range(recipes):
        factor = random.normal(slope, scatter)
        mnat = 10 ** random.uniform(-0.5, 2.4)
        for eval_set in ("clean", "other"):
            on_set = mnat * random.uniform(0.7, 1.4)
            difference = random.normal(factor * on_set, error)
            made.append(
                Point(
                    "base",
                    f"recipe-{recipe}",
                    eval_set,
                    Estimate(on_set, on_set * 0.9, on_set * 1.1, 25, "speaker"),
                    Estimate(difference, difference - 2 * error, difference + 2 * error, 25, ""),
                    error,
                    0,
                )
            )
    return made


def test_slope_and_scatter_are_found_again():
    random = np.random.default_rng(1)
    fits = [fit(points(random)) for _ in range(60)]
    assert np.mean([f.slope for f in fits]) == pytest.approx(0.02, abs=0.001)
    assert np.mean([f.scatter for f in fits]) == pytest.approx(0.008, abs=0.001)
    # The error that the fit states is the one that it has.
    assert np.std([f.slope for f in fits]) == pytest.approx(
        np.mean([f.slope_error for f in fits]), rel=0.3
    )


def test_predictions_of_recipes_left_out_cover_their_difference():
    random = np.random.default_rng(2)
    covered = [Calibration(tuple(points(random))).covered for _ in range(30)]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_below_the_threshold_a_larger_loss_is_rare():
    """Of new recipes at the threshold about 2.5 % lose more than the margin."""
    random, worse = np.random.default_rng(3), []
    for _ in range(60):
        fitted = fit(points(random))
        threshold = fitted.excluded_below(0.5)
        worse += list(random.normal(0.02, 0.008, 200) * threshold > 0.5)
        assert fitted.predict(threshold).high == pytest.approx(0.5)
    assert np.mean(worse) == pytest.approx(0.025, abs=0.02)


def test_without_scatter_the_fit_is_least_squares():
    exact = points(np.random.default_rng(4), scatter=0.0, error=1e-6)
    assert fit(exact).slope == pytest.approx(0.02, rel=1e-3)
    assert fit(exact).scatter == pytest.approx(0.0, abs=1e-4)


SPEAKERS = [str(i // 3) for i in range(24)]
RECIPES = ("bf16", "hqq-int8-g64", "quanto-int8", "bnb-nf4", "torch-int8")


def runs_of(name: str, nats: float, errors: int, baseline_key: str) -> list:
    texts = [("a b c d", "a b c x" if i < errors else "a b c d") for i in range(24)]
    measured = divergence_run(name, [nats] * 24, SPEAKERS)
    run = accuracy_run(name, texts, speakers=SPEAKERS)
    return [run, measured.model_copy(update={"baseline_key": baseline_key})]


def test_points_are_of_recipes_with_both_measurements():
    (fp32,) = [accuracy_run("fp32", [("a b c d", "a b c d")] * 24, speakers=SPEAKERS)]
    runs = [fp32]
    for i, name in enumerate(RECIPES):
        runs += runs_of(name, 0.01 * (i + 1), 2 * i, fp32.key)
    made = calibrate(runs)
    assert [p.recipe for p in made.points] == list(RECIPES)
    assert made.points[-1].difference.value == pytest.approx(100 * 8 / 96)
    assert made.points[0].mnat.value == pytest.approx(1.0)
    assert made.rank_correlation == pytest.approx(1.0)
    assert calibrate([run for run in runs if run.spec.recipe.name != "bf16"]) is None
    japanese = [in_language(r, "ja") if isinstance(r, AccuracyRun) else r for r in runs]
    assert calibrate(japanese) is None  # their rate is the CER
    assert len(RECIPES) == FEWEST_RECIPES
    assert math.isfinite(made.fit.excluded_below(0.5))
