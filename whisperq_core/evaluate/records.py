"""What is stored of a run: its identity (RunSpec) and its results, one class a measurement.

AccuracyRun is transcripts and their errors, DivergenceRun how far predictions are from fp32's; both
do not depend on the CPU. SpeedRun is times of the library's own kernels compared with fp32's, and
does. SizeRun needs no weights.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from statistics import median
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
)
from pydantic_core import CoreSchema

from whisperq_core.errors import SchemaTooNew, StoreError
from whisperq_core.evaluate.utterance_columns import UtteranceColumns
from whisperq_core.file_storage import check_json
from whisperq_core.machine import Machine
from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.quantize.pipeline import PIPELINE_VERSION
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.scoring import divergence
from whisperq_core.scoring.divergence import Divergence
from whisperq_core.scoring.error_rates import Counts, Score
from whisperq_core.speech import conditions
from whisperq_core.whisper.protocols import Protocol

# The layout of a record. Raise it when fields change, and teach `parse` to read the older one.
# 2 added what is optional: temperatures, the encoder's time, the first token's time, tokens.
# 3 added the recipe's rest and attention, the protocol's fitted window, redone.
# 4 added kinds_of_machine.
# 5 added the machine's GPU, the spec's gpu and code_version, audio_libraries.
# 6 added DivergenceRun.
# 7 added the machine's gpu_cuda, the recipe's compute and compiled.
# 8 added the spec's cutting.
SCHEMA_VERSION = 8


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __copy__(self) -> Self:
        """A copy that remembers nothing derived, for `model_copy` changes its fields."""
        copied = super().__copy__()
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


# Fields of RunSpec that came after results were stored, and what these results imply.
_DEFAULTS_OF_NEW_FIELDS = {"gpu": None, "code_version": 1, "cutting": None}


class RunSpec(_Frozen):
    """Everything that can change a result, and nothing else.

    kernels: library, or dequantized where fp32 layers run with the dequantized weights.
    cpu and repeats are set for speed only, gpu (`Machine.gpu_kind`) for speed on one. pipeline:
    version of the code that all recipes share. code_version: of the code of the recipe's backend.
    cutting: of the code that cuts utterances over 30 s in pauses; None where none is cut.
    """

    measures: Literal["accuracy", "divergence", "speed", "size"]
    weights_digest: str
    recipe: Recipe
    eval_set_digest: str
    calibration_digest: str | None = None
    protocol: Protocol
    kernels: Literal["library", "dequantized"]
    device: str
    threads: int
    versions: dict[str, str]
    cpu: str | None = None
    gpu: str | None = None
    repeats: int | None = None
    pipeline: int = PIPELINE_VERSION
    code_version: int = 1
    cutting: int | None = None

    @cached_property
    def key(self) -> str:
        """The first 16 hex digits of the sha256 of the canonical JSON of every field.

        Labels, such as the names of recipe and protocol, are left out. So are fields that came
        after results were stored, while they have the value that those results imply.
        """
        fields = self.model_dump(mode="json", exclude={"recipe"})
        for later, default in _DEFAULTS_OF_NEW_FIELDS.items():
            if fields[later] == default:
                del fields[later]
        fields["recipe"] = self.recipe.axes()
        counts = self.protocol.identity()
        fields["protocol"] = {k: v for k, v in fields["protocol"].items() if k in counts}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Whose time a timed pass is.
Subject = Literal["recipe", "fp32"]


class UtteranceResult(_Frozen):
    """One utterance: its reference, its hypothesis, and the counts of the errors.

    reference: empty for audio without speech, where every word of the hypothesis is hallucinated
    (an insertion). temperature: at which the transcript was accepted, above 0 after a fallback.
    redone: whether it looped in a fitted window and was decoded again in the whole one.
    """

    id: str
    speaker: str | None
    language: str
    duration_s: float
    reference: str
    hypothesis: str
    batch: int
    temperature: float = 0.0
    redone: bool = False
    score: Score


class BatchTime(_Frozen):
    """Time of generation for one batch, the device synchronised before and after."""

    batch: int
    utterances: int
    audio_s: PositiveFloat
    wall_s: PositiveFloat


class Pass(_Frozen):
    """One timed pass over the speed set. subject: the recipe, or the fp32 it is compared with.

    encoder_s: the encoder's part of wall_s. first_token_s: from the start of a batch to its first
    token, mean over batches. tokens: generated in all. All three None in records of schema 1.
    """

    subject: Subject
    repeat: int
    audio_s: PositiveFloat
    wall_s: PositiveFloat
    encoder_s: float | None = None
    first_token_s: float | None = None
    tokens: int | None = None

    @property
    def encoder_share(self) -> float | None:
        """The encoder's part of the time, from 0 to 1."""
        return None if self.encoder_s is None else self.encoder_s / self.wall_s

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second of the decoder's time, over all rows of a batch."""
        if self.tokens is None or self.encoder_s is None or self.encoder_s >= self.wall_s:
            return None
        return self.tokens / (self.wall_s - self.encoder_s)


