"""Read a file's raw samples with libsndfile or, where that does not know the format, FFmpeg.

Nothing is mixed, scaled or resampled here; see `decode`.
"""

import os
import re
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from whisperq_core.errors import AudioError
from whisperq_core.speech import audio_formats
from whisperq_core.speech.audio_tags import after_tags, counts_at, is_mpeg_frame
from whisperq_core.speech.file_view import read_at

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

Samples = npt.NDArray[np.float32]
# Sample rate in Hz, and samples, shape (frames, channels).
Block = tuple[int, Samples]

BLOCK_FRAMES = 65_536
_UNKNOWN_LENGTH = 2**63 - 1  # frames, as libsndfile gives it
_MAX_TRACKS = 16
_MP3_HEAD_BYTES = 64
# FFmpeg's own decoders of AMR refuse what phones send in pauses (discontinuous transmission).
_DECODERS_OF_PAUSES = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
# Of these FFmpeg estimates the length from the bit rate.
_ESTIMATED_LENGTH = {"mp3", "aac", "mpegts", "mpeg", "ac3", "eac3", "amr", "rm", "dss"}

_STDERR = 2
_stderr_lock = threading.Lock()
_OF_MPG123 = re.compile(rb"\[[^\]]*mpg123|Note: |Warning: |mpg123")


@dataclass(frozen=True)
class Probe:
    """What a file says of itself before its samples are read.

    library: the one that reads it. tracks: audio tracks. is_float: whether samples are stored as
    floating point, so that they may be beyond ±1. declared_s: length by the header, 0 where it
    tells none.
    """

    library: str
    tracks: int = 1
    is_float: bool = False
    rate_hz: int = 0
    channels: int = 0
    declared_s: float = 0.0


def probe(file: BinaryIO, name: str) -> Probe:
    """Open a file with the library that reads it, and look at its header.

    Raises:
        AudioError: not a format or codec that either library reads, or no audio track.
    """
    # libsndfile reads the first link of a chained OGG only, and as much of an MP3 as it estimates.
    cut_short = _is_chained_ogg(file) or _is_uncounted_mp3(file)
    file.seek(0)
    try:
        with _no_decoder_messages(), soundfile.SoundFile(file) as opened:
            # A streamed FLAC does not tell its length, and libsndfile fails at its end.
            is_ours = opened.format in audio_formats.SOUNDFILE_FORMATS
            if is_ours and opened.frames < _UNKNOWN_LENGTH and not cut_short:
                return Probe(
                    "soundfile",
                    is_float=opened.subtype in ("FLOAT", "DOUBLE"),
                    rate_hz=opened.samplerate,
                    channels=opened.channels,
                    declared_s=opened.frames / opened.samplerate,
                )
    except soundfile.LibsndfileError:
        pass  # not a kind that it reads
    import av

    with _open_ffmpeg(file, name) as container:
        streams = container.streams.audio
        if not streams:
            raise AudioError(f"{name} contains no sound track. Choose a recording with sound.")
        declared_s = 0.0
        if container.duration and container.format.name not in _ESTIMATED_LENGTH:
            declared_s = container.duration / av.time_base
        return Probe(
            "ffmpeg",
            tracks=min(len(streams), _MAX_TRACKS),
            is_float=any(_codec_name(s).startswith(("pcm_f", "wavpack")) for s in streams),
            declared_s=declared_s,
        )


def blocks(
    file: BinaryIO, probed: Probe, name: str, track: int = 0
) -> Generator[Block, None, None]:
    """Read an audio track from its start, block by block; may be called again.

    Raises:
        AudioError: at the damage, or for a codec that cannot be decoded.
    """
    file.seek(0)
    if probed.library == "soundfile":
        return _soundfile_blocks(file, name)
    return _joined(_ffmpeg_blocks(file, name, track))


def reaches_its_end(file: BinaryIO, name: str) -> bool:
    """Whether a file holds the length that its header tells; a decoder need not read it all.

    True only for lossless formats, in which the last sample can be looked up.
    """
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            exact = opened.format not in ("OGG", "MP3") and 0 < opened.frames < _UNKNOWN_LENGTH
            if not exact or opened.format not in audio_formats.SOUNDFILE_FORMATS:
                return False
            opened.seek(opened.frames - 1)
            return len(opened.read(2, dtype="float32", always_2d=True)) == 1
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return False


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


