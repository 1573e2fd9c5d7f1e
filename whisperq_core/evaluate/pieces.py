"""Pieces: what is stored of a run while it is under way, so that a run that was killed resumes.

A run is one "model" piece and one piece for each batch ("batch-0000"; "forced-0000" for divergence)
or timed pass ("pass-0-recipe"). Fields that came later have a default, so that pieces of an older
WhisperQ are read; the JSON of a piece is never changed once it is written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whisperq_core.errors import Cancelled
from whisperq_core.evaluate.records import BatchTime, Pass, Subject, UtteranceDivergence
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import Machine

MODEL = "model"
# What the names of a run's countable pieces begin with, by what it measures.
PREFIXES = {"accuracy": "batch-", "divergence": "forced-", "speed": "pass-"}

# Called with pieces finished and pieces in all.
Progress = Callable[[int, int], None]
Stop = Callable[[], bool]


def ignore_progress(done: int, total: int) -> None:
    """A `Progress` for callers that show none."""


def never_stop() -> bool:
    """A `Stop` for runs that nobody can stop."""
    return False


class _Piece(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ModelPiece(_Piece):
    """What quantizing gave; the same fields as in a record."""

    modules: tuple[str, ...]
    weights_bytes: int
    fp32_bytes: int
    quantize_s: float
    load_average: float | None


@dataclass(frozen=True)
class Hypothesis:
    """The transcript of one utterance; see `records.UtteranceResult`."""

    text: str
    temperature: float
    redone: bool


class BatchPiece(_Piece):
    """The transcripts of one batch, in its order.

    temperatures, redone: one an utterance, or none in pieces of older versions. growth_bytes: of
    memory while transcribing; None where it is not the recipe's. machine: where the batch was
    transcribed; older versions do not say.
    """

    hypotheses: tuple[str, ...]
    temperatures: tuple[float, ...] = ()
    redone: tuple[bool, ...] = ()
    time: BatchTime
    growth_bytes: int | None
    machine: Machine | None = None

    def by_utterance(self) -> list[Hypothesis]:
        """The transcripts one by one; older pieces were greedy and in the whole window."""
        count = len(self.hypotheses)
        temperatures: Sequence[float] = self.temperatures or (0.0,) * count
        redone = self.redone or (False,) * count
        return [
            Hypothesis(*fields)
            for fields in zip(self.hypotheses, temperatures, redone, strict=True)
        ]


class PassPiece(_Piece):
    """One timed pass. growth_bytes: of memory while it ran."""

    model_config = ConfigDict(serialize_by_alias=True)

    timed: Pass = Field(alias="pass")
    growth_bytes: int | None


class DivergencePiece(_Piece):
    """The divergence of each utterance of a batch, and of each of their tokens, in nats.

    left_out: ids of those that have none.
    """

    utterances: tuple[UtteranceDivergence, ...]
    token_nats: tuple[float, ...]
    left_out: tuple[str, ...]


def batch_name(index: int) -> str:
    """The name of the piece of a batch that is transcribed."""
    return f"{PREFIXES['accuracy']}{index:04d}"


def forced_batch_name(index: int) -> str:
    """The name of the piece of a batch whose divergence is measured."""
    return f"{PREFIXES['divergence']}{index:04d}"


def pass_name(subject: Subject, repeat: int) -> str:
    """The name of a timed pass's piece."""
    return f"{PREFIXES['speed']}{repeat}-{subject}"


P = TypeVar("P", bound=_Piece)


class RunPieces:
    """The pieces of one run in a store: finished ones are read, the others computed and stored.

    label: of the run, for messages. total: countable pieces of the run.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        label: str,
        total: int,
        progress: Progress = ignore_progress,
        stop: Stop = never_stop,
    ):
        self._store, self._key, self._label, self._total = store, key, label, total
        self._progress, self._stop = progress, stop

    def get(self, name: str, kind: type[P]) -> P | None:
        """A finished piece; None where there is none, or where it is damaged."""
        content = self._store.piece(self._key, name)
        try:
            return None if content is None else kind.model_validate(content)
        except ValidationError:
            return None

    def put(self, name: str, piece: _Piece) -> None:
        """Stores a finished piece."""
        self._store.put_piece(self._key, name, piece.model_dump(mode="json"))

    def get_or_compute(self, name: str, kind: type[P], compute: Callable[[], P]) -> P:
        """A finished piece, or one that is computed and stored now; reports the progress.

        Raises Cancelled before it computes where the user stopped the run.
        """
        piece = self.get(name, kind)
        if piece is None:
            if self._stop():
                raise Cancelled(f"{self._label} was stopped; finished pieces are kept.")
            piece = compute()
            self.put(name, piece)
        prefix = name.partition("-")[0] + "-"
        self._progress(self._store.count_pieces(self._key, prefix), self._total)
        return piece
