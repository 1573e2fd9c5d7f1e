"""Normalizers: from text as it is written to words as they are compared, by language.

English is Whisper's own normalizer (package whisper-normalizer), so that figures can be compared
with published ones. Before it, typing habits are made alike (apostrophes, dashes, widths,
zero-width characters); after it, dates and times of day get one form, and what its rules leave of
punctuation goes ("." is no word). A normalized text stays as it is when it is normalized again,
numbers excepted: Whisper writes "1, 5" as "one 5", and would read that as 15.

Other languages get the steps of Whisper's basic normalizer, written here for one reason: that one
replaces combining marks by spaces, which cuts Hindi, Bengali or Tamil words into pieces. All of it
is Unicode's own data (`unicodedata`); the packages for single scripts that exist also rewrite
numbers, which the reference may have spelled in either way.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

# Raise it when a rule of this file changes: stored transcripts are then scored again.
RULES = 1

_APOSTROPHES = re.compile("[’‘ʼʻ＇`´′‛]")
_DASHES = re.compile("[‐‑‒–—―−]")
# What is invisible or a hint for line breaks and direction.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_DOTS = re.compile(r"\.{2,}|…")
_BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DAY_OF_MONTH = re.compile(rf"\b({_MONTHS}) (\d{{1,2}})(?:st|nd|rd|th)\b")
_HALF_DAY = re.compile(r"\b([ap])\. ?m\b\.?", re.IGNORECASE)
_TIME_OF_DAY = re.compile(r"\b(\d{1,2})\s?([0-5]\d) (am|pm)\b")
_LEADING_ZEROS = re.compile(r"\b0+(?=\d+\b)(?<!\d\.)")
# What Whisper's rules for decimals and tags leave of punctuation.
_LEFT_OVER = re.compile(r"(?<!\S)[.%$¢€£]+(?!\S)|</?\w+>")

# Marks that a writer may leave out: vowel signs of Arabic and Hebrew.
_HEBREW_POINTS = "\\u0591-\\u05bd\\u05bf\\u05c1\\u05c2\\u05c4\\u05c5\\u05c7"
_ARABIC_VOWELS = "\\u0610-\\u061a\\u064b-\\u065f\\u0670"
_OPTIONAL_MARKS = re.compile(f"[{_HEBREW_POINTS}{_ARABIC_VOWELS}]")
_TATWEEL = "\u0640"
# Letters of which keyboards and habits offer several for one.
_LETTERS: dict[str, dict[int, str]] = {
    "ar": str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ک": "ك"}),
    "fa": str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک"}),
    "ur": str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک"}),
}
_TURKIC = str.maketrans({"I": "ı", "İ": "i"})
_TURKIC_LANGUAGES = ("tr", "az")


@dataclass(frozen=True)
class Normalizer:
    """What is done to reference and hypothesis before they are compared.

    name and version are stored with every count, so that stored transcripts are scored again when
    either changes; models are never run again for it.
    """

    name: str
    version: str
    apply: Callable[[str], str]


@lru_cache
def normalizer(language: str) -> Normalizer:
    """The normalizer for a language, by its code as in `scoring.languages`."""
    if language == "en":
        return Normalizer(
            "whisperq-english", f"{RULES}+{version('whisper-normalizer')}", _english()
        )
    return Normalizer("whisperq-unicode", str(RULES), lambda text: _unicode(text, language))


def _unify(text: str) -> str:
    """One form for what is typed in several ways: apostrophes, dashes, widths, invisible signs."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return _DOTS.sub(" ", _DASHES.sub("-", _APOSTROPHES.sub("'", text)))


def _english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    whisper = EnglishTextNormalizer()

    def english(text: str) -> str:
        text = _HALF_DAY.sub(r"\1m", _unify(text))
        text = _LEFT_OVER.sub(" ", whisper(_LEFT_OVER.sub(" ", text)))
        text = _LEADING_ZEROS.sub("", text)
        text = _DAY_OF_MONTH.sub(r"\1 \2", " ".join(text.split()))
        return _TIME_OF_DAY.sub(r"\1\2 \3", text)

    return english


def _unicode(text: str, language: str) -> str:
    text = _unify(text)
    if language in _TURKIC_LANGUAGES:
        text = text.translate(_TURKIC)
    text = _BRACKETED.sub("", text.lower())
    text = _OPTIONAL_MARKS.sub("", text).replace(_TATWEEL, "")
    text = text.translate(_LETTERS.get(language, {}))
    text = "".join(_plain(character) for character in text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _plain(character: str) -> str:
    """A letter or mark as it is, a digit of any script as 0 to 9, everything else as a space."""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    return character if category[0] in "LMN" else " "
