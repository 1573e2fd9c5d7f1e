from dataclasses import replace

import numpy as np
import pytest

from whisperq_core.errors import ModelError
from whisperq_core.scoring import error_rates, loops
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper.protocols import CORRECTED, STUDY, Protocol
from whisperq_core.whisper.transcription import (
    _options_of,
    detect_language,
    plan_batches,
    transcribe,
)


def utterance(id, duration_s):
    return Utterance(id, evaluation_sets.SPEECH, "text", duration_s)


def test_batches_are_formed_by_length_and_long_ones_stand_alone():
    given = [utterance(i, s) for i, s in [("a", 3), ("b", 31), ("c", 5), ("d", 3), ("e", 30)]]
    batches = plan_batches(given, 2)
    assert [[u.id for u in batch] for batch in batches] == [["b"], ["e", "c"], ["a", "d"]]
    assert plan_batches(given[::-1], 2) == batches  # the order of a manifest does not matter


@pytest.fixture(scope="module")
def chapter():
    """Consecutive utterances of one chapter, which make one recording over 30 s."""
    every = evaluation_sets.by_name("test-other-excerpt").utterances
    found = sorted((u for u in every if u.id.startswith("367-130732-")), key=lambda u: u.id)[:5]
    assert 35 < sum(u.duration_s for u in found) < 45
    return found


def test_over_30_seconds_is_transcribed_whole(tiny, chapter):
    audio = np.concatenate([evaluation_sets.read_audio(u) for u in chapter])
    reference = " ".join(u.reference for u in chapter)
    text = transcribe(tiny, tiny.torch_model, [audio], ["en"], STUDY).texts[0]
    words = error_rates.score(reference, text).words
    assert words.rate < 30
    # Nothing after the first window is missing: a quarter of the words come there.
    assert words.deletions < 0.15 * words.reference_length


def test_times_are_of_generation_alone(tiny, jfk):
    found = transcribe(tiny, tiny.torch_model, [evaluation_sets.read_audio(jfk)], ["en"], STUDY)
    assert 0.05 < found.wall_s < 60
    assert 0 < found.encoder_s < found.first_token_s < found.wall_s
    assert found.tokens > len(found.texts[0].split())


def test_a_batch_of_fp32_hears_what_each_utterance_alone_does(tiny):
    utterances = evaluation_sets.by_name("quick-look").utterances[:3]
    audio = [evaluation_sets.read_audio(u) for u in utterances]
    together = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, STUDY).texts
    alone = [transcribe(tiny, tiny.torch_model, [a], ["en"], STUDY).texts[0] for a in audio]
    assert list(together) == alone


@pytest.fixture(scope="module")
def german():
    return evaluation_sets.by_name("fleurs-de-example").utterances[0]


def test_the_language_is_detected_or_given(base, tiny, german, jfk):
    audio = evaluation_sets.read_audio(german)
    assert detect_language(base, audio) == "de"
    assert detect_language(base, evaluation_sets.read_audio(jfk)) == "en"
    assert detect_language(tiny, audio) == "en"  # it knows no other
    text = transcribe(base, base.torch_model, [audio], ["de"], STUDY).texts[0]
    assert error_rates.score(german.reference, text, "de").words.rate < 35


def test_an_english_model_refuses_other_languages_and_translation(tiny, german):
    audio = [evaluation_sets.read_audio(german)]
    with pytest.raises(ModelError, match=r"tiny.en supports English only.*base"):
        transcribe(tiny, tiny.torch_model, audio, ["de"], STUDY)
    with pytest.raises(ModelError, match="translate"):
        transcribe(tiny, tiny.torch_model, audio, ["en"], Protocol("x", task="translate"))


def test_silence_does_not_fail(tiny):
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    found = transcribe(tiny, tiny.torch_model, [silence], ["en"], STUDY)
    assert isinstance(found.texts[0], str)


@pytest.fixture(scope="module")
def looping(jfk):
    """Two seconds of speech, four times in a row: text that compresses too well."""
    phrase = evaluation_sets.read_audio(jfk)[: int(2.2 * SAMPLE_RATE)]
    return np.tile(phrase, 4)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE).astype(np.float32)


def test_a_looping_transcript_is_decoded_again_and_its_neighbour_is_not(tiny, looping, jfk):
    audio = [evaluation_sets.read_audio(jfk), looping]
    greedy = transcribe(tiny, tiny.torch_model, audio, ["en"] * 2, STUDY)
    first = transcribe(tiny, tiny.torch_model, audio, ["en"] * 2, CORRECTED)
    again = transcribe(tiny, tiny.torch_model, audio, ["en"] * 2, CORRECTED)
    assert loops.compression_ratio(greedy.texts[1]) > loops.COMPRESSION_RATIO_THRESHOLD
    assert loops.compression_ratio(first.texts[1]) <= loops.COMPRESSION_RATIO_THRESHOLD
    assert greedy.temperatures == (0.0, 0.0)
    assert first.temperatures[0] == 0.0 < first.temperatures[1]
    assert first.texts[0] == greedy.texts[0]
    assert first.tokens > greedy.tokens
    assert (first.texts, first.temperatures) == (again.texts, again.temperatures)


def test_after_all_temperatures_the_last_attempt_stands(tiny, looping):
    cold = replace(CORRECTED, temperatures=(0.0, 0.01))
    found = transcribe(tiny, tiny.torch_model, [looping], ["en"], cold)
    assert loops.compression_ratio(found.texts[0]) > loops.COMPRESSION_RATIO_THRESHOLD
    assert found.temperatures == (0.01,)


def test_what_is_no_speech_has_no_text(tiny, noise):
    assert transcribe(tiny, tiny.torch_model, [noise], ["en"], STUDY).texts[0]
    found = transcribe(tiny, tiny.torch_model, [noise], ["en"], CORRECTED)
    assert (found.texts, found.temperatures) == (("",), (0.0,))


def test_languages_follow_the_rows_that_are_decoded_again(base, german, looping):
    options = {"language": ["de", "en"], "task": "transcribe"}
    assert _options_of(options, [1]) == {"language": ["en"], "task": "transcribe"}
    assert _options_of({"language": None}, [1]) == {"language": None}
    audio = [evaluation_sets.read_audio(german), looping]
    twice = replace(CORRECTED, temperatures=(0.0, 0.6))
    found = transcribe(base, base.torch_model, audio, ["de", "en"], twice)
    alone = transcribe(base, base.torch_model, audio[:1], ["de"], STUDY)
    assert found.texts[0] == alone.texts[0]


def test_over_30_seconds_falls_back_window_by_window(tiny, chapter, jfk):
    audio = np.concatenate([evaluation_sets.read_audio(u) for u in chapter])
    found = transcribe(tiny, tiny.torch_model, [audio], ["en"], CORRECTED)
    assert found.temperatures == (0.0,) and not loops.is_looped(found.texts[0])
    assert 0 < found.encoder_s < found.wall_s and found.first_token_s > 0
    # The same words three times in a window are a loop, and no warmer at 0.01.
    twice = replace(CORRECTED, temperatures=(0.0, 0.01))
    repeated = np.tile(evaluation_sets.read_audio(jfk), 3)
    again = transcribe(tiny, tiny.torch_model, [repeated], ["en"], twice)
    assert again.temperatures == (0.01,) and "ask not" in again.texts[0].replace("ed", "")
