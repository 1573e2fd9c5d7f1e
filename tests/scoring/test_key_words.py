"""Numbers, names and negations, by their stated rules."""

import pytest

from tests.support.shipped_runs import runs_of
from whisperq_core.scoring import key_words
from whisperq_core.scoring.key_words import KeyWordCounts, Kind, count, text, total


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kind", "expected"),
    [
        ("He owes me twenty five dollars.", "He owes me $26.", Kind.NUMBER, (1, 1, 0)),
        ("He owes me twenty five dollars.", "He owes me $25.", Kind.NUMBER, (1, 0, 0)),
        ("One of them came.", "Some of them came.", Kind.NUMBER, None),
        ("They came at last.", "They came at 8.", Kind.NUMBER, (0, 0, 1)),
        ("I can't go.", "I can go.", Kind.NEGATION, (1, 1, 0)),
        ("I can't go.", "I cannot go.", Kind.NEGATION, (1, 0, 0)),
        ("I can go.", "I can not go.", Kind.NEGATION, (0, 0, 1)),
        ("We never saw it.", "We ever saw it.", Kind.NEGATION, (1, 1, 0)),
        ("Then Mr. Brown met Anna.", "Then Mr. Braun met Anna.", Kind.NAME, (2, 1, 0)),
        ("Brown came. Anna went, and I'm here.", "Braun came.", Kind.NAME, None),
        ("MR BROWN MET ANNA", "Mr. Braun met Anna", Kind.NAME, None),
        ("He said: “Where is Anna?”", "He said: “There is Anna?”", Kind.NAME, (1, 0, 0)),
    ],
)
def test_each_kind_has_its_rule(reference, hypothesis, kind, expected):
    counts = count(reference, hypothesis).get(kind)
    assert counts == (None if expected is None else KeyWordCounts(*expected))


def test_german_nouns_are_no_names_but_its_negations_count():
    assert count("Ich habe kein Haus.", "Ich habe ein Haus.", "de") == {
        Kind.NEGATION: KeyWordCounts(1, 1, 0)
    }


def test_counts_add_up_and_read_as_a_sentence():
    one = count("Then Anna paid 12.", "Then Hanna paid 13.")
    other = count("I saw Anna.", "I never saw Anna.")
    assert text(one) == "wrong: 1 of 1 number, 1 of 1 name"
    assert text(total([one, other])) == ("wrong: 1 of 1 number, 1 of 2 names; added: 1 negation")
    assert total([]) == {} and text({}) == ""


def test_real_transcripts_lose_no_more_than_they_have():
    for run in runs_of("tiny.en").values():
        for utterance in run.utterances[:30]:
            counts = count(utterance.reference, utterance.hypothesis)
            wrong = sum(one.wrong for one in counts.values())
            words = utterance.score.words
            assert wrong <= words.substitutions + words.deletions
            assert all(0 <= one.wrong <= one.total for one in counts.values())
            assert Kind.NAME not in counts  # LibriSpeech's references have no case
    assert key_words.RULE
