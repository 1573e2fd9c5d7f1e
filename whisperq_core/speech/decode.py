"""Decode a recording into float32, mono, 16 kHz samples.

The content decides how a file is read and how long it is; its name and its header do not. The
formats are in `audio_formats`, the libraries in `audio_readers`.
"""

import io
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from whisperq_core.errors import AudioError
from whisperq_core.speech import audio_readers, audio_tags, header_repair
from whisperq_core.speech.audio_readers import Probe
from whisperq_core.speech.loudness import LoudnessMeter, is_silent
from whisperq_core.speech.signal_survey import FULL_SCALES, Survey

__all__ = [
    "DEFAULT_LIMITS",
    "SAMPLE_RATE",
    "AudioStream",
    "Limits",
    "duration_s",
    "encode_wav",
    "file_duration_s",
    "is_silent",
    "load",
]

SAMPLE_RATE = 16_000  # Hz

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 16
# Float files may hold more than ±1; beyond the range of 32-bit integers it is not sound.
MAX_AMPLITUDE = FULL_SCALES[-1]
# A header may tell a little more than there is: encoders' padding, rounded lengths.
_CUT_SHARE, _CUT_S = 0.05, 1.0


@dataclass(frozen=True)
class Limits:
    """The most that is accepted; all limits are enforced while decoding, not from the header."""

    max_bytes: int = 200_000_000
    max_duration_s: float = 2 * 3600.0
    max_samples: int = 2 * 3600 * 48_000 * 2
    """Samples of all channels before resampling: two hours of 48 kHz stereo."""


DEFAULT_LIMITS = Limits()


def load(
    source: Path | bytes, name: str = "", limits: Limits = DEFAULT_LIMITS
) -> npt.NDArray[np.float32]:
    """Decode a recording in any of `audio_formats.FORMATS`.

    Args:
        source: a file, or the content of one.
        name: what messages call it; the file's own name when empty.
        limits: the largest size and the longest sound to accept.

    Returns:
        float32 samples, shape (samples,), 16 kHz, one channel; at least one sample. See
        `AudioStream` for what is done to the samples.

    Raises:
        AudioError: missing, empty, not audio, damaged, too large, too long, or without samples.
    """
    return np.concatenate(list(AudioStream(source, name, limits)))


