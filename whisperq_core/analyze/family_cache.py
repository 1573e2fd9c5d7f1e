"""Families of comparisons, computed once: by this process, and by those that come after it.

To resample a family takes a tenth of a second for a hundred candidates, and a store of thousands of
results has many. So its comparisons are stored as derived values, under a digest of the counts, the
margin and the code; the resamples themselves, a hundred times as large, only stay in memory for the
next margin.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Self

import numpy as np
import scipy

from whisperq_core.analyze import blocks, multiple_testing, paired_tests, significance, verdicts
from whisperq_core.analyze.paired_tests import Comparison, PairedTest
from whisperq_core.analyze.significance import ErrorCounts, Estimate
from whisperq_core.derived_values import DerivedValues, code_digest, digest_of


@dataclass(frozen=True)
class _Family:
    """Candidates and the baseline that all are compared with; equal where all counts are."""

    digest: str
    baseline: ErrorCounts = field(compare=False)
    candidates: tuple[ErrorCounts, ...] = field(compare=False)
    derived: DerivedValues | None = field(compare=False)

    @classmethod
    def of(
        cls,
        baseline: ErrorCounts,
        candidates: Sequence[ErrorCounts],
        derived: DerivedValues | None,
    ) -> Self:
        code = code_digest(blocks, significance, multiple_testing, paired_tests, verdicts)
        described = code, np.__version__, scipy.__version__, baseline.unit
        labels = json.dumps((baseline.speakers, baseline.strata))
        arrays = [baseline.lengths, *(c.errors for c in (baseline, *candidates))]
        # Candidates of other references have no digest of their own: they are refused below.
        arrays += [c.lengths for c in candidates if not np.array_equal(c.lengths, baseline.lengths)]
        digest = digest_of(*described, labels, *(array.tobytes() for array in arrays))
        return cls(digest, baseline, tuple(candidates), derived)


def compare_family(
    baseline: ErrorCounts,
    candidates: Sequence[ErrorCounts],
    margin: float,
    derived: DerivedValues | None = None,
) -> tuple[Comparison, ...]:
    """`paired_tests.compare_family`, looked up in `derived` where that has it, else stored there.

    With None it is only remembered by this process.
    """
    return _compared(_Family.of(baseline, candidates, derived), margin)


@lru_cache(maxsize=500)
def _compared(family: _Family, margin: float) -> tuple[Comparison, ...]:
    key = digest_of("family", family.digest, repr(float(margin)))
    stored = family.derived.get([key]).get(key) if family.derived else None
    if stored is not None:
        return _decoded(stored)
    comparisons = tuple(_test(family).family(margin))
    if family.derived:
        family.derived.put({key: _encoded(comparisons)})
    return comparisons


# The resamples of a family of 100 take 8 MB.
@lru_cache(maxsize=8)
def _test(family: _Family) -> PairedTest:
    return PairedTest(family.baseline, family.candidates)


def _encoded(comparisons: Sequence[Comparison]) -> bytes:
    # Python writes floats so that they are read as the same ones.
    return json.dumps([asdict(comparison) for comparison in comparisons]).encode()


def _decoded(stored: bytes) -> tuple[Comparison, ...]:
    rows = json.loads(stored)
    return tuple(Comparison(**row | {"difference": Estimate(**row["difference"])}) for row in rows)
