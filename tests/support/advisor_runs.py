"""Runs and requirements of which the Advisor's conclusion is known."""

from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import MANY, NOISY, SOME, run_with
from whisperq_core.analyze.advisor import Advice
from whisperq_core.analyze.user_requirements import Candidate, Requirements

FP32 = run_with("fp32", SOME, weights_bytes=200_000_000)
SAME = run_with("quanto-int8", SOME, weights_bytes=120_000_000)
BROKEN = run_with("quanto-int2", MANY, weights_bytes=40_000_000)
INCONCLUSIVE = run_with("bnb-nf4", NOISY, weights_bytes=60_000_000)
SPEEDS = [
    speed_run("fp32", [3.0, 3.1, 3.2]),
    speed_run("quanto-int8", [4.0, 4.1, 4.2], [3.0, 3.1, 3.2]),
    speed_run("quanto-int2", [1.0, 1.1, 1.2], [3.0, 3.1, 3.2]),
]
RUNS = [FP32, SAME, BROKEN, INCONCLUSIVE, *SPEEDS]
# A recipe with the same errors is shown to be no worse by these points, but not by one word.
MARGIN_POINTS = 2.0


def requirements(**changes) -> Requirements:
    limits = {"max_wer_rise_points": MARGIN_POINTS, "max_rtf_ratio": None}
    return Requirements(**limits | changes)


def by_recipe(advice: Advice) -> dict[str, Candidate]:
    return {candidate.configuration.recipe: candidate for candidate in advice.candidates}
