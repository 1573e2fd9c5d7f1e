import numpy as np
import pytest

from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze.dominance import (
    PairwiseRelation,
    by_errors,
    by_passes,
    dominance,
    exactly,
)
from whisperq_core.analyze.paired_comparisons import compare_runs, in_words, more_speech


def pairs(matrix: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.argwhere(matrix)}


def beside(better=(), no_worse=(), n=2) -> PairwiseRelation:
    made = PairwiseRelation(np.zeros((n, n), bool), np.eye(n, dtype=bool))
    for i, j in better:
        made.better[i, j] = made.no_worse[i, j] = True
    for i, j in no_worse:
        made.no_worse[i, j] = True
    return made


def test_what_is_exact_is_compared_exactly():
    found = exactly(np.array([1.0, 2.0, 1.0, np.nan]))
    assert pairs(found.better) == {(0, 1), (2, 1)}
    assert (0, 2) in pairs(found.no_worse) and not found.no_worse[3].any()


def test_times_are_better_where_the_ranges_are_apart():
    found = by_passes(
        np.array([1.00, 1.04, 1.50]), np.array([0.9, 0.95, 1.4]), np.array([1.1, 1.2, 1.6])
    )
    assert pairs(found.better) == {(0, 2), (1, 2)}
    # 4 % slower is no worse, 50 % slower is.
    assert {(0, 1), (1, 0)} <= pairs(found.no_worse)
    assert not {(2, 0), (2, 1)} & pairs(found.no_worse)


def test_a_single_pass_has_no_range_and_is_never_better():
    nothing = np.array([np.nan, np.nan])
    found = by_passes(np.array([1.0, 9.0]), nothing, nothing)
    assert not found.better.any() and found.no_worse[0, 1]


def test_error_rates_are_better_where_that_is_decided():
    runs = [run_with("fp32", SOME), run_with("quanto-int2", MANY), run_with("bnb-nf4", NOISY)]
    found = by_errors(runs)
    assert (0, 1) in pairs(found.better)
    assert not {(0, 2), (2, 0)} & pairs(found.no_worse)
    assert compare_runs(runs[0], runs[2]).verdict == "undecided"


def test_the_margin_says_what_is_no_worse():
    runs = [run_with("fp32", SOME), run_with("quanto-int8", ALIKE)]
    assert not by_errors(runs, margin=0.1).no_worse[1, 0]
    assert by_errors(runs, margin=10.0).no_worse[1, 0]
    assert not by_errors(runs, margin=10.0).better.any()


def test_only_pairs_that_matter_are_looked_at():
    runs = [run_with("fp32", SOME), run_with("quanto-int2", MANY)]
    assert not by_errors(runs, asked=np.zeros((2, 2), bool)).no_worse.any()


def test_many_comparisons_make_it_harder_to_decide():
    fewer = [max(0, errors - (i % 3 == 0)) for i, errors in enumerate(SOME)]
    runs = [run_with("fp32", SOME), run_with("bf16", fewer)] + [run_with("bnb-nf4", NOISY)] * 100
    asked = np.zeros((len(runs), len(runs)), bool)
    asked[:, 0] = True
    assert 0.05 / 100 < compare_runs(*runs[:2]).p_difference < 0.05
    assert by_errors(runs[:2]).better[1, 0] and not by_errors(runs, asked=asked).better[1, 0]


def test_other_speech_is_neither_better_nor_worse():
    other = run_with("quanto-int2", MANY, ids=[f"other-{i}" for i in range(20)])
    assert not by_errors([run_with("fp32", SOME), other]).no_worse.any()


@pytest.mark.parametrize(
    ("first", "second", "dominated"),
    [
        (beside(better=[(0, 1)]), beside(no_worse=[(0, 1)]), {(0, 1)}),
        (beside(better=[(0, 1)]), beside(better=[(0, 1)]), {(0, 1)}),
        # Undecided on the second column: it may be on the front.
        (beside(better=[(0, 1)]), beside(), set()),
        # No worse on both is not enough.
        (beside(no_worse=[(0, 1)]), beside(no_worse=[(0, 1)]), set()),
        # Each beats the other within the margins.
        (beside([(0, 1)], [(1, 0)]), beside([(1, 0)], [(0, 1)]), set()),
    ],
)
def test_dominance_has_to_be_decided(first, second, dominated):
    assert pairs(dominance(first, second)) == dominated


def test_something_is_always_undominated():
    circle = [(0, 1), (1, 2), (2, 0)]
    assert not dominance(beside(circle, n=3), beside(no_worse=circle, n=3)).any()


def test_verdicts_in_words_never_call_undecided_better():
    base = run_with("fp32", SOME)
    words = in_words(compare_runs(base, run_with("bnb-nf4", NOISY)), "fp32", 3.3)
    assert words.startswith("undecided against fp32") and "more minutes of speech" in words
    assert "better" not in words and "lower" not in words
    worse = in_words(compare_runs(base, run_with("quanto-int2", MANY)), "fp32", 3.3)
    assert worse.startswith("a higher WER than fp32, decided (+2")
    lower = in_words(compare_runs(run_with("quanto-int2", MANY), base), "quanto-int2", 3.3)
    assert lower.startswith("a lower WER than quanto-int2, decided (−2")
    wide = in_words(compare_runs(base, run_with("quanto-int8", ALIKE), margin=10.0), "fp32", 3.3)
    assert wide.startswith("no worse than fp32 by 10 points, decided")
    alone = compare_runs(run_with("fp32", [1]), run_with("bf16", [1]))
    assert "too little speech" in in_words(alone, "fp32", 0.2)


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0.2, "about one more minute of speech"),
        (8.7, "about 9 more"),
        (1234.0, "about 1,200 more minutes"),
        (1e6, "more than 300 more hours of speech"),
    ],
)
def test_more_speech_is_said_roughly(minutes, words):
    assert more_speech(minutes).startswith(words)
