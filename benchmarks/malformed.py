"""Files that are no recordings, or hardly: real speech whose encodings are broken in every way.

The corpus of `benchmarks.hostile_audio`; the same seed gives the same files.
"""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import NamedTuple

import av
import numpy as np
import soundfile
import soxr

from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE

HOUR_S = 3600
BOMB_BYTES = 25_000_000
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


class Case(NamedTuple):
    """A file as a browser gives it; kind says how it was made."""

    kind: str
    name: str
    data: bytes


def corpus(count: int, seed: int) -> Iterator[Case]:
    """At least the files that are made on purpose; mutated ones up to `count`."""
    chance = random.Random(seed)
    speech = [_clip(chance) for _ in range(3)]
    encoded = {
        f"{place}{suffix}": make(samples)
        for place, samples in enumerate(speech)
        for suffix, make in ENCODERS.items()
    }
    files = [*_whole(encoded), *_odd(speech[0]), *_alien(), *_named(encoded["0.flac"])]
    files += [*_lying(encoded), *_joined(encoded), *_bombs()]
    # Bombs and the rest lie among the others.
    chance.shuffle(files)
    yield from files
    yield from islice(_mutated(encoded, chance), max(0, count - len(files)))


def _clip(chance: random.Random) -> np.ndarray:
    """Two seconds of an utterance, shape (samples,), 16 kHz."""
    utterances = evaluation_sets.by_name("test-clean-excerpt").utterances
    samples = evaluation_sets.read_audio(chance.choice(utterances))
    return samples[: 2 * SAMPLE_RATE]


def with_soundfile(
    samples: np.ndarray, kind: str, subtype: str | None = None, rate_hz: int = SAMPLE_RATE
) -> bytes:
    """A file as libsndfile writes it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def with_ffmpeg(samples: np.ndarray, container: str, codec: str, rate_hz: int) -> bytes:
    """A file as FFmpeg writes it, of 16 kHz samples."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        to_codec = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate_hz)
        for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return buffer.getvalue()


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    ".wav": lambda s: with_soundfile(s, "WAV", "PCM_16"),
    ".float.wav": lambda s: with_soundfile(s, "WAV", "FLOAT"),
    ".adpcm.wav": lambda s: with_soundfile(s, "WAV", "IMA_ADPCM"),
    ".rf64.wav": lambda s: with_soundfile(s, "RF64", "PCM_24"),
    ".aiff": lambda s: with_soundfile(s, "AIFF", "PCM_16"),
    ".flac": lambda s: with_soundfile(s, "FLAC", "PCM_16"),
    ".mp3": lambda s: with_soundfile(s, "MP3"),
    ".ogg": lambda s: with_soundfile(s, "OGG", "VORBIS"),
    ".opus": lambda s: with_soundfile(s, "OGG", "OPUS"),
    ".m4a": lambda s: with_ffmpeg(s, "ipod", "aac", 44_100),
    ".mp4": lambda s: with_ffmpeg(s, "mp4", "alac", 16_000),
    ".aac": lambda s: with_ffmpeg(s, "adts", "aac", 16_000),
    ".webm": lambda s: with_ffmpeg(s, "webm", "libopus", 48_000),
    ".caf": lambda s: with_soundfile(s, "CAF", "ALAC_16"),
    ".au": lambda s: with_soundfile(s, "AU", "ULAW"),
    ".sph": lambda s: with_soundfile(s, "NIST", "PCM_16"),
    ".amr": lambda s: with_ffmpeg(s, "amr", "libopencore_amrnb", 8_000),
    ".mov": lambda s: with_ffmpeg(s, "mov", "pcm_s16le", 16_000),
    ".avi": lambda s: with_ffmpeg(s, "avi", "mp3", 16_000),
    ".flv": lambda s: with_ffmpeg(s, "flv", "aac", 44_100),
    ".ts": lambda s: with_ffmpeg(s, "mpegts", "aac", 48_000),
    ".wv": lambda s: with_ffmpeg(s, "wv", "wavpack", 16_000),
    ".ra": lambda s: with_ffmpeg(s, "rm", "real_144", 8_000),
}


