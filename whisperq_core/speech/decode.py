"""Recordings in: any common audio file becomes float32, mono, 16 kHz samples.

The content decides how a file is read; its name is used in messages only.
"""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer

from whisperq_core.errors import AudioError

SAMPLE_RATE = 16_000  # Hz

SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 16
# Float files may hold more than ±1; beyond the range of 32-bit integers it is not sound.
MAX_AMPLITUDE = 2.0**31

BLOCK_FRAMES = 65_536
UNKNOWN_LENGTH = 2**63 - 1  # frames, as libsndfile gives it
SOUNDFILE_FORMATS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "OGG", "MP3"}
# Playlists and the like, which make FFmpeg open other files and addresses, stay out; and of a film,
# the pictures are never decoded.
FFMPEG_FORMATS = "aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,mp3,flac,wav,aiff"
FFMPEG_CODECS = (
    "aac,aac_latm,ac3,alac,eac3,flac,libopus,libvorbis,mp1float,mp2float,mp3float,mp3,opus,vorbis,"
    "pcm_alaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,"
    "pcm_s24le,pcm_s32be,pcm_s32le,pcm_u8,amrnb,amrwb"
)


@dataclass(frozen=True)
class Limits:
    """The most that `load` accepts; all are enforced while decoding, not from the header."""

    max_bytes: int = 200_000_000
    max_duration_s: float = 2 * 3600.0
    max_samples: int = 2 * 3600 * 48_000 * 2
    """Samples of all channels before resampling: two hours of 48 kHz stereo."""


DEFAULT_LIMITS = Limits()


def load(source: Path | bytes, name: str = "", limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode a recording: WAV, FLAC, MP3, OGG (Vorbis, Opus), M4A/AAC or WebM.

    Args:
        source: a file, or the content of one.
        name: what messages call it; the file's own name when empty.
        limits: the largest size and the longest sound to accept.

    Returns:
        float32 samples, shape (samples,), 16 kHz, channels averaged; at least one sample.
        A recording that was cut short and still decodes gives the part that is left.

    Raises:
        AudioError: missing, empty, not audio, damaged, too large, too long, or without samples.
    """
    return np.concatenate(list(decode_blocks(source, name, limits)))


def decode_blocks(
    source: Path | bytes, name: str = "", limits: Limits = DEFAULT_LIMITS
) -> Iterator[np.ndarray]:
    """The samples of `load` piece by piece, so that a long recording takes no more memory.

    Yields float32, shape (samples,), 16 kHz, none of them empty. Raises what `load` raises, at
    the sample where a limit is passed or the damage begins.
    """
    opened, name = _open(source, name, limits)
    with opened as file:
        resampler: soxr.ResampleStream | None = None
        rate_hz, frames, given = 0, 0, 0
        for block_rate_hz, block in _blocks(file, name):
            if rate_hz and block_rate_hz != rate_hz:
                raise AudioError(
                    f"{name} changes its sample rate midway. Convert it to WAV and retry."
                )
            if not rate_hz:
                rate_hz = block_rate_hz
                _check_format(rate_hz, block.shape[1], name)
                if rate_hz != SAMPLE_RATE:
                    resampler = soxr.ResampleStream(
                        rate_hz, SAMPLE_RATE, 1, "float32", quality="HQ"
                    )
            frames += len(block)
            _check_length(frames, rate_hz, block.shape[1], name, limits)
            if not (np.abs(block) <= MAX_AMPLITUDE).all():  # false for NaN, too
                raise AudioError(
                    f"{name} contains samples that are not valid numbers."
                    " Export the recording again."
                )
            mono = block.mean(axis=1, dtype=np.float32)
            piece = resampler.resample_chunk(mono) if resampler else mono
            given += len(piece)
            if len(piece):
                yield piece
        if resampler:
            last = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            given += len(last)
            if len(last):
                yield last
    if not given:
        raise AudioError(f"{name} contains no sound. Record or export it again.")


def duration_s(audio: np.ndarray) -> float:
    """Length of 16 kHz samples, shape (samples,), in seconds."""
    return len(audio) / SAMPLE_RATE


def is_silent(audio: np.ndarray) -> bool:
    """Whether no sample of `audio`, shape (samples,), is louder than -60 dBFS."""
    return bool(np.abs(audio).max(initial=0.0) < SILENCE_PEAK)


def encode_wav(audio: np.ndarray) -> bytes:
    """16-bit WAV of 16 kHz samples, shape (samples,); what exceeds ±1 is clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class _Nameless(io.BufferedReader):
    """An open file whose name nobody guesses a format from."""

    name = ""


def _open(source: Path | bytes, name: str, limits: Limits) -> tuple[BinaryIO, str]:
    file: BinaryIO
    if isinstance(source, bytes):
        file, size_bytes, name = io.BytesIO(source), len(source), name or "The recording"
    else:
        name = name or source.name
        try:
            kept = source.stat()
            if not stat.S_ISREG(kept.st_mode):  # opening a pipe would wait for ever
                raise OSError("no regular file")
            file, size_bytes = _Nameless(io.FileIO(source)), kept.st_size
        except FileNotFoundError:
            raise AudioError(f"{name} does not exist. Check the file's name and folder.") from None
        except (OSError, ValueError) as error:
            raise AudioError(
                f"{name} cannot be opened. Check that it is a readable file."
            ) from error
    if 0 < size_bytes <= limits.max_bytes:
        return file, name
    file.close()
    if not size_bytes:
        raise AudioError(f"{name} is an empty file. Record or export it again.")
    raise AudioError(
        f"{name} is larger than {limits.max_bytes / 1e6:.0f} MB, the most that can be used. "
        "Cut it into shorter recordings, or save it as FLAC or MP3."
    )


def _check_format(rate_hz: int, channels: int, name: str) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            f"{name} has a sample rate of {rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can be "
            "used. Export it at 16000 Hz."
        )
    if channels > MAX_CHANNELS:
        raise AudioError(
            f"{name} has {channels} channels; at most {MAX_CHANNELS} can be used. "
            "Export it as mono or stereo."
        )


