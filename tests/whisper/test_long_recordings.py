"""Recordings over 30 s in fitted windows: what is heard, and when."""

import re

import numpy as np
import pytest

from tests.support.synthetic_noise import pink
from whisperq_core.quantize import quantized_model
from whisperq_core.quantize.file_transcription import TranscriptionConfig, transcribe_file
from whisperq_core.quantize.recipes import recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import decode, evaluation_sets, recording_pieces
from whisperq_core.speech.recording_pieces import Piece
from whisperq_core.speech.voice_activity import frame_probabilities
from whisperq_core.whisper.long_recordings import transcribe_pieces
from whisperq_core.whisper.protocols import FITTED, SHORT_NAMES

pytestmark = pytest.mark.model

RATE = decode.SAMPLE_RATE
UTTERANCES = evaluation_sets.by_name("test-clean-excerpt").utterances


@pytest.fixture(scope="module")
def fp32():
    return quantized_model.quantize("tiny.en", "fp32")


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def joined(utterances, pause_s: float = 0.5) -> np.ndarray:
    parts = [(evaluation_sets.read_audio(one), silence(pause_s)) for one in utterances]
    return np.concatenate([part for pair in parts for part in pair])


def test_three_minutes_lose_no_more_words_than_in_30_s_windows(fp32):
    utterances, seconds = [], 0.0
    for one in UTTERANCES:
        if seconds < 180:
            utterances.append(one)
            seconds += one.duration_s + 0.5
    samples, reference = joined(utterances), " ".join(one.reference for one in utterances)
    counts = {}
    for name in ("study", "fitted"):
        transcript = fp32.transcribe(samples, "en", protocol=name)
        counts[name] = error_rates.score(reference, transcript.text, "en").words
        starts = [part.start_s for part in transcript.segments]
        assert starts == sorted(starts) and transcript.segments[-1].end_s <= transcript.audio_s
    assert counts["fitted"].deletions <= counts["study"].deletions
    assert counts["fitted"].errors <= counts["study"].errors + 5


def test_silence_anywhere_changes_nothing(fp32):
    first, second = joined(UTTERANCES[:3], 0.3), joined(UTTERANCES[3:6], 0.3)
    plain = [fp32.transcribe(part, "en", protocol="fitted").text for part in (first, second)]
    for before, between, after in ((0, 60, 0), (31, 5, 20)):
        parts = (silence(before), first, silence(between), second, silence(after))
        found = fp32.transcribe(np.concatenate(parts), "en", protocol="fitted")
        assert error_rates.score(" ".join(plain), found.text, "en").words.rate < 3
        assert all(part.over_speech for part in found.segments)
        assert found.segments[0].start_s >= before - 1
        assert found.segments[-1].end_s <= found.audio_s - after + 1


def test_nothing_but_steady_noise_has_no_text(fp32):
    found = fp32.transcribe(pink(60), "en", protocol="fitted")
    assert found.text == "" and not found.has_speech
    assert fp32.transcribe(silence(60), "en", protocol="fitted").silent


@pytest.mark.parametrize("offset", [-1.0, -0.4, 0.0, 0.4, 1.0])
def test_a_word_around_a_seam_is_heard_once(fp32, jfk, offset):
    """“ask not what your country can do for you” around the end of the longest piece."""
    sentence = evaluation_sets.read_audio(jfk)[int(3.0 * RATE) : int(7.6 * RATE)]
    filling = np.resize(joined(UTTERANCES[:6], 0.0), int((27 + offset) * RATE))
    samples = np.concatenate([filling, silence(0.3), sentence])
    text = fp32.transcribe(samples, "en", protocol="fitted").text.lower()
    text = re.sub(r"[^a-z ]", "", text)
    assert text.count("ask not what your country can do for you") == 1


def test_pieces_are_batched_by_length_and_joined_in_order(fp32):
    """Each piece has the text that it has alone."""
    samples = joined(UTTERANCES[:6], 0.4)
    pieces = recording_pieces.cut(samples, frame_probabilities(samples), longest_s=8.0)
    assert len(pieces) > 4
    runtime, calls = fp32._runtime, []

    class Watched(type(runtime)):
        def transcribe(self, audio, languages, protocol):
            calls.append([len(one) for one in audio])
            return runtime.transcribe(audio, languages, protocol)

    watched = Watched(runtime.model, runtime.torch_model)
    found = transcribe_pieces(watched, samples, pieces, "en", FITTED)
    alone = [
        runtime.transcribe([samples[p.start : p.end]], ["en"], FITTED).texts[0] for p in pieces
    ]
    assert found.texts == (" ".join(filter(None, alone)),)
    assert [part.text for part in found.segments] == [text for text in alone if text]
    lengths = [length for call in calls for length in call]
    assert lengths == sorted(lengths, reverse=True) and max(map(len, calls)) <= 16
    assert found.encoder_s and found.tokens and found.wall_s >= found.encoder_s


def test_no_pieces_are_no_text_and_unspaced_languages_are_joined_without_spaces(fp32):
    nothing = transcribe_pieces(fp32._runtime, silence(40), [], "en", FITTED)
    assert (nothing.texts, nothing.segments) == (("",), ())

    class Said:
        def transcribe(self, audio, languages, protocol):
            return fp32._runtime.transcribe(audio, ["en"] * len(audio), FITTED)

    samples = joined(UTTERANCES[:2], 0.4)
    halves = [Piece(0, len(samples) // 2), Piece(len(samples) // 2, len(samples))]
    spaced, unspaced = (
        transcribe_pieces(Said(), samples, halves, language, FITTED) for language in ("en", "ja")
    )
    assert spaced.texts[0] == " ".join(part.text for part in spaced.segments)
    assert unspaced.texts[0] == "".join(part.text for part in spaced.segments)


def test_the_words_of_a_long_recording_have_their_times(tmp_path, jfk):
    path, sentence = tmp_path / "long.wav", evaluation_sets.read_audio(jfk)
    samples = np.concatenate([joined(UTTERANCES[:4], 0.3), silence(8), sentence])
    path.write_bytes(decode.encode_wav(samples))
    config = TranscriptionConfig("tiny.en", recipe("fp32"), "en", protocol="fitted")
    found = transcribe_file(path, config)
    assert [word.text for word in found.words] == found.text.split()
    starts = [word.start_s for word in found.words]
    assert starts == sorted(starts) and not found.hallucinated
    begin_s = len(samples) / RATE - len(sentence) / RATE
    last = [word for word in found.words if word.start_s > begin_s - 0.5]
    assert last[0].text.startswith("And") and "country" in last[-1].text.lower()
    assert last[-1].start_s == pytest.approx(begin_s + 10, abs=1)


def test_an_evaluation_has_whole_windows_for_what_is_over_30_s(fp32):
    """Its stored results stay what they are: only recordings are cut."""
    long = joined(UTTERANCES[:5])
    assert len(long) > 30 * RATE
    evaluated, study = (
        fp32._runtime.transcribe([long], ["en"], SHORT_NAMES[name]).texts
        for name in ("fitted", "study")
    )
    assert evaluated == study
