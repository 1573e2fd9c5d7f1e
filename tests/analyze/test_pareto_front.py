import numpy as np
import pandas as pd
import pytest

from tests.support.sample_runs import accuracy_run, speed_run
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze import pareto_front, results_table
from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.pareto_front import (
    PairwiseRelation,
    dominates,
    error_rate_relation,
    exact_relation,
    time_relation,
)
from whisperq_core.analyze.verdicts import Verdict

RUNS = [
    run_with("fp32", SOME, weights_bytes=200_000_000),
    run_with("quanto-int2", MANY, weights_bytes=200_000_000),
    run_with("bnb-nf4", NOISY, weights_bytes=90_000_000),
    run_with("quanto-int8", ALIKE, weights_bytes=150_000_000),
]


def judged(runs=RUNS, shown=None, **how) -> pd.DataFrame:
    frame = results_table.rows(shown or runs)
    return pareto_front.with_verdicts(frame, runs, **how).set_index("recipe")


def test_rows_get_intervals_and_verdicts():
    found = judged()
    assert found["verdict"].to_dict() == {
        "fp32": "baseline",
        "quanto-int2": "worse",
        "bnb-nf4": "inconclusive",
        "quanto-int8": "inconclusive",
    }
    assert (found["wer_low_pct"] < found["wer_pct"]).all()
    assert (found["wer_high_pct"] > found["wer_pct"]).all()
    assert (found["cer_low_pct"] < found["cer_high_pct"]).all()
    assert set(found["resampled"]) == {"20 speakers"}
    worse = found.loc["quanto-int2"]
    assert worse["difference_low"] > 0 and worse["lower_wer_pct"] < 1
    assert pd.isna(worse["minutes_needed"])
    assert found.loc["bnb-nf4", "minutes_needed"] > 20 * 10 / 60
    assert pd.isna(found.loc["fp32", "difference_points"])


def test_the_margin_and_the_baseline_can_be_chosen():
    assert judged(margin=10.0).loc["quanto-int8", "verdict"] == "no worse"
    found = judged(baseline="quanto-int2")
    assert found.loc["fp32", "verdict"] == "better"
    assert found.loc["quanto-int2", "verdict"] == "baseline"


def test_a_baseline_that_is_not_shown_still_counts():
    found = judged(shown=RUNS[1:2])
    assert found["verdict"].to_dict() == {"quanto-int2": "worse"}


def test_without_a_baseline_nothing_is_compared():
    found = judged(RUNS[1:])
    assert set(found["verdict"]) == {"not compared"}
    assert found["difference_points"].isna().all()


def test_unknown_speakers_are_said():
    found = judged([accuracy_run("fp32", [("a cat", "a cat"), ("a cat", "a")])])
    assert found["resampled"].tolist() == ["2 utterances"]


def front(runs=RUNS, x="weights_bytes", y="wer_pct", **how) -> dict[str, str]:
    frame = pareto_front.pareto_status(results_table.rows(runs), runs, x, y, **how)
    return dict(zip(frame["recipe"], frame["front"], strict=True))


def test_only_what_is_decided_is_dominated():
    assert front() == {
        "fp32": "possibly",
        "quanto-int2": "dominated by fp32",
        "bnb-nf4": "on the front",
        "quanto-int8": "on the front",
    }
    assert front(margin=10.0)["fp32"] == "dominated by bnb-nf4"


def test_times_need_ranges_that_are_apart():
    def speeds(*walls):
        return speed_run("quanto-int8", list(walls), [3.0] * len(walls))

    base = [*RUNS[:1], RUNS[3], speed_run("fp32", [3.0, 3.1, 3.2])]
    frames = [
        pareto_front.pareto_status(
            results_table.rows([*base, speeds(*walls)]), RUNS, "rtf", "wer_pct", 10.0
        )
        for walls in ((1.0, 1.1, 1.2), (2.8, 2.9, 3.05))
    ]
    dominated = [dict(zip(f["recipe"], f["dominated"], strict=True)) for f in frames]
    assert [each["fp32"] for each in dominated] == [True, False]
    assert not any(each["quanto-int8"] for each in dominated)