def _is_uncounted_mp3(file: BinaryIO) -> bool:
    """Whether an MP3 does not tell the length of all of it.

    The count is missing in recorded streams, and in joined files another frame follows what it
    counts.
    """
    frame = read_at(file, 0, _MP3_HEAD_BYTES)
    if not is_mpeg_frame(frame):
        return False
    at = counts_at(frame)
    if at is None or not frame[at + 7] & 2:  # the flag of a count of bytes
        return True
    count_at = at + 8 + 4 * (frame[at + 7] & 1)
    end = int.from_bytes(frame[count_at : count_at + 4])
    return is_mpeg_frame(read_at(file, after_tags(file, end), 4))


def _soundfile_blocks(file: BinaryIO, name: str) -> Generator[Block, None, None]:
    try:
        with _no_decoder_messages():
            opened = soundfile.SoundFile(file)
        with opened:
            while len(block := _next_block(opened)):
                yield opened.samplerate, block
    except soundfile.LibsndfileError as error:
        raise _damaged(name) from error


def _next_block(opened: soundfile.SoundFile) -> Samples:
    quiet = _no_decoder_messages() if opened.format == "MP3" else nullcontext()
    with quiet:
        block: Samples = opened.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
    return block


@contextmanager
def _no_decoder_messages() -> Iterator[None]:
    """Leave out what libmpg123 prints on stderr of a damaged MP3: users get one sentence of ours.

    libsndfile offers no switch for it. Other lines that are printed meanwhile follow at the end.
    """
    with _stderr_lock, tempfile.TemporaryFile() as printed:
        try:
            stderr = os.dup(_STDERR)
        except OSError:  # there is none
            yield
            return
        os.dup2(printed.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            printed.seek(0)
            for line in printed:
                if line.strip() and not _OF_MPG123.match(line):
                    os.write(_STDERR, line)


def _open_ffmpeg(file: BinaryIO, name: str) -> "InputContainer":
    # Late: it is large, and most recordings are read without it.
    import av
    from av.container import InputContainer

    file.seek(0)
    try:
        container = av.open(
            file,
            options={
                "format_whitelist": ",".join(audio_formats.FFMPEG_DEMUXERS),
                "codec_whitelist": ",".join(audio_formats.FFMPEG_CODECS),
                "protocol_whitelist": "none",
            },
            io_open=_refuse_other_file,
            metadata_errors="replace",  # titles in old encodings must not stop the sound
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        file.seek(0)
        head = file.read(audio_formats.HEAD_BYTES)
        raise AudioError(audio_formats.refusal(name, head)) from error
    assert isinstance(container, InputContainer)
    return container


def _ffmpeg_blocks(file: BinaryIO, name: str, track: int) -> Generator[Block, None, None]:
    import av

    with _open_ffmpeg(file, name) as container:
        stream = container.streams.audio[track]
        codec = _codec_name(stream)
        if codec not in audio_formats.FFMPEG_CODECS:
            raise AudioError(
                f"{name} has sound in the codec {codec or 'of an unknown kind'}, which cannot be "
                "decoded. Convert it to FLAC or WAV, for example with ffmpeg."
            )
        to_float = av.AudioResampler(format="flt")
        try:
            for frame in _frames(container, stream):
                for part in to_float.resample(frame):
                    samples = np.asarray(part.to_ndarray(), np.float32)
                    yield part.sample_rate, samples.reshape(-1, part.layout.nb_channels)
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name) from error


def _joined(frames: Generator[Block, None, None]) -> Generator[Block, None, None]:
    """Blocks of about BLOCK_FRAMES: a codec's own of a few milliseconds would take far longer."""
    parts: list[Samples] = []
    rate_hz, length = 0, 0
    with closing(frames):
        for next_rate_hz, samples in frames:
            is_other = parts and (next_rate_hz, samples.shape[1]) != (rate_hz, parts[0].shape[1])
            if is_other or length >= BLOCK_FRAMES:
                yield rate_hz, np.concatenate(parts)
                parts, length = [], 0
            rate_hz = next_rate_hz
            parts.append(samples)
            length += len(samples)
    if parts:
        yield rate_hz, np.concatenate(parts)


def _frames(container: "InputContainer", stream: Any) -> Iterator["AudioFrame"]:
    import av

    decoder = _DECODERS_OF_PAUSES.get(_codec_name(stream))
    if decoder is None:
        yield from container.decode(stream)
        return
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout = stream.sample_rate, stream.layout
    for packet in container.demux(stream):
        yield from context.decode(packet if packet.size else None)


def _codec_name(stream: Any) -> str:
    """FFmpeg's name of the decoder; empty where it has none."""
    context = stream.codec_context
    return context.codec.name if context else ""


def _refuse_other_file(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """Answer FFmpeg when it wants to open what a recording refers to."""
    raise PermissionError("a recording is one file")


def _damaged(name: str) -> AudioError:
    return AudioError(f"{name} is damaged or was cut off. Copy or export it again.")
