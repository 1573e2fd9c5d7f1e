"""The samples decide how long a recording is, not what its header tells."""

import io

import numpy as np
import pytest
import soundfile

from whisperq_core.settings import PROJECT
from whisperq_core.speech.decode import load
from whisperq_core.speech.header_repair import repaired

SHORT = PROJECT / "speech" / "test-clean" / "2830-3980-0043.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(SHORT, dtype="float32")[0]


def encoded(samples: np.ndarray, kind: str, subtype: str = "PCM_16") -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format=kind, subtype=subtype)
    return bytearray(buffer.getvalue())


def with_length(content: bytearray, kind: str, frames: int) -> bytes:
    """The file as if its header had been written after so many frames of 16 bits."""
    size, changed = 2 * frames, bytearray(content)

    def put(at: int, number: int, bytes_: int, order: str = "big") -> None:
        changed[at : at + bytes_] = number.to_bytes(bytes_, order)

    data = content.find(b"SSND" if kind == "AIFF" else b"data")
    if kind in ("WAV", "WAVEX"):
        put(data + 4, size, 4, "little")
        put(4, data + size, 4, "little")
    elif kind == "RF64":
        put(content.find(b"ds64") + 16, size, 8, "little")
    elif kind == "AIFF":
        put(data + 4, size + 8, 4)
        put(content.find(b"COMM") + 10, frames, 4)
    elif kind == "AU":
        put(8, size, 4)
    elif kind == "CAF":
        put(data + 4, size + 4, 8)
    return bytes(changed)


@pytest.mark.parametrize("frames", [0, 4000])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF"])
def test_all_samples_are_read_where_the_header_tells_fewer(speech, kind, frames):
    whole = encoded(speech, kind)
    assert np.array_equal(load(with_length(whole, kind, frames)), load(bytes(whole)))


@pytest.mark.parametrize("frames", [0, 4000])
def test_a_file_of_a_recorder_that_was_stopped_is_repaired_on_disk_too(speech, frames, tmp_path):
    path = tmp_path / "stopped.wav"
    path.write_bytes(with_length(encoded(speech, "WAV"), "WAV", frames))
    assert len(load(path)) == len(speech)


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_24_bits_and_a_count_that_alone_is_wrong(speech, kind):
    whole = encoded(speech, kind, "PCM_24")
    changed = bytearray(whole)
    if kind == "AIFF":  # the sizes of its chunks are right
        at = whole.find(b"COMM") + 10
        changed[at : at + 4] = bytes(4)
    assert np.array_equal(load(bytes(changed)), load(bytes(whole)))


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "CAF"])
def test_chunks_after_the_samples_are_no_sound(speech, kind):
    whole = encoded(speech, kind)
    name, size = (b"LIST", 40_000) if kind == "WAV" else (b"ANNO", 40_000)
    order = "little" if kind == "WAV" else "big"
    chunk = name + size.to_bytes(8 if kind == "CAF" else 4, order) + b"note" * 10_000
    assert np.array_equal(load(bytes(whole + chunk)), load(bytes(whole)))


def test_a_short_tag_after_the_samples_is_no_sound(speech):
    whole = bytes(encoded(speech, "WAV"))
    assert np.array_equal(load(whole + b"\0\1TAG" + bytes(123)), load(whole))


def test_a_file_that_is_right_is_the_same_object():
    file = io.BytesIO(SHORT.read_bytes())
    assert repaired(file) is file and file.tell() == 0


@pytest.mark.parametrize(
    "content", [b"RIFF", b"RIFF\0\0\0\0WAVE", b"FORM\0\0\0\0AIFFSSND", b"caff"]
)
def test_what_ends_within_a_header_is_left_to_the_libraries(content):
    file = io.BytesIO(content)
    assert repaired(file) is file
