import numpy as np
import pytest

from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper import transcription
from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.word_timestamps import _path, timed_words


@pytest.fixture(scope="module")
def spoken():
    """Two utterances, half a second of silence between them: samples, when the second begins."""
    first, second = evaluation_sets.shipped_sets()["quick-look"].utterances[:2]
    silence = np.zeros(SAMPLE_RATE // 2, np.float32)
    samples = np.concatenate(
        [evaluation_sets.read_audio(first), silence, evaluation_sets.read_audio(second)]
    )
    return samples, first, second


def test_words_are_where_they_are_said(tiny, spoken):
    samples, first, second = spoken
    length_s = len(samples) / SAMPLE_RATE
    text = f"{first.reference} {second.reference}".lower()
    words = timed_words(tiny, samples, [Segment(0.0, length_s, text)], "en", "transcribe")
    assert " ".join(word.text for word in words) == text
    starts = [word.start_s for word in words]
    assert starts == sorted(starts) and words[-1].end_s <= length_s + 0.01
    # The second utterance's first word comes after the silence, and soon.
    at = len(first.reference.split())
    begins = first.duration_s + 0.5
    assert begins - 0.3 < words[at].start_s < begins + 1.0
    assert words[at - 1].start_s < first.duration_s


def test_a_wrong_word_is_less_probable_than_the_spoken_one(tiny, jfk):
    samples = evaluation_sets.read_audio(jfk)
    right = "And so, my fellow Americans, ask not what your country can do for you."
    probability = {}
    for text in (right, right.replace("country", "plumber")):
        words = timed_words(tiny, samples, [Segment(0.0, 8.0, text)], "en", "transcribe")
        probability |= {word.text: word.probability for word in words}
    assert probability["plumber"] < 0.01 < 0.5 < probability["country"] <= 1


def test_long_speech_is_timed_by_the_segments_that_decoding_found(tiny):
    found = evaluation_sets.shipped_sets()["test-clean-excerpt"].utterances[:6]
    samples = np.concatenate([evaluation_sets.read_audio(u) for u in found])
    assert len(samples) > 31 * SAMPLE_RATE
    protocol = Protocol("recording", batch_size=1)
    found = transcription.transcribe(tiny, tiny.torch_model, [samples], ["en"], protocol)
    assert " ".join(s.text for s in found.segments).split() == found.texts[0].split()
    words = timed_words(tiny, samples, found.segments, "en", "transcribe")
    assert [w.text for w in words] == found.texts[0].split()
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times) and words[-1].start_s > 30
    assert times[-1] <= round(len(samples) / SAMPLE_RATE, 2)


def test_a_translation_and_a_model_without_alignment_heads_have_words_spread_evenly(tiny, jfk):
    samples = evaluation_sets.read_audio(jfk)
    segment = Segment(2.0, 6.0, "one two three four")
    spread = timed_words(tiny, samples, [segment], "en", "translate")
    assert [w.start_s for w in spread] == [2.0, 3.0, 4.0, 5.0] and spread[-1].end_s == 6.0
    assert {word.probability for word in spread} == {None}


def test_a_text_too_long_to_be_said_is_spread_not_refused(tiny, jfk):
    text = "over and " * 300
    samples = evaluation_sets.read_audio(jfk)
    words = timed_words(tiny, samples, [Segment(0.0, 11.0, text)], "en", "transcribe")
    assert len(words) == 600 and words[-1].end_s == 11.0


def test_no_words_have_no_times(tiny, jfk):
    samples = evaluation_sets.read_audio(jfk)
    assert timed_words(tiny, samples, [Segment(0.0, 11.0, "")], "en", "transcribe") == ()


def test_the_way_through_attention_is_the_best_one():
    scores = np.full((3, 8), -1.0)
    scores[0, 2:4] = scores[1, 4:5] = scores[2, 5:] = 1.0
    assert _path(scores).tolist() == [2, 4, 5]  # two frames of silence come first
