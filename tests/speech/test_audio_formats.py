"""The table of formats holds what libsndfile and the FFmpeg of the PyAV wheel really decode."""

import io

import av
import numpy as np
import pytest
import soundfile

from tests.support.encoded_audio import (
    ENCODED,
    SHORT,
    aligned_correlation,
    encoded,
    with_ffmpeg,
)
from whisperq_core.errors import AudioError
from whisperq_core.speech import audio_formats, decode
from whisperq_core.speech.audio_formats import AUDIO_SUFFIXES, FORMATS, HEAD_BYTES, sniff
from whisperq_core.speech.decode import AudioStream, load

BY_NAME = {format.name: format for format in FORMATS}


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(SHORT, dtype="float32")[0]


@pytest.mark.parametrize(("name", "writer", "kind", "codec", "rate_hz"), ENCODED)
def test_each_format_is_decoded_and_recognised(speech, name, writer, kind, codec, rate_hz):
    data = encoded(speech, writer, kind, codec, rate_hz)
    decoded = load(data)
    assert decode.duration_s(decoded) == pytest.approx(decode.duration_s(speech), abs=0.15)
    # What lies above 4 kHz is lost at 8 kHz, and old codecs lose more.
    lowest = 0.6 if codec == "real_144" else 0.7 if rate_hz == 8_000 else 0.85
    assert aligned_correlation(decoded, speech) > lowest
    assert sniff(data[:HEAD_BYTES]) is BY_NAME[name]


def test_only_formats_that_nothing_here_can_write_are_not_decoded_above():
    assert set(BY_NAME) - {name for name, *_ in ENCODED} == {"DSS dictation"}


def test_the_table_names_what_the_libraries_have():
    def has_decoder(name: str) -> bool:
        try:
            return av.Codec(name, "r").type == "audio"
        except ValueError:
            return False

    demuxers = {part for name in av.formats_available for part in name.split(",")}
    assert set(audio_formats.FFMPEG_DEMUXERS) <= demuxers
    assert [name for name in audio_formats.FFMPEG_CODECS if not has_decoder(name)] == []
    assert set(soundfile.available_formats()) >= audio_formats.SOUNDFILE_FORMATS


def test_nothing_in_the_table_opens_other_files():
    forbidden = {"concat", "hls", "dash", "sdp", "rtsp", "image2", "lavfi", "tty", "data", "svg"}
    assert not forbidden & set(audio_formats.FFMPEG_DEMUXERS)
    for name in audio_formats.FFMPEG_CODECS:
        assert av.Codec(name, "r").type == "audio"


def test_a_suffix_means_one_format():
    every = [suffix for format in FORMATS for suffix in format.suffixes]
    assert len(every) == len(set(every)) == len(AUDIO_SUFFIXES)
    assert all(s == s.lower() and s.startswith(".") for s in every)
    before = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm"}
    assert before < AUDIO_SUFFIXES
    assert {".aiff", ".mov", ".amr", ".caf", ".sph"} < AUDIO_SUFFIXES


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"MAC \x96\x0f", "x.wav is Monkey's Audio, which cannot be decoded. Convert it to FLAC"),
        (b"MThd\0\0\0\6", "x.wav is a MIDI file, which holds notes and no sound, not a recording"),
        (b"PK\x03\x04\0\0", "x.wav is a ZIP archive, not a recording. Unpack it, or import it"),
        (b"%PDF-1.7\n\xff", "x.wav is a PDF document, not a recording"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer to the file"),
        (b"<!DOCTYPE html>\n<html>", "x.wav is a web page, not a recording. Download the file"),
        (b"#EXTM3U\n#EXTINF:5,\na.mp3\n", "x.wav is a playlist, not a recording"),
        ("Guten Tag, Herr Groß".encode(), "x.wav is a text file, not a recording"),
        (b"OggS\0\2" + bytes(50), "x.wav starts like OGG but is not a readable recording"),
        (b"\0\1\2\3" * 20, "x.wav is not a readable recording, whatever its file extension"),
    ],
)
def test_what_is_refused_is_named_with_what_to_do(head, message):
    with pytest.raises(AudioError) as caught:
        load(head, "x.wav")
    assert message in str(caught.value)


def test_a_codec_that_cannot_be_decoded_is_named(speech):
    data = with_ffmpeg(speech, "matroska", "tta", 16_000)
    with pytest.raises(AudioError, match=r"film\.mkv has sound in the codec tta"):
        load(data, "film.mkv")


def with_tracks(tracks: list[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        streams = [out.add_stream("flac", rate=16_000, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            pcm = (samples * 32_767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return buffer.getvalue()


def test_of_several_tracks_the_first_with_sound_is_used(speech):
    silence = np.zeros_like(speech)
    for tracks, used in (([silence, speech], 2), ([speech, silence], 1), ([silence, silence], 1)):
        stream = AudioStream(with_tracks(tracks))
        samples = np.concatenate(list(stream))
        np.testing.assert_allclose(samples, tracks[used - 1], atol=1e-4)
        assert f"It has 2 audio tracks: number {used} is used" in stream.notes[0]
        assert stream.silent == (not np.any(tracks[used - 1]))


def test_a_film_is_read_for_its_sound(speech):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        video = out.add_stream("mpeg4", rate=5, width=32, height=32)
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture.pts = number
            out.mux(video.encode(picture))
        frame = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux(audio.encode(frame))
        for stream in (video, audio):
            out.mux(stream.encode(None))
    assert aligned_correlation(load(buffer.getvalue()), speech) > 0.95


@pytest.mark.parametrize("wide", [False, True])
def test_the_pauses_of_a_phone_are_part_of_an_amr_recording(speech, wide):
    """Discontinuous transmission: a description of the noise, then frames without data."""
    if wide:
        start, before, after = b"#!AMR-WB\n", b"", b""
    else:
        data = with_ffmpeg(speech, "amr", "libopencore_amrnb", 8_000)
        start, before, after = data[:6], data[6 : 6 + 40 * 13], data[6 + 40 * 13 :]
    pause = (bytes([0x4C if wide else 0x44]) + bytes(5) + b"\x7c" * 7) * 5
    frames = len(before + after) // 13 + 5 * 8
    assert len(load(start + before + pause + after)) == frames * 320  # of 20 ms


@pytest.mark.parametrize(("name", "writer", "kind", "codec", "rate_hz"), ENCODED)
def test_no_format_gives_more_than_the_longest_duration(speech, name, writer, kind, codec, rate_hz):
    data = encoded(speech, writer, kind, codec, rate_hz)
    with pytest.raises(AudioError, match=r"longer than 1 seconds, the most that can be used"):
        load(data, limits=decode.Limits(max_duration_s=1.0))
