"""Long recordings are cut in pauses: no speech is lost, no word is cut, silence is left out."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.synthetic_noise import pink
from whisperq_core.speech import decode, evaluation_sets, recording_pieces
from whisperq_core.speech.recording_pieces import LONGEST_S, Piece, cut
from whisperq_core.speech.voice_activity import FRAME_SAMPLES, frame_probabilities

RATE = decode.SAMPLE_RATE
CLIPS = [
    evaluation_sets.read_audio(one)
    for one in evaluation_sets.by_name("test-clean-excerpt").utterances[:12]
]
SPEECH = np.concatenate(CLIPS)


def pieces_of(samples: np.ndarray) -> tuple[Piece, ...]:
    found = cut(samples, frame_probabilities(samples))
    assert all(0 <= p.start < p.end <= len(samples) for p in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(p.end_s - p.start_s <= LONGEST_S for p in found)
    return found


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def left_out(samples: np.ndarray, found: tuple[Piece, ...]) -> np.ndarray:
    """The samples that are in no piece."""
    outside = np.ones(len(samples), bool)
    for piece in found:
        outside[piece.start : piece.end] = False
    return samples[outside]


def loud(samples: np.ndarray) -> np.ndarray:
    """Where a clip has sound, at most 30 dB below its loudest part, shape (samples,)."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = np.sqrt((frames**2).mean(1))
    return np.repeat(level > level.max() / 30, 160)


@pytest.fixture(scope="module")
def word() -> np.ndarray:
    """One word out of its sentence: “ask”, of “ask not what your country can do for you”."""
    jfk = evaluation_sets.read_audio(evaluation_sets.shipped_sets()["jfk"].utterances[0])
    return jfk[int(3.25 * RATE) : int(3.95 * RATE)]


@settings(deadline=None, max_examples=40)
@given(
    offset=st.floats(-1, 1),
    before=st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0]),
    after=st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0]),
)
def test_a_word_around_the_end_of_a_piece_is_whole(word, offset, before, after):
    """The longest piece would end within a second of the word."""
    first = SPEECH[: int((LONGEST_S + offset - before - 0.5) * RATE)]
    samples = np.concatenate([first, silence(before), word, silence(after), CLIPS[-1], CLIPS[-2]])
    start = len(first) + len(silence(before))
    found = pieces_of(samples)
    sounding = start + np.flatnonzero(loud(word))
    inside = [p for p in found if p.start <= sounding[0] and sounding[-1] < p.end]
    assert len(inside) == 1, (found, sounding[0], sounding[-1])


@settings(deadline=None, max_examples=25)
@given(
    pauses=st.lists(st.floats(0, 3), min_size=12, max_size=12),
    long_s=st.floats(0, 60),
    where=st.integers(0, 12),
)
def test_no_speech_is_lost_whatever_the_silences(pauses, long_s, where):
    parts, is_loud = [], []
    for number, (clip, pause) in enumerate(zip(CLIPS, pauses, strict=True)):
        quiet = silence(long_s if number == where else pause)
        parts += [quiet, clip]
        heard = loud(clip)
        is_loud += [np.zeros(len(quiet), bool), heard, np.zeros(len(clip) - len(heard), bool)]
    if where == len(CLIPS):
        parts.append(silence(long_s))
        is_loud.append(np.zeros(len(parts[-1]), bool))
    samples, audible = np.concatenate(parts), np.concatenate(is_loud)
    found = pieces_of(samples)
    assert left_out(audible, found).sum() <= 0.001 * audible.sum()
    # What is left out is silence that is longer than a pause.
    assert len(left_out(samples, found)) >= (long_s - 3.1) * RATE
    covered_s = sum(p.end_s - p.start_s for p in found)
    assert covered_s / len(found) > 6, "pieces are as long as the pauses allow"


def test_cuts_are_in_pauses():
    samples = np.concatenate([part for clip in CLIPS for part in (clip, silence(0.4))])
    found = pieces_of(samples)
    assert len(found) >= len(samples) / RATE / LONGEST_S
    for piece in found[:-1]:
        around = samples[piece.end - FRAME_SAMPLES : piece.end + FRAME_SAMPLES]
        assert np.abs(around).max() < 0.05 * np.abs(samples).max()


