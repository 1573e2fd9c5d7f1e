import hashlib
import io
import os
from contextlib import suppress

import av
import numpy as np
import pytest
import soundfile
import soxr

from tests.support.encoded_audio import SHORT, aligned_correlation, with_ffmpeg, with_soundfile
from whisperq_core.errors import AudioError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import audio_readers, decode
from whisperq_core.speech.decode import AudioStream, Limits, file_duration_s, load

SPEECH = PROJECT / "speech"
JFK = SPEECH / "jfk" / "jfk.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate_hz = soundfile.read(SHORT, dtype="float32")
    assert rate_hz == 16_000
    return samples


def assert_same_speech(decoded: np.ndarray, original: np.ndarray) -> None:
    assert decoded.dtype == np.float32 and decoded.ndim == 1
    assert decode.duration_s(decoded) == pytest.approx(decode.duration_s(original), abs=0.1)
    assert aligned_correlation(decoded, original) > 0.95
    assert np.linalg.norm(decoded) == pytest.approx(np.linalg.norm(original), rel=0.1)


def test_the_project_s_own_format_is_read_exactly(speech):
    np.testing.assert_array_equal(load(SHORT), speech)
    np.testing.assert_array_equal(load(SHORT.read_bytes()), speech)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_24"),
        ("MP3", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ],
)
def test_formats_of_soundfile(speech, kind, subtype):
    assert_same_speech(load(with_soundfile(speech, 16_000, kind, subtype)), speech)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [
        ("ipod", "aac", 44_100),
        ("mp4", "aac", 48_000),
        ("adts", "aac", 16_000),
        ("webm", "libopus", 48_000),
    ],
)
def test_formats_of_ffmpeg(speech, container, codec, rate_hz):
    assert_same_speech(load(with_ffmpeg(speech, container, codec, rate_hz)), speech)


def test_title_in_an_old_encoding_does_not_stop_the_sound(speech):
    data = with_ffmpeg(speech, "ipod", "aac", 16_000, title="Gespraech")
    assert_same_speech(load(data.replace(b"Gespraech", b"Gespr\xe4che")), speech)


def test_streamed_flac_that_does_not_tell_its_length(speech):
    data = bytearray(SHORT.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the sample count in STREAMINFO
    data[22:26] = bytes(4)
    np.testing.assert_array_equal(load(bytes(data)), speech)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_ogg_files_are_heard_to_the_end(speech, subtype):
    parts = speech, speech[:16_000]
    data = b"".join(with_soundfile(part, 16_000, "OGG", subtype) for part in parts)
    decoded = load(data)  # with a few milliseconds between them
    assert_same_speech(decoded[: len(speech)], speech)
    assert_same_speech(decoded[-16_000:], speech[:16_000])


def test_joined_mp3_files_are_read_to_the_end(speech):
    one = with_soundfile(speech, 16_000, "MP3", "MPEG_LAYER_III")
    joined = load(one + one)
    # The second file's own header is a frame, and its padding stays.
    assert len(joined) / 16_000 == pytest.approx(2 * len(speech) / 16_000, abs=0.3)
    assert_same_speech(joined[: len(speech)], speech)


def test_an_mp3_without_a_count_is_read_to_the_end(speech):
    """Its bit rate falls, so that the length estimated from the first frame is too short."""
    loud = 0.3 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    samples = np.concatenate([loud, np.zeros(40 * 16_000, np.float32), speech])
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", 16_000, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        file.write(samples)
    content = buffer.getvalue()
    frames = mpeg_frames(content)
    stream = content[frames[20] :]  # as a listener of a stream records it
    length_s = len(load(stream)) / 16_000
    assert length_s == pytest.approx(0.036 * (len(frames) - 20), abs=0.2)


def mpeg_frames(content: bytes) -> list[int]:
    """Where the frames of a 16 kHz MP3 without a checksum begin; each lasts 36 ms."""
    kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    starts = [0]
    while (at := starts[-1]) < len(content):
        padding = content[at + 2] >> 1 & 1
        starts.append(at + 72 * kbits[content[at + 2] >> 4] * 1000 // 16_000 + padding)
    return starts[:-1]


def test_sizes_that_a_header_makes_up(speech):
    data = bytearray(with_soundfile(speech, 16_000, "WAV", "PCM_16"))
    at = data.index(b"data") + 4
    for claimed in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"):
        data[at : at + 4] = claimed
        np.testing.assert_array_equal(load(bytes(data)), load(SHORT))


def test_telephone_sound(speech):
    narrow = soxr.resample(speech, 16_000, 8_000)
    decoded = load(with_soundfile(narrow, 8_000, "WAV", "PCM_16"))
    assert_same_speech(decoded, soxr.resample(narrow, 8_000, 16_000))
    assert aligned_correlation(decoded, speech) > 0.85  # what lies above 4 kHz is gone


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 96_000])
def test_sample_rates(speech, rate_hz):
    other = soxr.resample(speech, 16_000, rate_hz)
    assert_same_speech(load(with_soundfile(other, rate_hz, "WAV", "PCM_16")), speech)


