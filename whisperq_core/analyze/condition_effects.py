"""Does quantization cost more under a condition, such as noise, than in quiet?

The same utterances in quiet and under a condition, by fp32 and by a recipe. By WER: the recipe's
loss under the condition less its loss in quiet, a difference of differences in points. By
divergence: the recipe's divergence from fp32 under the condition over that in quiet, a factor.
Speakers are blocks; intervals are simultaneous over all recipes and conditions tested on the same
speech with the same model and protocol.
"""

import math
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from whisperq_core.analyze.blocks import Blocks, blocks_of, sums_of, totals_variance
from whisperq_core.analyze.multiple_testing import JointTails
from whisperq_core.analyze.paired_comparisons import error_counts, protocol_identity, unit_of_run
from whisperq_core.analyze.significance import MIN_BLOCKS, Estimate
from whisperq_core.analyze.verdicts import DIFFERENCE_LEVEL, POWER
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run
from whisperq_core.speech import conditions

Numbers = npt.NDArray[np.float64]
Measure = Literal["WER", "divergence"]
MEASURES: tuple[Measure, ...] = ("divergence", "WER")
Verdict = Literal["costs more", "costs less", "too close to call"]

_BASELINE = "fp32"
_LEVEL = re.compile(r"@(-?\d+(?:\.\d+)?)dB")


@dataclass(frozen=True)
class ConditionEffect:
    """What a condition changes in the cost of a recipe.

    condition: as in the set's name, without the first +. in_quiet, under_condition: the recipe's
    WER (or CER) less fp32's in points, or its divergence from fp32 in mnat per token. change: the
    second less the first in points of WER, or over the first for divergence; its interval is
    simultaneous over `family` effects. p: of no change, corrected for these. baseline_rate_pct:
    fp32's WER under the condition; None for divergence. minutes_needed: of speech, in all, that
    would show the change as it was measured with a chance of POWER; None where it is shown.
    """

    measure: Measure
    model: str
    recipe: str
    protocol: str
    eval_set: str
    condition: str
    in_quiet: float
    under_condition: float
    change: Estimate
    p: float
    family: int
    minutes: float
    minutes_needed: float | None = None
    baseline_rate_pct: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the recipe costs more under the condition, less, or neither is shown."""
        no_change = 1.0 if self.measure == "divergence" else 0.0
        if not self.p < DIFFERENCE_LEVEL:
            return "too close to call"
        return "costs more" if self.change.value > no_change else "costs less"

    @property
    def level_db(self) -> float | None:
        """The level of the noise, where the condition has one."""
        match = _LEVEL.search(self.condition)
        return float(match[1]) if match else None

    @property
    def kind(self) -> str:
        """The condition without its level."""
        return _LEVEL.sub("", self.condition)


def condition_effects(runs: Iterable[Run], measure: Measure) -> list[ConditionEffect]:
    """Each recipe under each condition that fp32 and it were run under and in quiet.

    Pass all runs there are; the newest of each recipe and set counts. In the order of recipes and
    conditions.
    """
    by_age = sorted(runs, key=lambda run: (run.created_at, run.key))
    effects: list[ConditionEffect] = []
    if measure == "WER":
        for quiet, transcripts in _families(r for r in by_age if isinstance(r, AccuracyRun)):
            effects += _by_wer(quiet, transcripts)
    else:
        for quiet, divergences in _families(r for r in by_age if isinstance(r, DivergenceRun)):
            effects += _by_divergence(quiet, divergences)
    return sorted(effects, key=lambda e: (e.model, e.eval_set, e.recipe, e.kind, e.level_db or 0))


def table(effects: Iterable[ConditionEffect]) -> pd.DataFrame:
    """One row for each effect, with its fields, its level_db and its verdict."""
    lines = [
        {
            **{name: getattr(effect, name) for name in _COLUMNS},
            "change": effect.change.value,
            "low": effect.change.low,
            "high": effect.change.high,
            "speakers": effect.change.blocks,
        }
        for effect in effects
    ]
    return pd.DataFrame(lines, columns=[*_COLUMNS, "change", "low", "high", "speakers"])


_COLUMNS = (
    *("measure", "model", "recipe", "protocol", "eval_set", "condition", "level_db"),
    *("in_quiet", "under_condition", "verdict", "p", "family", "minutes", "minutes_needed"),
    "baseline_rate_pct",
)

OfRun = TypeVar("OfRun", bound=AccuracyRun | DivergenceRun)
# A recipe and a condition, "" for quiet.
Cell = tuple[str, str]


def _families(runs: Iterable[OfRun]) -> list[tuple[str, dict[Cell, OfRun]]]:
    """The quiet set's name and the newest run of each cell, for all that is tested together."""
    families: dict[Hashable, tuple[str, dict[Cell, OfRun]]] = {}
    for run in runs:
        spec = run.spec
        quiet, condition = conditions.split_from_recordings(run.eval_set)
        alike = spec.weights_digest, protocol_identity(spec.protocol), spec.device
        _, cells = families.setdefault((*alike, quiet), (quiet, {}))
        cells[spec.recipe.name, condition] = run
    return list(families.values())


