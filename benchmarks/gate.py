"""How often `whisperq gate` errs, and which losses it finds, by simulation.

    python -m benchmarks.gate [--model base] [--margin 0.5] [--confidence 0.8] [--simulations 2000]
    python -m benchmarks.gate --levels

Speech is drawn from the shipped results: speakers with replacement from those of
test-clean-34-speakers and test-other-25-speakers, each with all of their utterances, and with the
errors that fp32 and real recipes made on them. Losses are of two kinds.

spread    A recipe whose true loss is 0: a real one, whose errors and fp32's change places for every
          second speaker by chance. To its errors come as many as the loss says, by Poisson's law,
          more of them for speakers on whom fp32 errs more, and by another factor (gamma, standard
          deviation half its mean) for each speaker.
real      The transcripts of a recipe that loses more, for a share of the utterances drawn by chance
          that makes the loss what it is to be, and fp32's for the others.

Printed is, for each loss, in how many per cent of the simulated evaluations the gate failed, passed
or left it open; then the same for less speech, on average over the spread recipes. With --levels,
printed is instead how many fail at each level of confidence, and how many pass at all of them: on 2
to 20 minutes, and on all of the speech; the least and the most of the spread recipes.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from whisperq_core.analyze.gate import Outcome, outcome_of
from whisperq_core.analyze.paired_tests import PairedTest
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.analyze.verdicts import MARGIN, PROBABLE
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.whisper.protocols import FITTED, STUDY, Protocol, short_name

SETS = ("test-clean-34-speakers", "test-other-25-speakers")
SPEAKERS = (34, 25)
# Recipes that differ from fp32 in few words and in many, and lose little.
SPREAD = (("quanto-int8", STUDY), ("bf16", FITTED), ("whole-int8-dynamic-bf16", FITTED))
SPREAD += (("mixed-84-dynamic", FITTED),)
# Of a speaker's factor, its standard deviation over its mean.
UNEVENNESS = 0.5
LOSSES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
# Levels of confidence from which a loss fails: those that a gate might have.
LEVELS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975)
# About 2, 5, 10 and 20 minutes in the proportions of all speech, and all of it.
AMOUNTS = ((2, 1), (4, 3), (9, 7), (18, 13), SPEAKERS)
Numbers = npt.NDArray[np.float64]
Decision = TypeVar("Decision", bound=Hashable)


@dataclass(frozen=True)
class Speaker:
    """A speaker's utterances: words, errors by fp32, and by each recipe, one row each."""

    words: Numbers
    fp32: Numbers
    recipes: Numbers


@dataclass(frozen=True)
class Population:
    """The speakers of each set, and the names of the recipes in the order of their rows."""

    sets: tuple[tuple[Speaker, ...], ...]
    recipes: tuple[str, ...]

    @cached_property
    def rates(self) -> list[Numbers]:
        """Errors of fp32 for each word, by speaker; half an error is added."""
        return [
            np.array([(s.fp32.sum() + 0.5) / s.words.sum() for s in speakers])
            for speakers in self.sets
        ]

    def mean_words(self, shape: Sequence[int]) -> float:
        """Words to be expected of so many speakers of each set."""
        return self._expected(shape, [[s.words.sum() for s in one] for one in self.sets])

    def spread_factor(self, shape: Sequence[int]) -> float:
        """Words weighted by fp32's rate that are to be expected."""
        weighted = [
            [s.words.sum() * rate for s, rate in zip(one, rates, strict=True)]
            for one, rates in zip(self.sets, self.rates, strict=True)
        ]
        return self._expected(shape, weighted)

    def losses(self, shape: Sequence[int]) -> Numbers:
        """The recipes' own losses on such speech, in points."""
        errors = [
            [s.recipes.sum(axis=1) - s.fp32.sum() for s in speakers] for speakers in self.sets
        ]
        means = [np.mean(one, axis=0) for one in errors]
        total = np.sum([n * mean for n, mean in zip(shape, means, strict=True)], axis=0)
        return np.asarray(100 * total / self.mean_words(shape))

    @staticmethod
    def _expected(shape: Sequence[int], values: Sequence[Sequence[float]]) -> float:
        return float(sum(n * np.mean(one) for n, one in zip(shape, values, strict=True)))