def test_blocks_join_without_a_seam():
    original, _ = soundfile.read(JFK, dtype="float32")
    other = soxr.resample(original, 16_000, 44_100)
    assert len(other) > 3 * audio_readers.BLOCK_FRAMES
    decoded = load(with_soundfile(other, 44_100, "WAV", "FLOAT"))
    whole = soxr.resample(other, 44_100, 16_000)
    np.testing.assert_allclose(decoded, whole, atol=1e-4)


def test_channels_are_averaged(speech):
    stereo = np.stack([speech, np.zeros_like(speech)], axis=1)
    decoded = load(with_soundfile(stereo, 16_000, "WAV", "FLOAT"))
    np.testing.assert_allclose(decoded, speech / 2, atol=1e-6)


def test_44_khz_stereo(speech):
    other = soxr.resample(speech, 16_000, 44_100)
    stereo = np.stack([other, other], axis=1)
    assert_same_speech(load(with_soundfile(stereo, 44_100, "WAV", "PCM_16")), speech)


@pytest.mark.parametrize("wrong_name", ["speech.mp3", "speech.raw", "speech.txt", "speech"])
def test_content_decides_and_not_the_name(tmp_path, speech, wrong_name):
    path = tmp_path / wrong_name
    path.write_bytes(SHORT.read_bytes())
    np.testing.assert_array_equal(load(path), speech)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"Good morning, this is a text.\n" * 100, "not a recording"),
        (b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/x.mp3\n", "not a recording"),
        (b"RIFF\x24\x00\x00\x00WAVE", "not a readable recording"),
        (b"\x00" * 10_000, "not a readable recording"),
        (SHORT.read_bytes()[:3000], "damaged or was cut off"),
        (SHORT.read_bytes()[:20], "not a readable recording|damaged|no sound"),
    ],
    ids=["empty", "text", "playlist", "header", "zeros", "cut", "cut-header"],
)
def test_what_is_not_a_recording(tmp_path, content, message):
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"talk\.wav .*({message})"):
        load(path)


def test_damaged_mp3_prints_nothing_and_other_messages_are_not_lost(speech, capfd):
    data = bytearray(with_soundfile(speech, 16_000, "MP3", "MPEG_LAYER_III"))
    for place in range(500, len(data), 97):
        data[place] ^= 0x5A
    with soundfile.SoundFile(io.BytesIO(data)) as opened:
        opened.read()
    assert "mpg123" in capfd.readouterr().err  # what a user would see
    with suppress(AudioError):
        load(bytes(data))
    assert capfd.readouterr() == ("", "")
    with audio_readers._no_decoder_messages():
        os.write(2, b"Note: Trying to resync...\nthe disk is full\n")
    assert capfd.readouterr().err == "the disk is full\n"