@pytest.mark.parametrize(
    "sound",
    [silence(90), pink(90), pink(90, level=0.0002), 0.1 * np.ones(90 * RATE, np.float32)],
    ids=["zeros", "room", "faint room", "offset"],
)
def test_silence_and_steady_noise_have_no_pieces(sound):
    assert pieces_of(sound) == ()


def test_sound_that_the_detector_does_not_call_speech_is_kept():
    """Such as a melody: the notes rise and fall; a detector may miss what is sung or said there."""
    seconds = np.arange(70 * RATE) / RATE
    pitch = 220 * 2 ** (np.floor(seconds * 3) % 12 / 12)
    melody = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.exp(-4 * (seconds * 3 % 1))
    melody = (0.2 * melody).astype(np.float32)
    assert (frame_probabilities(melody) < 0.35).mean() > 0.9
    assert not len(left_out(melody, pieces_of(melody)))
    both = np.concatenate([SPEECH, silence(20), melody, silence(20), SPEECH])
    assert len(left_out(both, pieces_of(both))) <= 40 * RATE


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_speech_in_noise_is_kept(snr_db):
    noise = pink(len(SPEECH) / RATE + 1, float(SPEECH.std()) * 10 ** (-snr_db / 20))
    heard = np.concatenate([np.append(loud(c), np.zeros(len(c) % 160, bool)) for c in CLIPS])
    found = pieces_of(SPEECH + noise[: len(SPEECH)])
    assert left_out(heard, found).sum() <= 0.01 * heard.sum()


def test_speech_without_a_pause_is_cut_at_quiet_places():
    """Every second of it filled: two speakers at once, the probability of speech always high."""
    voices = [np.resize(np.concatenate(CLIPS[i::3]), 100 * RATE) for i in range(3)]
    samples = np.sum(voices, 0).astype(np.float32)
    found = cut(samples, np.ones(-(-len(samples) // FRAME_SAMPLES), np.float32))
    assert not len(left_out(samples, found)) and len(found) >= 4
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    level = frames.std(1)
    at = [level[p.end // FRAME_SAMPLES - 1 : p.end // FRAME_SAMPLES + 1].mean() for p in found[:-1]]
    assert max(at) < np.median(level)


def test_short_and_empty_recordings():
    for samples in (np.zeros(0, np.float32), np.ones(1, np.float32), SPEECH[:100]):
        assert len(pieces_of(samples)) <= 1
    assert len(pieces_of(CLIPS[0])) == 1


def peak_bytes(work) -> int:
    """The most memory that NumPy held at once during a call, besides what it had before."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_two_hours_need_little_more_memory_than_the_recording():
    period = SPEECH[: len(SPEECH) // FRAME_SAMPLES * FRAME_SAMPLES]
    samples = np.resize(period, 2 * 3600 * RATE)
    probabilities = np.resize(frame_probabilities(period), -(-len(samples) // FRAME_SAMPLES))
    found = []
    assert peak_bytes(lambda: found.extend(cut(samples, probabilities))) < 0.2 * samples.nbytes
    assert 7200 / LONGEST_S < len(found) < 7200 / 10
    assert sum(p.end - p.start for p in found) > 0.95 * len(samples)
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_probabilities_of_a_longer_recording_need_no_more_memory(monkeypatch):
    monkeypatch.setattr("whisperq_core.speech.voice_activity._BLOCK_FRAMES", 500)
    short, long = (np.resize(SPEECH, seconds * RATE) for seconds in (30, 120))
    peaks = [peak_bytes(lambda s=s: frame_probabilities(s)) for s in (short, short, long)]
    assert peaks[2] < 1.2 * peaks[1]


def test_cutting_reads_nothing_but_its_arguments():
    before = SPEECH.copy()
    assert pieces_of(SPEECH) == pieces_of(SPEECH)
    np.testing.assert_array_equal(before, SPEECH)
    assert recording_pieces.cut(SPEECH, np.zeros(len(SPEECH) // FRAME_SAMPLES + 1, np.float32))
