"""Conditions: exact levels, the same samples each time, nothing clipped, sentences for mistakes."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.small_sets import shortest
from whisperq_core.errors import EvalSetError, InputError
from whisperq_core.speech import conditions, noises
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import (
    Utterance,
    by_name,
    is_public,
    read_audio,
    shipped_sets,
)
from whisperq_core.speech.speech_level import speech_power

[JFK] = shipped_sets()["jfk"].utterances
EACH = (
    *("noise:coffee-shop@5dB", "babble@5dB", "room:0.3s", "room:seminar-room"),
    *("telephone", "opus@12k", "mp3@32k"),
)


def under(text: str, utterance: Utterance = JFK) -> np.ndarray:
    return read_audio(replace(utterance, conditions=conditions.parse(text)))


def level_db(speech: np.ndarray, mixed: np.ndarray) -> float:
    noise = mixed.astype(float) - speech
    return 10 * np.log10(speech_power(speech, SAMPLE_RATE) / np.mean(np.square(noise)))


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples b is later than a."""
    size = 2 * len(a)
    product = np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size))
    latest = int(np.argmax(np.fft.irfft(product)))
    return latest - size if latest > len(a) else latest


@pytest.mark.parametrize("decibels", [-5, 0, 5, 20])
@pytest.mark.parametrize("kind", ["noise:coffee-shop", "noise:train", "babble"])
def test_levels_are_exact(kind, decibels):
    for utterance in (JFK, *shortest(2)):
        speech = 0.1 * read_audio(utterance)
        [condition] = conditions.parse(f"{kind}@{decibels}dB")
        mixed = condition.apply(speech, utterance.id, utterance.speaker)
        assert level_db(speech, mixed) == pytest.approx(decibels, abs=0.1)


def test_levels_of_a_noise_differ_in_nothing_else():
    speech = read_audio(JFK)
    louder, softer = (under(f"noise:wind@{level}dB") - speech for level in (10, 30))
    assert np.allclose(louder, 10 * softer, atol=6 * 2**-15)


def test_nothing_clips_and_the_level_stays():
    loud = read_audio(JFK)
    loud = loud / np.abs(loud).max()
    [condition] = conditions.parse("noise:storm@-15dB")
    mixed = condition.apply(loud, "a", None)
    quiet = condition.apply(loud / 16, "a", None)
    assert 0.99 < np.abs(mixed).max() < 1
    assert np.corrcoef(mixed, quiet)[0, 1] > 0.99999


@pytest.mark.parametrize("text", EACH)
def test_each_is_as_long_as_the_speech_and_where_it_was(text):
    speech, changed = read_audio(JFK), under(text)
    assert changed.shape == speech.shape and changed.dtype == np.float32
    assert not np.array_equal(changed, speech) and np.abs(changed).max() < 1
    assert abs(lag(speech, changed)) <= (0.03 * SAMPLE_RATE if "room" in text else 1)


@pytest.mark.parametrize("text", EACH)
def test_the_same_utterance_has_the_same_samples_and_another_has_others(text):
    first, second = under(text), under(text)
    assert first.tobytes() == second.tobytes()
    if "noise" in text or "babble" in text:
        noise = first - read_audio(JFK)
        other = under(text, replace(JFK, id="other")) - read_audio(JFK)
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.5


def test_samples_are_those_of_every_machine():
    names = "noise:coffee-shop@5dB", "babble@0dB", "room:seminar-room", "telephone"
    digests = {n: hashlib.sha256(under(n).tobytes()).hexdigest()[:16] for n in names}
    assert digests == PINNED


PINNED = {
    "noise:coffee-shop@5dB": "ffaa39c9dd9f73d2",
    "babble@0dB": "cf5d6bba585af3e0",
    "room:seminar-room": "885efc03a1c54624",
    "telephone": "42d34ba43907317d",
}


def test_babble_is_of_others():
    spoken = {row["speaker"] for rows in conditions._voices().values() for row in rows}
    for speaker in spoken:
        others = conditions.babble_speakers("an utterance", speaker)
        assert len(set(others)) == conditions.BABBLE_SPEAKERS and speaker not in others


def test_babble_is_of_others_than_all_speakers_of_a_recording():
    own = sorted(conditions._voices())[:50]
    others = conditions.babble_speakers("a recording", conditions.SPEAKERS_AND.join(own))
    assert len(set(others)) == conditions.BABBLE_SPEAKERS and not set(others) & set(own)