def population(model: str, recipes: Sequence[tuple[str, Protocol]]) -> Population:
    """Of the shipped results; each recipe under its protocol, fp32 under the Study protocol."""
    runs = {
        (run.eval_set, run.spec.recipe.name, run.spec.protocol): run
        for run in Store(SHIPPED_CACHE).runs()
        if isinstance(run, AccuracyRun) and run.model == model and run.eval_set in SETS
    }
    sets = []
    for name in SETS:
        base = runs[name, "fp32", STUDY]
        others = [runs[name, recipe, protocol] for recipe, protocol in recipes]
        sets.append(tuple(_speakers(base, others)))
    names = tuple(f"{name} : {short_name(protocol.name)}" for name, protocol in recipes)
    return Population(tuple(sets), names)


def _speakers(base: AccuracyRun, others: Sequence[AccuracyRun]) -> Iterator[Speaker]:
    who = np.array([u.speaker for u in base.by_id])
    words = np.array([u.score.words.reference_length for u in base.by_id], float)
    fp32, *errors = (
        np.array([u.score.words.errors for u in run.by_id], float) for run in (base, *others)
    )
    for speaker in dict.fromkeys(who):
        own = who == speaker
        yield Speaker(words[own], fp32[own], np.array([one[own] for one in errors]))


class Simulation(Generic[Decision]):
    """Evaluations of one amount of speech.

    shape: speakers of each set. outcome: of the counts of baseline and recipe; the gate's, or those
    of several gates.
    """

    def __init__(
        self,
        people: Population,
        shape: Sequence[int],
        outcome: Callable[[ErrorCounts, ErrorCounts], Decision],
        seed: int = 1,
    ):
        self.people, self.shape, self.outcome = people, tuple(shape), outcome
        self.random = np.random.default_rng(seed)

    def spread(self, loss: float, times: int) -> list[Counter[Decision]]:
        """Outcomes for each recipe as noise, with a loss over all words."""
        scale = loss / 100 * self.people.mean_words(self.shape)
        scale /= self.people.spread_factor(self.shape)

        def candidates(speaker: Speaker, rate: float) -> tuple[Numbers, Numbers]:
            count = len(speaker.recipes)
            factor = self.random.gamma(UNEVENNESS**-2, UNEVENNESS**2, count)
            mean = np.outer(factor, scale * rate * speaker.words)
            swapped = self.random.random(count) < 0.5
            fp32 = np.broadcast_to(speaker.fp32, speaker.recipes.shape)
            base = np.where(swapped[:, None], speaker.recipes, fp32)
            other = np.where(swapped[:, None], fp32, speaker.recipes)
            return base, other + self.random.poisson(mean)

        return self._outcomes(candidates, times)

    def real(self, loss: float, times: int) -> list[Counter[Decision]]:
        """Outcomes for each recipe whose own loss is mixed with fp32's transcripts."""
        own = self.people.losses(self.shape)
        share = np.clip(loss / own, 0, 1)[:, None]

        def candidates(speaker: Speaker, rate: float) -> tuple[Numbers, Numbers]:
            base = np.broadcast_to(speaker.fp32, speaker.recipes.shape)
            drawn = self.random.random(speaker.recipes.shape) < share
            return base, np.where(drawn, speaker.recipes, base)

        return self._outcomes(candidates, times)

    def _outcomes(self, candidates, times: int) -> list[Counter[Decision]]:
        counters: list[Counter[Decision]] = [Counter() for _ in self.people.recipes]
        for _ in range(times):
            bases, others, words, who, sets = [], [], [], [], []
            for number, (n, speakers) in enumerate(zip(self.shape, self.people.sets, strict=True)):
                for place, one in enumerate(self.random.integers(len(speakers), size=n)):
                    speaker = speakers[one]
                    base, other = candidates(speaker, self.people.rates[number][one])
                    bases.append(base)
                    others.append(other)
                    words.append(speaker.words)
                    who += [(number, place)] * len(speaker.words)
                    sets += [number] * len(speaker.words)
            speech = np.concatenate(words), tuple(who), "words", tuple(sets)
            pairs = zip(np.hstack(bases), np.hstack(others), counters, strict=True)
            for base, other, counter in pairs:
                counts = (ErrorCounts(errors, *speech) for errors in (base, other))
                counter[self.outcome(*counts)] += 1
        return counters


def gate_outcome(
    base: ErrorCounts, other: ErrorCounts, margin: float, confidence: float = PROBABLE
) -> Outcome:
    """The gate's, for these counts."""
    return outcome_of(PairedTest(base, [other]).alone(margin)[0], confidence)


