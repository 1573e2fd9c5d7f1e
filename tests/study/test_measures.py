import pytest

from tests.support.sample_runs import accuracy_run, divergence_run, size_run, speed_run
from whisperq_core.analyze.effects import StudentEffect
from whisperq_core.study import judge
from whisperq_core.study.answers import MissingRun, Outcome, pool_lines
from whisperq_core.study.divergence_measure import Divergence
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.measures import (
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
    published_tests,
    wer_tests,
)
from whisperq_core.study.ranking import RanksFirst
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
    """Judged by itself."""
    result = measure.answer(Evidence(runs), model, STUDY.name)
    return judge.with_outcome(result, judge.ALPHA, judge.ALPHA)


def effect(value: float, error: float) -> StudentEffect:
    return StudentEffect(value, value, error, 1000.0, 9, "speaker")


def outcome(tests) -> Outcome:
    holds, fails = (test.p < judge.ALPHA for test in tests)
    if holds:
        return Outcome.REPRODUCED
    return Outcome.NOT_REPRODUCED if fails else Outcome.INCONCLUSIVE


R, N, OPEN = Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "measured, worse, better, no_worse",
    [
        (effect(3, 0.5), R, N, N),
        (effect(-3, 0.5), N, R, R),
        (effect(0, 0.1), N, N, R),
        # Worse by less than the margin is both: the claim decides which question is asked.
        (effect(0.2, 0.05), R, N, R),
        (effect(0.3, 1), OPEN, OPEN, OPEN),
    ],
    ids=["worse", "better", "equal", "slightly worse", "unclear"],
)
def test_what_a_difference_says_of_each_expectation(measured, worse, better, no_worse):
    assert outcome(wer_tests(measured, "worse")) == worse
    assert outcome(wer_tests(measured, "better")) == better
    assert outcome(wer_tests(measured, "no worse")) == no_worse


@pytest.mark.parametrize(
    "measured, expected",
    [(effect(3.1, 0.1), R), (effect(5, 0.5), N), (effect(3.1, 1), OPEN), (effect(5, 2), OPEN)],
)
def test_as_published_is_shown_by_an_interval_near_the_value(measured, expected):
    assert outcome(published_tests(measured, 3.0, 2.5, 3.5)) == expected


def test_without_an_interval_nothing_is_decided():
    pair = [accuracy_run(r, texts(1)[:1], speakers=["1"]) for r in ("fp32", "torch-int8")]
    lonely = answer(WerDifference("torch-int8", "other", "no worse"), *pair)
    assert lonely.effect.value == 0 and lonely.outcome == OPEN
    assert lonely.needs == ""


def test_a_loss_is_the_difference_in_points_and_names_its_records():
    fp32, worse = run("fp32", 1), run("torch-int8", 3)
    result = answer(WerDifference("torch-int8", "other", "worse"), fp32, worse)
    assert result.effect.value == pytest.approx(20.0)
    assert (result.outcome, result.keys) == (Outcome.REPRODUCED, (fp32.key, worse.key))
    assert result.sample == "test-other-excerpt, 12 utterances, 12 speakers, 2.0 min"


def test_published_differences_are_the_study_s_own():
    of_base = WerDifference("quanto-int8", "other", "as published")
    assert answer(of_base).published == pytest.approx(14.72 - 12.87)
    assert of_base.answer(Evidence([]), "tiny.en", STUDY.name) is None


def both(eval_set: str, ids: list[str] | None = None, speakers: list[str] | None = None):
    """fp32, and a recipe with one error more, on a set."""
    many = [str(i) for i in range(SPEAKERS)]
    return [
        accuracy_run(r, texts(n), eval_set=eval_set, speakers=speakers or many, ids=ids)
        for r, n in (("fp32", 1), ("torch-int8", 2))
    ]


def ids(of: str, shared: int = 0) -> list[str]:
    return [f"shared-{i}" if i < shared else f"{of}-{i}" for i in range(SPEAKERS)]


def test_all_sets_of_a_split_are_pooled():
    others = [f"other-{i}" for i in range(SPEAKERS)]
    runs = [
        *both("test-clean-34-speakers", ids("a")),
        *both("librispeech-dev-clean-mp3", ids("b"), others),
        *both("test-other-excerpt", ids("c")),
    ]
    result = answer(WerDifference("torch-int8", "clean", "worse"), *runs)
    (pool,) = result.pools
    assert set(pool.sets) == {"test-clean-34-speakers", "librispeech-dev-clean-mp3"}
    assert result.sample == "2 sets, 24 speakers, 4.0 min" and len(result.keys) == 4
    assert [line.split(",")[0] for line in pool_lines(pool)[:2]] == list(pool.sets)


