"""What statistics need of a run's utterances: everything but the texts, in columns."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from whisperq_core.scoring.error_rates import Counts

if TYPE_CHECKING:
    from whisperq_core.evaluate.records import UtteranceResult


@dataclass(frozen=True)
class CountColumns:
    """Counts of utterances in one unit, words or characters; all of shape (utterances,)."""

    hits: tuple[int, ...]
    substitutions: tuple[int, ...]
    deletions: tuple[int, ...]
    insertions: tuple[int, ...]

    @classmethod
    def of(cls, counts: Iterable[Counts]) -> Self:
        """Of the utterances' counts, in the same order."""
        rows = [(c.hits, c.substitutions, c.deletions, c.insertions) for c in counts]
        return cls(*zip(*rows, strict=True)) if rows else cls((), (), (), ())

    @property
    def total(self) -> Counts:
        """Their sum."""
        columns = self.hits, self.substitutions, self.deletions, self.insertions
        return Counts(*map(sum, columns))


@dataclass(frozen=True)
class UtteranceColumns:
    """The utterances of a run, in the order of their ids, so that two runs line up.

    speech_digest: SHA-256 in hex of ids and references.
    redecoded: whether it was decoded again, at a temperature above 0 or in the whole window.
    """

    speech_digest: str
    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    languages: tuple[str, ...]
    durations_s: tuple[float, ...]
    words: CountColumns
    characters: CountColumns
    looped: tuple[bool, ...]
    redecoded: tuple[bool, ...]

    @classmethod
    def of(cls, utterances: Iterable["UtteranceResult"]) -> Self:
        """Of utterances in any order."""
        by_id = sorted(utterances, key=lambda u: u.id)
        return cls(
            speech_digest_of((u.id, u.reference) for u in by_id),
            tuple(u.id for u in by_id),
            tuple(u.speaker for u in by_id),
            tuple(u.language for u in by_id),
            tuple(u.duration_s for u in by_id),
            CountColumns.of(u.score.words for u in by_id),
            CountColumns.of(u.score.characters for u in by_id),
            tuple(u.score.looped for u in by_id),
            tuple(u.temperature > 0 or u.redone for u in by_id),
        )


def speech_digest_of(references_by_id: Iterable[tuple[str, str]]) -> str:
    """SHA-256 in hex of pairs of id and reference, in the order of their ids."""
    return hashlib.sha256(json.dumps(list(references_by_id)).encode()).hexdigest()