def failing_levels(base: ErrorCounts, other: ErrorCounts, margin: float) -> int:
    """How many of LEVELS fail: who fails at one fails at all below it. -1 where it passes."""
    comparison = PairedTest(base, [other]).alone(margin)[0]
    if outcome_of(comparison) is Outcome.PASS:
        return -1
    return sum(outcome_of(comparison, level) is Outcome.FAIL for level in LEVELS)


def shares(counter: Counter[Outcome]) -> str:
    """Failed, passed and open, in percent."""
    total = counter.total()
    return "  ".join(f"{100 * counter[one] / total:5.1f}" for one in Outcome)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--margin", type=float, default=MARGIN)
    parser.add_argument("--confidence", type=float, default=PROBABLE)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--levels", action="store_true")
    chosen = parser.parse_args()
    times = chosen.simulations
    if chosen.levels:
        return _print_levels(population(chosen.model, SPREAD), chosen.margin, times)
    gate = partial(gate_outcome, margin=chosen.margin, confidence=chosen.confidence)
    print(f"{'':50}  {'  '.join(f'{one.value[:5]:>5}' for one in Outcome)}")
    people = population(chosen.model, SPREAD)
    for loss in LOSSES:
        outcomes = Simulation(people, SPEAKERS, gate).spread(loss, times)
        for name, counter in zip(people.recipes, outcomes, strict=True):
            print(f"spread {loss:4.2f}  {name:37}  {shares(counter)}", flush=True)
    lossy = [
        (name, protocol)
        for name, protocol in _measured(chosen.model)
        if population(chosen.model, [(name, protocol)]).losses(SPEAKERS)[0] >= LOSSES[-1] / 2
    ]
    people = population(chosen.model, lossy)
    for loss in (one for one in LOSSES if one <= 1.5):
        outcomes = Simulation(people, SPEAKERS, gate).real(loss, times)
        for name, counter in zip(people.recipes, outcomes, strict=True):
            print(f"real   {loss:4.2f}  {name:37}  {shares(counter)}", flush=True)
    _print_amounts(population(chosen.model, SPREAD), gate, times)


def _print_amounts(
    people: Population, gate: Callable[[ErrorCounts, ErrorCounts], Outcome], times: int
) -> None:
    minutes = _minutes()
    for shape in ((34, 0), (0, 25), (17, 12), (9, 6)):
        amount = sum(n * m for n, m in zip(shape, minutes, strict=True))
        for loss in LOSSES:
            outcomes = Simulation(people, shape, gate).spread(loss, max(1, times // 4))
            print(f"{amount:4.0f} min {shape!s:11} {loss:4.2f}  {shares(sum(outcomes, Counter()))}")


def _print_levels(people: Population, margin: float, times: int) -> None:
    print(f"{'':26}{'passes':>12}{''.join(f'{level:>12}' for level in LEVELS)}")
    decision = partial(failing_levels, margin=margin)
    for shape in AMOUNTS:
        amount = sum(n * m for n, m in zip(shape, _minutes(), strict=True))
        for loss in LOSSES:
            counters = Simulation(people, shape, decision).spread(loss, times)
            passed = [counter[-1] for counter in counters]
            failed = [
                [sum(n for levels, n in counter.items() if levels > place) for counter in counters]
                for place in range(len(LEVELS))
            ]
            ranges = "".join(_range(counts, times) for counts in (passed, *failed))
            print(f"{amount:4.0f} min {shape!s:10} {loss:5.2f} {ranges}", flush=True)


def _range(counts: Sequence[int], times: int) -> str:
    return f"{100 * min(counts) / times:.1f}-{100 * max(counts) / times:.1f}".rjust(12)


def _minutes() -> list[float]:
    """Minutes of speech of a speaker, by set."""
    runs = {r.eval_set: r for r in Store(SHIPPED_CACHE).runs() if isinstance(r, AccuracyRun)}
    return [runs[name].minutes / n for name, n in zip(SETS, SPEAKERS, strict=True)]


def _measured(model: str) -> list[tuple[str, Protocol]]:
    """Recipes and protocols that were run on both sets, besides fp32."""
    sets: dict[tuple[str, Protocol], set[str]] = {}
    for run in Store(SHIPPED_CACHE).runs():
        if isinstance(run, AccuracyRun) and run.model == model and run.eval_set in SETS:
            sets.setdefault((run.spec.recipe.name, run.spec.protocol), set()).add(run.eval_set)
    return [one for one, names in sets.items() if len(names) == 2 and one[0] != "fp32"]


if __name__ == "__main__":
    main()
