"""Answers to the statements that a claim consists of, and commands that measure missing ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from whisperq_core.analyze.effects import UNKNOWN, OneSided
from whisperq_core.analyze.pooled_comparisons import PooledComparison
from whisperq_core.analyze.significance import Estimate
from whisperq_core.plurals import counted
from whisperq_core.study.evidence import Split
from whisperq_core.whisper.protocols import STUDY, short_name


class Outcome(StrEnum):
    """Verdict on a claim, or on one of the statements that it consists of."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured yet"
    NOT_MEASURABLE = "not measurable here"


Measured = Literal["accuracy", "divergence", "speed", "size"]
Unit = Literal[
    "points of WER", "× latency", "× size", "% smaller", "mnat per token", "× divergence"
]
POINTS: Unit = "points of WER"
TIMES: Unit = "× latency"
BYTES: Unit = "× size"
PERCENT: Unit = "% smaller"
MNAT: Unit = "mnat per token"
DIVERGENCE: Unit = "× divergence"


@dataclass(frozen=True)
class MissingRun:
    """A result that an answer needs; eval_set is set where speech is evaluated."""

    model: str
    recipe: str
    measures: Measured
    eval_set: str = ""


@dataclass(frozen=True)
class Answer:
    """An effect with its 95% interval, and tests of whether the statement holds or fails.

    question: the statement. effect: in `unit`, by itself; None where nothing was measured.
    published: the study's value of the same, None where it has none for this model. sample: what
    was measured, as text. keys: of the results it is computed from. pools: the comparisons of WER
    that it rests on, with their parts. missing: what has to be run for an answer, or for a surer
    one. needs_gpu: the statement is about times on a GPU, and none was measured.

    outcome and times_needed are set by the claim, whose rule says how surely a part has to be known
    (`judge`). times_needed: how many times the data a conclusion needs; None where there is one, or
    no amount would give one.
    """

    question: str
    model: str
    protocol: str
    unit: Unit
    sample: str = "not measured"
    effect: Estimate | None = None
    holds: OneSided = UNKNOWN
    fails: OneSided = UNKNOWN
    published: float | None = None
    keys: tuple[str, ...] = ()
    pools: tuple[PooledComparison, ...] = ()
    missing: tuple[MissingRun, ...] = ()
    needs_gpu: bool = False
    outcome: Outcome = Outcome.NOT_MEASURED
    times_needed: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether there is an effect."""
        return self.effect is not None

    @property
    def is_exact(self) -> bool:
        """Whether it holds or fails without uncertainty, as sizes do."""
        return math.isinf(self.holds.degrees)

    @property
    def can_fail(self) -> bool:
        """Whether the statement can be refuted, by chance or rightly."""
        if self.is_exact:
            return self.fails.p == 0
        return self.is_measured and not math.isnan(self.fails.t)

    @property
    def minutes(self) -> float:
        """Minutes of speech that it rests on."""
        return sum(pool.minutes for pool in self.pools)

    @property
    def needs(self) -> str:
        """What a conclusion needs, as text: minutes of speech or timed passes; may be empty."""
        if self.times_needed is None or self.effect is None:
            return ""
        if self.minutes:
            needed = f"{_round(self.times_needed * self.minutes)} min in all"
            return f"measured on {self.minutes:.0f} min; a conclusion needs an estimated {needed}"
        passes = self.effect.blocks
        needed = f"{math.ceil(self.times_needed * passes)} in all"
        return f"measured in {passes} passes; a conclusion needs an estimated {needed}"

    @property
    def shown(self) -> str:
        """The effect with its interval and unit, as text; a dash where nothing was measured."""
        if self.effect is None:
            return "–"
        return f"{with_interval(self.effect, signed=self.unit == POINTS)} {self.unit}"


def _round(minutes: float) -> str:
    """To two digits, since it is an estimate."""
    return f"{float(f'{minutes:.2g}'):,.0f}"


def with_interval(estimate: Estimate, signed: bool) -> str:
    """A value with its interval in brackets, to two decimals; to two digits if all are small."""
    ends = [v for v in (estimate.value, estimate.low, estimate.high) if not math.isnan(v)]
    form = "+.2f" if signed else ".2g" if max(map(abs, ends)) < 0.1 else ".2f"
    numbers = [f"{value:{form}}" for value in ends]
    interval = f" [{numbers[1]} to {numbers[2]}]" if len(set(numbers)) > 1 else ""
    return f"{numbers[0]}{interval}".replace("-", "−")


def pool_sample(pool: PooledComparison) -> str:
    """What a pool consists of: minutes, speakers and sets."""
    if len(pool.parts) == 1:
        part = pool.parts[0]
        return f"{part.eval_set}, {_amount(part.utterances, part.speakers, part.minutes)}"
    blocks = pool.comparison.difference.blocks
    return f"{counted(len(pool.parts), 'set')}, {blocks} speakers, {pool.minutes:.1f} min"


def pool_lines(pool: PooledComparison) -> list[str]:
    """Each set of a pool with its own difference, whether the sets differ, and what was left out.

    Empty for a pool of one set from which nothing was left out.
    """
    lines = []
    if len(pool.parts) > 1:
        lines = [
            f"{part.eval_set}, {_amount(part.utterances, part.speakers, part.minutes)}:"
            f" {with_interval(part.comparison.difference, signed=True)}"
            for part in pool.parts
        ]
    if pool.heterogeneity:
        lines.append(f"differences between sets: p = {pool.heterogeneity.p:.2g}")
    if pool.left_out:
        lines.append(f"{', '.join(pool.left_out)} left out: the same utterances")
    return lines


def _amount(utterances: int, speakers: int, minutes: float) -> str:
    voices = counted(speakers, "speaker") if speakers else "unknown speakers"
    return f"{counted(utterances, 'utterance')}, {voices}, {minutes:.1f} min"


# Sets of each split to measure next: in the project, and to be downloaded.
_SHIPPED = {"clean": "test-clean-34-speakers", "other": "test-other-25-speakers"}
_DOWNLOADED = {"clean": "test-clean", "other": "test-other"}
_WEIGHTS_IN_PROJECT = ("base", "tiny.en")


def next_set(split: Split, model: str, pool: PooledComparison | None) -> str | None:
    """The set of a split to measure next; None where the whole split was measured."""
    measured = set(pool.sets) if pool else set()
    if measured & {_DOWNLOADED[split], f"librispeech-{_DOWNLOADED[split]}"}:
        return None
    if model in _WEIGHTS_IN_PROJECT and _SHIPPED[split] not in measured:
        return _SHIPPED[split]
    return _DOWNLOADED[split]


def commands(answers: Iterable[Answer]) -> list[str]:
    """Commands that measure what is missing, merged by model, protocol and device."""
    missing: dict[tuple[str, str, bool], list[MissingRun]] = {}
    for answer in answers:
        for run in answer.missing:
            place = run.model, answer.protocol, answer.needs_gpu
            missing.setdefault(place, []).append(run)
    lines: list[str] = []
    for (model, protocol, on_gpu), runs in missing.items():
        options = "" if protocol == STUDY.name else f" --protocol {short_name(protocol)}"
        options += " --device cuda" if on_gpu else ""
        recipes = ",".join(dict.fromkeys(("fp32", *(run.recipe for run in runs))))
        selection = f"--models {model} --recipes {recipes}"
        kinds = {run.measures for run in runs}
        eval_sets = list(dict.fromkeys(run.eval_set for run in runs if run.eval_set))
        if "size" in kinds:
            lines.append(f"python -m whisperq_core sizes {selection}{options}")
        downloads = (name for name in eval_sets if name in _DOWNLOADED.values())
        lines += [f"python -m whisperq_core download {name}" for name in downloads]
        if eval_sets:
            lines.append(
                f"python -m whisperq_core run {selection} --sets {','.join(eval_sets)}{options}"
            )
        elif "speed" in kinds:
            lines.append(f"python -m whisperq_core run {selection} --only speed{options}")
    return list(dict.fromkeys(lines))