def test_what_was_not_measured_is_said_to_be_so():
    assert set(front(x="rtf_ratio").values()) == {"not measured"}
    assert not pareto_front.pareto_status(results_table.rows(RUNS), RUNS, "rtf_ratio", "wer_pct")[
        "dominated"
    ].any()


@pytest.mark.parametrize("x", results_table.METRICS)
@pytest.mark.parametrize("y", ["wer_pct", "weights_bytes"])
def test_every_pair_of_columns_has_a_front(x, y):
    assert set(front(x=x, y=y)) == {"fp32", "quanto-int2", "bnb-nf4", "quanto-int8"}


def test_every_added_column_has_a_name():
    frame = pareto_front.pareto_status(judged().reset_index(), RUNS, "weights_bytes", "wer_pct")
    assert set(frame.columns) - set(results_table.COLUMNS) == set(pareto_front.LABELS)


def frame_of(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_front_keeps_what_nothing_beats():
    frame = frame_of(rtf=[1.0, 2.0, 3.0, 3.0], wer_pct=[9.0, 5.0, 4.0, 6.0])
    assert pareto_front.pareto_optimal(frame, "rtf", "wer_pct").tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_front_keeps_ties_and_drops_the_worse_of_equals_on_one_axis():
    frame = frame_of(rtf=[1.0, 1.0, 1.0], wer_pct=[5.0, 5.0, 6.0])
    assert pareto_front.pareto_optimal(frame, "rtf", "wer_pct").tolist() == [True, True, False]


def test_front_takes_more_size_reduction_for_better():
    frame = frame_of(size_reduction_pct=[0.0, 50.0, 40.0], wer_pct=[5.0, 6.0, 6.0])
    assert pareto_front.pareto_optimal(frame, "size_reduction_pct", "wer_pct").tolist() == [
        True,
        True,
        False,
    ]


def test_unmeasured_rows_are_never_on_the_front_and_beat_nothing():
    frame = frame_of(rtf=[np.nan, 2.0], wer_pct=[1.0, 5.0])
    assert pareto_front.pareto_optimal(frame, "rtf", "wer_pct").tolist() == [False, True]


def pairs(matrix: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.argwhere(matrix)}


def relation(better=(), no_worse=(), n=2) -> PairwiseRelation:
    made = PairwiseRelation(np.zeros((n, n), bool), np.eye(n, dtype=bool))
    for i, j in better:
        made.better[i, j] = made.no_worse[i, j] = True
    for i, j in no_worse:
        made.no_worse[i, j] = True
    return made


def test_what_is_exact_is_compared_exactly():
    found = exact_relation(np.array([1.0, 2.0, 1.0, np.nan]))
    assert pairs(found.better) == {(0, 1), (2, 1)}
    assert (0, 2) in pairs(found.no_worse) and not found.no_worse[3].any()


def test_times_are_better_where_the_ranges_are_apart():
    found = time_relation(
        np.array([1.00, 1.04, 1.50]), np.array([0.9, 0.95, 1.4]), np.array([1.1, 1.2, 1.6])
    )
    assert pairs(found.better) == {(0, 2), (1, 2)}
    # 4 % slower is no worse, 50 % slower is.
    assert {(0, 1), (1, 0)} <= pairs(found.no_worse)
    assert not {(2, 0), (2, 1)} & pairs(found.no_worse)


def test_a_single_pass_has_no_range_and_is_never_better():
    nothing = np.array([np.nan, np.nan])
    found = time_relation(np.array([1.0, 9.0]), nothing, nothing)
    assert not found.better.any() and found.no_worse[0, 1]


def test_error_rates_are_better_where_that_is_decided():
    runs = [run_with("fp32", SOME), run_with("quanto-int2", MANY), run_with("bnb-nf4", NOISY)]
    found = error_rate_relation(runs)
    assert (0, 1) in pairs(found.better)
    assert not {(0, 2), (2, 0)} & pairs(found.no_worse)
    assert compare_runs(runs[0], runs[2]).verdict == "inconclusive"


@pytest.mark.parametrize("margin", [0.5, 10.0, 0.0])
def test_a_pair_by_itself_is_compared_as_everywhere_else(margin):
    names = ("fp32", "quanto-int8", "bnb-nf4", "quanto-int2", "bf16")
    errors = (SOME, ALIKE, NOISY, MANY, [n + i % 2 for i, n in enumerate(SOME)])
    runs = [run_with(name, wrong) for name, wrong in zip(names, errors, strict=True)]
    seen = set()
    for baseline in runs:
        for candidate in runs:
            if candidate is baseline:
                continue
            found = error_rate_relation([baseline, candidate], margin=margin)
            alone = compare_runs(baseline, candidate, margin=margin)
            better = alone.verdict == Verdict.BETTER
            assert found.better[1, 0] == better
            assert found.no_worse[1, 0] == (better or alone.non_inferior)
            seen.add((bool(found.better[1, 0]), bool(found.no_worse[1, 0])))
    assert {(False, False), (True, True)} <= seen


def test_the_margin_says_what_is_no_worse():
    runs = [run_with("fp32", SOME), run_with("quanto-int8", ALIKE)]
    assert not error_rate_relation(runs, margin=0.1).no_worse[1, 0]
    assert error_rate_relation(runs, margin=10.0).no_worse[1, 0]
    assert not error_rate_relation(runs, margin=10.0).better.any()


def test_only_pairs_that_matter_are_looked_at():
    runs = [run_with("fp32", SOME), run_with("quanto-int2", MANY)]
    assert not error_rate_relation(runs, candidates=np.zeros((2, 2), bool)).no_worse.any()


def test_many_comparisons_make_it_harder_to_decide():
    fewer = [max(0, errors - (i % 3 == 0)) for i, errors in enumerate(SOME)]
    runs = [run_with("fp32", SOME), run_with("bf16", fewer)] + [run_with("bnb-nf4", NOISY)] * 100
    candidates = np.zeros((len(runs), len(runs)), bool)
    candidates[:, 0] = True
    assert 0.05 / 100 < compare_runs(*runs[:2]).p_difference < 0.05
    assert (
        error_rate_relation(runs[:2]).better[1, 0]
        and not error_rate_relation(runs, candidates=candidates).better[1, 0]
    )


def test_other_speech_is_neither_better_nor_worse():
    other = run_with("quanto-int2", MANY, ids=[f"other-{i}" for i in range(20)])
    assert not error_rate_relation([run_with("fp32", SOME), other]).no_worse.any()


@pytest.mark.parametrize(
    ("first", "second", "dominated"),
    [
        (relation(better=[(0, 1)]), relation(no_worse=[(0, 1)]), {(0, 1)}),
        (relation(better=[(0, 1)]), relation(better=[(0, 1)]), {(0, 1)}),
        # Undecided on the second column: it may be on the front.
        (relation(better=[(0, 1)]), relation(), set()),
        # No worse on both is not enough.
        (relation(no_worse=[(0, 1)]), relation(no_worse=[(0, 1)]), set()),
        # Each beats the other within the margins.
        (relation([(0, 1)], [(1, 0)]), relation([(1, 0)], [(0, 1)]), set()),
    ],
)
def test_dominance_has_to_be_decided(first, second, dominated):
    assert pairs(dominates(first, second)) == dominated


def test_something_is_always_undominated():
    circle = [(0, 1), (1, 2), (2, 0)]
    assert not dominates(relation(circle, n=3), relation(no_worse=circle, n=3)).any()
