"""The stored results that a claim is judged by, and commands that measure missing ones.

A measure (measures.py) states something about one model under one protocol. It yields an Answer for
each evaluation set that was measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.results_table import machines
from whisperq_core.evaluate.records import AccuracyRun, Run, SizeRun, SpeedRun
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY, short_name


class Outcome(StrEnum):
    """Verdict on a claim, or on one of its measures."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURABLE = "not measurable here"


Measured = Literal["accuracy", "speed", "size"]
Split = Literal["clean", "other"]
Unit = Literal["points of WER", "× latency", "× size", "% smaller"]
POINTS: Unit = "points of WER"
TIMES: Unit = "× latency"
BYTES: Unit = "× size"
PERCENT: Unit = "% smaller"


class SplitSets(NamedTuple):
    """Evaluation sets of a split.

    The first measured one of `best_first` gives an answer, and so does each of `larger`, which have
    more audio, but of other recordings.
    """

    best_first: tuple[str, ...]
    larger: tuple[str, ...]


SPLITS: dict[Split, SplitSets] = {
    split: SplitSets(
        tuple(evaluation_sets.SETS_OF_KIND[split]),
        tuple(evaluation_sets.LARGER_SETS_OF_KIND[split]),
    )
    for split in ("clean", "other")
}


@dataclass(frozen=True)
class MissingRun:
    """A result that an answer needs; eval_set is set for accuracy only."""

    model: str
    recipe: str
    measures: Measured
    eval_set: str = ""


@dataclass(frozen=True)
class Answer:
    """An effect with its 95% interval, and whether it confirms the claim.

    question: the statement that is judged. effect, low, high: in `unit`; None where nothing was
    measured. published: the study's value of the same, None where it has none for this model.
    sample: what was measured, as text. keys: of the results it is computed from. minutes_needed:
    total audio for a conclusion. missing: what has to be run.
    """

    question: str
    model: str
    protocol: str
    unit: Unit
    outcome: Outcome
    sample: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    keys: tuple[str, ...] = ()
    minutes_needed: float | None = None
    missing: tuple[MissingRun, ...] = ()

    @property
    def shown(self) -> str:
        """The effect with its interval and unit, as text; a dash where nothing was measured."""
        if self.effect is None:
            return "–"
        sign = "+" if self.unit == POINTS else ""
        numbers = [
            f"{value:{sign}.2f}"
            for value in (self.effect, self.low, self.high)
            if value is not None
        ]
        interval = f" [{numbers[1]} to {numbers[2]}]" if len(set(numbers)) > 1 else ""
        return f"{numbers[0]}{interval} {self.unit}".replace("-", "−")


class _RunId(NamedTuple):
    measures: Measured
    model: str
    recipe: str
    eval_set: str
    protocol: str


