import io

import av
import numpy as np
import pytest
import soundfile
import soxr

from whisperq_core.errors import AudioError
from whisperq_core.settings import PROJECT
from whisperq_core.speech import decode
from whisperq_core.speech.decode import Limits, load

SPEECH = PROJECT / "speech"
JFK = SPEECH / "jfk" / "jfk.flac"
SHORT = SPEECH / "test-clean-excerpt" / "2830-3980-0043.flac"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate_hz = soundfile.read(SHORT, dtype="float32")
    assert rate_hz == 16_000
    return samples


def with_soundfile(samples: np.ndarray, rate_hz: int, kind: str, subtype: str | None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def with_ffmpeg(
    samples: np.ndarray, container: str, codec: str, rate_hz: int, **tags: str
) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        out.metadata.update(tags)
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        to_codec = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate_hz)
        for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def aligned_correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = 2 ** int(np.ceil(np.log2(len(a) + len(b))))
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return float(product.max() / (np.linalg.norm(a) * np.linalg.norm(b)))


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
    assert len(other) > 3 * decode.BLOCK_FRAMES
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
        (b"RIFF\x24\x00\x00\x00WAVE", "not a recording"),
        (b"\x00" * 10_000, "not a recording"),
        (SHORT.read_bytes()[:3000], "damaged or was cut off"),
        (SHORT.read_bytes()[:20], "not a recording|damaged|no sound"),
    ],
    ids=["empty", "text", "playlist", "header", "zeros", "cut", "cut-header"],
)
def test_what_is_not_a_recording(tmp_path, content, message):
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"talk\.wav .*({message})"):
        load(path)


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
    with pytest.raises(AudioError, match="cannot be opened"):
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
