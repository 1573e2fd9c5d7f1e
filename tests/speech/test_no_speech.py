"""Recordings without speech: how long, how loud, of what, and the same each time."""

import hashlib

import numpy as np
import pytest

from whisperq_core.speech import evaluation_sets, no_speech
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import by_name, is_public, read_audio


def test_an_hour_of_all_noises_alone_in_pairs_and_of_silence():
    whole, quarter = by_name("no-speech"), by_name("no-speech-15-minutes")
    assert whole.audio_s == 3600 and quarter.audio_s == 900
    assert quarter.utterances == whole.utterances[:45]
    # Silence, five noises, and their ten pairs.
    assert len(whole.speakers) == 16 and len(quarter.speakers) == 16
    assert whole.without_speech == 180 and "gezortenplotz" in whole.attribution
    assert is_public("no-speech") and is_public("no-speech+telephone")
    assert whole.digest != quarter.digest


def test_each_has_its_level_and_is_another_stretch():
    utterances = by_name("no-speech").utterances
    for number, level in ((1, -30), (10, -30), (17, -40), (40, -50)):
        samples = read_audio(utterances[number]).astype(float)
        assert len(samples) == 20 * SAMPLE_RATE
        found = 10 * np.log10(np.mean(np.square(samples)))
        # None is turned down, since none would clip.
        assert found == pytest.approx(level, abs=0.1)
    assert not read_audio(utterances[0]).any() and utterances[0].speaker == "silence"
    first, second = (read_audio(utterances[n]) for n in (1, 17))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5


def test_they_are_those_of_every_machine():
    samples = read_audio(by_name("no-speech").utterances[10])
    assert hashlib.sha256(samples.tobytes()).hexdigest()[:16] == "c6bdb37797f0ee24"
    assert by_name("no-speech").digest[:16] == "2466bc0c3e7c9f08"


@pytest.fixture
def four_recordings(monkeypatch):
    monkeypatch.setattr(no_speech, "SETS", {"no-speech": 4})
    evaluation_sets.without_speech.cache_clear()
    yield
    evaluation_sets.without_speech.cache_clear()


@pytest.mark.model
def test_what_is_hallucinated_is_counted(store, four_recordings, capsys):
    from whisperq_core.cli.main import main

    arguments = ["run", "--models", "tiny.en", "--recipes", "fp32", "--only", "accuracy"]
    assert main([*arguments, "--sets", "no-speech"]) == 0
    [run] = store.runs()
    assert run.words.reference_length == 0 and run.minutes == pytest.approx(4 / 3)
    capsys.readouterr()
    assert main(["hallucinations", "--detect"]) == 0
    printed = capsys.readouterr().out
    words = run.words.insertions
    assert f"{words / run.minutes:.2f} words a minute" in printed
    assert f"{words} in 1 minutes" in printed
    # The detector takes none of them for speech.
    assert words > 0 and "where speech is detected only: 0.00 (0.00 to 2.25)" in printed
    assert main(["claims"]) == 0
    assert main(["report", "--out", str(store.root / "report.html")]) == 0
