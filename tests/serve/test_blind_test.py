import pytest

from tests.support.shipped_runs import runs_of
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.serve.blind_test import Tally, pending_trials, tallies


@pytest.fixture(scope="module")
def runs() -> list[AccuracyRun]:
    """Shipped results of one model and set: fp32 and a recipe that hears some of it otherwise."""
    found = runs_of("tiny.en")
    return [found["fp32"], found["bnb-nf4"]]


def test_only_what_differs_is_judged_and_each_once(runs):
    first, second = ({u.id: u.hypothesis for u in run.utterances} for run in runs)
    differing = {id for id in first if first[id] != second[id]}
    left = pending_trials(runs, [], "ann", "set")
    assert {t.utterance for t in left} == differing != set()
    votes = [t.vote("same", "ann") for t in left[:3]]
    after = pending_trials(runs, votes, "ann", "set")
    assert [t.utterance for t in after] == [t.utterance for t in left[3:]]
    assert len(pending_trials(runs, votes, "bob", "set")) == len(left)


def test_sides_are_drawn_and_stay_on_reload(runs):
    left = pending_trials(runs, [], "ann", "set")
    assert {t.left.spec.recipe.name for t in left} == {"fp32", "bnb-nf4"}
    again = pending_trials(runs, [], "ann", "set")
    assert [(t.utterance, t.left_text) for t in again] == [(t.utterance, t.left_text) for t in left]
    texts = {u.id: u.hypothesis for u in runs[0].utterances}
    for one in left:
        mine = one.left_text if one.left.key == runs[0].key else one.right_text
        assert mine == texts[one.utterance]


def test_the_tally_counts_systems_not_sides(runs):
    left = pending_trials(runs, [], "ann", "set")
    votes = [
        t.vote("left" if t.left.spec.recipe.name == "fp32" else "right", "ann") for t in left[:7]
    ]
    votes.append(left[7].vote("same", "ann"))
    # Two-sided sign test of 7 of 7 (Dixon and Mood 1946): 2 / 2**7.
    assert tallies(votes) == [Tally("tiny.en bnb-nf4", "tiny.en fp32", 0, 7, 1, 2 / 2**7)]


def test_indifference_has_no_p_value(runs):
    (one,) = tallies([pending_trials(runs, [], "ann", "set")[0].vote("same", "ann")])
    assert one.p is None and one.same == 1
    assert tallies([]) == []


def test_the_same_texts_leave_nothing_to_judge(runs):
    assert pending_trials([runs[0], runs[0]], [], "ann", "set") == []
