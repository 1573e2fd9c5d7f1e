"""Words that matter: errors in numbers, names and negations, which a WER counts like any other.

The rules are plain, and see words, not meaning:

number    a scored word with a digit in it. English number words become digits when they are
          normalized ("twenty five" is 25); "one" stays a word there, and is not counted.
negation  no, not, n't, never, none, nothing, nobody, nowhere, neither, nor, without, or their
          like in the languages of `NEGATIONS`.
name      a word with a capital in the reference that begins no sentence, where the reference has
          small letters, too. German capitalizes all nouns, so it has no names here.

A word of the reference is wrong where the transcript has another one or none. A number or a
negation where the reference has none is added; names are not known without a reference.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from whisperq_core.scoring import error_rates
from whisperq_core.scoring.transcript_alignment import Word, words_of

RULE = (
    "Numbers: words with a digit, once normalised. Negations: no, not, n't, never, none, nothing,"
    " nobody, nowhere, neither, nor, without. Names: words with a capital in the reference"
    " that begin no sentence."
)

NEGATIONS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "no not never none nothing nobody nowhere neither nor without",
        "de": "nein nicht nie niemals kein keine keinen keinem keiner keines nichts niemand weder"
        " ohne",
        "es": "no nunca jamás nada nadie ningún ninguno ninguna ni sin tampoco",
        "fr": "non ne n pas jamais rien personne aucun aucune ni sans",
        "it": "no non mai niente nulla nessuno nessuna né senza",
        "nl": "nee niet nooit geen niets niemand zonder noch",
        "pt": "não nunca jamais nada ninguém nenhum nenhuma nem sem",
    }.items()
}

_NO_NAMES = frozenset({"de"})
# A capital after these is no sign of a name.
_SENTENCE_END = re.compile(r"[.?!…:][\"'”’)\]]*$")
# They end with a full stop, but no sentence, and are no names.
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr"})
_PRONOUN = re.compile(r"^I(['’]\w+)?$")


class Kind(StrEnum):
    """A kind of word that matters."""

    NUMBER = "number"
    NAME = "name"
    NEGATION = "negation"


@dataclass(frozen=True)
class KeyWordCounts:
    """Of one kind: words in the reference, how many of them are wrong, and how many were added."""

    total: int = 0
    wrong: int = 0
    added: int = 0

    def __add__(self, other: "KeyWordCounts") -> "KeyWordCounts":
        return KeyWordCounts(
            self.total + other.total, self.wrong + other.wrong, self.added + other.added
        )


def count(reference: str, hypothesis: str, language: str = "en") -> dict[Kind, KeyWordCounts]:
    """The counts of each kind in one utterance; kinds that neither text has are left out."""
    words = _words(reference, language)
    kinds = _kinds(words, language)
    spoken = [word.scored for word in words]
    written = [word.scored for word in _words(hypothesis, language)]
    counts = {kind: KeyWordCounts(total=kinds.count(kind)) for kind in Kind}
    place = 0
    for edit in error_rates.edits(spoken, written):
        before = kinds[place] if edit.kind != "insert" else None
        place += edit.kind != "insert"
        if edit.kind == "equal":
            continue
        if before is not None:
            counts[before] += KeyWordCounts(wrong=1)
        after = _kind_of(edit.hypothesis, language)
        if after is not None and after is not before:
            counts[after] += KeyWordCounts(added=1)
    return {kind: one for kind, one in counts.items() if one.total or one.added}


def total(counts: Sequence[dict[Kind, KeyWordCounts]]) -> dict[Kind, KeyWordCounts]:
    """The sums over utterances."""
    sums = {
        kind: sum((one.get(kind, KeyWordCounts()) for one in counts), KeyWordCounts())
        for kind in Kind
    }
    return {kind: one for kind, one in sums.items() if one.total or one.added}


def text(counts: dict[Kind, KeyWordCounts]) -> str:
    """The counts in words, as in “wrong: 1 of 3 numbers, 0 of 2 names; added: 1 negation”."""
    wrong = [
        f"{one.wrong} of {one.total} {kind}{'s' * (one.total != 1)}"
        for kind, one in counts.items()
        if one.total
    ]
    added = [
        f"{one.added} {kind}{'s' * (one.added != 1)}" for kind, one in counts.items() if one.added
    ]
    parts = [("wrong", wrong), ("added", added)]
    return "; ".join(f"{name}: {', '.join(items)}" for name, items in parts if items)


def _words(text: str, language: str) -> list[Word]:
    """The scored words, where "cannot" is the same as "can not"."""
    words: list[Word] = []
    for word in words_of(text, language):
        if word.scored == "cannot" and language == "en":
            words += [replace(word, scored="can"), Word("not", "")]
        else:
            words.append(word)
    return words


def _kinds(words: Sequence[Word], language: str) -> list[Kind | None]:
    """The kind of each scored word of a reference."""
    names = _names(words, language)
    return [
        _kind_of(word.scored, language) or (Kind.NAME if is_name else None)
        for word, is_name in zip(words, names, strict=True)
    ]


def _kind_of(scored: str, language: str) -> Kind | None:
    if any(character.isdigit() for character in scored):
        return Kind.NUMBER
    return Kind.NEGATION if scored in NEGATIONS.get(language, frozenset()) else None


def _names(words: Sequence[Word], language: str) -> list[bool]:
    """Whether each scored word is of a written one that is a name."""
    whole = " ".join(word.written for word in words)
    if language in _NO_NAMES or whole == whole.upper():
        return [False] * len(words)
    names, begins, is_name = [], True, False
    for word in words:
        if word.written:
            # Several written words can be one scored; they are numbers, not names.
            is_name = not begins and _looks_like_a_name(word.written)
            plain = word.written.rstrip(".").lower()
            begins = bool(_SENTENCE_END.search(word.written)) and plain not in _TITLES
        names.append(is_name)
    return names


def _looks_like_a_name(written: str) -> bool:
    letters = written.strip("\"'“”‘’()[].,;:!?…-")
    quoted = written[:1] in '"“‘([' and written[:1] != ""
    if not letters or quoted or _PRONOUN.match(letters) or letters.lower() in _TITLES:
        return False
    return letters[0].isupper()
