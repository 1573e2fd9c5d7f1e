"""Real speech written in the formats that people have, by libsndfile and by FFmpeg."""

import io

import av
import numpy as np
import soundfile
import soxr

from whisperq_core.settings import PROJECT

SHORT = PROJECT / "speech" / "test-clean" / "2830-3980-0043.flac"


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
        if codec == "wmav2":  # has no default
            stream.bit_rate = 64_000
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


def encoded(samples: np.ndarray, writer: str, kind: str, codec: str, rate_hz: int) -> bytes:
    if writer == "ffmpeg":
        return with_ffmpeg(samples, kind, codec, rate_hz)
    other = soxr.resample(samples, 16_000, rate_hz)
    return with_soundfile(other, rate_hz, kind, codec)


# The format's name in the table, what writes it, container, codec, rate.
ENCODED = [
    ("WAV", "soundfile", "WAV", "PCM_16", 16_000),
    ("WAV", "soundfile", "WAV", "GSM610", 8_000),
    ("WAV", "soundfile", "WAV", "ULAW", 8_000),
    ("WAV", "soundfile", "WAV", "IMA_ADPCM", 16_000),
    ("WAV", "ffmpeg", "wav", "mp3", 16_000),
    ("WAV", "soundfile", "RF64", "PCM_24", 16_000),
    ("W64", "soundfile", "W64", "PCM_16", 16_000),
    ("FLAC", "soundfile", "FLAC", "PCM_24", 16_000),
    ("AIFF", "soundfile", "AIFF", "PCM_16", 44_100),
    ("AU", "soundfile", "AU", "ULAW", 8_000),
    ("CAF", "soundfile", "CAF", "PCM_16", 48_000),
    ("CAF", "soundfile", "CAF", "ALAC_16", 16_000),
    ("NIST SPHERE", "soundfile", "NIST", "PCM_16", 16_000),
    ("NIST SPHERE", "soundfile", "NIST", "ULAW", 8_000),
    ("VOC", "soundfile", "VOC", "PCM_16", 16_000),
    ("OGG", "soundfile", "OGG", "OPUS", 48_000),
    ("OGG", "ffmpeg", "ogg", "flac", 16_000),
    ("MP4 or QuickTime", "ffmpeg", "mov", "aac", 48_000),
    ("MP4 or QuickTime", "ffmpeg", "mov", "pcm_s16le", 48_000),
    ("MP4 or QuickTime", "ffmpeg", "ipod", "alac", 16_000),
    ("MP4 or QuickTime", "ffmpeg", "3gp", "libopencore_amrnb", 8_000),
    ("Matroska or WebM", "ffmpeg", "webm", "libopus", 48_000),
    ("Matroska or WebM", "ffmpeg", "matroska", "aac", 16_000),
    ("AMR", "ffmpeg", "amr", "libopencore_amrnb", 8_000),
    ("AVI", "ffmpeg", "avi", "mp3", 16_000),
    ("AVI", "ffmpeg", "avi", "pcm_s16le", 16_000),
    ("Flash Video", "ffmpeg", "flv", "aac", 44_100),
    ("Windows Media", "ffmpeg", "asf", "wmav2", 44_100),
    ("RealMedia", "ffmpeg", "rm", "real_144", 8_000),
    ("WavPack", "ffmpeg", "wv", "wavpack", 16_000),
    ("MPEG program stream", "ffmpeg", "vob", "mp2", 48_000),
    ("MPEG transport stream", "ffmpeg", "mpegts", "aac", 48_000),
    ("MPEG transport stream", "ffmpeg", "mpegts", "mp2", 48_000),
    ("AC-3", "ffmpeg", "ac3", "ac3", 48_000),
    ("AAC", "ffmpeg", "adts", "aac", 16_000),
    ("MP3", "soundfile", "MP3", None, 16_000),
    ("MP3", "ffmpeg", "mp3", "mp3", 16_000),
]
