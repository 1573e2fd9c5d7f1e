import math

import pytest

from tests.support.made_runs import accuracy_run, size_run, speed_run
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.study import measures
from whisperq_core.study.evidence import Evidence, MissingRun, Outcome
from whisperq_core.study.measures import (
    RanksFirst,
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
    expected_outcome,
    published_outcome,
)
from whisperq_core.whisper.protocols import STUDY

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"
SPEAKERS = 12


def texts(wrong_words: int) -> list[tuple[str, str]]:
    """One utterance of ten words a speaker, with so many of them wrong."""
    hypothesis = ["x"] * wrong_words + WORDS.split()[wrong_words:]
    return [(WORDS, " ".join(hypothesis))] * SPEAKERS


def run(recipe: str, wrong_words: int, eval_set: str = "test-other-excerpt", model: str = "base"):
    speakers = [str(i) for i in range(SPEAKERS)]
    return accuracy_run(
        recipe, texts(wrong_words), eval_set=eval_set, model=model, speakers=speakers
    )


def answer(measure, *runs, model: str = "base"):
    result = measure.answers(Evidence(runs), model, STUDY.name)
    assert len(result) == 1
    return result[0]


def comparison(value: float, low: float, high: float, p: float, inferior: float) -> Comparison:
    return Comparison(Estimate(value, low, high, 9, "speaker"), 1.0, 0.5, p, inferior, 0.5)


CLEARLY_WORSE = comparison(3, 2, 4, 0.001, 1.0)
CLEARLY_BETTER = comparison(-3, -4, -2, 0.001, 0.0)
THE_SAME = comparison(0, -0.2, 0.2, 1.0, 0.001)
UNCLEAR = comparison(0.3, -2, 2, 0.8, 0.4)


@pytest.mark.parametrize(
    "result, worse, better, no_worse",
    [
        (CLEARLY_WORSE, Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.NOT_REPRODUCED),
        (CLEARLY_BETTER, Outcome.NOT_REPRODUCED, Outcome.REPRODUCED, Outcome.REPRODUCED),
        (THE_SAME, Outcome.NOT_REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.REPRODUCED),
        (UNCLEAR, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
    ],
    ids=["worse", "better", "equal", "unclear"],
)
def test_what_a_comparison_says_of_each_expectation(result, worse, better, no_worse):
    assert expected_outcome(result, Verdict.WORSE) == worse
    assert expected_outcome(result, Verdict.BETTER) == better
    assert expected_outcome(result, Verdict.NO_WORSE) == no_worse


def test_as_published_needs_an_interval_that_could_tell():
    assert published_outcome(CLEARLY_WORSE, 3.5) == Outcome.REPRODUCED
    assert published_outcome(CLEARLY_WORSE, 1.0) == Outcome.NOT_REPRODUCED
    assert published_outcome(THE_SAME, 0.1) == Outcome.REPRODUCED
    assert published_outcome(UNCLEAR, 1.0) == Outcome.INCONCLUSIVE


def test_without_an_interval_nothing_is_decided():
    lonely = comparison(5.0, math.nan, math.nan, 1.0, 1.0)
    expected = (Verdict.WORSE, Verdict.BETTER, Verdict.NO_WORSE)
    assert {expected_outcome(lonely, verdict) for verdict in expected} == {Outcome.INCONCLUSIVE}
    assert published_outcome(lonely, 5.0) is Outcome.INCONCLUSIVE


def test_a_loss_is_the_difference_in_points_and_names_its_records():
    fp32, worse = run("fp32", 1), run("torch-int8", 3)
    result = answer(WerDifference("torch-int8", "other", "worse"), fp32, worse)
    assert result.effect == pytest.approx(20.0)
    assert (result.outcome, result.keys) == (Outcome.REPRODUCED, (fp32.key, worse.key))
    assert result.sample == "test-other-excerpt, 12 utterances, 12 speakers, 2.0 min"


def test_published_differences_are_the_study_s_own():
    of_base = answer(WerDifference("quanto-int8", "other", "as published"), model="base")
    assert of_base.published == pytest.approx(14.72 - 12.87)
    assert (
        WerDifference("quanto-int8", "other", "as published").answers(Evidence([]), "tiny.en", "x")
        == []
    )


def test_whole_sets_come_before_excerpts_and_the_large_set_is_added():
    runs = [
        run(recipe, 1, place)
        for recipe in ("fp32", "torch-int8")
        for place in ("test-clean", "test-clean-excerpt", "librispeech-dev-clean-mp3")
    ]
    result = WerDifference("torch-int8", "clean", "no worse").answers(
        Evidence(runs), "base", STUDY.name
    )
    assert [p.sample.split(",")[0] for p in result] == ["test-clean", "librispeech-dev-clean-mp3"]


def test_missing_runs_are_listed():
    result = answer(WerDifference("torch-int8", "other", "worse"), run("fp32", 1))
    assert (result.outcome, result.effect) == (Outcome.NOT_MEASURABLE, None)
    assert result.missing == (
        MissingRun("base", "fp32", "accuracy", "test-other-excerpt"),
        MissingRun("base", "torch-int8", "accuracy", "test-other-excerpt"),
    )


def test_the_gap_is_the_loss_on_other_minus_the_loss_on_clean():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("torch-int8", 2, "test-clean-excerpt"),
        run("fp32", 2),
        run("torch-int8", 6),
    ]
    result = answer(RobustnessGapChange("torch-int8"), *runs)
    assert result.effect == pytest.approx(40 - 10)
    assert result.outcome == Outcome.REPRODUCED
    assert len(result.keys) == 4


