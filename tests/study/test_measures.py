import math

import pytest

from tests.support.made_runs import accuracy_run, size_run, speed_run
from whisperq_core.analyze.significance import Comparison, Estimate
from whisperq_core.study import measures
from whisperq_core.study.evidence import (
    INCONCLUSIVE,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    Evidence,
)
from whisperq_core.study.measures import (
    RanksFirst,
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
    outcome_of,
)
from whisperq_core.whisper.protocols import STUDY

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"
SPEAKERS = 12


def texts(wrong_words: int) -> list[tuple[str, str]]:
    """One utterance of ten words a speaker, with so many of them misheard."""
    heard = ["x"] * wrong_words + WORDS.split()[wrong_words:]
    return [(WORDS, " ".join(heard))] * SPEAKERS


def run(recipe: str, wrong_words: int, eval_set: str = "test-other-excerpt", model: str = "base"):
    speakers = [str(i) for i in range(SPEAKERS)]
    return accuracy_run(
        recipe, texts(wrong_words), eval_set=eval_set, model=model, speakers=speakers
    )


def part(measure, *runs, model: str = "base"):
    found = measure.parts(Evidence(runs), model, STUDY.name)
    assert len(found) == 1
    return found[0]


def comparison(value: float, low: float, high: float, p: float, inferior: float) -> Comparison:
    return Comparison(Estimate(value, low, high, 9, "speaker"), 1.0, 0.5, p, inferior, 0.5)


CLEARLY_WORSE = comparison(3, 2, 4, 0.001, 1.0)
CLEARLY_BETTER = comparison(-3, -4, -2, 0.001, 0.0)
THE_SAME = comparison(0, -0.2, 0.2, 1.0, 0.001)
UNCLEAR = comparison(0.3, -2, 2, 0.8, 0.4)


@pytest.mark.parametrize(
    "found, worse, better, no_worse",
    [
        (CLEARLY_WORSE, REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED),
        (CLEARLY_BETTER, NOT_REPRODUCED, REPRODUCED, REPRODUCED),
        (THE_SAME, NOT_REPRODUCED, NOT_REPRODUCED, REPRODUCED),
        (UNCLEAR, INCONCLUSIVE, INCONCLUSIVE, INCONCLUSIVE),
    ],
    ids=["worse", "better", "the same", "unclear"],
)
def test_what_a_comparison_says_of_each_expectation(found, worse, better, no_worse):
    assert outcome_of(found, "worse", None) == worse
    assert outcome_of(found, "better", None) == better
    assert outcome_of(found, "no worse", None) == no_worse


def test_as_published_needs_an_interval_that_could_tell():
    assert outcome_of(CLEARLY_WORSE, "as published", 3.5) == REPRODUCED
    assert outcome_of(CLEARLY_WORSE, "as published", 1.0) == NOT_REPRODUCED
    assert outcome_of(THE_SAME, "as published", 0.1) == REPRODUCED
    assert outcome_of(UNCLEAR, "as published", 1.0) == INCONCLUSIVE


def test_without_an_interval_nothing_is_decided():
    lonely = comparison(5.0, math.nan, math.nan, 1.0, 1.0)
    assert {
        outcome_of(lonely, e, 5.0) for e in ("worse", "better", "no worse", "as published")
    } == {INCONCLUSIVE}


def test_a_loss_is_the_difference_in_points_and_names_its_records():
    fp32, worse = run("fp32", 1), run("torch-int8", 3)
    found = part(WerDifference("torch-int8", "other", "worse"), fp32, worse)
    assert found.effect == pytest.approx(20.0)
    assert (found.verdict, found.keys) == (REPRODUCED, (fp32.key, worse.key))
    assert found.sample == "test-other-excerpt, 12 utterances, 12 speakers, 2.0 min"


def test_published_differences_are_the_study_s_own():
    of_base = part(WerDifference("quanto-int8", "other", "as published"), model="base")
    assert of_base.published == pytest.approx(14.72 - 12.87)
    assert (
        WerDifference("quanto-int8", "other", "as published").parts(Evidence([]), "tiny.en", "x")
        == []
    )


