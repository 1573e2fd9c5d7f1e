"""Long recordings of a set's utterances: which are joined, and what is heard."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from whisperq_core.analyze.blocks import blocks_of
from whisperq_core.errors import EvalSetError
from whisperq_core.speech import conditions, joined_recordings
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import (
    Utterance,
    by_name,
    is_public,
    read_audio,
    shipped_with_digest,
    under_conditions,
)

OTHER = by_name("test-other-25-speakers")
PAUSE = round(joined_recordings.PAUSE_S * SAMPLE_RATE)


def spoken(recording: Utterance) -> list[Utterance]:
    """The utterances of a recording in order, found by its reference alone."""
    first, last = recording.id.split("-to-")
    [joining] = [c for c in recording.conditions if c.joined_min]
    parts = [u for digest in joining.sources for u in OTHER.utterances if u.sha256 == digest]
    assert (parts[0].id, parts[-1].id) == (first, last)
    assert recording.reference == " ".join(u.reference for u in parts)
    return parts


@pytest.mark.parametrize("minutes", [1, 2, 5, 15])
def test_every_utterance_is_in_one_recording_of_about_the_length(minutes):
    made = by_name(f"test-other-25-speakers+joined:{minutes}min")
    parts = [u.id for recording in made.utterances for u in spoken(recording)]
    assert sorted(parts) == sorted(u.id for u in OTHER.utterances)
    lengths = [recording.duration_s / (60 * minutes) for recording in made.utterances]
    assert max(lengths) < 2 and sum(length < 0.5 for length in lengths) <= 1
    assert made.audio_s == pytest.approx(OTHER.audio_s + 0.5 * (261 - len(made.utterances)))


def test_they_are_in_order_of_speaker_chapter_and_utterance():
    made = by_name("test-other-25-speakers+joined:5min")
    for recording in made.utterances:
        numbers = [tuple(map(int, u.id.split("-"))) for u in spoken(recording)]
        assert numbers == sorted(numbers)
    # As text, 10 would be before 2.
    nine, ten = (replace(OTHER.utterances[0], id=f"1-1-{n}") for n in (9, 10))
    assert joined_recordings.groups([ten, nine], 60) == [(nine, ten)]


@pytest.mark.parametrize("minutes", [1, 5])
def test_recordings_with_different_speakers_share_none(minutes):
    made = by_name(f"test-other-25-speakers+joined:{minutes}min")
    own: dict[str, set[str]] = {}
    for recording in made.utterances:
        parts = spoken(recording)
        speakers = {u.speaker for u in parts}
        assert recording.speaker == "+".join(sorted(speakers, key=int))
        own.setdefault(recording.speaker, set()).update(speakers)
        minute = sum(u.duration_s for u in OTHER.utterances if u.speaker == parts[0].speaker)
        if minute > 60 * minutes:
            assert len(speakers) == 1
    everyone = [speaker for speakers in own.values() for speaker in speakers]
    assert len(everyone) == len(set(everyone)) == 25
    blocks = blocks_of(tuple(u.speaker for u in made.utterances))
    assert blocks.kind == "speaker" and blocks.number == len(own)


def test_without_speakers_a_recording_has_none_and_languages_are_apart():
    some = [replace(u, speaker=None) for u in OTHER.utterances[:40]]
    german = [replace(u, language="de", id=f"de-{u.id}") for u in some[:20]]
    made = joined_recordings.groups([*some, *german], 60)
    assert all(joined_recordings.speaker_of(parts) is None for parts in made)
    assert all(len({u.language for u in parts}) == 1 for parts in made)
    assert sum(map(len, made)) == 60


def test_languages_without_spaces_are_joined_without():
    parts = [replace(u, language="zh", reference="你好") for u in OTHER.utterances[:2]]
    assert joined_recordings.reference_of(parts) == "你好你好"
    silent = [replace(OTHER.utterances[0], reference=""), OTHER.utterances[1]]
    assert joined_recordings.reference_of(silent) == OTHER.utterances[1].reference


def test_samples_are_the_utterances_with_silence_between():
    recording = by_name("test-other-25-speakers+joined:1min").utterances[3]
    samples, at = read_audio(recording), 0
    assert samples.dtype == np.float32
    for part in spoken(recording):
        own = read_audio(part)
        assert np.array_equal(samples[at : at + len(own)], own)
        pause = samples[at + len(own) : at + len(own) + PAUSE]
        assert not pause.any() and len(pause) in (0, PAUSE)
        at += len(own) + PAUSE
    assert at == len(samples) + PAUSE
    assert len(samples) / SAMPLE_RATE == pytest.approx(recording.duration_s, abs=0.01)
    assert read_audio(recording).tobytes() == samples.tobytes()


def test_name_title_and_digest_say_it():
    made = by_name("test-other-25-speakers+joined:5 MIN")
    assert made.name == "test-other-25-speakers+joined:5min"
    assert made.title.endswith("25 speakers, joined into recordings of about 5 minutes")
    assert made.digest[:16] == "3e9884693701b7d8"
    names = ("+joined:5min", "+joined:4min", "+joined:5min+telephone", "+telephone", "")
    assert len({by_name(OTHER.name + name).digest for name in names}) == len(names)
    # Other audio in the middle of a recording is another set.
    middle = OTHER.utterances[100]
    altered = tuple(replace(u, sha256="0" * 64) if u is middle else u for u in OTHER.utterances)
    others = under_conditions(replace(OTHER, utterances=altered), "+joined:5min")
    assert others.digest != made.digest and len(others.utterances) == len(made.utterances)
    assert shipped_with_digest(made.name, made.digest) == made
    assert is_public(made.name) and not is_public("mine+joined:5min")


def test_noise_is_put_on_the_whole_recording():
    quiet = by_name("test-other-25-speakers+joined:1min").utterances[3]
    noisy = by_name("test-other-25-speakers+joined:1min+noise:rain@20dB").utterances[3]
    assert (noisy.id, noisy.reference) == (quiet.id, quiet.reference)
    difference = read_audio(noisy) - read_audio(quiet)
    first = len(read_audio(spoken(quiet)[0]))
    assert np.abs(difference[first : first + PAUSE]).max() > 0  # in the pause, too


def test_an_altered_file_anywhere_gets_a_sentence(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for u in OTHER.utterances[:12]:
        shutil.copyfile(u.audio, folder / f"{u.id}.flac")
        (folder / f"{u.id}.txt").write_text(u.reference)
    [recording] = by_name(f"{folder}+joined:1min").utterances
    assert recording.speaker is None
    before = read_audio(recording)
    shutil.copyfile(OTHER.utterances[20].audio, folder / f"{OTHER.utterances[5].id}.flac")
    with pytest.raises(EvalSetError, match="was altered"):
        read_audio(recording)
    [again] = by_name(f"{folder}+joined:1min").utterances
    assert len(read_audio(again)) != len(before)


def test_recordings_without_speech_are_joined_as_they_are_made():
    [first, *_] = by_name("no-speech-15-minutes+joined:1min").utterances
    assert first.reference == "" and first.duration_s > 30
    samples = read_audio(first)
    assert len(samples) / SAMPLE_RATE == pytest.approx(first.duration_s)
    assert re.fullmatch(r"\d+-[a-z-]+-to-\d+-[a-z-]+", first.id)


def test_a_folder_called_joined_is_a_folder():
    assert conditions.split("calls+joined") == ("calls+joined", "")
    name = "calls+joined:5min+noise:rain@5dB+telephone"
    assert conditions.split(name) == ("calls", "+joined:5min+noise:rain@5dB+telephone")
    assert conditions.split_from_recordings(name) == (
        "calls+joined:5min",
        "+noise:rain@5dB+telephone",
    )
    assert conditions.split_from_recordings("calls+telephone") == ("calls", "+telephone")
    assert conditions.split_from_recordings("calls") == ("calls", "")
