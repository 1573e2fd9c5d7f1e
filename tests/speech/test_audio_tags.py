"""A tag before or after a recording changes no sample of it, in whatever format."""

import io

import numpy as np
import pytest
import soundfile

from tests.support.encoded_audio import ENCODED, SHORT, encoded, with_soundfile
from whisperq_core.errors import AudioError
from whisperq_core.speech.audio_tags import without_tags
from whisperq_core.speech.decode import file_duration_s, load


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(SHORT, dtype="float32")[0]


def id3v2(size: int, footer: bool = False) -> bytes:
    """A tag with a title and padding; size: of what follows its header of 10 bytes."""
    title = b"TIT2\0\0\0\x06\0\0\x03title"
    rest = b"\x04\0" + bytes([16 * footer, 0, 0, size >> 7, size & 0x7F])
    return b"ID3" + rest + title.ljust(size, b"\0") + (b"3DI" + rest if footer else b"")


def ape(header: bool = True) -> bytes:
    item = (5).to_bytes(4, "little") + bytes(4) + b"Title\0hello"

    def mark(flags: int) -> bytes:
        numbers = (2000, len(item) + 32, 1, flags)
        return b"APETAGEX" + b"".join(n.to_bytes(4, "little") for n in numbers) + bytes(8)

    return (mark(0xA0000000) + item + mark(0x80000000)) if header else item + mark(0)


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
LYRICS3 = b"LYRICSBEGININD0000210000021LYRICS200"
BEFORE = {
    "ID3v2": id3v2(1000),
    "of an odd size": id3v2(1001),
    "with a footer": id3v2(500, footer=True),
    "two": id3v2(1000) + id3v2(20),
    "APE": ape(),
}
AFTER = {
    "ID3v1": ID3V1,
    "APEv2": ape(),
    "APEv1": ape(header=False),
    "two APE": ape() + ape(header=False),
    "all": id3v2(500, footer=True) + ape() + LYRICS3 + ID3V1,
}


@pytest.mark.parametrize("tag", [*BEFORE, *AFTER])
def test_a_wav_with_a_tag_loses_and_gains_no_sample(speech, tag, tmp_path):
    data = with_soundfile(speech, 16_000, "WAV", "PCM_16")
    tagged = tmp_path / "tagged.wav"
    tagged.write_bytes(BEFORE.get(tag, b"") + data + AFTER.get(tag, b""))
    np.testing.assert_array_equal(load(tagged), speech)
    assert file_duration_s(tagged) == len(speech) / 16_000


@pytest.mark.parametrize(("name", "writer", "kind", "codec", "rate_hz"), ENCODED)
def test_each_format_between_tags_gives_the_same_samples(
    speech, name, writer, kind, codec, rate_hz
):
    data = encoded(speech[:16_000], writer, kind, codec, rate_hz)
    untagged = load(data)
    for tagged in (BEFORE["two"] + data, data + AFTER["all"]):
        np.testing.assert_array_equal(load(tagged), untagged)


@pytest.mark.parametrize("junk", [bytes(2000), b"\r\n", b"\xff\xfb junk", BEFORE["two"] + bytes(9)])
def test_what_is_before_the_first_frame_of_an_mp3_is_no_sound(speech, junk):
    np.testing.assert_array_equal(
        load(junk + with_soundfile(speech, 16_000, "MP3", None)),
        load(with_soundfile(speech, 16_000, "MP3", None)),
    )


def test_what_looks_like_an_mp3_within_another_format_is_no_beginning(speech):
    note = b"LIST" + (48).to_bytes(4, "little") + b"INFOISFT" + (36).to_bytes(4, "little")
    note += b"\xff\xfb\x90\x00".ljust(20, b"\0") + b"Info".ljust(16, b"\0")
    wav = with_soundfile(speech, 16_000, "WAV", "PCM_16")
    size = (int.from_bytes(wav[4:8], "little") + len(note)).to_bytes(4, "little")
    noted = wav[:4] + size + wav[8:36] + note + wav[36:]
    np.testing.assert_array_equal(load(noted), speech)


@pytest.mark.parametrize(
    "end",
    [
        b"999999LYRICS200",
        ape()[-32:].replace(b"\x33", b"\xff"),
        b"3DI\x04\0\x10\0\0\x7f\x7f",
        b"APETAGEX",
    ],
)
def test_a_tag_that_is_not_whole_is_left(end):
    file = io.BytesIO(bytes(100) + end)
    assert without_tags(file) is file


def test_a_file_of_nothing_but_tags_is_refused():
    with pytest.raises(AudioError, match=r"starts like MP3 but is not a readable recording"):
        load(id3v2(1000) * 1000)