def _whole(encoded: dict[str, bytes]) -> Iterator[Case]:
    """Good files, also under every wrong ending: these have to be accepted."""
    endings = cycle([".wav", ".mp3", ".flac", ".m4a", ".txt", ".exe", "", ".raw", ".m3u8"])
    for name, data in encoded.items():
        yield Case("whole", name, data)
    for (name, data), ending in zip(encoded.items(), endings, strict=False):
        if name.endswith((".amr", ".wv")):  # streams of frames: more bytes are a broken frame
            continue
        # Another file: the store would recognise the same one.
        yield Case("wrong ending", f"{name}{ending}", data + b"\0" * len(ending))


def _odd(speech: np.ndarray) -> Iterator[Case]:
    """Rates, channels and samples that nobody records."""
    for rate_hz in (1, 100, 3_999, 4_000, 11_025, 192_000, 384_000, 384_001, 10**6, 2**31 - 1):
        yield Case("odd rate", f"{rate_hz}.wav", with_soundfile(speech, "WAV", "PCM_16", rate_hz))
    for rate_hz in (1, 96_000, 384_000):
        other = soxr.resample(speech, SAMPLE_RATE, 96_000)
        yield Case("odd rate", f"{rate_hz}.flac", with_soundfile(other, "FLAC", "PCM_24", rate_hz))
    for channels in (2, 16, 17, 32, 255, 1024):
        many = np.repeat(speech[:1_000, None], channels, axis=1)
        yield Case("odd channels", f"{channels}.wav", with_soundfile(many, "WAV", "PCM_16"))
    for value in (np.nan, np.inf, -np.inf, 1e30, 3.4e38, -1e10):
        for places in (slice(0, 1), slice(-1, None), slice(None)):
            bad = speech.copy()
            bad[places] = value
            yield Case("odd samples", f"{value}.wav", with_soundfile(bad, "WAV", "FLOAT"))
            wide = bad.astype(np.float64) * 1e10
            yield Case("odd samples", f"{value}.wav", with_soundfile(wide, "WAV", "DOUBLE"))
    for kind in ("WAV", "FLAC", "OGG", "AIFF"):
        for length in (0, 1, 2, 15):
            data = with_soundfile(speech[:length], kind)
            yield Case("odd length", f"{length}.{kind.lower()}", data)


def _alien() -> Iterator[Case]:
    """What is no audio at all; lists of files among it, which must not be followed."""
    url, path = "http://127.0.0.1:9/a.mp3", "file:///etc/hostname"
    texts = {
        "m3u": f"#EXTM3U\n#EXTINF:5,\n{url}\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{path}\n#EXT-X-ENDLIST\n",
        "hls key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{path}"\n#EXTINF:5,\n{url}\n',
        "pls": f"[playlist]\nFile1={path}\nNumberOfEntries=1\n",
        "concat": "ffconcat version 1.0\nfile /etc/hostname\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "dash": f"<?xml version='1.0'?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>",
        "smil": f"<smil><body><audio src='{url}'/></body></smil>",
        "svg": f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{path}'/></svg>",
        "html": "<html><script>window.pwned = 1</script></html>",
        "xxe": f"<!DOCTYPE a [<!ENTITY b SYSTEM '{path}'>]><a>&b;</a>",
        "json": '{"audio": "../../etc/hostname", "text": "a"}',
        "pickle": "cos\nsystem\n(S'true'\ntR.",
        "script": "#!/bin/sh\ntouch pwned\n",
        "ass": "[Script Info]\nTitle: a\n",
        "text": "Dear Sir or Madam, " * 500,
    }
    binary = {
        "empty": b"",
        "zeros": bytes(50_000),
        "ones": b"\xff" * 50_000,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(2_000),
        "gif": b"GIF89a" + bytes(2_000),
        "pdf": b"%PDF-1.7\n" + bytes(2_000),
        "elf": b"\x7fELF" + bytes(2_000),
        "gzip": b"\x1f\x8b\x08" + bytes(2_000),
        "noise": random.Random(1).randbytes(200_000),
        "external": _referring_elsewhere(),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(50_000_000))
    binary["zip"] = packed.getvalue()
    for what, data in ({k: v.encode() for k, v in texts.items()} | binary).items():
        for number, ending in enumerate((".wav", ".mp3", ".m4a", ".ogg", "")):
            yield Case(f"alien: {what}", f"{what}{ending}", data + b"\n" * number * bool(data))


