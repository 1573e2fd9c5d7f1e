import math

import numpy as np
import pytest

from tests.support.sample_runs import accuracy_run, renamed, tiny_english
from tests.support.spoken_runs import in_language
from whisperq_core.analyze import results_table
from whisperq_core.analyze.confusions import error_contributions
from whisperq_core.analyze.paired_comparisons import (
    Agreement,
    agreement,
    baseline_run,
    compare_runs,
    condition,
    error_counts,
    estimate,
    segment_test,
    unit_of_run,
    verdicts,
    without_loops,
)
from whisperq_core.analyze.pareto_front import with_verdicts
from whisperq_core.analyze.verdict_text import describe
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import STUDY

REFERENCES = ["a cat sat down", "the dog ran off", "it was late", "nobody came"]
LOOP = "thank you thank you thank you thank you"


def run(recipe: str, *heard: str, **changes):
    """A run that heard the first of REFERENCES so."""
    return accuracy_run(recipe, list(zip(REFERENCES, heard, strict=False)), **changes)


def many(recipe: str, right: int, of: int = 40, **changes):
    """A run of 40 utterances of four words, one a speaker, so many without the one error."""
    texts = [(REFERENCES[0], REFERENCES[0] if i < right else "a cat sat up") for i in range(of)]
    return accuracy_run(recipe, texts, speakers=[str(i) for i in range(of)], **changes)


def backwards(one):
    return one.model_copy(update={"utterances": one.utterances[::-1]})


@pytest.fixture(scope="module")
def shipped() -> list:
    found = Store(PROJECT / "cache").runs()
    return [run for run in found if run.measures == "accuracy"]


def test_counts_are_in_the_order_of_ids_whatever_the_order_of_the_record():
    one = run(
        "fp32",
        "a cat sat up",
        "the dog",
        "it was late",
        ids=["c", "a", "b"],
        speakers=["7", "8", "9"],
    )
    for either in (one, backwards(one)):
        found = error_counts(either)
        assert found.errors.tolist() == [2, 0, 1]
        assert found.lengths.tolist() == [4, 3, 4]
        assert found.speakers == ("8", "9", "7")


def test_characters_are_counted_where_they_are_asked_for():
    one = run("fp32", "a bat sat down", "the dog ran off")
    assert error_counts(one, "characters").errors.tolist() == [1, 0]
    assert error_counts(one, "characters").lengths.tolist() == [14, 15]
    assert estimate(one, "characters").value == one.characters.rate
    assert compare_runs(one, one, "characters").difference.value == 0.0


JAPANESE = [("今日は雨です", "今日は雪です"), ("また明日", "また明日")] * 10


def japanese(recipe: str, texts: list[tuple[str, str]] = JAPANESE, **changes):
    speakers = [str(i) for i in range(len(texts))]
    return in_language(accuracy_run(recipe, texts, speakers=speakers, **changes), "ja")


@pytest.mark.parametrize("language", ["ja", "zh", "yue", "th", "lo", "my", "km"])
def test_verdicts_count_characters_where_words_have_no_spaces(language):
    assert unit_of_run(in_language(run("fp32", "a cat"), language)) == "characters"


def test_verdicts_count_what_most_of_the_audio_is_in():
    english = run("fp32", "a cat", "the dog", "it was", "nobody")
    assert unit_of_run(english) == "words"
    assert unit_of_run(in_language(english, "ja", only_first=2)) == "words"
    assert unit_of_run(in_language(english, "ja", only_first=3)) == "characters"


def test_a_comparison_of_japanese_is_of_the_character_error_rate():
    right = [(reference, reference) for reference, _ in JAPANESE]
    base, candidate = japanese("fp32", right), japanese("torch-int8")
    found = compare_runs(base, candidate)
    assert (found.unit, found.rate_name) == ("characters", "CER")
    assert found.difference.value == candidate.characters.rate == pytest.approx(10.0)
    assert found == compare_runs(base, candidate, "characters")
    assert "significantly higher CER than fp32" in describe(found, "fp32", base.minutes)
    assert verdicts([base, candidate])[candidate.key].rate_name == "CER"
    frame = with_verdicts(results_table.rows([base, candidate]), [base, candidate])
    row = frame.set_index("recipe").loc["torch-int8"]
    assert (row["verdict_rate"], row["difference_points"]) == ("CER", pytest.approx(10.0))
    contributions = error_contributions(base, candidate)
    assert sum(c.points for c in contributions) == pytest.approx(found.difference.value)
    same = japanese("quanto-int8", right)
    text = describe(compare_runs(base, same, margin=20.0), "fp32", base.minutes)
    assert text.startswith("no worse by CER than fp32")


