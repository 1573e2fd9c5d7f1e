"""Normalisers: named, versioned functions from text to comparable text."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version


@dataclass(frozen=True)
class Normaliser:
    """What is done to reference and hypothesis before they are compared.

    `name` and `version` are stored beside every count, so that stored transcripts are scored again
    when either changes; models are never rerun for it.
    """

    name: str
    version: str
    apply: Callable[[str], str]


@lru_cache
def normaliser(language: str) -> Normaliser:
    """Whisper's own normaliser: the English one for "en", the basic one for other languages."""
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    installed = version("whisper-normalizer")
    if language == "en":
        return Normaliser("whisper-english", installed, EnglishTextNormalizer())
    return Normaliser("whisper-basic", installed, BasicTextNormalizer())
