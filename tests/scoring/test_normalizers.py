from importlib.metadata import version

import pytest

from whisperq_core.scoring.error_rates import normaliser_id, score
from whisperq_core.scoring.normalizers import normaliser


@pytest.mark.parametrize(
    ("language", "said", "compared"),
    [
        ("en", "Mr. Smith, it isn't a GREY colour!", "mister smith it is not a gray color"),
        ("en", "twenty-one dollars", "$21"),
        ("en", "Hmm, uh, yes.", "yes"),
        ("en", "[applause] (coughs) hello", "hello"),
        ("en", "Hmm, uh. [Music]", ""),
        ("de", "Die Straße wäre 20 km lang!", "die straße wäre 20 km lang"),
        ("de", "Hmm, zwanzig. [Musik]", "hmm zwanzig"),
        ("de", "Mr. colour twenty-one", "mr colour twenty one"),
        ("fr", "L'été, déjà ?", "l été déjà"),
        ("en", " \n\t", ""),
        ("de", " \n\t", ""),
    ],
)
def test_known_normalisations(language, said, compared):
    assert " ".join(normaliser(language).apply(said).split()) == compared


@pytest.mark.parametrize("language", ["en", "de"])
def test_normalising_twice_changes_nothing_more(language):
    normalise = normaliser(language).apply
    once = normalise("It's £2.50, isn't it? Ja, natürlich – 3 Äpfel.")
    assert normalise(once).split() == once.split()


def test_only_english_is_normalised_as_english():
    names = {language: normaliser(language).name for language in ("en", "de", "fr", "zh")}
    assert names.pop("en") == "whisper-english"
    assert set(names.values()) == {"whisper-basic"}


def test_ids_are_pinned_with_their_version():
    # Stored counts carry these: another version means that stored transcripts are to be rescored.
    assert normaliser_id("en") == "whisper-english@0.1.15"
    assert normaliser_id("de") == "whisper-basic@0.1.15"
    assert normaliser("en").version == version("whisper-normalizer")
    assert score("ja", "ja", "de").normaliser == "whisper-basic@0.1.15"
