import time

import numpy as np
import psutil
import pytest
import soundfile

from whisperq_core.errors import AudioError, StoreError
from whisperq_core.speech import decode
from whisperq_core.speech.isolated_decoder import (
    OUTLINE_POINTS,
    ProcessLimits,
    decode_files,
    peak_outline,
)


def test_recordings_are_looked_at_in_another_process(tmp_path, jfk):
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam")
    silent = tmp_path / "silent.wav"
    silent.write_bytes(decode.encode_wav(np.zeros(800, np.float32)))
    files = [jfk.audio, tmp_path / "letter.wav", silent]
    found = decode_files([(path, tmp_path / f"{path.stem}.flac") for path in files])
    assert found[0].duration_s == pytest.approx(11.0, abs=0.1) and not found[0].silent
    assert len(found[0].outline) == OUTLINE_POINTS and 0.1 < max(found[0].outline) <= 1
    assert isinstance(found[1], AudioError) and "letter.wav" in str(found[1])
    assert found[2].silent and max(found[2].outline) == 0
    # The copy that is played is the sound that models hear.
    played, rate = soundfile.read(tmp_path / "jfk.flac", dtype="float32")
    assert rate == 16_000 and np.abs(played - decode.load(jfk.audio)).max() < 1e-3


def test_a_copy_that_cannot_be_stored_says_so(tmp_path, jfk):
    assert decode_files([(jfk.audio, tmp_path / "a.flac")])[0].duration_s > 10
    with pytest.raises(StoreError, match=r"could not be stored in .*WHISPERQ_CACHE"):
        decode_files([(jfk.audio, tmp_path / "no" / "folder" / "b.flac")])
    assert psutil.Process().children(recursive=True) == []


def test_a_file_that_takes_too_long_or_too_much_memory_does_not_take_the_others_with_it(
    tmp_path, jfk
):
    # Half an hour of silence in 20 kB.
    long = tmp_path / "long.flac"
    soundfile.write(long, np.zeros(30 * 60 * 16_000, np.int16), 16_000)
    assert long.stat().st_size < 200_000
    before = time.monotonic()
    found = decode_files(
        [(jfk.audio, None), (long, None), (jfk.audio, None)], ProcessLimits(time_s=0.2)
    )
    assert time.monotonic() - before < 10
    assert found[0] == found[2] and found[0].duration_s == pytest.approx(11.0, abs=0.1)
    assert "long.flac took too long" in str(found[1])
    found = decode_files([(jfk.audio, None), (long, None)], ProcessLimits(memory_bytes=4 << 20))
    assert "long.flac could not be decoded" in str(found[1]) and found[0].duration_s > 10
    assert decode_files([(long, tmp_path / "played.flac")])[0].duration_s == 30 * 60
    assert psutil.Process().children(recursive=True) == []


def test_what_is_refused_leaves_no_copy(tmp_path):
    cut = tmp_path / "cut.flac"
    soundfile.write(cut, np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000)
    cut.write_bytes(cut.read_bytes()[:200_000])
    (found,) = decode_files([(cut, tmp_path / "played.flac")])
    assert "damaged or was cut off" in str(found) and not (tmp_path / "played.flac").exists()


def test_an_outline_is_the_peaks_of_equal_parts():
    samples = np.zeros(6_000, np.float32)
    samples[25] = -0.5
    assert peak_outline(samples)[2] == 0.5 and peak_outline(samples).sum() == 0.5
    assert peak_outline(np.array([0.1, 3.0], np.float32)).tolist() == pytest.approx([0.1, 1.0])
