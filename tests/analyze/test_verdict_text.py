from dataclasses import replace

import pytest

from tests.support.sample_runs import tiny_english
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.verdict_text import (
    audio_needed,
    describe,
    describe_runs,
    signed,
    verdict_words,
)
from whisperq_core.whisper.protocols import FITTED, STUDY


def test_an_inconclusive_comparison_is_never_called_better():
    base = run_with("fp32", SOME)
    text = describe(compare_runs(base, run_with("bnb-nf4", NOISY)), "fp32", 3.3)
    assert text.startswith("no statistically conclusive difference from fp32")
    assert "more minutes of test audio are needed for a conclusion" in text
    assert "better" not in text and "lower" not in text


def test_each_verdict_has_its_sentence_with_the_interval():
    base, many = run_with("fp32", SOME), run_with("quanto-int2", MANY)
    worse = describe(compare_runs(base, many), "fp32", 3.3)
    assert worse.startswith("significantly higher WER than fp32 (+2")
    lower = describe(compare_runs(many, base), "quanto-int2", 3.3)
    assert lower.startswith("significantly lower WER than quanto-int2 (−2")
    alike = compare_runs(base, run_with("quanto-int8", ALIKE), margin=10.0)
    assert describe(alike, "fp32", 3.3).startswith("no worse than fp32, margin: 10 points (")
    alone = compare_runs(run_with("fp32", [1]), run_with("bf16", [1]))
    assert "too little speech" in describe(alone, "fp32", 0.2)


def test_an_open_verdict_says_which_side_is_probable():
    base = run_with("fp32", SOME)
    likely = verdict_words(compare_runs(base, run_with("bnb-nf4", NOISY), margin=5.0), "fp32")
    assert likely.startswith("probably no worse: ")
    noisier = [count + 1 for count in NOISY]
    likely = verdict_words(compare_runs(base, run_with("bnb-nf4", noisier)), "fp32")
    assert likely.startswith("probably worse by more than 0.5 points: ")
    alone = compare_runs(run_with("fp32", [1]), run_with("bf16", [1]))
    assert verdict_words(alone, "fp32") == "too close to call"


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.2, "an estimated 1 more minute of test audio is needed"),
        (8.7, "an estimated 9 more minutes of test audio are needed"),
        (1234.0, "an estimated 1,200 more minutes"),
        (1e6, "more than 300 more hours of test audio"),
    ],
)
def test_the_audio_needed_has_two_digits(minutes, text):
    assert audio_needed(minutes).startswith(text)


def test_differences_have_a_sign_and_a_true_minus():
    assert [signed(value) for value in (0.5, -0.5, 0.0)] == ["+0.50", "−0.50", "+0.00"]


def described(first, second) -> str:
    return describe_runs(compare_runs(first, second), first, second)


def test_runs_that_differ_in_more_than_the_recipe_are_named_in_full():
    base, same = run_with("fp32", SOME), run_with("quanto-int2", MANY)
    assert described(base, same) == describe(compare_runs(base, same), "fp32", base.minutes)
    fitted = described(base, run_with("quanto-int2", MANY, protocol=FITTED))
    assert fitted.startswith(
        "quanto-int2 under “Fitted window”: significantly higher WER than fp32 under “Study"
        " protocol” ("
    )
    other = described(base, tiny_english(run_with("fp32", MANY)))
    assert other.startswith("fp32 of tiny.en: significantly higher WER than fp32 of base (")
    device = described(base, run_with("fp32", MANY, device="cuda"))
    assert device.startswith("fp32 on cuda: significantly higher WER than fp32 on cpu")


def test_protocols_of_one_name_are_told_apart_by_what_they_do():
    changed = replace(STUDY, batch_size=1)
    text = described(run_with("fp32", SOME), run_with("fp32", MANY, protocol=changed))
    assert changed.summary in text and STUDY.summary in text
