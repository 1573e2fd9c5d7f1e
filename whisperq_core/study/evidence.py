"""The stored results that claims are judged by: the newest of each kind, pooled over sets.

All evaluation sets of a split that two recipes were both run on are one comparison, stratified by
set, with speakers as blocks. Of sets that share an utterance the larger one counts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from whisperq_core.analyze.divergence_calibration import calibrate
from whisperq_core.analyze.effects import RateDifference
from whisperq_core.analyze.pooled_comparisons import PooledComparison, compare_pooled
from whisperq_core.analyze.results_table import machines
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, SizeRun, SpeedRun
from whisperq_core.speech.evaluation_sets import MORE_SETS_OF_KIND, SETS_OF_KIND
from whisperq_core.whisper.protocols import STUDY

Split = Literal["clean", "other"]
Device = Literal["cpu", "cuda"]
SPLITS: tuple[Split, Split] = ("clean", "other")


@dataclass(frozen=True)
class WerComparison:
    """A recipe's WER against another's over all sets of a split: the pool, and its effect."""

    pool: PooledComparison
    effect: RateDifference


class _RunId(NamedTuple):
    model: str
    recipe: str
    protocol: str
    where: str
    """The evaluation set, or the device of a speed run."""


class Evidence:
    """The newest result of each kind, model, recipe, evaluation set and protocol.

    Accuracy, divergence and size are those of the CPU. Speed is that of one kind of machine for
    each device, the one with most results under the Study protocol: see `results_table.machines`.
    """

    def __init__(self, runs: Iterable[Run]):
        self._runs = sorted(runs, key=lambda run: run.created_at)
        self._accuracy: dict[_RunId, AccuracyRun] = {}
        self._divergence: dict[_RunId, DivergenceRun] = {}
        self._speed: dict[_RunId, SpeedRun] = {}
        self._size: dict[_RunId, SizeRun] = {}
        self._compared: dict[tuple[str, ...], WerComparison | None] = {}
        of_study = [run for run in self._runs if run.spec.protocol.name == STUDY.name]
        by_device = {
            device: next(iter(machines(r for r in of_study if r.spec.device == device)), None)
            for device in ("cpu", "cuda")
        }
        for run in self._runs:
            self._add(run, by_device.get(run.spec.device))

    def _add(self, run: Run, machine: str | None) -> None:
        device = run.spec.device
        id = _RunId(run.model, run.spec.recipe.name, run.spec.protocol.name, run.eval_set)
        match run:
            case SpeedRun():
                if run.machine_kind == machine:
                    self._speed[id._replace(where=device)] = run
            case AccuracyRun() if device == "cpu":
                self._accuracy[id] = run
            case DivergenceRun() if device == "cpu":
                self._divergence[id] = run
            case SizeRun() if device == "cpu":
                self._size[id._replace(where="")] = run

    def accuracy(self, model: str, recipe: str, eval_set: str, protocol: str) -> AccuracyRun | None:
        """The accuracy run on the evaluation set of that name."""
        return self._accuracy.get(_RunId(model, recipe, protocol, eval_set))

    def speed(
        self, model: str, recipe: str, protocol: str, device: Device = "cpu"
    ) -> SpeedRun | None:
        """The speed run, interleaved with fp32."""
        return self._speed.get(_RunId(model, recipe, protocol, device))

    def size(self, model: str, recipe: str, protocol: str) -> SizeRun | None:
        """The size of a quantized model."""
        return self._size.get(_RunId(model, recipe, protocol, ""))

    def has_transcripts(self, model: str) -> bool:
        """Whether there is any accuracy run of the model."""
        return any(id.model == model for id in self._accuracy)

    def recipes(self, model: str, protocol: str) -> list[str]:
        """Names of all recipes with an accuracy run."""
        ids = self._accuracy
        return sorted({i.recipe for i in ids if (i.model, i.protocol) == (model, protocol)})

    def compare(
        self, split: Split, model: str, baseline: str, recipe: str, protocol: str
    ) -> WerComparison | None:
        """A recipe's WER against another's on all sets of the split that both were run on."""
        key = split, model, baseline, recipe, protocol
        if key not in self._compared:
            runs = [
                [self.accuracy(model, name, eval_set, protocol) for name in (baseline, recipe)]
                for eval_set in sets_of(split)
            ]
            # Guards against different sets of one name.
            pairs = [(a, b) for a, b in runs if a and b and a.speech_digest == b.speech_digest]
            self._compared[key] = _compare(pairs) if pairs else None
        return self._compared[key]

    def divergences(
        self, split: Split, model: str, recipes: Sequence[str], protocol: str
    ) -> list[tuple[DivergenceRun, ...]]:
        """Divergence runs of all the recipes from one fp32, a tuple for each set of the split.

        Of sets that share an utterance the larger one counts.
        """
        groups = []
        for eval_set in sets_of(split):
            runs = [
                self._divergence.get(_RunId(model, recipe, protocol, eval_set))
                for recipe in recipes
            ]
            present = tuple(run for run in runs if run is not None)
            of_one_baseline = len({(r.baseline_key, r.sums.tokens) for r in present}) == 1
            if len(present) == len(recipes) and of_one_baseline:
                groups.append(present)
        chosen: list[tuple[DivergenceRun, ...]] = []
        for group in sorted(groups, key=lambda group: -group[0].sums.tokens):
            ids = {u.id for u in group[0].utterances}
            if not any(ids & {u.id for u in other[0].utterances} for other in chosen):
                chosen.append(group)
        return chosen

    @cached_property
    def harmless_mnat(self) -> float | None:
        """The divergence in mnat below which a loss of the margin is excluded; None if unknown."""
        calibration = calibrate(self._runs)
        return calibration.fit.excluded_below() if calibration else None

    def common_set(self, split: Split, model: str, protocol: str, recipes: Sequence[str]) -> str:
        """The set of a split that most of the recipes were run on: see `most_complete`."""
        ids = self._accuracy
        alike = [i for i in ids if (i.model, i.protocol) == (model, protocol)]
        return most_complete(split, (i.where for i in alike if i.recipe in recipes))


def sets_of(split: Split) -> tuple[str, ...]:
    """Names of all evaluation sets of a split."""
    return (*SETS_OF_KIND[split], *MORE_SETS_OF_KIND[split])


def most_complete(split: Split, measured: Iterable[str]) -> str:
    """The set of a split with most results, so that recipes in one table share their speech.

    measured: the set of each result. Of sets with as many, the best.
    """
    counts, names = Counter(measured), SETS_OF_KIND[split]
    return max(names, key=lambda name: (counts[name], -names.index(name)))


def _compare(pairs: list[tuple[AccuracyRun, AccuracyRun]]) -> WerComparison:
    pool, test = compare_pooled(pairs)
    return WerComparison(pool, RateDifference(test, pool.comparison))
