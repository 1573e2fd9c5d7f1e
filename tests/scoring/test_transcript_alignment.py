"""Alignments of real transcripts; made texts where a case must be exact."""

import pytest

from tests.support.shipped_runs import runs_of
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.normalizers import normalizer
from whisperq_core.scoring.transcript_alignment import (
    align,
    as_written,
    disagreement_pct,
    phrases,
    words_of,
)


def shown(slots, column):
    return [slot.words[column].written for slot in slots if slot.words[column]]


def aligned(*texts):
    return align([words_of(text, "en") for text in texts])


def test_every_transcript_keeps_its_words_in_their_order():
    texts = ("He can go now.", "he really can go", "he can", "um well he can not go now now")
    slots = aligned(*texts)
    for column, text in enumerate(texts):
        assert shown(slots, column) == [w.written for w in words_of(text, "en")]


def test_kinds_are_those_of_an_alignment_with_the_pivot():
    slots = aligned("the cat sat", "the hat sat down", "cat sat")
    kinds = [[slot.kind(column) for slot in slots] for column in (1, 2)]
    assert kinds == [["equal", "substitute", "equal", "insert"], ["delete", "equal", "equal", ""]]
    assert [slot.differs for slot in slots] == [True, True, False, True]


def test_words_that_several_add_stand_in_one_slot():
    slots = aligned("we go", "we shall go", "we shall surely go", "we will go")
    added = [slot for slot in slots if slot.words[0] is None]
    assert [[w and w.scored for w in slot.words[1:]] for slot in added] == [
        ["shall", "shall", "will"],
        [None, "surely", None],
    ]


def test_real_transcripts_have_the_errors_that_were_scored():
    runs = runs_of("tiny.en")
    fp32 = runs.pop("fp32")
    assert len(runs) > 5
    for place, utterance in enumerate(fp32.utterances[:8]):
        texts = [run.utterances[place].hypothesis for run in runs.values()]
        slots = aligned(utterance.reference, *texts)
        for column, run in enumerate(runs.values(), 1):
            counts = run.utterances[place].score.words
            kinds = [slot.kind(column) for slot in slots]
            assert kinds.count("substitute") == counts.substitutions
            assert kinds.count("insert") == counts.insertions
            assert kinds.count("delete") == counts.deletions


# What recordings of AN4 and LibriSpeech have in them, and what normalizing changes most.
WRITTEN = (
    "M O R E W O O D",
    "O. O.",
    "I'm fine, Mr. Brown: twenty five!",
    "Um, well, uh, it's 5:30 p.m. -- isn't it?",
    "[Music] He owes me $20 million (laughs), that's one hundred and one percent.",
    "twenty-first of July, nineteen eighty four",
    "H-O-W-E-L-L: oh five five, double three",
    "two and a half... of them",
)


@pytest.mark.parametrize("text", WRITTEN)
def test_what_the_model_wrote_is_shown_whole_and_once(text):
    words = words_of(text, "en")
    assert " ".join(word.written for word in words if word.written) == text
    normalized = normalizer("en").apply(text)
    assert [word.scored for word in words] == normalized.split()


def test_words_are_shown_as_written_and_compared_as_scored():
    words = words_of("I'm fine, Mr. Brown: twenty five!", "en", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert [w.scored for w in words] == ["i", "am", "fine", "mister", "brown", "25"]
    assert [w.written for w in words] == ["I'm", "", "fine,", "Mr.", "Brown:", "twenty five!"]
    assert [w.start_s for w in words] == [0.0, None, 1.0, 2.0, 3.0, 4.0]
    assert [w.written for w in words_of("M O R E W O O D", "en")][-2:] == ["O O", "D"]


def test_a_word_is_as_probable_as_its_least_probable_part():
    chances = [0.9, 0.8, None, 0.6, 0.5, 0.1]
    words = words_of("I'm fine, Mr. Brown: twenty five!", "en", probabilities=chances)
    assert [w.probability for w in words] == [0.9, None, 0.8, None, 0.6, 0.1]
    assert [w.written for w in words if w.is_unlikely] == ["twenty five!"]
    slots = as_written(align([words, words_of("I am fine", "en")]))
    assert slots[0].words[0].probability == 0.9
    assert words_of("a b", "de", probabilities=[0.5])[0].probability is None


def test_characters_are_shown_with_their_punctuation():
    words = words_of("今日は、晴れ。", "ja")
    assert [w.scored for w in words] == list("今日は晴れ")
    assert [w.written for w in words] == ["今", "日", "は、", "晴", "れ。"]


def test_every_shipped_transcript_is_shown_whole_and_once():
    texts = {
        text
        for run in runs_of("tiny.en").values()
        for utterance in run.utterances[:20]
        for text in (utterance.reference, utterance.hypothesis)
    }
    assert len(texts) > 100
    for text in texts:
        words = words_of(text, "en")
        if words:
            assert " ".join(word.written for word in words if word.written).split() == text.split()


def test_one_written_word_is_one_place_for_readers():
    slots = as_written(
        aligned("It's I'm sure twenty five.", "It is I am sure 25", "It was I'm sure 26")
    )
    assert [[word and word.written for word in slot.words] for slot in slots] == [
        ["It's", "It is", "It was"],
        ["I'm", "I am", "I'm"],
        ["sure", "sure", "sure"],
        ["twenty five.", "25", "26"],
    ]
    assert [slot.kind(1) for slot in slots] == ["equal"] * 4
    assert [slot.kind(2) for slot in slots] == ["substitute", "equal", "equal", "substitute"]
    assert as_written([]) == []


def test_a_slot_is_said_when_the_first_transcript_that_knows_says():
    slots = align([words_of("a b", "de"), words_of("a b", "de", [0.5, 1.5])])
    assert [slot.start_s for slot in slots] == [0.5, 1.5]
    # Times that are not one a word are no times.
    assert words_of("a b", "de", [0.5])[0].start_s is None


def test_phrases_end_with_sentences_pauses_and_their_length():
    said = words_of("So it is. And now", "en", [0.0, 0.3, 0.6, 1.0, 4.0])
    assert [len(line) for line in phrases(align([said]))] == [3, 1, 1]
    looping = aligned("go", " ".join(["go"] * 100))
    assert max(map(len, phrases(looping))) <= 24
    assert phrases([]) == []


@pytest.mark.parametrize("texts", [("", ""), ("", "a b"), ("a b", "")])
def test_empty_transcripts_have_their_place(texts):
    slots = aligned(*texts)
    assert len(slots) == len("".join(texts).split())
    assert all(slot.differs for slot in slots)


def test_disagreement_is_edits_over_the_pivot_s_words():
    one, other = words_of("a b c d", "de"), words_of("a x c", "de")
    assert disagreement_pct(one, other) == 50.0 and disagreement_pct((), one) is None
    text, heard = "he can not go", "he can go on"
    ours = disagreement_pct(words_of(text, "en"), words_of(heard, "en"))
    assert ours == error_rates.score(text, heard).words.rate
