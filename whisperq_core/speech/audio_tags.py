"""Titles and other tags before and after a recording, left out while it is read.

Libraries skip a tag in some formats only, or take its bytes for sound. The tags: ID3v1 and ID3v2
(id3.org, 2.4: with a footer it may be last), APEv1 and APEv2 (Monkey's Audio), and Lyrics3 v2.
"""

import os
from typing import BinaryIO

from whisperq_core.speech.audio_formats import HEAD_BYTES, sniff
from whisperq_core.speech.file_view import read_at, view

# Of a file of nothing but tags, only so many are left out.
_MAX_TAGS = 16
# A header or footer of an APE tag.
_APE_MARK, _APE_BYTES = b"APETAGEX", 32
# How far into an MP3 its first frame may be: taggers and servers leave padding before it.
_MAX_JUNK_BYTES = 65_536
_MPEG_FRAME_BYTES = 4
# In the first frame, after its 4 bytes: up to 32 of side information and 2 of a checksum.
_COUNT_AT = range(4, 40)
_COUNTS = (b"Xing", b"Info")


def without_tags(file: BinaryIO) -> BinaryIO:
    """The file as it is, or its part between the tags."""
    total = file.seek(0, os.SEEK_END)
    begin = after_tags(file, 0)
    begin += _junk_bytes(file, begin)
    end = _before_tags(file, begin, total)
    file.seek(0)
    if (begin, end) == (0, total) or begin >= end:
        return file
    return view(file, begin, end)


def after_tags(file: BinaryIO, at: int) -> int:
    """Where the tags end that begin at an offset: the same place where there are none."""
    for _ in range(_MAX_TAGS):
        head = read_at(file, at, _APE_BYTES)
        size = _id3_bytes(head[:10], b"ID3")
        if head[:8] == _APE_MARK:
            size = _APE_BYTES + _ape_bytes(head)
        if not size:
            break
        at += size
    return at


def counts_at(frame: bytes) -> int | None:
    """Where, in the first frame of an MP3, an encoder (by Xing, also LAME's) counted all of it."""
    return next((at for at in _COUNT_AT if frame[at : at + 4] in _COUNTS), None)


def is_mpeg_frame(head: bytes) -> bool:
    """Whether these bytes begin a frame of MPEG audio: eleven set bits, a layer, a bit rate."""
    return (
        len(head) >= _MPEG_FRAME_BYTES
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x06 != 0
        and head[2] & 0xF0 != 0xF0
    )


def _before_tags(file: BinaryIO, begin: int, end: int) -> int:
    """Where the tags begin that end at an offset."""
    for _ in range(_MAX_TAGS):
        size = _ending_tag_bytes(file, end)
        if not size or end - size < begin:
            break
        end -= size
    return end


def _ending_tag_bytes(file: BinaryIO, end: int) -> int:
    """Size of the tag that ends there; where it has a beginning of its own, only if that is so."""
    last = read_at(file, max(0, end - 128), min(128, end))
    if len(last) == 128 and last.startswith(b"TAG"):
        return 128
    if last.endswith(b"LYRICS200") and last[-15:-9].isdigit():
        size = int(last[-15:-9]) + 15
        return size if _is_at(file, end - size, b"LYRICSBEGIN") else 0
    if size := _id3_bytes(last[-10:], b"3DI"):
        return size if _is_at(file, end - size, b"ID3") else 0
    if size := _ape_bytes(last[-_APE_BYTES:]):
        head = read_at(file, max(0, end - size - _APE_BYTES), _APE_BYTES)
        is_header = _ape_bytes(head) == size and bool(head[23] & 0x20)
        return size + _APE_BYTES * is_header
    return 0


def _is_at(file: BinaryIO, at: int, mark: bytes) -> bool:
    return at >= 0 and read_at(file, at, len(mark)) == mark


def _id3_bytes(head: bytes, mark: bytes) -> int:
    """Size of the ID3v2 tag with this header or footer; 0 for other bytes."""
    if len(head) < 10 or head[:3] != mark or max(head[6:]) > 0x7F:
        return 0
    size = 0
    for byte in head[6:]:  # of 7 bits each
        size = size << 7 | byte
    has_footer = bool(head[5] & 0x10)
    return 10 + size + 10 * has_footer


def _ape_bytes(head: bytes) -> int:
    """Size that an APE tag's header or footer tells: all but the header. 0 for other bytes."""
    if len(head) < _APE_BYTES or not head.startswith(_APE_MARK):
        return 0
    return int.from_bytes(head[12:16], "little")


def _junk_bytes(file: BinaryIO, begin: int) -> int:
    """Bytes before the first frame of an MP3, where that frame counts the rest."""
    head = read_at(file, begin, HEAD_BYTES)
    format = sniff(head)
    if is_mpeg_frame(head) or (format and "mp3" not in format.demuxers):
        return 0
    head = read_at(file, begin, _MAX_JUNK_BYTES)
    for mark in _COUNTS:
        place = head.find(mark)
        for at in range(place - _COUNT_AT.start, place - _COUNT_AT.stop, -1):
            if at > 0 and is_mpeg_frame(head[at : at + _MPEG_FRAME_BYTES]):
                return at
    return 0
