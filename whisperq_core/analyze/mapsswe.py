"""The matched-pairs sentence-segment word error test (MAPSSWE), for comparison with NIST's SCTK.

It decides nothing here: it takes segments as independent, whoever speaks them, so with few speakers
it finds differences that another choice of speakers would not show. Verdicts are of `paired_tests`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

# Words that both systems have right, in a row, end a segment (as in NIST's SCTK).
_GOOD_WORDS = 2


@dataclass(frozen=True)
class SegmentTest:
    """MAPSSWE: mean difference of errors a segment (candidate minus baseline), z and two-sided p.

    segments: how many had an error in either. p is 1 and z is 0 where nothing differs. Where all
    segments differ alike, z is McNemar's: the root of their number.
    """

    segments: int
    mean: float
    z: float
    p: float


def mapsswe(baseline: Sequence[Sequence[str]], candidate: Sequence[Sequence[str]]) -> SegmentTest:
    """Matched-pairs sentence-segment word error test (MAPSSWE).

    Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition
    algorithms".

    Each argument holds, for each utterance, the kinds of edit (equal, substitute, delete, insert)
    that turn the same reference into a system's hypothesis, in reading order. Utterances are cut
    into segments where both systems have `_GOOD_WORDS` words or more right in a row, as in SCTK;
    the segments' differences are taken as independent, speakers or not.
    """
    differences = [
        of_candidate - of_baseline
        for baseline_edits, candidate_edits in zip(baseline, candidate, strict=True)
        for of_baseline, of_candidate in _segments(baseline_edits, candidate_edits)
    ]
    n = len(differences)
    mean = float(np.mean(differences)) if n else 0.0
    if not any(differences):
        return SegmentTest(n, mean, 0.0, 1.0)
    alike = len(set(differences)) == 1
    spread = abs(mean) if alike else float(np.std(differences, ddof=1))
    z = mean / (spread / math.sqrt(n))
    return SegmentTest(n, mean, z, float(2 * special.ndtr(-abs(z))))


def _segments(baseline: Sequence[str], candidate: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Errors of both systems in each segment of one utterance that has any."""
    first, second = _errors_by_position(baseline), _errors_by_position(candidate)
    if len(first) != len(second):
        raise ValueError("The two runs were not aligned to the same references.")
    good_words, of_baseline, of_candidate = 0, 0, 0
    for position, (a, b) in enumerate(zip(first, second, strict=True)):
        of_baseline, of_candidate = of_baseline + a, of_candidate + b
        # Odd positions are reference words; even ones are the gaps between them.
        good_words = 0 if a or b else good_words + position % 2
        if good_words >= _GOOD_WORDS and (of_baseline or of_candidate):
            yield of_baseline, of_candidate
            of_baseline = of_candidate = 0
    if of_baseline or of_candidate:
        yield of_baseline, of_candidate


def _errors_by_position(edits: Sequence[str]) -> list[int]:
    """Insertions before each reference word and errors at it, alternating; last those at the end.

    Length 2 × reference words + 1.
    """
    positions = [0]
    for kind in edits:
        if kind == "insert":
            positions[-1] += 1
        else:
            positions += [int(kind != "equal"), 0]
    return positions