def _referring_elsewhere() -> bytes:
    """A QuickTime film whose sound is declared to be in another file, by an alias of old Macs."""
    path = b"/etc/hostname"
    alias = bytes(10) + b"\x03vol" + bytes(24) + bytes(12) + b"\x08hostname" + bytes(55)
    alias += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">hh", 18, len(path)) + path + b"\0" + struct.pack(">hh", -1, 0)
    entry = struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias

    def rewritten(atoms: bytes) -> bytes:
        out, at = b"", 0
        while at < len(atoms):
            size, kind = struct.unpack(">I4s", atoms[at : at + 8])
            inside = atoms[at + 8 : at + size]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                inside = rewritten(inside)
            if kind == b"dref":
                inside = struct.pack(">II", 0, 1) + entry
            out += struct.pack(">I", 8 + len(inside)) + kind + inside
            at += size
        return out

    return rewritten(with_ffmpeg(np.zeros(SAMPLE_RATE, np.float32), "mov", "aac", 16_000))


def _named(flac: bytes) -> Iterator[Case]:
    """Good sound with names that lead elsewhere, or are code."""
    names = [
        "../../../../tmp/pwned.flac",
        "..\\..\\pwned.flac",
        "/etc/passwd",
        "a\0b.flac",
        "a\nb\r\t.flac",
        "<img src=x onerror=window.pwned=1>.flac",
        "=HYPERLINK(1).flac",
        "$(touch pwned).flac",
        "\u202egnp.flac",
        "\udcff.flac",
        "--help",
        "-i.flac",
        "concat:a|b.flac",
        "http://127.0.0.1:9/a.flac",
        "",
        ".",
        "..",
        "a" * 5_000 + ".flac",
        "CON.flac",
        "about.json",
        "played.flac",
    ]
    for number, name in enumerate(names, 1):
        yield Case("names", name, flac + b"\1" * number)


def _lying(encoded: dict[str, bytes]) -> Iterator[Case]:
    """Sizes, rates and counts in headers that the file does not have."""
    for place in range(3):
        wav = encoded[f"{place}.wav"]
        fields = {"riff": 4, "format": 16, "channels": 22, "rate": 24, "align": 32, "data": 40}
        for field, at in fields.items():
            for value in EXTREMES:
                lie = wav[:at] + struct.pack("<I", value) + wav[at + 4 :]
                yield Case("lying header", f"{field} {value}.wav", lie)
        flac = encoded[f"{place}.flac"]
        for at in (18, 20, 21, 22):  # rate, channels and bits, number of samples
            for value in (0, 0x7F, 0xFF):
                lie = flac[:at] + bytes([value]) * 3 + flac[at + 3 :]
                yield Case("lying header", f"{at} {value}.flac", lie)
        m4a = encoded[f"{place}.m4a"]
        for box in (
            b"stsz",
            b"stco",
            b"stsc",
            b"stts",
            b"mdhd",
            b"mp4a",
            b"esds",
            b"elst",
            b"moov",
        ):
            at = m4a.find(box)
            for offset in (-4, 4, 8, 12, 16) if at > 0 else ():
                for value in (0, 0x7FFFFFFF, 0xFFFFFFFF):
                    lie = m4a[: at + offset] + struct.pack(">I", value) + m4a[at + offset + 4 :]
                    yield Case("lying header", f"{box.decode()} {offset}.m4a", lie)


