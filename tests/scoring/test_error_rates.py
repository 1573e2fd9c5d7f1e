import json

import jiwer
import pytest

from whisperq_core.scoring.error_rates import (
    Counts,
    align,
    score,
    total,
)
from whisperq_core.scoring.normalizers import normalizer
from whisperq_core.settings import PROJECT

MANIFEST = PROJECT / "speech" / "manifest.jsonl"
SPOKEN = [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()]
REFERENCES = [(line["text"], line["language"]) for line in SPOKEN]


def without_every_fifth(words: list[str]) -> list[str]:
    return [word for i, word in enumerate(words, 1) if i % 5]


def stammered(words: list[str]) -> list[str]:
    return [said for i, word in enumerate(words, 1) for said in [word] * (1 + (i % 4 == 0))]


def misheard(words: list[str]) -> list[str]:
    return [word[::-1] + "x" if i % 3 == 0 else word for i, word in enumerate(words, 1)]


def shuffled(words: list[str]) -> list[str]:
    return words[1::2] + words[::2]


PERTURBATIONS = [without_every_fifth, stammered, misheard, shuffled]


def perturbed(how) -> list[tuple[str, str, str]]:
    return [(text, " ".join(how(text.split())), language) for text, language in REFERENCES]


# Counts are hits, substitutions, deletions, insertions.
@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        ("a cat sat", "A cat, sat!", Counts(3), Counts(9)),
        ("a cat sat", "a bat sat", Counts(2, 1), Counts(8, 1)),
        ("a cat sat", "a sat", Counts(2, 0, 1), Counts(5, 0, 4)),
        ("a cat sat", "a cat sat up", Counts(3, 0, 0, 1), Counts(9, 0, 0, 3)),
        ("one more cat", "two more cats now", Counts(1, 2, 0, 1), None),
        ("a cat sat", "", Counts(0, 0, 3), Counts(0, 0, 9)),
        ("a cat sat", "  \n", Counts(0, 0, 3), Counts(0, 0, 9)),
        ("a cat sat", "[Music] hmm", Counts(0, 0, 3), Counts(0, 0, 9)),
        ("", "thank you", Counts(0, 0, 0, 2), Counts(0, 0, 0, 9)),
        ("hmm", "you", Counts(0, 0, 0, 1), Counts(0, 0, 0, 3)),
        ("", "", Counts(), Counts()),
        ("hmm", "[Music]", Counts(), Counts()),
    ],
)
def test_counts_known_on_paper(reference, hypothesis, words, characters):
    found = score(reference, hypothesis)
    assert found.words == words
    assert characters is None or found.characters == characters
    assert found.exact == (words.errors == 0)


def test_counts_add_up_and_rates_are_percent():
    both = Counts(7, 1, 2, 3) + Counts(1, 1, 0, 0)
    assert both == Counts(8, 2, 2, 3)
    assert (both.reference_length, both.errors) == (12, 7)
    assert both.rate == pytest.approx(100 * 7 / 12)
    assert total([]) == Counts()
    assert Counts(4).rate == 0.0
    assert Counts(0, 2, 0, 2).rate == 200.0


@pytest.mark.parametrize("silent", [Counts(), Counts(insertions=3)])
def test_an_empty_reference_has_no_rate_but_its_insertions_count(silent):
    assert silent.rate is None
    assert total([silent, Counts(9, 1)]).rate == 10.0 * (1 + silent.insertions)


def test_rates_are_never_averaged():
    short, long = score("yes", "no").words, score("a cat sat on the mat", "a cat sat on the mat")
    assert total([short, long.words]).rate == pytest.approx(100 / 7)
    assert (short.rate + long.words.rate) / 2 == 50.0


@pytest.mark.parametrize("how", PERTURBATIONS)
def test_rates_are_those_of_jiwer_on_real_references(how):
    pairs = perturbed(how)
    normalised = [
        [" ".join(normalizer(language).apply(text).split()) for text in (reference, hypothesis)]
        for reference, hypothesis, language in pairs
    ]
    references, hypotheses = zip(*normalised, strict=True)
    scores = [score(*pair) for pair in pairs]
    wer, cer = total(s.words for s in scores).rate, total(s.characters for s in scores).rate
    assert wer == pytest.approx(100 * jiwer.wer(list(references), list(hypotheses)))
    assert cer == pytest.approx(100 * jiwer.cer(list(references), list(hypotheses)))
    assert wer > 10


def test_dropped_words_are_deletions_and_nothing_else():
    # German: its normaliser leaves every word a word, so the count is known without aligning.
    [reference] = [text for text, language in REFERENCES if language == "de"]
    words = reference.split()
    found = score(reference, " ".join(without_every_fifth(words)), "de").words
    assert found == Counts(hits=len(words) - len(words) // 5, deletions=len(words) // 5)


@pytest.mark.parametrize("how", PERTURBATIONS)
def test_an_alignment_reads_as_both_sides_and_agrees_with_the_counts(how):
    for reference, hypothesis, language in perturbed(how):
        edits = align(reference, hypothesis, language)
        normalise = normalizer(language).apply
        assert [e.reference for e in edits if e.reference] == normalise(reference).split()
        assert [e.hypothesis for e in edits if e.hypothesis] == normalise(hypothesis).split()
        kinds = [e.kind for e in edits]
        counts = Counts(*map(kinds.count, ("equal", "substitute", "delete", "insert")))
        assert counts == score(reference, hypothesis, language).words
        for edit in edits:
            assert (edit.kind == "equal") == (edit.reference == edit.hypothesis)
            assert (edit.kind == "insert") == (edit.reference == "")
            assert (edit.kind == "delete") == (edit.hypothesis == "")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "steps"),
    [
        ("a cat", "", [("delete", "a", ""), ("delete", "cat", "")]),
        ("", "a cat", [("insert", "", "a"), ("insert", "", "cat")]),
        ("", "", []),
        ("a cat", "a bat", [("equal", "a", "a"), ("substitute", "cat", "bat")]),
    ],
)
def test_alignments_known_on_paper(reference, hypothesis, steps):
    assert [(e.kind, e.reference, e.hypothesis) for e in align(reference, hypothesis)] == steps


def test_german_is_scored_by_the_basic_normaliser():
    # English drops "hmm" and reads "twenty" as 20; German keeps what was said.
    assert score("hmm twenty", "20", "en").words == Counts(1)
    assert score("hmm twenty", "20", "de").words == Counts(0, 1, 1)
    assert score("Straße", "Strasse", "de").words.errors == 1