def test_the_estimate_of_every_shipped_record_is_its_rate(shipped):
    assert len(shipped) >= 70
    for one in shipped:
        for found, rate in (
            (estimate(one), one.words),
            (estimate(one, "characters"), one.characters),
        ):
            assert found.value == rate.rate
            assert found.low <= found.value <= found.high
            assert found.block == "speaker"


def test_comparing_does_not_depend_on_the_order_of_utterances():
    first = run("fp32", "a cat sat down", "the dog ran off", "it was", "nobody")
    second = run("torch-int8", "a bat", "the dog ran off", "it was late", "nobody came")
    found = compare_runs(first, second)
    assert found == compare_runs(backwards(first), second) == compare_runs(first, backwards(second))
    # Three words are misheard or lost of the first sentence; one each of the last two is regained.
    assert found.difference.value == pytest.approx(100 * (3 - 2) / 13)
    assert agreement(backwards(first), second) == agreement(first, second)
    assert segment_test(backwards(first), second) == segment_test(first, second)


@pytest.mark.parametrize("question", [compare_runs, agreement, segment_test])
@pytest.mark.parametrize(
    "other",
    [
        run("torch-int8", "a cat sat down"),
        run("torch-int8", "a cat sat down", "the dog ran off", ids=["utterance-0", "another"]),
        accuracy_run("torch-int8", [("a cat sat up", ""), ("the dog ran off", "")]),
    ],
    ids=["fewer", "other ids", "other references"],
)
def test_other_speech_is_refused_with_a_sentence(question, other):
    for pair in [
        (run("fp32", "a cat", "the dog"), other),
        (other, run("fp32", "a cat", "the dog")),
    ]:
        with pytest.raises(NotComparable) as refused:
            question(*pair)
        sentence = str(refused.value)
        assert "fp32 on test-other-excerpt" in sentence and "torch-int8" in sentence
        assert sentence.endswith("Compare runs of one evaluation set.")


def test_utterances_that_loop_can_be_left_out():
    one = run("fp32", "a cat sat up", LOOP, "it was late")
    assert [u.score.looped for u in one.utterances] == [False, True, False]
    assert estimate(one).value == pytest.approx(100 * (1 + 8) / 11)
    assert without_loops(one).value == pytest.approx(100 * 1 / 7)
    assert without_loops(one).blocks == 2
    assert without_loops(backwards(one)) == without_loops(one)


def test_where_everything_loops_nothing_is_left():
    assert math.isnan(without_loops(run("fp32", LOOP, LOOP)).value)


def test_a_comparison_without_loops_leaves_out_what_either_looped_on():
    first = run("fp32", LOOP, "the dog ran off", "it was late", "nobody")
    second = run("torch-int8", "a cat sat down", LOOP, "it was", "nobody came")
    # 8 errors of a loop fewer and 8 more; without them one of 5 words lost, another regained.
    assert compare_runs(first, second).difference.value == pytest.approx(0.0)
    found = compare_runs(first, second, loops=False).difference
    assert (found.value, found.blocks) == (pytest.approx(0.0), 2)
    third = run("torch-int8", "a cat sat down", LOOP, "it was", "nobody")
    assert compare_runs(first, third, loops=False).difference.value == pytest.approx(100 / 5)


def test_agreement_known_on_paper():
    first = run("fp32", "a cat sat up", "the dog ran off", "it was late", "nobody")
    second = run("torch-int8", "a cat sat on", "the dog ran", "It was late!", "nobody came")
    # Another wrong word is no worse; edits are 1, 1, 0 and 1 of the 12 words that fp32 heard.
    found = agreement(first, second)
    assert found == Agreement(4, 75.0, 25.0, identical=1)
    # Of 12 words once more; only the word that was lost is worse.
    assert agreement(second, first) == Agreement(4, 75.0, 25.0, identical=1)


def test_a_run_agrees_with_itself():
    one = run("fp32", "a cat sat up", "", "it was")
    assert agreement(one, one) == Agreement(3, 100.0, 0.0, identical=3)


def test_disagreement_with_silence_has_no_rate():
    silent, loud = run("fp32", "", ""), run("torch-int8", "a cat", "")
    assert agreement(silent, loud) == Agreement(2, 100.0, None, identical=1)
    assert agreement(loud, silent) == Agreement(2, 50.0, 100.0, identical=1)


