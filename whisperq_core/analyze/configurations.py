"""Configurations: a model, a recipe and a protocol, each with everything that was measured of it.

All are compared with one reference: the published model in fp32 under the Study protocol, which is
how Transformers runs it by default. So the numbers say what a user of that would gain and lose.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import pandas as pd

from whisperq_core import settings
from whisperq_core.analyze import results_table
from whisperq_core.analyze.paired_comparisons import protocol_identity
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.pooled_comparisons import (
    PooledComparison,
    language_of,
    pooled_comparisons,
    pooled_counts,
    without_overlaps,
)
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.derived_values import DerivedValues
from whisperq_core.evaluate.records import AccuracyRun, Run, SpeedRun
from whisperq_core.quantize import backends, recipes
from whisperq_core.whisper.protocols import STUDY, Protocol

REFERENCE_RECIPE = "fp32"

# Of `results_table.rows`, by column; and rows by the key of their run.
Row = Mapping[Hashable, Any]
Table = Mapping[str, Row]


@dataclass(frozen=True)
class Spread:
    """The median of repeated passes, and their lowest and highest."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Configuration:
    """A model with a recipe under a protocol on a device.

    runs: its accuracy runs that count, the longest set first. pool: compared with the reference
    over all sets of these runs; None for the reference, and where the reference was not evaluated
    on the same speech. row: of `results_table.rows`, of the longest set. timed: the run whose
    threads the times are of. latency: relative to the
    reference's, on one kind of machine; rtf likewise; None where it was not measured.
    latency_elsewhere: latencies on other kinds of machine, by their name.
    """

    runs: tuple[AccuracyRun, ...]
    pool: PooledComparison | None
    row: Row
    is_reference: bool
    timed: AccuracyRun
    rtf: Spread | None = None
    latency: Spread | None = None
    speed_keys: tuple[str, ...] = ()
    latency_elsewhere: tuple[tuple[str, Spread], ...] = ()

    @property
    def run(self) -> AccuracyRun:
        """The run on the longest set."""
        return self.runs[0]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.run.model

    @property
    def unavailable_reason(self) -> str | None:
        """Why this machine cannot run it, in a sentence; None where it can, or runs nothing."""
        if settings.current().results_only:
            return None
        if not recipes.is_known(self.recipe):
            return "This version of WhisperQ has no recipe of that name."
        spec = self.run.spec
        return backends.unavailable_reason(spec.recipe, spec.device)

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.run.spec.recipe.name

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return self.run.spec.protocol

    @property
    def weights_bytes(self) -> int:
        """Size of the weights."""
        return self.run.weights_bytes

    @property
    def megabytes(self) -> int:
        """Size as it is shown, so that sizes that look alike rank alike."""
        return round(self.weights_bytes / 1e6)

    @property
    def size_reduction_pct(self) -> float:
        """How much smaller than the model in fp32, in percent."""
        return float(self.row["size_reduction_pct"])

    @property
    def peak_memory_bytes(self) -> int | None:
        """Peak memory of quantizing and transcribing; None where it is not known."""
        value = self.row["peak_memory_bytes"]
        return None if pd.isna(value) else int(value)

    @property
    def comparison(self) -> Comparison | None:
        """With the reference; None for the reference itself, or where they were not compared."""
        return None if self.pool is None else self.pool.comparison

    @cached_property
    def rate_pct(self) -> float:
        """WER over all its sets in percent; CER where words are not separated by spaces."""
        return pooled_counts(self.runs).rate

    @property
    def reference_rate_pct(self) -> float:
        """The reference's WER (or CER) on the same speech in percent; NaN where not compared."""
        if self.comparison is None:
            return self.rate_pct if self.is_reference else math.nan
        return self.rate_pct - self.comparison.difference.value

    @property
    def minutes(self) -> float:
        """Minutes of speech that it was evaluated on."""
        return sum(run.minutes for run in self.runs)

    @property
    def speakers(self) -> int:
        """How many speakers are known by name."""
        return len(set().union(*(run.columns.speakers for run in self.runs)) - {None})

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the evaluation sets, the longest first."""
        return tuple(run.eval_set for run in self.runs)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all records that its numbers come from."""
        bases = () if self.pool is None else tuple(part.baseline_key for part in self.pool.parts)
        return (*(run.key for run in self.runs), *bases, *self.speed_keys)


def configurations(
    runs: Iterable[Run],
    *,
    margin: float = MARGIN,
    sets: Sequence[str] = (),
    language: str | None = "en",
    machine: str | None = None,
    reference_protocol: Protocol | None = STUDY,
    derived: DerivedValues | None = None,
) -> list[Configuration]:
    """Every configuration that was evaluated on speech of the language, by model and size.

    Pass all runs there are: intervals are simultaneous over all that were measured. margin: points
    of WER. sets: names of the evaluation sets to count; none are all but those under a condition,
    such as noise, which is another population. language: of the speech; None
    is any. machine: the kind of machine whose times are shown, by default the one with most.
    reference_protocol: None compares each with fp32 under its own protocol. derived: where
    comparisons are stored, see `family_cache`.
    """
    everything = list(runs)
    counted = [
        run
        for run in everything
        if isinstance(run, AccuracyRun)
        and run.words.reference_length
        and (run.eval_set in sets if sets else not run.condition)
        and (language is None or language_of(run) == language)
    ]
    pools = pooled_comparisons(counted, REFERENCE_RECIPE, margin, reference_protocol, derived)
    chosen = _runs_that_count(counted, pools)
    kinds = results_table.machines(everything)
    here = machine or next(iter(kinds), None)
    others = [run for run in everything if not isinstance(run, AccuracyRun)]
    timed_runs = _timed_runs(chosen, everything)
    shown = dict.fromkeys(chain((runs[0] for runs in chosen), timed_runs.values()))
    tables = {kind: _table((*shown, *others), kind) for kind in (here, *kinds)}
    found = list(_configurations(chosen, timed_runs, tables, reference_protocol))
    return sorted(found, key=lambda c: (c.model, c.weights_bytes, c.recipe, c.protocol.name))


