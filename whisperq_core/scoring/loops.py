"""Loops: transcripts that repeat themselves, as a decoder does that is caught in one.

Measured in characters, whatever the script: UTF-8 spends three bytes on a letter of Hindi or Thai
whose first two hardly change, so that a ratio of bytes calls ordinary text a repetition.
"""

import re
import zlib

# Whisper's own threshold for a text that repeats itself (decoding option of the same name).
COMPRESSION_RATIO_THRESHOLD = 2.4
# A phrase that ends a text this many times in a row is a loop even where the text is too short to
# compress, if all of it is so long: people do say "no no no no".
REPEATS = 4
_LEAST_WORDS, _MOST_WORDS = 8, 8
_LEAST_CHARACTERS, _MOST_CHARACTERS = 12, 24
# About what is spoken in 30 s.
_WINDOW_CHARACTERS = 800
# Codes below are ASCII's own; above is room for the other characters of a text.
_ASCII = 128


def compression_ratio(text: str) -> float:
    """Characters of the text over bytes of their zlib compression.

    For ASCII text this is Whisper's ratio of bytes. Other characters are numbered by appearance,
    one byte each; two bytes where a text has more than 128 of them.
    """
    codes = _codes(text)
    return len(codes) / len(zlib.compress(codes)) if codes else 0.0


def _codes(text: str) -> bytes:
    if text.isascii():
        return text.encode()
    numbers: dict[str, int] = {}
    for character in text:
        if ord(character) >= _ASCII:
            numbers.setdefault(character, _ASCII + len(numbers))
    width = 1 if len(numbers) <= _ASCII else 2
    return b"".join(numbers.get(c, ord(c)).to_bytes(width, "big") for c in text)


def is_looped(text: str) -> bool:
    """Whether the transcript repeats itself as a decoder does that is caught in a loop.

    True where a part as long as a 30 s window's text compresses better than Whisper's own
    threshold (any long text would, as a whole), or where it ends in a phrase that is repeated
    `REPEATS` times or more in a row: of one to eight words, or, where words are not separated by
    spaces, of one to 24 characters. Short repetitions that people make ("no no no no", "哈哈哈哈")
    are none.
    """
    starts = range(0, max(1, len(text) - _WINDOW_CHARACTERS // 2), _WINDOW_CHARACTERS // 2)
    parts = (text[start : start + _WINDOW_CHARACTERS] for start in starts)
    if any(compression_ratio(part) > COMPRESSION_RATIO_THRESHOLD for part in parts):
        return True
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    if _ends_in_repetition(words, _LEAST_WORDS, _MOST_WORDS):
        return True
    last = words[-1] if words else ""
    return not last.isascii() and _ends_in_repetition(last, _LEAST_CHARACTERS, _MOST_CHARACTERS)


def _ends_in_repetition(units: "list[str] | str", least: int, most: int) -> bool:
    """Whether the last `least` units or more are one phrase of up to `most` units, repeated."""
    for size in range(1, most + 1):
        repeats = max(REPEATS, -(-least // size))
        tail = units[-size * repeats :]
        if len(tail) == size * repeats and tail == tail[:size] * repeats:
            return True
    return False