class _Run(_Frozen):
    """What all kinds of run have in common.

    modules: exact names of the quantized modules. audio_libraries: versions of what decoded the
    speech, by package; empty in records of older versions.
    """

    schema_version: StrictInt = SCHEMA_VERSION
    spec: RunSpec
    model: str
    eval_set: str
    created_at: AwareDatetime
    machine: Machine
    load_average: float | None
    modules: Annotated[tuple[str, ...], FailFast()]
    weights_bytes: PositiveInt
    fp32_bytes: PositiveInt
    quantize_s: float
    peak_memory_bytes: int | None
    audio_libraries: dict[str, str] = {}

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """The identity's key."""
        return self.spec.key

    @property
    def condition(self) -> str:
        """The conditions that its speech was put under, such as "+noise:rain@5dB"; "" for none."""
        return conditions.split(self.eval_set)[1]

    @property
    def machine_kind(self) -> str:
        """The kind of machine, with the GPU where it ran on one: see `Machine.kind_for`."""
        return self.machine.kind_for(self.spec.device)

    @property
    def machine_was_busy(self) -> bool:
        """Whether more processes wanted a core than there are, so that times are not the recipe's.

        One process more is allowed: the load average still has the run before this one in it.
        """
        return self.load_average is not None and self.load_average > self.machine.cores + 1

    @property
    def slug(self) -> str:
        """A readable file name that ends in the key."""
        words = (self.model, self.spec.recipe.name, self.eval_set, self.spec.measures)
        readable = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", w)[-40:].strip("-.") for w in words)
        return f"{readable}_{self.key}"

    @property
    def size_reduction_pct(self) -> float:
        """How much smaller than fp32, in percent of fp32's serialized bytes."""
        return 100 * (1 - self.weights_bytes / self.fp32_bytes)


