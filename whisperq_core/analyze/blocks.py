"""What the statistics take as independent: speakers, in one evaluation set or in several."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The block of each utterance, shape (utterances,), and the stratum of each block.

    kind: what a block is: "speaker", "utterance" where speakers are not known or there is only one,
    or "speaker or utterance" where strata differ in it.
    """

    of_utterance: Indices
    strata: Indices
    kind: str

    @property
    def number(self) -> int:
        """How many blocks."""
        return len(self.strata)

    @cached_property
    def of_stratum(self) -> tuple[Indices, ...]:
        """The blocks of each stratum."""
        return tuple(np.flatnonzero(self.strata == s) for s in range(self.strata.max() + 1))

    @property
    def degrees(self) -> int:
        """Degrees of freedom: blocks less strata."""
        return self.number - len(self.of_stratum)


@lru_cache(maxsize=256)
def blocks_of(speakers: tuple[Hashable | None, ...], strata: tuple[Hashable, ...] = ()) -> Blocks:
    """Blocks of utterances by their speakers, within strata (evaluation sets that are pooled).

    A speaker of two sets is one block, and then those sets are one stratum; so is a set of a single
    block together with the first other one (collapsed strata: Cochran 1977, "Sampling techniques",
    5A.12).
    """
    if not speakers:
        return Blocks(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), "utterance")
    sets = strata or (None,) * len(speakers)
    by_set: dict[Hashable, set[Hashable | None]] = {}
    for name, speaker in zip(sets, speakers, strict=True):
        by_set.setdefault(name, set()).add(speaker)
    # One speaker alone is no sample of speakers, but may be one block of a pool.
    several = len(set(speakers)) > 1
    by_speaker = {name: several and None not in ids for name, ids in by_set.items()}
    labels = [
        ("speaker", speaker) if by_speaker[name] else ("utterance", position)
        for position, (name, speaker) in enumerate(zip(sets, speakers, strict=True))
    ]
    blocks, sets_of = _numbered(labels), _numbered(list(sets))
    kinds = {kind for kind, _ in labels}
    kind = kinds.pop() if len(kinds) == 1 else "speaker or utterance"
    return Blocks(blocks, _strata(blocks, sets_of), kind)


def _numbered(labels: list[tuple[str, Hashable]] | list[Hashable]) -> Indices:
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=np.intp)


def _strata(blocks: Indices, sets: Indices) -> Indices:
    """The stratum of each block: sets with a speaker in common are one."""
    many = blocks.max() + 1
    links = coo_array(
        (np.ones(len(blocks)), (blocks, many + sets)), shape=(many + sets.max() + 1,) * 2
    )
    _, component = connected_components(links, directed=False)
    strata = np.unique(component[:many], return_inverse=True)[1].astype(np.intp)
    sizes = np.bincount(strata)
    if len(sizes) > 1 and (sizes == 1).any():
        alone = np.flatnonzero(sizes == 1)
        others = np.flatnonzero(sizes > 1)
        strata[np.isin(strata, alone)] = others[0] if len(others) else alone[0]
        strata = np.unique(strata, return_inverse=True)[1].astype(np.intp)
    return strata


def sums_of(blocks: Blocks, *columns: Numbers) -> Numbers:
    """Sums of each column over each block, shape (blocks, columns)."""
    return np.column_stack(
        [np.bincount(blocks.of_utterance, weights=c, minlength=blocks.number) for c in columns]
    )


class TotalsVariance(NamedTuple):
    """The variance of totals over all blocks, and its degrees of freedom, shape (columns,)."""

    variance: Numbers
    degrees: Numbers


def totals_variance(blocks: Blocks, values: Numbers) -> TotalsVariance:
    """The variance of the total of each column of `values`, shape (blocks, columns).

    Stratified: sums of the strata's own (Cochran 1977, "Sampling techniques", 5.6), with
    Satterthwaite's degrees of freedom (Satterthwaite 1946, "An approximate distribution of
    estimates of variance components").
    """
    parts = []
    for rows in blocks.of_stratum:
        centred, n = values[rows] - values[rows].mean(axis=0), len(rows)
        parts.append((n / (n - 1) * np.square(centred).sum(axis=0), n - 1))
    variance = np.asarray(sum(v for v, _ in parts))
    weight = np.asarray(sum(np.square(v) / degrees for v, degrees in parts))
    whole = np.full(values.shape[1], float(blocks.degrees))
    degrees = np.divide(np.square(variance), weight, out=whole, where=weight > 0)
    return TotalsVariance(variance, degrees)