class AudioStream:
    """A recording decoded block by block, so that a long one takes no more memory.

    Iterating yields float32, shape (samples,), 16 kHz, none of them empty, and raises what `load`
    raises, at the sample where a limit is passed or the damage begins.

    Channels are averaged; where that would cancel the sound, the loudest channel is used. Of
    several audio tracks, the first that is not silent is used. Floating-point samples on the scale
    of integers are divided by that scale. A file that was cut short and still decodes gives the
    part that is left.

    notes: sentences on each of these that applied; complete after the last block. loudness: see
    `loudness`, likewise.
    """

    def __init__(
        self, source: Path | bytes, name: str = "", limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.name = name or (source.name if isinstance(source, Path) else "The recording")
        self.limits = limits
        self.notes: list[str] = []
        self._source = source
        self._meter = LoudnessMeter(SAMPLE_RATE)

    @property
    def silent(self) -> bool:
        """Whether nothing but digital silence or faint steady noise was yielded."""
        return self._meter.loudness == "silent"

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        with _open(self._source, self.name, self.limits) as file:
            probed = audio_readers.probe(file, self.name)
            if probed.library == "soundfile":  # before a block is allocated
                _check_format(probed.rate_hz, probed.channels, self.name)
            track, survey = self._choose_track(file, probed)
            self.notes = survey.notes(track, probed.tracks) if survey else []
            resampler: soxr.ResampleStream | None = None
            frames, yielded, rate_hz = 0, 0, 0
            for rate_hz, block in self._raw_blocks(file, probed, track):
                mono = survey.mix(block) if survey else block.mean(axis=1, dtype=np.float32)
                if not frames:
                    self._meter = LoudnessMeter(rate_hz)
                    if rate_hz != SAMPLE_RATE:
                        resampler = soxr.ResampleStream(
                            rate_hz, SAMPLE_RATE, 1, "float32", quality="HQ"
                        )
                frames += len(block)
                self._meter.add(mono)
                piece = resampler.resample_chunk(mono) if resampler else mono
                yielded += len(piece)
                if len(piece):
                    yield piece
            if resampler:
                last = resampler.resample_chunk(np.empty(0, np.float32), last=True)
                yielded += len(last)
                if len(last):
                    yield last
        if not yielded:
            raise AudioError(f"{self.name} contains no sound. Record or export it again.")
        self._note_length(frames / rate_hz, probed.declared_s)
        if self._meter.loudness == "very quiet":
            self.notes.append(f"It is very quiet: its peak is {self._meter.peak_db:.0f} dBFS.")

    def _choose_track(self, file: BinaryIO, probed: Probe) -> tuple[int, Survey | None]:
        """The first track that is not silent, and what its samples need; None for plain mono."""
        first: tuple[int, Survey | None] | None = None
        damage: AudioError | None = None
        for track in range(probed.tracks):
            survey = None
            try:
                for rate_hz, block in self._raw_blocks(file, probed, track):
                    if block.shape[1] == 1 and not probed.is_float and probed.tracks == 1:
                        return track, None  # nothing to choose, nothing to mix
                    survey = survey or Survey(rate_hz, block.shape[1], probed.is_float)
                    survey.add(block)
            except AudioError as error:
                damage = damage or error
                continue
            if survey is not None:
                survey.check(self.name)
            if survey is not None and not survey.silent:
                return track, survey
            first = first or (track, survey)
        if first is None and damage is not None:
            raise damage
        return first or (0, None)

    def _raw_blocks(
        self, file: BinaryIO, probed: Probe, track: int
    ) -> Iterator[audio_readers.Block]:
        """A track's blocks, with all limits enforced."""
        first_rate_hz, frames = 0, 0
        with closing(audio_readers.blocks(file, probed, self.name, track)) as blocks:
            for rate_hz, block in blocks:
                if first_rate_hz and rate_hz != first_rate_hz:
                    raise AudioError(
                        f"{self.name} changes its sample rate midway. Convert it to WAV and retry."
                    )
                if not first_rate_hz:
                    first_rate_hz = rate_hz
                    _check_format(rate_hz, block.shape[1], self.name)
                frames += len(block)
                _check_length(frames, rate_hz, block.shape[1], self.name, self.limits)
                if not (np.abs(block) <= MAX_AMPLITUDE).all():  # false for NaN, too
                    raise AudioError(
                        f"{self.name} contains samples that are not valid numbers."
                        " Export the recording again."
                    )
                yield rate_hz, block

    def _note_length(self, decoded_s: float, declared_s: float) -> None:
        if declared_s - decoded_s > max(_CUT_S, _CUT_SHARE * declared_s):
            self.notes.append(
                f"It was cut off: its header declares {declared_s:.1f} s; the {decoded_s:.1f} s"
                " present are used."
            )


def file_duration_s(path: Path) -> float | None:
    """Length in seconds where it can be told without decoding all of a file, else None.

    It can for lossless formats whose last sample is there; the header of another file may tell
    more than was left of it.
    """
    try:
        with _open(path, path.name, DEFAULT_LIMITS) as file:
            if not audio_readers.reaches_its_end(file, path.name):
                return None
            file.seek(0)
            with soundfile.SoundFile(file) as opened:
                length_s = float(opened.frames / opened.samplerate)
    except (AudioError, soundfile.LibsndfileError):
        return None
    return length_s if length_s <= DEFAULT_LIMITS.max_duration_s else None


def duration_s(audio: npt.NDArray[np.float32]) -> float:
    """Length of 16 kHz samples, shape (samples,), in seconds."""
    return len(audio) / SAMPLE_RATE


def encode_wav(audio: npt.NDArray[np.float32]) -> bytes:
    """16-bit WAV of 16 kHz samples, shape (samples,); what exceeds ±1 is clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class _Nameless(io.BufferedReader):
    """An open file without a name, from which libraries would guess a format."""

    name = ""


def _open(source: Path | bytes, name: str, limits: Limits) -> BinaryIO:
    file: BinaryIO
    if isinstance(source, bytes):
        file, size_bytes = io.BytesIO(source), len(source)
    else:
        try:
            status = source.stat()
            if stat.S_ISDIR(status.st_mode):
                raise AudioError(f"{name} is a folder, not a recording. Name the files in it.")
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise OSError("no regular file")
            file, size_bytes = _Nameless(io.FileIO(source)), status.st_size
        except FileNotFoundError:
            raise AudioError(f"{name} does not exist. Check the file's name and folder.") from None
        except (OSError, ValueError) as error:
            raise AudioError(
                f"{name} cannot be opened. Check that it is a readable file."
            ) from error
    if 0 < size_bytes <= limits.max_bytes:
        return header_repair.repaired(audio_tags.without_tags(file))
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
            f"{name} is longer than {_in_words(limits.max_duration_s)}, the most that can be "
            "used. Cut it into shorter recordings."
        )


def _in_words(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} hours"
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