def _by_wer(quiet: str, by_cell: dict[Cell, AccuracyRun]) -> list[ConditionEffect]:
    base = by_cell.get((_BASELINE, ""))
    if base is None or not base.words.reference_length:
        return []
    words = base.columns.speech_digest
    alike = {cell: run for cell, run in by_cell.items() if run.columns.speech_digest == words}
    cells = [
        (recipe, condition)
        for recipe, condition in alike
        if condition and recipe != _BASELINE
        if (recipe, "") in alike and (_BASELINE, condition) in alike
    ]
    if not cells:
        return []
    unit = unit_of_run(base)
    counts = {cell: error_counts(run, unit) for cell, run in alike.items()}
    blocks, lengths = counts[_BASELINE, ""].blocks, counts[_BASELINE, ""].lengths
    [of_blocks] = sums_of(blocks, lengths).T
    points = 100 / of_blocks.sum()

    def loss(recipe: str, condition: str) -> Numbers:
        """More errors than fp32, by block."""
        more = counts[recipe, condition].errors - counts[_BASELINE, condition].errors
        return np.asarray(sums_of(blocks, more)[:, 0])

    changes = np.column_stack([loss(*cell) - loss(cell[0], "") for cell in cells])
    values = points * changes.sum(axis=0)
    residuals = points * changes - np.outer(of_blocks / of_blocks.sum(), values)
    tested = _tested(blocks, values, residuals, floor=points)
    return [
        ConditionEffect(
            *("WER", base.model, cell[0], base.spec.protocol.name, quiet, cell[1][1:]),
            points * float(loss(cell[0], "").sum()),
            points * float(loss(*cell).sum()),
            Estimate(one.value, one.low, one.high, blocks.number, blocks.kind),
            one.p,
            len(cells),
            base.minutes,
            one.times_needed and base.minutes * one.times_needed,
            counts[_BASELINE, cell[1]].rate,
        )
        for cell, one in zip(cells, tested, strict=True)
    ]


def _by_divergence(quiet: str, by_cell: dict[Cell, DivergenceRun]) -> list[ConditionEffect]:
    blocks, sums = _divergence_sums(by_cell)
    cells = [
        (recipe, condition)
        for recipe, condition in by_cell
        if condition and sums.get((recipe, ""), _NOTHING)[0].sum() > 0
        if sums[recipe, condition][0].sum() > 0
    ]
    if not cells:
        return []

    def mean(cell: Cell) -> float:
        nats, tokens = sums[cell]
        return float(nats.sum() / tokens.sum())

    def part(cell: Cell) -> Numbers:
        """Each block's part in the logarithm of the mean."""
        nats, tokens = sums[cell]
        return np.asarray(nats / nats.sum() - tokens / tokens.sum())

    values = np.log([mean(cell) / mean((cell[0], "")) for cell in cells])
    residuals = np.column_stack([part(cell) - part((cell[0], "")) for cell in cells])
    effects = []
    for cell, one in zip(cells, _tested(blocks, values, residuals, floor=1e-9), strict=True):
        run = by_cell[cell]
        minutes = sum(u.duration_s for u in run.utterances) / 60
        low, factor, high = (math.exp(end) for end in (one.low, one.value, one.high))
        effects.append(
            ConditionEffect(
                *("divergence", run.model, cell[0], run.spec.protocol.name, quiet, cell[1][1:]),
                1000 * mean((cell[0], "")),
                1000 * mean(cell),
                Estimate(factor, low, high, blocks.number, blocks.kind),
                one.p,
                len(cells),
                minutes,
                one.times_needed and minutes * one.times_needed,
            )
        )
    return effects


_NOTHING = np.zeros((2, 1))


def _divergence_sums(by_cell: dict[Cell, DivergenceRun]) -> tuple[Blocks, dict[Cell, Numbers]]:
    """Blocks, and each run's nats and tokens in each, shape (2, blocks).

    fp32 transcribes nothing of some utterances under one condition or another: they have no tokens.
    """
    speakers = {u.id: u.speaker for run in by_cell.values() for u in run.utterances}
    position = {id: i for i, id in enumerate(sorted(speakers))}
    blocks = blocks_of(tuple(speakers[id] for id in position))
    sums = {}
    for cell, run in by_cell.items():
        columns = np.zeros((2, len(position)))
        for u in run.utterances:
            columns[:, position[u.id]] = u.nats, u.tokens
        sums[cell] = sums_of(blocks, *columns).T
    return blocks, sums


@dataclass(frozen=True)
class _Tested:
    value: float
    low: float
    high: float
    p: float
    times_needed: float | None


def _tested(blocks: Blocks, values: Numbers, residuals: Numbers, floor: float) -> list[_Tested]:
    """Each value with its simultaneous interval and corrected p-value of being 0.

    residuals: each block's part in each value's error, shape (blocks, values); they add up to 0.
    Student's t with the standard error of a total (see `blocks.totals_variance`), the family's
    agreement resampled and the ends at least those of the studentized bootstrap, as
    `paired_tests.PairedTest` does.
    """
    if blocks.number < MIN_BLOCKS:
        return [_Tested(float(value), math.nan, math.nan, 1.0, None) for value in values]
    total = totals_variance(blocks, residuals)
    errors = np.sqrt(np.maximum(total.variance, floor**2))
    joint = JointTails(blocks, residuals, floor)
    alone = 2 * special.stdtr(total.degrees, -np.abs(values) / errors)
    level = joint.simultaneous_level(DIFFERENCE_LEVEL)
    reach = -special.stdtrit(total.degrees, level / 2)
    below, above = joint.reaches(level)
    low = values - np.maximum(reach, below) * errors
    high = values + np.maximum(reach, above) * errors
    # Shown is what both say: Student's t and the bootstrap.
    p = np.where((low > 0) | (high < 0), joint.adjusted(alone), 1.0)
    distance = (reach + float(special.ndtri(POWER))) * errors
    return [
        _Tested(
            float(values[i]),
            float(low[i]),
            float(high[i]),
            float(p[i]),
            None
            if p[i] < DIFFERENCE_LEVEL or not values[i]
            else max(1.0, float(distance[i] / values[i]) ** 2),
        )
        for i in range(len(values))
    ]