class Evidence:
    """The newest result of each kind, model, recipe, evaluation set and protocol, on one device.

    Speed is that of one kind of machine, the one with most results under the Study protocol: see
    `results_table.machines`.
    """

    def __init__(self, runs: Iterable[Run], device: str = "cpu"):
        self.device = device
        self._accuracy: dict[_RunId, AccuracyRun] = {}
        self._speed: dict[_RunId, SpeedRun] = {}
        self._size: dict[_RunId, SizeRun] = {}
        self._comparisons: dict[tuple[str, str], Comparison] = {}
        runs = sorted(runs, key=lambda run: run.created_at)
        under_study = (run for run in runs if run.spec.protocol.name == STUDY.name)
        machine = next(iter(machines(under_study)), None)
        for run in runs:
            if run.spec.device == device:
                self._add(run, machine)

    def _add(self, run: Run, machine: str | None) -> None:
        eval_set = run.eval_set if isinstance(run, AccuracyRun) else ""
        recipe, protocol = run.spec.recipe.name, run.spec.protocol.name
        match run:
            case AccuracyRun():
                self._accuracy[_RunId("accuracy", run.model, recipe, eval_set, protocol)] = run
            case SpeedRun() if run.machine_kind == machine:
                self._speed[_RunId("speed", run.model, recipe, "", protocol)] = run
            case SizeRun():
                self._size[_RunId("size", run.model, recipe, "", protocol)] = run

    def accuracy(self, model: str, recipe: str, eval_set: str, protocol: str) -> AccuracyRun | None:
        """The accuracy run on the evaluation set of that name."""
        return self._accuracy.get(_RunId("accuracy", model, recipe, eval_set, protocol))

    def speed(self, model: str, recipe: str, protocol: str) -> SpeedRun | None:
        """The speed run, interleaved with fp32."""
        return self._speed.get(_RunId("speed", model, recipe, "", protocol))

    def size(self, model: str, recipe: str, protocol: str) -> SizeRun | None:
        """The size of a quantized model."""
        return self._size.get(_RunId("size", model, recipe, "", protocol))

    def has_transcripts(self, model: str) -> bool:
        """Whether there is any accuracy run of the model."""
        return any(id.model == model for id in self._accuracy)

    def recipes(self, model: str, protocol: str) -> list[str]:
        """Names of all recipes with an accuracy run."""
        return sorted(
            {id.recipe for id in self._accuracy if (id.model, id.protocol) == (model, protocol)}
        )

    def paired_runs(
        self, split: Split, model: str, recipes: Iterable[str], protocol: str
    ) -> list[tuple[AccuracyRun, ...]]:
        """Accuracy runs of all the recipes on the same utterances, one tuple for each set.

        The sets are the first measured one of the split's `best_first`, and all its `larger` ones.
        """
        names = list(recipes)

        def measured(eval_sets: Iterable[str]) -> list[tuple[AccuracyRun, ...]]:
            groups = []
            for eval_set in eval_sets:
                runs = [self.accuracy(model, name, eval_set, protocol) for name in names]
                present = tuple(run for run in runs if run is not None)
                if len(present) == len(names) and _same_utterances(present):
                    groups.append(present)
            return groups

        sets = SPLITS[split]
        return measured(sets.best_first)[:1] + measured(sets.larger)

    def compare(self, baseline: AccuracyRun, candidate: AccuracyRun) -> Comparison:
        """`compare_runs`, cached."""
        key = baseline.key, candidate.key
        if key not in self._comparisons:
            self._comparisons[key] = compare_runs(baseline, candidate)
        return self._comparisons[key]


def _same_utterances(runs: Iterable[AccuracyRun]) -> bool:
    """Guards against different sets of one name."""
    return len({frozenset(u.id for u in run.utterances) for run in runs}) == 1


def sample_text(run: AccuracyRun) -> str:
    """Set, utterances, speakers and minutes of a run, as text."""
    speaker_ids = {u.speaker for u in run.utterances}
    unknown = None in speaker_ids
    speakers = "unknown speakers" if unknown else f"{len(speaker_ids)} speakers"
    return f"{run.eval_set}, {len(run.utterances)} utterances, {speakers}, {run.minutes:.1f} min"


# Evaluation sets that have to be downloaded first.
_DOWNLOADED = ("test-clean", "test-other")


def commands(answers: Iterable[Answer], device: str = "cpu") -> list[str]:
    """Commands that measure what is missing, merged by model and protocol."""
    missing: dict[tuple[str, str], list[MissingRun]] = {}
    for answer in answers:
        for run in answer.missing:
            missing.setdefault((run.model, answer.protocol), []).append(run)
    lines: list[str] = []
    for (model, protocol), runs in missing.items():
        options = "" if protocol == STUDY.name else f" --protocol {short_name(protocol)}"
        options += "" if device == "cpu" else f" --device {device}"
        recipes = ",".join(dict.fromkeys(("fp32", *(run.recipe for run in runs))))
        selection = f"--models {model} --recipes {recipes}"
        kinds = {run.measures for run in runs}
        eval_sets = list(dict.fromkeys(run.eval_set for run in runs if run.eval_set))
        if "size" in kinds:
            lines.append(f"python -m whisperq_core sizes {selection}{options}")
        downloads = (name for name in eval_sets if name in _DOWNLOADED)
        lines += [f"python -m whisperq_core download {name}" for name in downloads]
        if eval_sets:
            lines.append(
                f"python -m whisperq_core run {selection} --sets {','.join(eval_sets)}{options}"
            )
        elif "speed" in kinds:
            lines.append(f"python -m whisperq_core run {selection} --only speed{options}")
    return list(dict.fromkeys(lines))
