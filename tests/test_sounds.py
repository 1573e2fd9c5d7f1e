import numpy as np
import pytest
import soundfile

from whisperq_core import audio
from whisperq_core.errors import AudioError
from whisperq_core.sounds import OUTLINE, outline, sounds_of


def test_recordings_are_looked_at_in_another_process(tmp_path, jfk):
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam")
    silent = tmp_path / "silent.wav"
    silent.write_bytes(audio.encode_wav(np.zeros(800, np.float32)))
    files = [jfk.audio, tmp_path / "letter.wav", silent]
    found = sounds_of([(path, tmp_path / f"{path.stem}.flac") for path in files])
    assert found[0].duration_s == pytest.approx(11.0, abs=0.1) and not found[0].silent
    assert len(found[0].outline) == OUTLINE and 0.1 < max(found[0].outline) <= 1
    assert isinstance(found[1], AudioError) and "letter.wav" in str(found[1])
    assert found[2].silent and max(found[2].outline) == 0
    # The copy that is played is the sound that models hear.
    played, rate = soundfile.read(tmp_path / "jfk.flac", dtype="float32")
    assert rate == 16_000 and np.abs(played - audio.load(jfk.audio)).max() < 1e-3


def test_a_file_that_brings_the_process_down_is_one_sentence(tmp_path, jfk):
    # There is no folder to write the copy to: an error that is not ours ends the process.
    found = sounds_of(
        [(jfk.audio, tmp_path / "a.flac"), (jfk.audio, tmp_path / "no" / "folder" / "b.flac")]
    )
    assert found[0].duration_s > 10 and "could not be decoded" in str(found[1])


def test_an_outline_is_the_peaks_of_equal_parts():
    samples = np.zeros(6_000, np.float32)
    samples[25] = -0.5
    assert outline(samples)[2] == 0.5 and outline(samples).sum() == 0.5
    assert outline(np.array([0.1, 3.0], np.float32)).tolist() == pytest.approx([0.1, 1.0])