def test_an_utterance_counts_once_however_many_sets_have_it():
    larger = [
        accuracy_run(
            recipe,
            texts(wrong) * 2,
            eval_set="test-other-25-speakers",
            speakers=[str(i) for i in range(SPEAKERS)] * 2,
            ids=[*ids("a", shared=12), *ids("b")],
        )
        for recipe, wrong in (("fp32", 1), ("torch-int8", 2))
    ]
    excerpt = both("test-other-excerpt", ids("c", shared=1))
    measure = WerDifference("torch-int8", "other", "worse")
    (pool,) = answer(measure, *larger, *excerpt).pools
    assert pool.sets == ("test-other-25-speakers",)
    assert pool.left_out == ("test-other-excerpt",)
    assert sum(part.utterances for part in pool.parts) == 24
    assert pool_lines(pool) == ["test-other-excerpt left out: the same utterances"]
    # What was only run on the excerpt is compared there.
    only_fp32 = answer(measure, larger[0], *excerpt)
    assert only_fp32.pools[0].sets == ("test-other-excerpt",)


def test_missing_runs_are_listed():
    result = answer(WerDifference("torch-int8", "other", "worse"), run("fp32", 1))
    assert (result.outcome, result.effect) == (Outcome.NOT_MEASURED, None)
    assert result.missing == (
        MissingRun("base", "fp32", "accuracy", "test-other-25-speakers"),
        MissingRun("base", "torch-int8", "accuracy", "test-other-25-speakers"),
    )


def test_the_gap_is_the_loss_on_other_minus_the_loss_on_clean():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("torch-int8", 2, "test-clean-excerpt"),
        run("fp32", 2),
        run("torch-int8", 6),
    ]
    result = answer(RobustnessGapChange("torch-int8"), *runs)
    assert result.effect.value == pytest.approx(40 - 10)
    assert result.outcome == Outcome.REPRODUCED
    assert len(result.keys) == 4


