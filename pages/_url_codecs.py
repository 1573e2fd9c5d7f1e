"""Values of widgets as texts in a URL, and back. Pure functions; no Streamlit.

A codec never raises: texts that it cannot use are returned as `Decoded.invalid`, together with the
value that is shown instead, so that the page can name them.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_TYPED_CHARACTERS = 1000
_MAX_DIGITS = 9

Texts = list[str]  # of one query parameter, which may be repeated


@dataclass(frozen=True)
class Decoded:
    """A value from a URL, and the texts that could not be used."""

    value: Any
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Codec:
    """How one parameter is read and written.

    decode: texts, none of which means the default, to a value. encode: a value other than the
    default to texts. label: a value as users read it.
    """

    default: Any
    decode: Callable[[Texts], Decoded]
    encode: Callable[[Any], Texts]
    label: Callable[[Any], str]

    def to_query(self, value: Any) -> Texts | None:
        """The parameter's texts; None where it is left out because the value is the default."""
        return None if value == self.default else self.encode(value) or [""]


def choice(
    options: Iterable[Hashable], default: Any = None, label: Callable[[Any], str] | None = None
) -> Codec:
    """One of the options, or none where the default is None."""
    names = _options_by_text(options, label)

    def encode(value: Any) -> Texts:
        return [] if value is None else [str(value)]

    return _codec(default, lambda texts: names[texts[-1]], encode, label or str)


def choices(
    options: Iterable[Hashable],
    default: Sequence[Hashable] = (),
    label: Callable[[Any], str] | None = None,
    accept_new: bool = False,
) -> Codec:
    """Any of the options; valid ones are kept when others are invalid.

    accept_new: also any text that a user could have typed. The page has to check it.
    """
    names, start, shown = _options_by_text(options, label), list(default), label or str

    def decode(texts: Texts) -> Decoded:
        wanted = [text for text in dict.fromkeys(texts) if text]
        if not texts or not wanted:
            return Decoded([] if texts else start)
        typed = {t: t for t in wanted if accept_new and is_typeable(t)}
        usable = typed | names
        valid = list(dict.fromkeys(usable[text] for text in wanted if text in usable))
        invalid = tuple(text for text in wanted if text not in usable)
        return Decoded(valid or start, invalid)

    def describe(values: Sequence[Hashable]) -> str:
        return ", ".join(shown(value) for value in values) or "all"

    return Codec(start, decode, lambda values: [str(value) for value in values], describe)


def number(
    low: float, high: float | None, default: float | None, step: float, *, optional: bool
) -> Codec:
    """A finite number from low to high, whole where the step is; None (empty) where optional."""

    def parse(texts: Texts) -> float | None:
        if optional and not texts[-1].strip():
            return None
        value = float(texts[-1])
        if not math.isfinite(value) or value < low or (high is not None and value > high):
            raise ValueError(value)
        if isinstance(step, int) and not value.is_integer():
            raise ValueError(value)
        return type(step)(value)

    return _codec(default, parse, lambda value: [] if value is None else [_text(value)], _text)


def number_range(low: float, high: float) -> Codec:
    """Two numbers in ascending order from low to high; the default is all of it."""

    def parse(texts: Texts) -> tuple[float, float]:
        first, last = (float(text) for text in texts)
        if not low <= first <= last <= high:
            raise ValueError(texts)
        return first, last

    def encode(ends: Sequence[float]) -> Texts:
        return [_text(end) for end in ends]

    return _codec((low, high), parse, encode, lambda ends: " to ".join(encode(ends)))


def flag(default: bool) -> Codec:
    """On or off, as `true` and `false`."""
    states = {"true": True, "false": False}
    return _codec(
        default,
        lambda texts: states[texts[-1]],
        lambda value: [str(value).lower()],
        lambda value: "on" if value else "off",
    )


def text() -> Codec:
    """A text that a user could type."""

    def parse(texts: Texts) -> str:
        if texts[-1] and not is_typeable(texts[-1]):
            raise ValueError(texts[-1])
        return texts[-1]

    return _codec("", parse, lambda value: [value], lambda value: value or "nothing")


def page_number(count: int) -> Codec:
    """A page from 1 to count; the default is the first."""

    def parse(texts: Texts) -> int:
        value = int(texts[-1][:_MAX_DIGITS])
        if not 1 <= value <= count:
            raise ValueError(value)
        return value

    return _codec(1, parse, lambda value: [str(value)], str)


def is_typeable(text: str) -> bool:
    """Whether a user could have typed it: printable, and at most 1,000 characters."""
    return text.isprintable() and len(text) <= _MAX_TYPED_CHARACTERS


def _codec(
    default: Any,
    parse: Callable[[Texts], Any],
    encode: Callable[[Any], Texts],
    label: Callable[[Any], str],
) -> Codec:
    """A codec whose parser raises ValueError, KeyError or OverflowError for invalid texts."""

    def decode(texts: Texts) -> Decoded:
        if not texts:
            return Decoded(default)
        try:
            return Decoded(parse(texts))
        except (ValueError, KeyError, OverflowError):
            return Decoded(default, (texts[-1],))

    return Codec(
        default, decode, encode, lambda value: "none" if value is None else str(label(value))
    )


def _text(value: float) -> str:
    return f"{value:.12g}"


def _options_by_text(
    options: Iterable[Hashable], label: Callable[[Any], str] | None
) -> dict[str, Any]:
    """Options by their texts in a URL. Older links have labels instead, which still work."""
    options = list(options)
    labels = {label(option): option for option in options} if label else {}
    return labels | {str(option): option for option in options}