def _as_tuple(_: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    """How a sequence of utterances is read and written, whatever it is while it is in memory."""
    in_memory = WrapSerializer(lambda utterances, write: write(tuple(utterances)))
    kind: Any = Annotated[tuple[UtteranceResult, ...], FailFast(), in_memory]
    return handler.generate_schema(kind)


_Utterances = Annotated[Sequence[UtteranceResult], GetPydanticSchema(_as_tuple)]


class AccuracyRun(_Run):
    """Transcripts and scores of one model, recipe and evaluation set.

    kinds_of_machine: how many took part; `machine` is the first batch's. Times on several kinds
    of machine must not be added up. utterances: a tuple, or what a store reads (`run_summaries`).
    """

    measures: Literal["accuracy"] = "accuracy"
    kinds_of_machine: int = 1
    utterances: _Utterances
    batches: Annotated[tuple[BatchTime, ...], FailFast()]

    @cached_property
    def columns(self) -> UtteranceColumns:
        """The utterances without their texts."""
        known: UtteranceColumns | None = getattr(self.utterances, "columns", None)
        return known or UtteranceColumns.of(self.utterances)

    @cached_property
    def by_id(self) -> tuple[UtteranceResult, ...]:
        """The utterances in the order of their ids, so that two runs line up."""
        return tuple(sorted(self.utterances, key=lambda u: u.id))

    @property
    def speech_digest(self) -> str:
        """SHA-256 in hex of ids, references and condition: runs with the same are comparable."""
        words = self.columns.speech_digest
        if not self.condition:
            return words
        return hashlib.sha256(f"{words}{self.condition}".encode()).hexdigest()

    @cached_property
    def audio_s(self) -> float:
        """Seconds of speech."""
        return sum(self.columns.durations_s)

    @property
    def minutes(self) -> float:
        """Minutes of speech."""
        return self.audio_s / 60

    @cached_property
    def words(self) -> Counts:
        """Word counts over all utterances; its rate is the WER."""
        return self.columns.words.total

    @cached_property
    def characters(self) -> Counts:
        """Character counts over all utterances; its rate is the CER."""
        return self.columns.characters.total

    @property
    def loops(self) -> int:
        """Utterances whose transcript repeats itself as a looping decoder does."""
        return sum(self.columns.looped)

    @property
    def fallbacks(self) -> int:
        """Utterances that were decoded again, at a temperature above 0 or in the whole window."""
        return sum(self.columns.redecoded)

    @property
    def rtf(self) -> float | None:
        """Generation time over audio duration in this single pass.

        None for dequantized weights, whose time is not the recipe's, where several kinds of machine
        took part, and where other processes kept the machine busy.
        """
        if self.spec.kernels != "library" or self.kinds_of_machine > 1 or self.machine_was_busy:
            return None
        return sum(b.wall_s for b in self.batches) / sum(b.audio_s for b in self.batches)


class SpeedRun(_Run):
    """Interleaved timed passes of the recipe and of fp32, in one process on one machine."""

    measures: Literal["speed"] = "speed"
    passes: Annotated[tuple[Pass, ...], FailFast()]

    def rtfs(self, subject: str = "recipe") -> list[float]:
        """RTF of each pass of the recipe or of fp32, in the order they ran."""
        return [p.wall_s / p.audio_s for p in self.passes if p.subject == subject]

    def ratios(self) -> list[float]:
        """RTF over fp32's in the same repeat, which cancels changes of the machine's load."""
        recipe = {p.repeat: p.wall_s / p.audio_s for p in self.passes if p.subject == "recipe"}
        fp32 = {p.repeat: p.wall_s / p.audio_s for p in self.passes if p.subject == "fp32"}
        baseline = fp32 or recipe
        repeats = sorted(recipe.keys() & baseline.keys())
        return [recipe[repeat] / baseline[repeat] for repeat in repeats]

    def encoder_share(self, subject: str = "recipe") -> float | None:
        """Median part of the time spent in the encoder, from 0 to 1; None where not recorded."""
        return self._median("encoder_share", subject)

    def first_token_s(self, subject: str = "recipe") -> float | None:
        """Median time to a batch's first token in seconds; None where not recorded."""
        return self._median("first_token_s", subject)

    def tokens_per_s(self, subject: str = "recipe") -> float | None:
        """Median speed of the decoder in tokens a second; None where not recorded."""
        return self._median("tokens_per_s", subject)

    def _median(self, measured: str, subject: str) -> float | None:
        values = [getattr(p, measured) for p in self.passes if p.subject == subject]
        recorded = [value for value in values if value is not None]
        return median(recorded) if recorded else None


class UtteranceDivergence(_Frozen):
    """Divergence from fp32 along fp32's transcript of one utterance: see `scoring.divergence`.

    tokens: predicted tokens. nats: the sum of their divergences. changed: tokens whose most
    probable choice is another one.
    """

    id: str
    speaker: str | None
    language: str
    duration_s: float
    tokens: int
    nats: float
    changed: int


class DivergenceRun(_Run):
    """How far a recipe's predictions are from fp32's, where both are given fp32's transcript.

    baseline_key: of the fp32 accuracy run whose transcripts were used. nats_quantiles: of the
    divergences of single tokens, by "0.5", "0.9" and "0.99". left_out: ids of utterances without a
    transcript or longer than Whisper's window of 30 s.
    """

    measures: Literal["divergence"] = "divergence"
    baseline_key: str
    utterances: Annotated[tuple[UtteranceDivergence, ...], FailFast()]
    nats_quantiles: dict[str, float]
    left_out: tuple[str, ...] = ()

    @cached_property
    def by_id(self) -> tuple[UtteranceDivergence, ...]:
        """The utterances in the order of their ids, so that two runs line up."""
        return tuple(sorted(self.utterances, key=lambda u: u.id))

    @cached_property
    def sums(self) -> Divergence:
        """Sums over all utterances; its rates are nats per token and the share of changed ones."""
        return divergence.total(Divergence(u.tokens, u.nats, u.changed) for u in self.utterances)


class SizeRun(_Run):
    """Serialized bytes of a model of some shape with random weights; no speech is needed."""

    measures: Literal["size"] = "size"


# What requests give.
EvaluatedRun = AccuracyRun | DivergenceRun | SpeedRun
Run = EvaluatedRun | SizeRun
_ADAPTER: TypeAdapter[Run] = TypeAdapter(Annotated[Run, Field(discriminator="measures")])


def utc_now() -> datetime:
    """The current time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def parse(text: str | bytes) -> Run:
    """A record from its JSON.

    Raises SchemaTooNew for one of a newer WhisperQ and StoreError for one that is not a record.
    """
    try:
        check_json(text.encode() if isinstance(text, str) else text)
    except ValueError as error:
        raise StoreError("The file is not a WhisperQ result, or it was altered.") from error
    try:
        run = _ADAPTER.validate_json(text)
        newer = run.schema_version > SCHEMA_VERSION
    except (ValidationError, RecursionError) as error:
        # Only then is the text read once more: what a newer WhisperQ wrote may have any form.
        if not (newer := _version(text) > SCHEMA_VERSION):
            raise StoreError(
                "The file is not a WhisperQ result, or it was cut or altered."
            ) from error
    if newer:
        raise SchemaTooNew(
            f"This result was written in schema {_version(text)}; this WhisperQ reads up to"
            f" {SCHEMA_VERSION}. Update WhisperQ to read it."
        )
    if "schema_version" not in run.model_fields_set:
        raise StoreError("The result has no schema version.")
    if (library := run.spec.recipe.backend) not in BACKENDS:
        raise StoreError(
            f"This WhisperQ has no library {library[:40]!r}, which the result was measured with."
            " Update WhisperQ, or measure it again."
        )
    if not all(math.isfinite(d.duration_s) for d in getattr(run, "utterances", ())):
        raise StoreError("The result has utterances without a duration.")
    return run


def _version(text: str | bytes) -> int:
    """The schema that a JSON object says it is in; 0 where it does not say."""
    try:
        version = json.loads(text)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return version if isinstance(version, int) else 0
