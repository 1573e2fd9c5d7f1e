"""A recipe against its baseline over all evaluation sets that both were run on.

Each set alone is often too short for a conclusion. The pool counts the errors and words of all
sets; sets are strata, speakers are blocks (a speaker of two sets is one block). It is a statement
on speech mixed as in these sets, so the parts, and whether they differ, are part of the answer.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat

import numpy as np
from scipy import special

from whisperq_core.analyze.family_cache import compare_family
from whisperq_core.analyze.loop_risk import LoopRisk, loop_risk
from whisperq_core.analyze.paired_comparisons import (
    compare_runs,
    error_counts,
    protocol_identity,
    unit_of_run,
)
from whisperq_core.analyze.paired_tests import Comparison, PairedTest, compare_all
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.analyze.verdicts import MARGIN, require_margin
from whisperq_core.derived_values import DerivedValues
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.whisper.protocols import Protocol


@dataclass(frozen=True)
class Heterogeneity:
    """Whether the difference is another in each set.

    q: Cochran's Q, the differences' squared distances from their mean weighted by precision
    (Cochran 1954, "The combination of estimates from different experiments"). p: of sets that do
    not differ, by Welch's test, which allows for standard errors of few speakers (Welch 1951, "On
    the comparison of several mean values"). i_squared_pct: the share of the variation that is not
    chance (Higgins & Thompson 2002, "Quantifying heterogeneity in a meta-analysis").
    """

    q: float
    sets: int
    p: float
    i_squared_pct: float


@dataclass(frozen=True)
class PooledPart:
    """One set of a pool; the comparison is of this set alone, not corrected for others."""

    eval_set: str
    utterances: int
    speakers: int
    minutes: float
    comparison: Comparison
    baseline_key: str
    key: str


@dataclass(frozen=True)
class PooledComparison:
    """A recipe against the baseline over the sets of a pool.

    baselines, runs: the baseline's and the recipe's, in the order of the parts. comparison: of
    errors over words of all sets, corrected for all that were compared with the same baseline on
    all of them. heterogeneity: None where there is one set, or a part has no interval. left_out:
    sets that share utterances with a larger one of the pool.
    """

    baselines: tuple[AccuracyRun, ...]
    runs: tuple[AccuracyRun, ...]
    comparison: Comparison
    parts: tuple[PooledPart, ...]
    heterogeneity: Heterogeneity | None
    left_out: tuple[str, ...]
    loops: LoopRisk

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.runs[0].spec.recipe.name

    @property
    def model(self) -> str:
        """The model's name."""
        return self.runs[0].model

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return self.runs[0].spec.protocol.name

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, the longest first."""
        return tuple(part.eval_set for part in self.parts)

    @property
    def minutes(self) -> float:
        """Minutes of speech in all."""
        return sum(part.minutes for part in self.parts)


def pooled_comparisons(
    runs: Iterable[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
    baseline_protocol: Protocol | None = None,
    derived: DerivedValues | None = None,
) -> list[PooledComparison]:
    """Each recipe over all sets of one language that it and the baseline recipe were run on.

    Speech under a condition, such as noise, is a population of its own.

    baseline_protocol: that the baseline ran under, whatever the recipe's own; None compares within
    each protocol. With one, the baseline recipe under other protocols is compared as well. derived:
    where comparisons are stored, see `family_cache`.

    Pass all runs there are: verdicts and intervals are corrected for all that are compared with the
    same baseline runs and were run on the sets of the recipe's pool, however few of them are shown.
    The newest run of each recipe and set counts. Raises InputError for a margin that is none.
    """
    require_margin(margin)
    conditions: dict[str, list[AccuracyRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.created_at):
        if run.words.reference_length and language_of(run) is not None:
            conditions[_condition(run, baseline_protocol)].append(run)
    found = []
    for alike in conditions.values():
        found += _of_condition(alike, baseline, margin, baseline_protocol, derived)
    return found


def compare_pooled(
    pairs: Iterable[tuple[AccuracyRun, AccuracyRun]], margin: float = MARGIN
) -> tuple[PooledComparison, PairedTest]:
    """One recipe compared with another over all sets, by itself: not corrected for others.

    pairs: runs of the baseline and of the recipe, at least one pair, each pair of the same speech
    and all of one language. Also the test that the comparison was made by. Raises InputError for a
    margin that is none, ValueError where a pair is not of the same references.
    """
    require_margin(margin)
    by_key = {base.key: (base, run) for base, run in pairs}
    bases, dropped = without_overlaps([base for base, _ in by_key.values()])
    runs = [by_key[base.key][1] for base in bases]
    test = PairedTest(pooled_counts(bases), [pooled_counts(runs)])
    left_out = tuple(run.eval_set for run in dropped)
    alone = [compare_runs(*pair, margin=margin) for pair in zip(bases, runs, strict=True)]
    return _pooled(bases, runs, test.alone(margin)[0], alone, left_out), test


@lru_cache(maxsize=10_000)
def language_of(run: AccuracyRun) -> str | None:
    """The language of all its utterances; None where they have several."""
    languages = set(run.columns.languages)
    return languages.pop() if len(languages) == 1 else None


def _condition(run: AccuracyRun, baseline_protocol: Protocol | None) -> str:
    """What runs on different sets must share: see `paired_comparisons.condition`."""
    spec = run.spec
    protocol = protocol_identity(spec.protocol) if baseline_protocol is None else ""
    population = language_of(run), run.condition
    return json.dumps((spec.weights_digest, protocol, spec.device, *population))


def _of_condition(
    runs: Sequence[AccuracyRun],
    baseline: str,
    margin: float,
    baseline_protocol: Protocol | None,
    derived: DerivedValues | None,
) -> list[PooledComparison]:
    # A candidate is a recipe and what its protocol does.
    measured: dict[tuple[str, str], dict[str, AccuracyRun]] = defaultdict(dict)
    for run in runs:
        candidate = run.spec.recipe.name, protocol_identity(run.spec.protocol)
        measured[candidate][run.speech_digest] = run
    protocol = baseline_protocol or runs[0].spec.protocol
    of_baseline = measured.pop((baseline, protocol_identity(protocol)), {})
    pools: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    left_out: dict[tuple[str, str], tuple[str, ...]] = {}
    for candidate, by_speech in measured.items():
        both = [of_baseline[speech] for speech in by_speech.keys() & of_baseline.keys()]
        kept, dropped = without_overlaps(both)
        left_out[candidate] = tuple(run.eval_set for run in dropped)
        if kept:
            pools[tuple(run.speech_digest for run in kept)].append(candidate)
    found = []
    for pool, members in pools.items():
        bases = tuple(of_baseline[speech] for speech in pool)
        # Those with more sets were measured on this pool, too.
        family = sorted(c for c, by_speech in measured.items() if by_speech.keys() >= set(pool))
        chosen = {c: tuple(measured[c][speech] for speech in pool) for c in family}
        counts = [pooled_counts(own) for own in chosen.values()]
        compared = compare_family(pooled_counts(bases), counts, margin, derived)
        of_family = dict(zip(family, compared, strict=True))
        by_set = [
            _alone(base, runs_of_set, margin)
            for base, *runs_of_set in zip(bases, *(chosen[c] for c in members), strict=True)
        ]
        for candidate, alone in zip(members, zip(*by_set, strict=True), strict=True):
            own, left = chosen[candidate], left_out[candidate]
            found.append(_pooled(bases, own, of_family[candidate], alone, left))
    return found


def without_overlaps(
    runs: Sequence[AccuracyRun],
) -> tuple[list[AccuracyRun], list[AccuracyRun]]:
    """Runs whose sets share no utterance, the longest first, and those that share with one."""
    kept: list[AccuracyRun] = []
    dropped: list[AccuracyRun] = []
    seen: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda r: (-r.words.reference_length, r.eval_set)):
        spoken = _spoken(run)
        if spoken & seen:
            dropped.append(run)
        else:
            kept.append(run)
            seen |= spoken
    return kept, dropped


@lru_cache(maxsize=1000)
def _spoken(run: AccuracyRun) -> frozenset[tuple[str, str]]:
    return frozenset((u.id, u.reference) for u in run.utterances)


def _alone(base: AccuracyRun, candidates: Sequence[AccuracyRun], margin: float) -> list[Comparison]:
    """`compare_runs` of each candidate with the base, computed together."""
    unit = unit_of_run(base)
    counts = [error_counts(run, unit) for run in candidates]
    return compare_all(error_counts(base, unit), counts, margin)


def pooled_counts(runs: Sequence[AccuracyRun]) -> ErrorCounts:
    """Counts of the utterances of runs on several sets of one language, which are its strata."""
    unit = unit_of_run(runs[0])
    counts = [error_counts(run, unit) for run in runs]
    return ErrorCounts(
        np.concatenate([c.errors for c in counts]),
        np.concatenate([c.lengths for c in counts]),
        tuple(chain.from_iterable(c.speakers for c in counts)),
        unit,
        tuple(chain.from_iterable(repeat(r.speech_digest, len(r.utterances)) for r in runs)),
    )


def _pooled(
    bases: Sequence[AccuracyRun],
    runs: Sequence[AccuracyRun],
    comparison: Comparison,
    alone: Sequence[Comparison],
    left_out: tuple[str, ...],
) -> PooledComparison:
    """comparison: over all sets. alone: on each set."""
    parts = tuple(
        PooledPart(
            run.eval_set,
            len(run.utterances),
            len(set(run.columns.speakers) - {None}),
            run.minutes,
            of_set,
            base.key,
            run.key,
        )
        for base, run, of_set in zip(bases, runs, alone, strict=True)
    )
    looped = [[loop for run in side for loop in run.columns.looped] for side in (bases, runs)]
    words = sum(base.words.reference_length for base in bases)
    return PooledComparison(
        tuple(bases),
        tuple(runs),
        comparison,
        parts,
        heterogeneity([part.comparison for part in parts]),
        left_out,
        loop_risk(looped[0], looped[1], words),
    )


def heterogeneity(parts: Sequence[Comparison]) -> Heterogeneity | None:
    """Whether independent differences differ; None for one, or where one has no interval."""
    if len(parts) < 2 or any(math.isnan(part.standard_error) for part in parts):
        return None
    values = np.array([part.difference.value for part in parts])
    weights = np.array([part.standard_error for part in parts]) ** -2.0
    degrees = np.array([part.difference.blocks - 1.0 for part in parts])
    k, share = len(parts), weights / weights.sum()
    q = float(np.sum(weights * np.square(values - np.sum(share * values))))
    uneven = float(np.sum(np.square(1 - share) / degrees))
    f = (q / (k - 1)) / (1 + 2 * (k - 2) / (k**2 - 1) * uneven)
    p = float(special.fdtrc(k - 1, (k**2 - 1) / (3 * uneven), f))
    return Heterogeneity(q, k, p, 100 * max(0.0, 1 - (k - 1) / q) if q else 0.0)
