"""Words a minute where nobody speaks, with intervals over the sources of noise."""

import pytest

from tests.support.sample_runs import accuracy_run
from whisperq_core.analyze.hallucinations import hallucinations, table

SOURCES = [f"noise {i % 10}" for i in range(30)]


def run(recipe: str, words: list[int], **how):
    texts = [("", " ".join(["you"] * count)) for count in words]
    return accuracy_run(recipe, texts, speakers=SOURCES, eval_set="no-speech", **how)


def test_words_are_counted_over_minutes():
    [found] = hallucinations([run("fp32", [3] + [0] * 29), accuracy_run("bf16")])
    # 30 recordings of 10 s.
    assert found.a_minute.value == pytest.approx(3 / 5) and found.words == 3
    assert found.with_words == 1 and found.where_detected is None
    assert found.a_minute.low <= 0.6 < found.a_minute.high
    assert (found.a_minute.blocks, found.a_minute.block) == (10, "source")


def test_none_in_five_minutes_may_be_some():
    [found] = hallucinations([run("fp32", [0] * 30)])
    assert (found.a_minute.value, found.a_minute.low) == (0, 0)
    assert found.a_minute.high == pytest.approx(3 / 5)


def test_a_detector_keeps_what_it_takes_for_speech():
    words = [4, 2] + [0] * 28
    detected = {f"utterance-{i}": i == 1 for i in range(30)}
    [found] = hallucinations([run("fp32", words)], {"no-speech": detected})
    assert found.where_detected.value == pytest.approx(2 / 5)
    assert found.a_minute.value == pytest.approx(6 / 5)


def test_the_table_has_the_newest_of_each_recipe():
    runs = [run("fp32", [1] * 30), run("fp32", [2] * 30, minutes=1), run("bf16", [0] * 30)]
    frame = table(hallucinations(runs))
    assert list(frame["recipe"]) == ["bf16", "fp32"] and list(frame["words"]) == [0, 60]
    assert frame["detected_words_a_minute"].isna().all()
    assert list(table([]).columns) == list(frame.columns)