def test_a_telephone_has_its_band_only():
    spectrum = np.abs(np.fft.rfft(under("telephone"))) ** 2
    hertz = np.fft.rfftfreq(len(read_audio(JFK)), 1 / SAMPLE_RATE)
    inside = spectrum[(hertz > 400) & (hertz < 3200)].mean()
    for outside in (hertz > 4000, hertz < 100):
        assert 10 * np.log10(spectrum[outside].mean() / inside) < -30


@pytest.mark.parametrize("rt60_s", [0.3, 0.6])
def test_a_room_decays_in_its_time(rt60_s):
    response = conditions._simulated_response(rt60_s)
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    at_5, at_35 = (int(np.argmax(decay < -level)) for level in (5, 35))
    assert 2 * (at_35 - at_5) / SAMPLE_RATE == pytest.approx(rt60_s, rel=0.25)


def test_several_are_applied_from_left_to_right():
    [_, telephone] = both = conditions.parse("noise:rain@5dB+telephone")
    assert [c.name for c in both] == ["noise:rain@5dB", "telephone"]
    expected = telephone.apply(under("noise:rain@5dB"), JFK.id, JFK.speaker)
    assert np.array_equal(under("noise:rain@5dB+telephone"), expected)
    assert not np.array_equal(under("telephone+noise:rain@5dB"), expected)


class TestSets:
    def test_the_condition_is_part_of_name_title_attribution_and_digest(self):
        jfk, noisy = by_name("jfk"), by_name("jfk+noise:city@5db+telephone")
        assert noisy.name == "jfk+noise:city@5dB+telephone"
        assert "city at 5 dB, telephone" in noisy.title and "gezortenplotz" in noisy.attribution
        assert [(u.id, u.reference, u.duration_s) for u in noisy.utterances] == [
            (u.id, u.reference, u.duration_s) for u in jfk.utterances
        ]
        names = ("noise:city@5dB", "noise:city@6dB", "noise:rain@5dB", "telephone", "opus@12k")
        digests = {by_name(f"jfk+{name}").digest for name in names} | {jfk.digest, noisy.digest}
        assert len(digests) == len(names) + 2

    def test_digests_are_pinned(self):
        assert by_name("jfk").digest[:16] == "bcac5db2f136bd48"
        assert by_name("jfk+noise:coffee-shop@5dB").digest[:16] == "92d3555cf84f838f"
        assert by_name("jfk+babble@5dB").digest[:16] == "6170bee9d0bbcbbd"

    def test_a_folder_may_have_conditions_and_a_plus_in_its_name(self, tmp_path):
        folder = tmp_path / "a+b"
        folder.mkdir()
        shutil.copyfile(JFK.audio, folder / "one.flac")
        (folder / "one.txt").write_text("and so")
        assert by_name(str(folder)).utterances[0].conditions == ()
        [utterance] = by_name(f"{folder}+telephone").utterances
        assert [c.name for c in utterance.conditions] == ["telephone"]

    def test_public_are_those_with_shipped_noises(self, own_noises):
        assert is_public("jfk+noise:rain@5dB+room:0.6s+room:seminar-room+babble@5dB+opus@12k")
        assert not is_public("jfk+noise:kitchen@5dB")
        assert not is_public("mine+noise:rain@5dB")

    def test_speech_of_fifteen_minutes_has_all_speakers(self):
        half, whole = by_name("test-other-15-minutes"), by_name("test-other-25-speakers")
        assert set(half.utterances) < set(whole.utterances) and half.speakers == whole.speakers
        assert 15 * 60 <= half.audio_s < 16 * 60


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("jfk+noise:nowhere@5dB", "There is no noise 'nowhere'. Choose one of: city, coffee-shop,"),
        ("jfk+noise:seminar-room@5dB", "There is no noise 'seminar-room'"),
        ("jfk+noise:rain@200dB", "A level of 200 dB makes no sense"),
        ("jfk+babble@-100dB", "A level of -100 dB makes no sense"),
        ("jfk+noise:rain", "Write it like noise:coffee-shop@5dB"),
        ("jfk+noise:rain@loud", "Write it like noise:coffee-shop@5dB"),
        ("jfk+noise:rain@nandB", "Write it like"),
        ("jfk+babble:two@5dB", "Write it like babble@5dB"),
        ("jfk+hiss@5dB", "There is no condition 'hiss@5dB'. Conditions are: noise:coffee-shop@5dB"),
        ("jfk+telephone+hiss", "There is no condition 'hiss'"),
        ("jfk+telephone+", "There is no condition ''"),
        ("jfk+telephone:old", "Write it like telephone"),
        ("jfk+room:20s", "from 0.2 to 1 s"),
        ("jfk+room:kitchen", "There is no impulse response 'kitchen'. Choose one of: seminar-room"),
        ("jfk+room", "Write it like room:0.6s"),
        ("jfk+opus@2000k", "opus has no 2000 kbit/s. Choose 6 to 128."),
        ("jfk+mp3@33k", "mp3 has no 33 kbit/s. Choose 8, 16,"),
        ("jfk+mp3@k", "Write it like mp3@32k"),
        ("jfk+joined:5", "Write it like joined:5min"),
        ("jfk+joined:5min@3", "Write it like joined:5min"),
        ("jfk+joined:0min", "recordings of 0 minutes. Choose 1 to 60 minutes."),
        ("jfk+joined:61min", "recordings of 61 minutes. Choose 1 to 60 minutes."),
        ("jfk+joined:1min", "jfk has 0.2 minutes of speech, too little for recordings of 1."),
        ("jfk+joined", "There is no condition 'joined'"),
        ("jfk+telephone+joined:1min", "write +joined:1min directly after the set's name"),
        ("jfk+joined:1min+joined:2min", "write +joined:2min directly after the set's name"),
        ("nobody+telephone", "There is no evaluation set or folder 'nobody'"),
    ],
)
def test_mistakes_get_a_sentence(name, sentence):
    with pytest.raises(InputError) as raised:
        by_name(name)
    assert sentence in str(raised.value)