def test_a_list_of_files_does_not_open_other_files(tmp_path, monkeypatch, speech):
    (tmp_path / "secret.aac").write_bytes(with_ffmpeg(speech, "adts", "aac", 16_000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="not a recording"):
        load(b"ffconcat version 1.0\nfile secret.aac\n")


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.aac\n#EXT-X-ENDLIST\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><BaseURL>secret.aac'
        b"</BaseURL></AdaptationSet></Period></MPD>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="secret.aac"/></svg>',
    ],
    ids=["hls", "sdp", "dash", "svg"],
)
def test_other_lists_are_no_recordings(tmp_path, monkeypatch, speech, content):
    (tmp_path / "secret.aac").write_bytes(with_ffmpeg(speech, "adts", "aac", 16_000))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="not a recording"):
        load(content)


def test_cut_m4a(speech):
    data = with_ffmpeg(speech, "ipod", "aac", 16_000)
    with pytest.raises(AudioError):
        load(data[: len(data) // 2])


def test_picture_has_no_sound_track():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=5, width=32, height=32)
        stream.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no sound track"):
        load(buffer.getvalue(), "film.mp4")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav does not exist"):
        load(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="is a folder, not a recording"):
        load(tmp_path)


def test_no_samples():
    with pytest.raises(AudioError, match="no sound"):
        load(with_soundfile(np.empty(0, np.float32), 16_000, "WAV", "PCM_16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_not_numbers(speech, bad):
    broken = speech.copy()
    broken[1000] = bad
    with pytest.raises(AudioError, match="not valid numbers"):
        load(with_soundfile(broken, 16_000, "WAV", "FLOAT"))


@pytest.mark.parametrize("rate_hz", [1_000, 500_000])
def test_sample_rates_out_of_range(speech, rate_hz):
    with pytest.raises(AudioError, match=f"sample rate of {rate_hz} Hz"):
        load(with_soundfile(speech, rate_hz, "WAV", "PCM_16"))


def test_too_many_channels():
    many = np.zeros((100, 17), np.float32)
    with pytest.raises(AudioError, match="17 channels"):
        load(with_soundfile(many, 16_000, "WAV", "PCM_16"))
    assert len(load(with_soundfile(many[:, :16], 16_000, "WAV", "PCM_16"))) == 100


def test_limit_of_size():
    size_bytes = SHORT.stat().st_size
    assert len(load(SHORT, limits=Limits(max_bytes=size_bytes)))
    for source in (SHORT, SHORT.read_bytes()):
        with pytest.raises(AudioError, match="larger than"):
            load(source, limits=Limits(max_bytes=size_bytes - 1))


@pytest.mark.parametrize("kind", ["FLAC", "webm"])
def test_limit_of_duration(speech, kind):
    data = (
        with_ffmpeg(speech, "webm", "libopus", 48_000)
        if kind == "webm"
        else with_soundfile(speech, 16_000, "FLAC", "PCM_16")
    )
    assert len(load(data, limits=Limits(max_duration_s=2.0)))
    with pytest.raises(AudioError, match=r"longer than 1\.5 seconds"):
        load(data, limits=Limits(max_duration_s=1.5))


def test_small_file_cannot_become_gigabytes():
    silence = np.zeros((48_000 * 60, 8), np.int16)
    data = with_soundfile(silence, 48_000, "FLAC", "PCM_16")
    assert len(data) < 200_000
    with pytest.raises(AudioError, match="Cut it"):
        load(data, limits=Limits(max_samples=48_000 * 60 * 8 - 1))


def test_silence_is_allowed_and_recognised(speech):
    silence = load(with_soundfile(np.zeros(16_000, np.float32), 16_000, "WAV", "PCM_16"))
    assert decode.is_silent(silence)
    assert decode.is_silent(np.empty(0, np.float32))
    assert not decode.is_silent(speech)
    assert not decode.is_silent(np.array([0.0, -0.0011], np.float32))
    assert decode.is_silent(np.array([0.0, -0.0009], np.float32))


def test_wav_for_playback(speech):
    np.testing.assert_allclose(load(decode.encode_wav(speech)), speech, atol=1 / 32_768)
    assert load(decode.encode_wav(np.full(10, 3.0, np.float32))).max() <= 1.0


def read(data: bytes) -> tuple[np.ndarray, AudioStream]:
    stream = AudioStream(data)
    return np.concatenate(list(stream)), stream


# Of the samples as float32 bytes, taken before channels, scales and tracks were looked at.
@pytest.mark.parametrize(
    ("file", "digest"),
    [
        ("jfk/jfk.flac", "e7bd740ecf3c332c"),
        ("fleurs-de-example/fleurs-de-000.flac", "87ab254124dfd423"),
        ("test-clean/61-70968-0000.flac", "c8d8746147f533e8"),
        ("test-clean/61-70968-0011.flac", "67fb0bdea7aeae64"),
        ("test-other/367-130732-0000.flac", "3e2a787591127e10"),
        ("test-other/367-130732-0001.flac", "d97db58cc4ce429f"),
        ("dev-clean-excerpt/1272-141231-0002.flac", "c62aa4b236f4aecf"),
    ],
)
def test_samples_of_shipped_recordings_stay_bit_identical(file, digest):
    assert hashlib.sha256(load(SPEECH / file).tobytes()).hexdigest()[:16] == digest


def test_plain_recordings_have_no_notes(speech):
    assert read(SHORT.read_bytes())[1].notes == []
    stereo = np.stack([speech, 0.5 * speech], axis=1)
    decoded, stream = read(with_soundfile(stereo, 16_000, "WAV", "FLOAT"))
    assert stream.notes == [] and not stream.silent
    np.testing.assert_allclose(decoded, 0.75 * speech, atol=1e-6)


@pytest.mark.parametrize(("share", "louder"), [(0.99, 1), (0.8, 1), (1.2, 2)])
@pytest.mark.parametrize("kind", ["WAV", "alac"])
def test_channels_in_opposite_phase_do_not_cancel(speech, share, louder, kind):
    noise = np.random.default_rng(0).normal(0, 1e-3, (2, len(speech))).astype(np.float32)
    channels = [speech + noise[0], -share * speech + noise[1]]
    if kind == "WAV":
        data = with_soundfile(np.stack(channels, axis=1), 16_000, "WAV", "PCM_24")
    else:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="ipod") as out:
            coder = out.add_stream("alac", rate=16_000, layout="stereo", format="s16p")
            pcm = (np.stack(channels) * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16p", layout="stereo")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux(coder.encode(frame))
            out.mux(coder.encode(None))
        data = buffer.getvalue()
    decoded, stream = read(data)
    expected = channels[louder - 1]
    np.testing.assert_allclose(decoded[: len(expected)], expected, atol=1e-4)
    assert f"channel {louder}, is used" in stream.notes[0] and not stream.silent


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_one_channel_of_many_and_unrelated_channels_are_averaged(speech, channels):
    alone = np.zeros((len(speech), channels), np.float32)
    alone[:, -1] = speech
    decoded, stream = read(with_soundfile(alone, 16_000, "WAV", "FLOAT"))
    np.testing.assert_allclose(decoded, speech / channels, atol=1e-6)
    assert stream.notes == []
    unrelated = np.stack([np.roll(speech, 5_000 * n) for n in range(channels)], axis=1)
    decoded, stream = read(with_soundfile(unrelated, 16_000, "WAV", "FLOAT"))
    np.testing.assert_allclose(decoded, unrelated.mean(axis=1), atol=1e-6)
    assert stream.notes == []


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_float_samples_on_the_scale_of_integers_are_scaled(speech, subtype, bits):
    data = with_soundfile(speech * 2.0 ** (bits - 1) * 0.99, 16_000, "WAV", subtype)
    decoded, stream = read(data)
    np.testing.assert_allclose(decoded, 0.99 * speech, atol=1e-6)
    assert f"scale of {bits}-bit integers" in stream.notes[0]


def test_a_hot_float_master_stays_as_it_is(speech):
    hot = speech / np.abs(speech).max() * 4
    decoded, stream = read(with_soundfile(hot, 16_000, "WAV", "FLOAT"))
    np.testing.assert_array_equal(decoded, hot)
    assert stream.notes == []


def test_a_spike_among_good_samples_is_refused(speech):
    spiked = speech.copy()
    spiked[1_000] = 1e6
    with pytest.raises(AudioError, match=r"samples up to 1e\+06 times full scale"):
        load(with_soundfile(spiked, 16_000, "WAV", "FLOAT"))


@pytest.mark.parametrize("peak_db", [-66, -80, -100])
def test_faint_speech_in_24_bits_is_very_quiet_and_not_silent(speech, peak_db):
    quiet = speech / np.abs(speech).max() * 10 ** (peak_db / 20)
    decoded, stream = read(with_soundfile(quiet, 16_000, "WAV", "PCM_24"))
    assert not stream.silent and not decode.is_silent(decoded)
    assert stream.notes == [f"It is very quiet: its peak is {peak_db} dBFS."]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize(
    ("subtype", "make"),
    [
        ("PCM_16", lambda chance, n: np.zeros(n)),
        ("PCM_16", lambda chance, n: np.full(n, 3 / 32_768)),
        ("PCM_24", lambda chance, n: chance.normal(0, 1e-4, n)),
        ("PCM_16", lambda chance, n: chance.integers(-1, 2, n) / 32_768),
        ("PCM_16", lambda chance, n: (chance.random(n) < 0.01) / 32_768),
        ("PCM_16", lambda chance, n: 20 / 32_768 * (np.arange(n) == n // 2)),
        ("FLOAT", lambda chance, n: 5e-4 * np.sin(np.arange(n) * 0.02)),
    ],
    ids=["zeros", "offset", "noise", "dither", "flicker", "click", "hum"],
)
def test_what_holds_no_sound_is_silent(subtype, make, rate_hz):
    samples = make(np.random.default_rng(0), 5 * rate_hz)
    _, stream = read(with_soundfile(samples, rate_hz, "WAV", subtype))
    assert stream.silent and stream.notes == []


def test_half_an_mp3_has_the_length_that_is_decoded(tmp_path):
    long = np.tile(soundfile.read(JFK, dtype="float32")[0], 4)
    whole = with_soundfile(long, 16_000, "MP3", None)
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole[: len(whole) // 2])
    assert soundfile.info(cut).duration == pytest.approx(44, abs=0.2)  # what its header tells
    stream = AudioStream(cut)
    decoded_s = sum(len(block) for block in stream) / 16_000
    assert 20 < decoded_s < 23
    assert f"its header declares 44.0 s; the {decoded_s:.1f} s present are used" in stream.notes[0]
    assert file_duration_s(cut) is None  # nothing but decoding tells


def test_a_length_is_told_without_decoding_where_the_last_sample_is_there(tmp_path, speech):
    for kind in ("FLAC", "WAV", "AIFF", "OGG", "MP3"):
        path = tmp_path / f"a.{kind.lower()}"
        data = with_soundfile(speech, 16_000, kind, None)
        path.write_bytes(data)
        exact = len(speech) / 16_000 if kind in ("FLAC", "WAV", "AIFF") else None
        assert file_duration_s(path) == exact
        path.write_bytes(data[: len(data) // 2])
        if (told := file_duration_s(path)) is not None:
            assert told == len(load(path)) / 16_000