def test_times_are_decided_by_the_repeats():
    steady = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    result = answer(RelativeTime("torch-int8", "faster"), steady)
    assert (result.outcome, result.effect.value) == (Outcome.REPRODUCED, pytest.approx(0.505))
    assert answer(RelativeTime("torch-int8", "slower"), steady).outcome == Outcome.NOT_REPRODUCED
    noisy = speed_run("torch-int8", [1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    assert answer(RelativeTime("torch-int8", "faster"), noisy).outcome == Outcome.INCONCLUSIVE


def test_a_time_against_another_recipe_is_the_quotient_of_both_ratios():
    fast = speed_run("torch-int8", [1.0, 1.01, 1.02], [2.0, 2.0, 2.0])
    slow = speed_run("quanto-int8", [3.0, 3.01, 3.02], [2.0, 2.0, 2.0])
    result = answer(RelativeTime("quanto-int8", "slower", against="torch-int8"), fast, slow)
    assert result.effect.value == pytest.approx(3.01 / 1.01)
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
    assert "compared with bnb-nf4, of 2 rivals" in beaten.sample


def test_the_most_accurate_is_only_so_where_rivals_are_decidedly_no_better():
    first = RanksFirst("quanto-int8", "wer", among=("quanto-int8", "torch-int8"))
    good, bad = run("quanto-int8", 1), run("torch-int8", 3)
    assert answer(first, good, bad).outcome == Outcome.REPRODUCED
    beaten = answer(first, run("quanto-int8", 3), run("torch-int8", 1))
    assert beaten.outcome == Outcome.NOT_REPRODUCED


def test_a_rival_calibrated_on_evaluated_speech_does_not_win():
    first = RanksFirst("quanto-int8", "wer", among=("quanto-int8", "quanto-int8-float8-eval10"))
    flattered = run("quanto-int8-float8-eval10", 1)
    assert answer(first, run("quanto-int8", 3), flattered).outcome == Outcome.NOT_MEASURED
    fair = run("quanto-int8-float8", 1)
    assert answer(first, run("quanto-int8", 3), flattered, fair).outcome == N


STATIC = "quanto-int8-float8-eval10"


def test_calibration_on_evaluated_speech_can_confirm_damage_but_not_refute_it():
    worse = WerDifference(STATIC, "other", "worse")
    assert answer(worse, run("fp32", 1), run(STATIC, 3)).outcome == R
    flattered = [run("fp32", 3), run(STATIC, 1)]
    assert answer(worse, *flattered).outcome == OPEN
    harmless = answer(worse, *flattered, run("quanto-int8-float8", 1))
    assert harmless.outcome == N and "held-out speech: −20.00" in harmless.sample
    assert answer(worse, *flattered, run("quanto-int8-float8", 5)).outcome == OPEN
    gap = [run("fp32", 3, "test-clean-excerpt"), run(STATIC, 3, "test-clean-excerpt")]
    assert answer(RobustnessGapChange(STATIC), *flattered, *gap).outcome == OPEN


def test_the_study_s_own_increases_contradict_that_low_bits_have_the_steepest():
    published = {
        (low, int8): answer(RobustnessGapChange(low, against=int8), model="small").published
        for low in ("bnb-nf4", "hqq-int3-g64")
        for int8 in ("torch-int8", "quanto-int8")
    }
    assert published["hqq-int3-g64", "torch-int8"] == pytest.approx(8.82 - 9.95)
    assert published["bnb-nf4", "torch-int8"] == pytest.approx(0.0)
    assert published["bnb-nf4", "quanto-int8"] == pytest.approx(9.95 - 7.24)


def test_a_steeper_rise_is_against_the_other_recipe_s_rise():
    sets = ("test-clean-excerpt", "test-other-excerpt")
    wrong = {"quanto-int8": (1, 2), "bnb-nf4": (1, 6)}
    runs = [
        run(name, n, place) for name, of in wrong.items() for place, n in zip(sets, of, strict=True)
    ]
    steeper = answer(RobustnessGapChange("bnb-nf4", against="quanto-int8"), *runs)
    assert steeper.effect.value == pytest.approx(50 - 10) and steeper.outcome == R
    assert answer(RobustnessGapChange("quanto-int8", against="bnb-nf4"), *runs).outcome == N


def test_a_latency_is_as_published_within_a_tenth():
    measure = RelativeTime("torch-int8", "as published")
    near = speed_run("torch-int8", [1.28, 1.29, 1.30], [2.0, 2.0, 2.0])
    far = speed_run("torch-int8", [1.07, 1.08, 1.09], [2.0, 2.0, 2.0])
    noisy = speed_run("torch-int8", [1.0, 1.3, 1.6], [2.0, 2.0, 2.0])
    assert [answer(measure, one).outcome for one in (near, far, noisy)] == [R, N, OPEN]
    unsure = answer(measure, speed_run("torch-int8", [1.0, 1.1, 1.2], [2.0, 2.0, 2.0]))
    assert unsure.needs.startswith("measured in 3 passes; a conclusion needs an estimated")
    # The statement is about whisper-small's ratio, whichever model is measured.
    assert answer(measure, near).published == 0.64


DAMAGE = [0.01 * (i + 5) for i in range(SPEAKERS)]


def diverging(recipe: str, factor: float, **how):
    names = [str(i) for i in range(SPEAKERS)]
    return divergence_run(recipe, [factor * nats for nats in DAMAGE], names, **how)


def test_divergence_is_compared_between_recipes():
    measure = Divergence("bnb-nf4", "other", "worse", against="quanto-int8")
    runs = diverging("quanto-int8", 0.1), diverging("bnb-nf4", 4.0)
    assert answer(measure, *runs).effect.value == pytest.approx(40)
    less = answer(Divergence("quanto-int8", "other", "better", "bnb-nf4"), *runs)
    assert less.outcome == R and less.shown.startswith("0.025")
    assert answer(measure, *runs).outcome == R
    assert answer(Divergence("quanto-int8", "other", "worse", "bnb-nf4"), *runs).outcome == N
    assert not answer(measure, runs[0]).is_measured


def test_divergence_from_fp32_excludes_a_loss_where_it_was_calibrated(monkeypatch):
    small = diverging("quanto-int8", 0.1)
    unknown = answer(Divergence("quanto-int8", "other", "no worse"), small)
    assert unknown.effect.value == pytest.approx(1000 * small.sums.nats_per_token)
    assert unknown.outcome == OPEN
    monkeypatch.setattr(Evidence, "harmless_mnat", 50.0)
    harmless = answer(Divergence("quanto-int8", "other", "no worse"), small)
    assert harmless.outcome == R and "by less than 50 mnat" in harmless.question
    assert answer(Divergence("quanto-int8", "other", "worse"), small).outcome == N
    large = diverging("bnb-nf4", 90.0)
    assert answer(Divergence("bnb-nf4", "other", "no worse"), large).outcome == N
    possible = answer(Divergence("bnb-nf4", "other", "worse"), large)
    assert possible.outcome == R and "a loss of 0.5 points is possible" in possible.question


def test_divergence_counts_an_utterance_once():
    excerpt, larger = (
        diverging("bnb-nf4", 1.0, eval_set=f"test-other-{name}")
        for name in ("excerpt", "25-speakers")
    )
    shown = answer(Divergence("bnb-nf4", "other", "worse"), excerpt, larger)
    assert shown.effect.value == pytest.approx(1000 * larger.sums.nats_per_token)
    assert len(shown.keys) == 1