def test_whole_sets_come_before_excerpts_and_the_large_set_is_added():
    runs = [
        run(recipe, 1, place)
        for recipe in ("fp32", "torch-int8")
        for place in ("test-clean", "test-clean-excerpt", "librispeech-dev-clean-mp3")
    ]
    found = WerDifference("torch-int8", "clean", "no worse").parts(
        Evidence(runs), "base", STUDY.name
    )
    assert [p.sample.split(",")[0] for p in found] == ["test-clean", "librispeech-dev-clean-mp3"]


def test_what_is_missing_is_asked_for():
    found = part(WerDifference("torch-int8", "other", "worse"), run("fp32", 1))
    assert (found.verdict, found.effect) == (NOT_MEASURABLE, None)
    assert found.missing == (
        ("base", "fp32", "test-other-excerpt"),
        ("base", "torch-int8", "test-other-excerpt"),
    )


def test_the_gap_is_the_loss_on_other_minus_the_loss_on_clean():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("torch-int8", 2, "test-clean-excerpt"),
        run("fp32", 2),
        run("torch-int8", 6),
    ]
    found = part(RobustnessGapChange("torch-int8"), *runs)
    assert found.effect == pytest.approx(40 - 10)
    assert found.verdict == REPRODUCED
    assert len(found.keys) == 4


def test_times_are_decided_by_the_repeats():
    steady = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    found = part(RelativeTime("torch-int8", "faster"), steady)
    assert (found.verdict, found.effect) == (REPRODUCED, pytest.approx(0.505))
    assert part(RelativeTime("torch-int8", "slower"), steady).verdict == NOT_REPRODUCED
    noisy = speed_run("torch-int8", [1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    assert part(RelativeTime("torch-int8", "faster"), noisy).verdict == INCONCLUSIVE


def test_a_time_against_another_recipe_is_the_quotient_of_both_ratios():
    fast = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    slow = speed_run("quanto-int8", [3.0, 3.01, 3.02], [2.0, 2.0, 2.0])
    found = part(RelativeTime("quanto-int8", "slower", against="torch-int8"), fast, slow)
    assert found.effect == pytest.approx(3.01 / 1.01)
    assert found.verdict == REPRODUCED


def test_sizes_are_exact_and_of_the_model_s_shape():
    near, far = size_run("quanto-int8", 63_800_000), size_run("quanto-int8", 100_000_000)
    assert part(SizeReduction("quanto-int8"), near).verdict == REPRODUCED  # −36.2 % of 100 MB
    assert part(SizeReduction("quanto-int8"), far).verdict == NOT_REPRODUCED
    assert part(SizeReduction("quanto-int8")).missing == (("base", "quanto-int8", "size"),)


def test_first_needs_every_rival_behind_it():
    first = RanksFirst("torch-int8", "time", among=("torch-int8", "quanto-int8", "bnb-nf4"))
    mine = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    slow = speed_run("quanto-int8", [3.0, 3.01, 3.02], [2.0, 2.0, 2.0])
    tie = speed_run("bnb-nf4", [1.0, 1.02, 1.01], [2.0, 2.0, 2.0])
    ahead = speed_run("bnb-nf4", [0.5, 0.51, 0.52], [2.0, 2.0, 2.0])
    assert part(first, mine, slow).verdict == REPRODUCED
    assert part(first, mine, slow, tie).verdict == INCONCLUSIVE
    beaten = part(first, mine, slow, ahead)
    assert beaten.verdict == NOT_REPRODUCED
    assert "beside bnb-nf4, the closest of 2" in beaten.sample


def test_the_most_accurate_is_only_so_where_rivals_are_decidedly_no_better():
    first = RanksFirst("quanto-int8", "wer", among=("quanto-int8", "torch-int8"))
    good, bad = run("quanto-int8", 1), run("torch-int8", 3)
    assert part(first, good, bad).verdict == REPRODUCED
    assert part(first, run("quanto-int8", 3), run("torch-int8", 1)).verdict == NOT_REPRODUCED


def test_figure_1_has_a_bar_for_every_recipe_on_both_sets():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("fp32", 3),
        run("torch-int8", 2),
    ]
    bars = measures.robustness_gaps(Evidence(runs), "base", STUDY.name)
    assert [bar.recipe for bar in bars] == ["fp32"]
    assert bars[0].found.value == pytest.approx(20.0)
    assert bars[0].found.low <= 20.0 <= bars[0].found.high