def test_what_is_offered_comes_with_whisperq_and_has_the_name_that_results_have():
    names = conditions.common()
    assert [one.name for name in names for one in conditions.parse(name)] == names
    assert all(conditions.is_shipped(f"+{name}") for name in names)
    assert {re.split("[:@]", name)[0] for name in names} == {
        "noise",
        "babble",
        "room",
        "telephone",
        "opus",
        "mp3",
        "joined",
    }


def test_silence_has_no_speech_to_relate_noise_to():
    [condition] = conditions.parse("noise:rain@5dB")
    with pytest.raises(EvalSetError, match="pause is silent"):
        condition.apply(np.zeros(SAMPLE_RATE, np.float32), "pause", None)


@pytest.fixture
def own_noises(tmp_path: Path, monkeypatch) -> Path:
    """A folder with one noise of the user's own, `kitchen`."""
    folder = tmp_path / "noises"
    folder.mkdir()
    noise, rate = soundfile.read(noises.NOISE / "rain.flac")
    soundfile.write(folder / "kitchen.wav", noise[: 3 * rate], rate)
    monkeypatch.setenv("WHISPERQ_NOISES", str(folder))
    return folder


class TestOwnNoises:
    def test_they_are_named_by_their_files(self, own_noises):
        before = by_name("jfk+noise:kitchen@5dB")
        read_audio(before.utterances[0])
        noise, rate = soundfile.read(own_noises / "kitchen.wav")
        soundfile.write(own_noises / "kitchen.wav", noise[::-1], rate)
        assert by_name("jfk+noise:kitchen@5dB").digest != before.digest
        noises.read.cache_clear()
        with pytest.raises(InputError, match=r"kitchen\.wav was altered"):
            read_audio(before.utterances[0])

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "empty file"),
            (b"no sound", "nothing.wav"),
            (np.zeros(SAMPLE_RATE * 2), "is silent"),
            (np.ones(100) / 2, "shorter than a second"),
        ],
    )
    def test_what_is_no_noise_gets_a_sentence(self, own_noises, content, sentence):
        path = own_noises / "nothing.wav"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            soundfile.write(path, content, SAMPLE_RATE)
        with pytest.raises(InputError, match=sentence):
            by_name("jfk+noise:nothing@5dB")

    def test_a_missing_folder_gets_a_sentence(self, monkeypatch, tmp_path):
        monkeypatch.setenv("WHISPERQ_NOISES", str(tmp_path / "gone"))
        with pytest.raises(InputError, match="WHISPERQ_NOISES"):
            by_name("jfk+noise:rain@5dB")


class TestShipped:
    def test_the_manifest_tells_the_truth(self):
        files = noises.shipped()
        assert {p.stem for p in noises.NOISE.glob("*.flac")} == set(files)
        for file in files.values():
            assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
            info = soundfile.info(file.path)
            assert (info.samplerate, info.channels) == (SAMPLE_RATE, 1)
            assert file.attribution

    def test_each_is_named_in_the_readme_and_all_are_small(self):
        readme = (noises.NOISE / "README.md").read_text("utf-8")
        assert all(f"`{name}`" in readme for name in noises.shipped())
        assert sum(f.path.stat().st_size for f in noises.shipped().values()) < 2_000_000