@lru_cache(maxsize=4)
def _table(runs: tuple[Run, ...], machine: str | None) -> Table:
    """Rows of `results_table.rows` by key."""
    frame = results_table.rows(runs, machine)
    # Faster than `to_dict`, which looks at the type of each cell.
    lines = zip(*(frame[column].tolist() for column in frame), strict=True)
    return {row["key"]: row for row in (dict(zip(frame, line, strict=True)) for line in lines)}


Chosen = Mapping[tuple[AccuracyRun, ...], PooledComparison | None]


def _runs_that_count(runs: Sequence[AccuracyRun], pools: Sequence[PooledComparison]) -> Chosen:
    """The runs of each configuration, the longest set first, and its pool where it has one."""
    by_work: dict[Hashable, list[AccuracyRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.created_at):
        by_work[_work(run)].append(run)
    pooled = {_work(pool.runs[0]): pool for pool in pools}
    chosen: dict[tuple[AccuracyRun, ...], PooledComparison | None] = {}
    for work, own in by_work.items():
        pool = pooled.get(work)
        chosen[pool.runs if pool else _newest_of_each_set(own)] = pool
    return chosen


TimedRuns = Mapping[tuple[AccuracyRun, ...], AccuracyRun]


def _timed_runs(chosen: Chosen, runs: Iterable[Run]) -> TimedRuns:
    """Of each configuration the run whose row has its times: speed depends on the threads."""
    timed = {results_table.timed_work(run.spec) for run in runs if isinstance(run, SpeedRun)}
    return {
        own: next((run for run in own if results_table.timed_work(run.spec) in timed), own[0])
        for own in chosen
    }


def _configurations(
    chosen: Chosen,
    timed_runs: TimedRuns,
    tables: Mapping[str | None, Table],
    reference_protocol: Protocol | None,
) -> Iterator[Configuration]:
    """tables: rows by key of each kind of machine, the one whose times are shown first."""
    references = {
        _condition(runs[0], reference_protocol): timed_runs[runs].key
        for runs in chosen
        if _is_reference(runs[0], reference_protocol)
    }
    for runs, pool in chosen.items():
        run, timed = runs[0], timed_runs[runs]
        reference = references.get(_condition(run, reference_protocol))
        alternating = _is_of_protocol(run, reference_protocol)
        times = {
            kind: _times(table, timed.key, reference, alternating) for kind, table in tables.items()
        }
        (here, (rtf, latency, keys)), *elsewhere = times.items()
        yield Configuration(
            runs,
            pool,
            tables[here][run.key],
            _is_reference(run, reference_protocol),
            timed,
            rtf,
            latency,
            keys,
            tuple((str(kind), other) for kind, (_, other, _) in elsewhere if other is not None),
        )


def _work(run: AccuracyRun) -> Hashable:
    """What all runs of a configuration share, whatever their sets, processors and threads."""
    spec = run.spec
    protocol = protocol_identity(spec.protocol)
    return spec.weights_digest, spec.recipe.name, protocol, spec.device, run.condition


def _condition(run: AccuracyRun, reference_protocol: Protocol | None) -> Hashable:
    """What a configuration shares with its reference."""
    spec = run.spec
    protocol = protocol_identity(spec.protocol) if reference_protocol is None else None
    return spec.weights_digest, spec.device, protocol, run.condition


def _is_of_protocol(run: AccuracyRun, protocol: Protocol | None) -> bool:
    return protocol is None or protocol_identity(run.spec.protocol) == protocol_identity(protocol)


def _is_reference(run: AccuracyRun, reference_protocol: Protocol | None) -> bool:
    is_fp32 = run.spec.recipe.name == REFERENCE_RECIPE
    return is_fp32 and _is_of_protocol(run, reference_protocol)


def _newest_of_each_set(runs: Sequence[AccuracyRun]) -> tuple[AccuracyRun, ...]:
    """The longest first, without sets that share utterances with a longer one."""
    newest = {run.speech_digest: run for run in runs}
    return tuple(without_overlaps(list(newest.values()))[0])


def _times(
    table: Table, key: str, reference_key: str | None, alternating: bool
) -> tuple[Spread | None, Spread | None, tuple[str, ...]]:
    """RTF, latency relative to the reference's, and the keys of the records they come from.

    alternating: its passes alternated with the reference's, since both are of one protocol.
    Otherwise the two were timed apart, so the range takes the extremes of both.
    """
    row = table[key]
    if pd.isna(row["speed_key"]):
        return None, None, ()
    rtf = Spread(row["rtf"], row["rtf_low"], row["rtf_high"])
    if alternating:
        latency = Spread(row["rtf_ratio"], row["rtf_ratio_low"], row["rtf_ratio_high"])
        return rtf, latency, (row["speed_key"],)
    reference = None if reference_key is None else table[reference_key]
    if reference is None or pd.isna(reference["speed_key"]):
        return rtf, None, (row["speed_key"],)
    latency = Spread(
        rtf.value / reference["rtf"],
        rtf.low / reference["rtf_high"],
        rtf.high / reference["rtf_low"],
    )
    return rtf, latency, (row["speed_key"], reference["speed_key"])
