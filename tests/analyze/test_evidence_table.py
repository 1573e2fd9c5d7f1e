import pandas as pd
import pytest

from tests.support.sample_runs import accuracy_run, divergence_run, speed_run
from whisperq_core.analyze import evidence_table, results_table
from whisperq_core.analyze.configurations import configurations

SPEAKERS = [str(i // 4) for i in range(120)]
WORDS = "a b c d e f g h i j"


def run(name: str, wrong: int, **how):
    """Every utterance of ten words; the first `wrong` of them have one word wrong."""
    texts = [(WORDS, WORDS.replace("j", "x") if i < wrong else WORDS) for i in range(120)]
    return accuracy_run(name, texts, speakers=SPEAKERS, **how)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    runs = [
        run("fp32", 60, weights_bytes=290_000_000),
        run("whole-int8-dynamic-bf16", 60, weights_bytes=75_000_000),
        run("whole-int8-dynamic", 60, weights_bytes=75_000_100),
        run("hqq-int2-g64", 120, weights_bytes=46_000_000),
        speed_run("whole-int8-dynamic", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
        divergence_run("whole-int8-dynamic", [0.05] * 120, SPEAKERS),
    ]
    return evidence_table.evidence(configurations(runs))


def test_each_configuration_has_one_row_with_all_that_is_known(frame):
    assert list(frame.columns) == list(evidence_table.COLUMNS)
    assert list(frame["recipe"]) == [
        "hqq-int2-g64",
        "whole-int8-dynamic-bf16",
        "whole-int8-dynamic",
        "fp32",
    ]
    row = frame.iloc[2]
    assert (row["difference"], row["latency"], row["minutes"]) == (0.0, 0.5, 20.0)
    assert row["divergence_mnat"] == pytest.approx(5.0) and row["speakers"] == 30
    assert row["verdict"].startswith("no worse") and row["compared_with"] == 3
    assert frame.iloc[0]["difference"] == pytest.approx(5.0)
    assert list(frame["reference_wer_pct"]) == [pytest.approx(5.0)] * 4
    assert frame.iloc[0]["verdict"] == "worse"


def test_the_smallest_that_is_shown_is_corrected_for_all(frame):
    assert list(frame["shown"]) == [False, True, True, False]
    assert list(frame["is_reference"]) == [False, False, False, True]


def test_nothing_measured_is_an_empty_table():
    assert evidence_table.evidence(configurations([])).empty
    assert list(results_table.rows([]).columns) == list(results_table.COLUMNS)