def test_agreement_of_shipped_records_counts_what_their_scores_say(shipped):
    wanted = "base", "test-clean-excerpt", STUDY
    runs = {
        one.spec.recipe.name: one
        for one in shipped
        if (one.model, one.eval_set, one.spec.protocol) == wanted
    }
    first, second = runs["fp32"], runs["quanto-int4"]
    found = agreement(first, second)
    worse = (error_counts(second).errors > error_counts(first).errors).sum()
    assert found.no_worse_pct == pytest.approx(100 - 100 * worse / 22)
    heard = {u.id: u.hypothesis for u in first.utterances}
    same = sum(heard[u.id] == u.hypothesis for u in second.utterances)
    assert 0 < same <= found.identical < found.utterances == 22


def test_verdicts_are_on_the_baseline_of_the_same_condition():
    base = [many("fp32", 20), many("torch-int8", 5, minutes=1), many("quanto-int8", 38, minutes=2)]
    tiny = [tiny_english(r) for r in (many("fp32", 5), many("torch-int8", 30, minutes=1))]
    found = verdicts([*tiny, *base])
    assert {key: c.verdict for key, c in found.items()} == {
        base[1].key: Verdict.WORSE,
        base[2].key: Verdict.BETTER,
        tiny[1].key: Verdict.BETTER,
    }
    assert found[base[1].key].difference.value == pytest.approx(100 * 15 / 160)
    assert [found[r.key].family for r in (*base[1:], tiny[1])] == [2, 2, 1]


def test_verdicts_need_a_baseline():
    first, second = many("quanto-int8", 20), many("torch-int8", 5)
    assert verdicts([first, second]) == {}
    assert verdicts([many("fp32", 20)]) == {}
    assert verdicts([]) == {}
    assert list(verdicts([first, second], baseline="quanto-int8")) == [second.key]


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "cc" * 32},
        {"eval_set_digest": "dd" * 32},
        {"device": "cuda"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_verdict_is_given_across_conditions(change):
    other = many("torch-int8", 5, **change)
    assert condition(other) != condition(many("torch-int8", 5))
    assert verdicts([many("fp32", 20), other]) == {}
    assert list(verdicts([many("fp32", 20, **change), other])) == [other.key]


def test_runs_with_other_threads_are_compared():
    base, other = many("fp32", 20, threads=8), many("torch-int8", 5)
    assert list(verdicts([base, other])) == [other.key]
    assert baseline_run(other, [base, other]) == base


def test_a_protocol_counts_by_what_it_does_and_not_by_its_name():
    named = many("torch-int8", 5, protocol=renamed("another name"))
    assert list(verdicts([many("fp32", 20), named])) == [named.key]


def test_the_newest_baseline_is_compared_with_whatever_the_order():
    older, newer = many("fp32", 20), many("fp32", 30, minutes=9, versions={"torch": "2.14.0"})
    candidate = many("torch-int8", 30, minutes=5)
    for runs in ([older, newer, candidate], [newer, candidate, older]):
        found = verdicts(runs)
        assert list(found) == [candidate.key]
        assert found[candidate.key].difference.value == 0.0


def test_the_more_are_compared_the_fewer_are_decided():
    base, close = many("fp32", 20), many("torch-int8", 25)
    alone = verdicts([base, close])[close.key]
    others = [
        many(name, wrong)
        for name, wrong in {
            "quanto-int8": 19,
            "quanto-int4": 21,
            "hqq-int8-g64": 18,
            "bf16": 22,
            "torchao-int8": 17,
        }.items()
    ]
    among = verdicts([base, close, *others])[close.key]
    assert (alone.family, among.family) == (1, 6)
    assert among.difference.value == alone.difference.value
    assert among.difference.high > alone.difference.high
    # They err on the same utterances, so that they cost less than six that do not.
    assert alone.p_difference < among.p_difference < 6 * alone.p_difference
    assert alone.level / 6 < among.level < alone.level


def test_every_shipped_record_beside_a_baseline_has_a_verdict(shipped):
    found = verdicts(shipped)
    bases = {condition(r) for r in shipped if r.spec.recipe.name == "fp32"}
    others = [r for r in shipped if r.spec.recipe.name != "fp32" and condition(r) in bases]
    assert found.keys() == {r.key for r in others}
    assert all(np.isfinite([c.difference.low, c.difference.high]).all() for c in found.values())
    # What breaks a model is told from fp32 on nine minutes of speech.
    broken = [r for r in others if r.spec.recipe.name in ("quanto-int2", "hqq-int2-g64")]
    assert {found[r.key].verdict for r in broken} == {Verdict.WORSE}
