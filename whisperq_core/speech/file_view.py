"""An open file seen with other bytes, or in part, without a copy of it."""

import io
import os
from collections.abc import Mapping
from typing import BinaryIO


def read_at(file: BinaryIO, at: int, size: int) -> bytes:
    """As many bytes from an offset on, or what there is of them."""
    file.seek(at)
    return file.read(size)


def view(
    file: BinaryIO, begin: int, end: int, patches: Mapping[int, bytes] | None = None
) -> BinaryIO:
    """The part of a file from one offset to another, with some bytes replaced.

    patches: bytes by their offset in the part. Closing the view closes the file.
    """
    return io.BufferedReader(_View(file, begin, end, patches or {}))


class _View(io.RawIOBase):
    name = ""  # libraries would guess a format from one

    def __init__(self, file: BinaryIO, begin: int, end: int, patches: Mapping[int, bytes]):
        self._file, self._begin, self._end, self._patches = file, begin, end, patches
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: self._begin, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}
        return self._file.seek(max(self._begin, origin[whence] + offset)) - self._begin

    def tell(self) -> int:
        return self._file.tell() - self._begin

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        place = self._file.tell()
        content = bytearray(self._file.read(max(0, min(len(buffer), self._end - place))))
        for at, replacement in self._patches.items():
            for offset, byte in enumerate(replacement, self._begin + at - place):
                if 0 <= offset < len(content):
                    content[offset] = byte
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
