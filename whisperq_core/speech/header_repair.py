"""Headers that tell less sound than their file holds, put right while it is read.

A recorder that was stopped, or a program that writes to a pipe, leaves the length 0 or that of an
earlier moment, and libraries believe it. The formats: RIFF/WAVE (Microsoft and IBM, 1991), RF64
(EBU Tech 3306), AIFF and AIFF-C (Apple, 1989 and 1991), Sun's AU, and CAF (Apple, Core Audio
Format).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from whisperq_core.speech.file_view import read_at, view

# Bytes after the sound that are no chunk and less than this are not sound, such as a tag.
_LEAST_SOUND_BYTES = 32_000
_UNKNOWN_32 = b"\xff" * 4
# AIFF-C's names of uncompressed samples.
_UNCOMPRESSED = {b"NONE", b"sowt", b"twos", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"}

Patches = dict[int, bytes]
ByteOrder = Literal["little", "big"]


@dataclass(frozen=True)
class _Chunk:
    """name: four bytes. size_at, start: offsets of its size, and of its content."""

    name: bytes
    size_at: int
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def repaired(file: BinaryIO) -> BinaryIO:
    """The file as it is, or one with the same content and a header that tells all of it."""
    total = file.seek(0, os.SEEK_END)
    patches = _patches(file, total)
    file.seek(0)
    return view(file, 0, total, patches) if patches else file


def _patches(file: BinaryIO, total: int) -> Patches:
    head = read_at(file, 0, 12)
    if head[8:] == b"WAVE" and head[:4] in (b"RIFF", b"RF64"):
        return _of_wave(file, total)
    if head[8:] in (b"AIFF", b"AIFC") and head[:4] == b"FORM":
        return _of_aiff(file, total)
    if head[:4] == b".snd":
        return _of_au(file, total)
    return _of_caf(file, total) if head[:4] == b"caff" else {}


def _of_wave(file: BinaryIO, total: int) -> Patches:
    chunks = {chunk.name: chunk for chunk in _chunks(file, total, 12, "little")}
    data, long = chunks.get(b"data"), chunks.get(b"ds64")
    if data is None:
        return {}
    end = data.end
    if long is not None and data.size == int.from_bytes(_UNKNOWN_32):
        end = data.start + int.from_bytes(read_at(file, long.start + 8, 8), "little")
    if not _is_short(file, data.start, end, total):
        return {}
    patches = {4: _UNKNOWN_32, data.size_at: _UNKNOWN_32}
    # What is left of an RF64 without its own sizes is a WAV: no file here is that long.
    return patches | ({0: b"RIFF", 12: b"JUNK"} if long is not None else {})


def _of_aiff(file: BinaryIO, total: int) -> Patches:
    chunks = {chunk.name: chunk for chunk in _chunks(file, total, 12, "big")}
    common, data = chunks.get(b"COMM"), chunks.get(b"SSND")
    if common is None or data is None:
        return {}
    described = read_at(file, common.start, 22)
    if len(described) == 22 and common.size >= 22 and described[18:] not in _UNCOMPRESSED:
        return {}
    channels, bits = (int.from_bytes(described[at : at + 2]) for at in (0, 6))
    frame_bytes = channels * -(-bits // 8)
    samples_at = data.start + 8
    end = min(data.end, samples_at + int.from_bytes(described[2:6]) * frame_bytes)
    if not frame_bytes or not _is_short(file, samples_at, end, total, data.end):
        return {}
    frames = (total - samples_at) // frame_bytes
    return {
        4: (total - 8).to_bytes(4),
        data.size_at: (total - data.start).to_bytes(4),
        common.start + 2: frames.to_bytes(4),
    }


def _of_au(file: BinaryIO, total: int) -> Patches:
    start, size = (int.from_bytes(read_at(file, at, 4)) for at in (4, 8))
    is_known = size != int.from_bytes(_UNKNOWN_32)
    short = is_known and _is_short(file, start, start + size, total)
    return {8: _UNKNOWN_32} if short else {}


def _of_caf(file: BinaryIO, total: int) -> Patches:
    for chunk in _chunks(file, total, 8, "big", size_bytes=8):
        if chunk.name == b"data" and chunk.size < 2**63:
            # Its samples follow a count of edits of 4 bytes.
            first = chunk.start + 4
            if _is_short(file, first, max(first, chunk.end), total):
                return {chunk.size_at: b"\xff" * 8}
    return {}


def _chunks(
    file: BinaryIO, total: int, at: int, order: ByteOrder, size_bytes: int = 4
) -> Iterator[_Chunk]:
    """The chunks from an offset on, up to the first with a wrong size."""
    while at + 4 + size_bytes <= total:
        head = read_at(file, at, 4 + size_bytes)
        size = int.from_bytes(head[4:], order)
        chunk = _Chunk(head[:4], at + 4, at + 4 + size_bytes, size)
        if not _is_name(chunk.name):
            return
        yield chunk
        # Only CAF does not pad to an even number.
        at = chunk.end + (chunk.size % 2 if size_bytes == 4 else 0)


def _is_short(
    file: BinaryIO, start: int, end: int, total: int, next_chunk: int | None = None
) -> bool:
    """Whether more sound follows the end that a header tells: something that is no chunk.

    next_chunk: where the header lets the next chunk begin, if not at `end`.
    """
    rest = total - end
    if rest <= 0 or (end > start and rest < _LEAST_SOUND_BYTES):
        return False
    at = end if next_chunk is None else next_chunk
    return not any(_is_name(read_at(file, place, 4)) for place in (at, at + at % 2))


def _is_name(four: bytes) -> bool:
    return len(four) == 4 and all(0x20 <= byte < 0x7F for byte in four)
