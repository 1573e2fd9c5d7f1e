import pandas as pd
import pytest

from tests.support.made_runs import accuracy_run, speed_run
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze import pareto_front, results_table

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
        "bnb-nf4": "undecided",
        "quanto-int8": "undecided",
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
        "fp32": "may be on it",
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
    beaten = [dict(zip(f["recipe"], f["beaten"], strict=True)) for f in frames]
    assert [each["fp32"] for each in beaten] == [True, False]
    assert not any(each["quanto-int8"] for each in beaten)


def test_what_was_not_measured_is_said_to_be_so():
    assert set(front(x="rtf_ratio").values()) == {"not measured"}
    assert not pareto_front.pareto_status(results_table.rows(RUNS), RUNS, "rtf_ratio", "wer_pct")[
        "beaten"
    ].any()


@pytest.mark.parametrize("x", results_table.METRICS)
@pytest.mark.parametrize("y", ["wer_pct", "weights_bytes"])
def test_every_pair_of_columns_has_a_front(x, y):
    assert set(front(x=x, y=y)) == {"fp32", "quanto-int2", "bnb-nf4", "quanto-int8"}


def test_every_added_column_has_a_name():
    frame = pareto_front.pareto_status(judged().reset_index(), RUNS, "weights_bytes", "wer_pct")
    assert set(frame.columns) - set(results_table.COLUMNS) == set(pareto_front.LABELS)
