"""Records read without their texts, so that thousands of them are read in a second.

To parse a record takes a hundred times as long as to read its file, and nearly all of it is the
texts of its utterances, which only the page that shows them needs. So the rest of an accuracy
record is stored as a derived value under the digest of the record's file; the texts stay as they
are in the file, and are parsed when somebody looks at them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, overload

from pydantic import BaseModel, ConfigDict, ValidationError

from whisperq_core.derived_values import DerivedValues, code_digest, digest_of
from whisperq_core.errors import StoreError
from whisperq_core.evaluate import records, utterance_columns
from whisperq_core.evaluate.records import AccuracyRun, Run, UtteranceResult
from whisperq_core.evaluate.utterance_columns import UtteranceColumns
from whisperq_core.quantize import recipe
from whisperq_core.whisper import protocols


class UnparsedUtterances(Sequence[UtteranceResult]):
    """The utterances of a record, in its order, parsed when one is looked at; not for its length.

    columns: what is known of them before. record: the JSON that they are in.
    """

    def __init__(self, columns: UtteranceColumns, record: bytes):
        self.columns, self._record = columns, record

    @cached_property
    def _parsed(self) -> tuple[UtteranceResult, ...]:
        run = records.parse(self._record)
        return tuple(run.utterances) if isinstance(run, AccuracyRun) else ()

    @overload
    def __getitem__(self, index: int) -> UtteranceResult: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[UtteranceResult, ...]: ...
    def __getitem__(self, index: int | slice) -> UtteranceResult | tuple[UtteranceResult, ...]:
        return self._parsed[index]

    def __iter__(self) -> Iterator[UtteranceResult]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self.columns.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnparsedUtterances | tuple):
            return NotImplemented
        return self._parsed == tuple(other)


class RecordText(NamedTuple):
    """A record's JSON and its SHA-256 in hex."""

    text: bytes
    digest: str


class _Summary(BaseModel):
    """run: with no utterances, which `columns` summarizes. key: its own, slow to derive."""

    model_config = ConfigDict(frozen=True)

    run: AccuracyRun
    key: str
    columns: UtteranceColumns

    def with_record(self, record: bytes) -> AccuracyRun:
        """The run whose record this is."""
        utterances = UnparsedUtterances(self.columns, record)
        # Where `RunSpec` remembers it.
        self.run.spec.__dict__["key"] = self.key
        return self.run.model_copy(update={"utterances": utterances})


def read(contents: Mapping[str, RecordText], derived: DerivedValues) -> dict[str, Run | StoreError]:
    """The run in each JSON text, by the same names, or why it is none."""
    code = code_digest(records, utterance_columns, recipe, protocols)
    keys = {name: digest_of(code, content.digest) for name, content in contents.items()}
    summaries, new = derived.get(keys.values()), {}
    runs: dict[str, Run | StoreError] = {}
    for name, content in contents.items():
        try:
            summary = _parsed(summaries.get(keys[name]))
            if summary is None:
                run = records.parse(content.text)
                if isinstance(run, AccuracyRun):
                    summary = _summary_of(run)
                    new[keys[name]] = summary.model_dump_json().encode()
            runs[name] = summary.with_record(content.text) if summary else run
        except StoreError as error:
            runs[name] = error
    derived.put(new)
    return runs


def _summary_of(run: AccuracyRun) -> _Summary:
    without_texts = run.model_copy(update={"utterances": ()})
    return _Summary(run=without_texts, key=run.key, columns=run.columns)


def _parsed(stored: bytes | None) -> _Summary | None:
    try:
        return None if stored is None else _Summary.model_validate_json(stored)
    except ValidationError:
        return None