def test_times_are_decided_by_the_repeats():
    steady = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    result = answer(RelativeTime("torch-int8", "faster"), steady)
    assert (result.outcome, result.effect) == (Outcome.REPRODUCED, pytest.approx(0.505))
    assert answer(RelativeTime("torch-int8", "slower"), steady).outcome == Outcome.NOT_REPRODUCED
    noisy = speed_run("torch-int8", [1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    assert answer(RelativeTime("torch-int8", "faster"), noisy).outcome == Outcome.INCONCLUSIVE


def test_a_time_against_another_recipe_is_the_quotient_of_both_ratios():
    fast = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    slow = speed_run("quanto-int8", [3.0, 3.01, 3.02], [2.0, 2.0, 2.0])
    result = answer(RelativeTime("quanto-int8", "slower", against="torch-int8"), fast, slow)
    assert result.effect == pytest.approx(3.01 / 1.01)
    assert result.outcome == Outcome.REPRODUCED


def test_sizes_are_exact_and_of_the_model_s_shape():
    near, far = size_run("quanto-int8", 63_800_000), size_run("quanto-int8", 100_000_000)
    assert (
        answer(SizeReduction("quanto-int8"), near).outcome == Outcome.REPRODUCED
    )  # −36.2 % of 100 MB
    assert answer(SizeReduction("quanto-int8"), far).outcome == Outcome.NOT_REPRODUCED
    missing = MissingRun("base", "quanto-int8", "size")
    assert answer(SizeReduction("quanto-int8")).missing == (missing,)


def test_first_needs_every_rival_behind_it():
    first = RanksFirst("torch-int8", "time", among=("torch-int8", "quanto-int8", "bnb-nf4"))
    recipe = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    slow = speed_run("quanto-int8", [3.0, 3.01, 3.02], [2.0, 2.0, 2.0])
    tie = speed_run("bnb-nf4", [1.0, 1.02, 1.01], [2.0, 2.0, 2.0])
    ahead = speed_run("bnb-nf4", [0.5, 0.51, 0.52], [2.0, 2.0, 2.0])
    assert answer(first, recipe, slow).outcome == Outcome.REPRODUCED
    assert answer(first, recipe, slow, tie).outcome == Outcome.INCONCLUSIVE
    beaten = answer(first, recipe, slow, ahead)
    assert beaten.outcome == Outcome.NOT_REPRODUCED
    assert "compared with bnb-nf4, the closest of 2 rivals" in beaten.sample


def test_the_most_accurate_is_only_so_where_rivals_are_decidedly_no_better():
    first = RanksFirst("quanto-int8", "wer", among=("quanto-int8", "torch-int8"))
    good, bad = run("quanto-int8", 1), run("torch-int8", 3)
    assert answer(first, good, bad).outcome == Outcome.REPRODUCED
    beaten = answer(first, run("quanto-int8", 3), run("torch-int8", 1))
    assert beaten.outcome == Outcome.NOT_REPRODUCED


def test_figure_1_has_a_bar_for_every_recipe_on_both_sets():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("fp32", 3),
        run("torch-int8", 2),
    ]
    bars = measures.robustness_gaps(Evidence(runs), "base", STUDY.name)
    assert [bar.recipe for bar in bars] == ["fp32"]
    assert bars[0].points.value == pytest.approx(20.0)
    assert bars[0].points.low <= 20.0 <= bars[0].points.high
