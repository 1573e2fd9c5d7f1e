"""The language of real speech, and when it contradicts a configuration."""

import pytest

from whisperq_core.quantize import spoken_language
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.quantize.spoken_language import SpokenLanguage, detector_for, fixed_language
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.whisper.transcription import language_probabilities

FP32 = recipe("fp32")


def test_german_is_told_from_english(base, tiny, jfk):
    german = evaluation_sets.shipped_sets()["fleurs-de-example"].utterances[0].audio
    for audio, language in ((german, "de"), (jfk.audio, "en")):
        spoken = spoken_language.detect(audio, "base")
        assert (spoken.language, spoken.model) == (language, "base") and spoken.probability > 0.9
    probabilities = language_probabilities(base, decode.load(german))
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
    assert language_probabilities(tiny, decode.load(german)) == {}


def test_a_fixed_language_is_contradicted_by_another_that_is_sure():
    german = SpokenLanguage(language="de", probability=0.9, model="base")
    unsure = german.model_copy(update={"probability": 0.4})
    english_only = TranscriptionConfig("tiny.en", FP32)
    told = TranscriptionConfig("base", FP32, "en")
    assert fixed_language(english_only) == fixed_language(told) == "en"
    assert german.contradicts(english_only) and german.contradicts(told)
    assert not unsure.contradicts(told)
    assert not german.contradicts(TranscriptionConfig("base", FP32, "de"))
    assert not german.contradicts(TranscriptionConfig("base", FP32))
    assert detector_for(english_only) == detector_for(told) == "base"