def _joined(encoded: dict[str, bytes]) -> Iterator[Case]:
    """Two files in one, of one format or of two."""
    names = [name for name in encoded if name.startswith("0")]
    for first in names:
        for second in names:
            data = encoded[first] + encoded[second.replace("0", "1", 1)]
            yield Case("joined", f"{first}+{second}", data)


def _bombs() -> Iterator[Case]:
    """Silence that is small as a file and large as samples: hours of it in up to 25 MB."""
    silence = np.zeros(SAMPLE_RATE * 60, np.int16)
    for channels, rate_hz in ((1, 16_000), (8, 48_000), (2, 384_000), (8, 4_000)):
        minute = np.zeros((len(silence), channels), np.int16)
        flac = with_soundfile(minute, "FLAC", "PCM_16", rate_hz)
        frames = flac.index(b"\xff\xf8")
        # The number of samples is 36 bits of its header: unknown, and the maximum.
        for count in (bytes(5), b"\x0f" + b"\xff" * 4):
            head = bytearray(flac[:frames])
            head[21] = head[21] & 0xF0 | count[0]
            head[22:26] = count[1:]
            data = bytes(head) + flac[frames:] * (BOMB_BYTES // len(flac[frames:]))
            yield Case("bomb", f"{channels} channels, {rate_hz} Hz.flac", data)
    for kind, subtype in (("MP3", None), ("OGG", "OPUS"), ("OGG", "VORBIS")):
        minute = with_soundfile(silence, kind, subtype)
        data = minute * min(BOMB_BYTES // len(minute), 8 * 60)
        yield Case("bomb", f"{kind} {subtype}", data)
    yield Case(
        "bomb", "a.aac", with_ffmpeg(silence.astype(np.float32), "adts", "aac", 8_000) * 8 * 60
    )
    yield Case("bomb", "a.wav", with_soundfile(silence, "WAV", "PCM_16")[:44] + bytes(BOMB_BYTES))


def _mutated(encoded: dict[str, bytes], chance: random.Random) -> Iterator[Case]:
    """Without end: each format in turn, broken in each way in turn."""
    for number, (how, mutate) in enumerate(cycle(MUTATIONS.items())):
        names = list(encoded)
        name = names[number // len(MUTATIONS) % len(names)]
        yield Case(how, f"{number}-{name}", mutate(bytearray(encoded[name]), chance))


def _bytes_at(data: bytearray, chance: random.Random, below: int, most: int) -> bytes:
    for _ in range(chance.randint(1, most)):
        data[chance.randrange(min(below, len(data)))] = chance.randrange(256)
    return bytes(data)


def _extreme(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(min(400, len(data) - 8))
        form = chance.choice("<>") + chance.choice("HIQ")
        value = chance.choice(EXTREMES) & (256 ** struct.calcsize(form) - 1)
        struct.pack_into(form, data, at, value)
    return bytes(data)


def _moved(data: bytearray, chance: random.Random) -> bytes:
    a, b, c = sorted(chance.randrange(len(data)) for _ in range(3))
    ways = (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])
    return bytes(chance.choice(ways))


MUTATIONS: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    "header bytes": lambda data, chance: _bytes_at(data, chance, 200, 8),
    "header numbers": _extreme,
    "body bytes": lambda data, chance: _bytes_at(data, chance, len(data), 40),
    "cut anywhere": lambda data, chance: bytes(data[: chance.randrange(1, len(data))]),
    "cut in the header": lambda data, chance: bytes(data[: chance.randrange(1, 400)]),
    "without its beginning": lambda data, chance: bytes(data[chance.randrange(1, len(data)) :]),
    "parts moved": _moved,
    "noise in it": lambda data, chance: bytes(
        data[: (at := chance.randrange(len(data)))] + chance.randbytes(500) + data[at + 500 :]
    ),
    "header broken and cut": lambda data, chance: _bytes_at(data, chance, 200, 8)[
        : chance.randrange(1, len(data))
    ],
}
