import pytest

from tests.support.sample_runs import accuracy_run
from whisperq_core.analyze import confusions, paired_comparisons
from whisperq_core.analyze.confusions import UtteranceFilter
from whisperq_core.errors import NotComparable
from whisperq_core.present.contribution_chart import contribution_figure
from whisperq_core.scoring.error_rates import Edit

CAT = Edit("substitute", "cat", "hat")
FIRST = accuracy_run(
    "fp32",
    [
        ("a cat sat", "a hat sat"),
        ("a cat ran", "a hat"),
        ("a dog", "a dog"),
        ("no one", "no " * 60),
    ],
    speakers=["1", "1", "2", "3"],
)
SECOND = accuracy_run(
    "bf16",
    [("a cat sat", "a cat sat"), ("a cat ran", "a hat"), ("a dog", "my old dog"), ("no one", "no")],
    speakers=["1", "1", "2", "3"],
)


def ids(run, **wanted) -> list[str]:
    return [u.id[-1] for u in confusions.worst_first(run.utterances, UtteranceFilter(**wanted))]


def test_errors_are_counted_the_most_frequent_first():
    found = confusions.most_frequent(confusions.confusions(FIRST.utterances[:3]))
    assert found == [(CAT, 2), (Edit("delete", "ran", ""), 1)]
    assert [confusions.edit_text(edit) for edit, _ in found] == ["hat → cat", "– → ran"]


def test_utterances_come_worst_first():
    assert ids(FIRST) == ["3", "1", "0", "2"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"speakers": ("1",)}, ["1", "0"]),
        ({"kinds": ("deletions",)}, ["1"]),
        ({"kinds": ("substitutions",), "speakers": ("1", "2")}, ["1", "0"]),
        ({"kinds": ("loops",)}, ["3"]),
        ({"kinds": ("exact",)}, ["2"]),
        ({"kinds": ("exact", "loops")}, ["3", "2"]),
        ({"confusion": CAT}, ["1", "0"]),
        ({"shortest_s": 10.5}, []),
        ({"longest_s": 10.0}, ["3", "1", "0", "2"]),
    ],
)
def test_filters_leave_what_was_asked_for(wanted, found):
    assert ids(FIRST, **wanted) == found


def test_changes_add_up_to_the_difference_in_wer():
    difference = paired_comparisons.compare_runs(FIRST, SECOND).difference.value
    for by_speaker in (False, True):
        found = confusions.error_contributions(FIRST, SECOND, by_speaker)
        assert sum(change.points for change in found) == pytest.approx(difference)
        sizes = [abs(change.errors) for change in found]
        assert sizes == sorted(sizes, reverse=True)
    assert [change.name for change in confusions.error_contributions(FIRST, SECOND)] == [
        "utterance-3",
        "utterance-2",
        "utterance-0",
    ]
    assert [change.name for change in confusions.error_contributions(FIRST, SECOND, True)] == [
        "3",
        "2",
        "1",
    ]


def test_words_that_only_one_gets_wrong():
    found = {edit: counts for edit, *counts in confusions.unique_errors(FIRST, SECOND)}
    assert CAT not in found
    assert found[Edit("substitute", "a", "old")] == [0, 1]


def test_other_speech_is_refused():
    other = accuracy_run("bf16", [("a cow", "a cow")])
    with pytest.raises(NotComparable):
        confusions.error_contributions(FIRST, other)


def test_other_recipes_are_the_newest_of_the_same_speech_and_protocol():
    old, new = accuracy_run("bf16", minutes=1), accuracy_run("bf16", minutes=2, threads=1)
    others = [old, new, accuracy_run("hqq-int4-g64", eval_set="test-clean-excerpt"), FIRST]
    assert confusions.other_recipes(FIRST, others) == [new]


def test_a_bar_for_each_change_says_which_it_is():
    found = confusions.error_contributions(FIRST, SECOND)
    figure = contribution_figure(found, "fp32", "<b>bf16</b>")
    names = [name for trace in figure.data for (name,) in trace.customdata]
    assert sorted(names) == sorted(change.name for change in found)
    assert all("<b>bf16" not in (trace.name or "") for trace in figure.data)
    assert [trace.marker.pattern.shape for trace in figure.data] == ["/", ""]