def _check_length(frames: int, rate_hz: int, channels: int, name: str, limits: Limits) -> None:
    if frames > limits.max_duration_s * rate_hz or frames * channels > limits.max_samples:
        raise AudioError(
            f"{name} is longer than {_spoken(limits.max_duration_s)}, the most that can be "
            "used. Cut it into shorter recordings."
        )


def _blocks(file: BinaryIO, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Sample rate in Hz and float32 samples, shape (frames, channels), block by block."""
    chained = _is_chained_ogg(file)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            # A streamed FLAC does not tell its length, and libsndfile fails at its end. Of a
            # chained OGG it reads the first link only.
            known = opened.format in SOUNDFILE_FORMATS and opened.frames < UNKNOWN_LENGTH
            if known and not chained:
                # before a block is allocated
                _check_format(opened.samplerate, opened.channels, name)
                yield from _soundfile_blocks(opened, name)
                return
    except soundfile.LibsndfileError:
        pass  # not a kind that it reads
    file.seek(0)
    yield from _ffmpeg_blocks(file, name)


def _is_chained_ogg(file: BinaryIO) -> bool:
    """Whether another stream begins after pages of the first, as in joined recordings (RFC 3533).

    Reads page by page: a header of 27 bytes, the lengths of its segments, the segments.
    """
    file.seek(0)
    in_stream = False
    while (header := file.read(27))[:4] == b"OggS" and len(header) == 27:
        begins = bool(header[5] & 2)
        if begins and in_stream:
            return True
        in_stream = in_stream or not begins
        file.seek(sum(file.read(header[26])), os.SEEK_CUR)
    return False


def _soundfile_blocks(file: soundfile.SoundFile, name: str) -> Iterator[tuple[int, np.ndarray]]:
    try:
        while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            yield file.samplerate, block
    except soundfile.LibsndfileError as error:
        raise _damaged(name) from error


def _ffmpeg_blocks(file: BinaryIO, name: str) -> Iterator[tuple[int, np.ndarray]]:
    try:
        container = av.open(
            file,
            options={
                "format_whitelist": FFMPEG_FORMATS,
                "codec_whitelist": FFMPEG_CODECS,
                "protocol_whitelist": "none",
            },
            io_open=_no_other_file,
            metadata_errors="replace",  # titles in old encodings must not stop the sound
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{name} is not a recording that can be read, whatever its name ends with. "
            "Use WAV, FLAC, MP3, OGG or M4A."
        ) from error
    assert isinstance(container, InputContainer)
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name} contains no sound track. Choose a recording with sound.")
        to_float = av.AudioResampler(format="flt")
        try:
            for frame in container.decode(audio=0):
                for part in to_float.resample(frame):
                    yield part.sample_rate, part.to_ndarray().reshape(-1, part.layout.nb_channels)
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name) from error


def _no_other_file(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """What FFmpeg is told that wants to open what a recording refers to."""
    raise PermissionError("a recording is one file")


def _damaged(name: str) -> AudioError:
    return AudioError(f"{name} is damaged or was cut off. Copy or export it again.")


def _spoken(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} hours"
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
