"""What the records hold that bears on a claim, and the commands that would measure what they lack.

A measure (measures.py) asks one question of one model under one protocol; its answers, one for each
evaluation set that was measured, are Parts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.results_table import machines
from whisperq_core.analyze.significance import Comparison
from whisperq_core.evaluate.records import AccuracyRun, SizeRun, SpeedRun
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY, short_name

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_MEASURABLE = "inconclusive", "not measurable here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_MEASURABLE)

# Sets that stand for a split. One of the first line answers, the best that was measured; those of
# the second answer as well, since they have more speech, but are other speech.
SPLITS = {
    split: (names, evaluation_sets.LARGER_SETS_OF_KIND[split])
    for split, names in evaluation_sets.SETS_OF_KIND.items()
}
POINTS, TIMES, PERCENT = "points of WER", "× the time", "% smaller"

Run = AccuracyRun | SpeedRun | SizeRun


@dataclass(frozen=True)
class Answer:
    """One answer: an effect with its interval, and what it says of the claim.

    effect, low, high are in `unit`, None where nothing was measured; published is the study's own
    value of the same, if it has one for this model. sample: what it was measured on. keys: of the
    records that it comes from. minutes_needed: of speech in all, to decide it. missing: what would
    have to be run, as (model, recipe, set).
    """

    question: str
    model: str
    protocol: str
    unit: str
    verdict: str
    sample: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    keys: tuple[str, ...] = ()
    minutes_needed: float | None = None
    missing: tuple[tuple[str, str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The effect with its interval and unit, in words; a dash where nothing was measured."""
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


class Evidence:
    """The newest record of each kind, model, recipe, set and protocol, on one device.

    Speed is of one kind of machine, that with most results: see `table.machines`.
    """

    def __init__(self, runs: Iterable[Run], device: str = "cpu"):
        self.device = device
        self._runs: dict[tuple, Run] = {}
        self._compared: dict[tuple[str, str], Comparison] = {}
        runs = sorted(runs, key=lambda run: run.created_at)
        kind = next(iter(machines(runs)), None)
        for run in runs:
            here = not isinstance(run, SpeedRun) or run.machine.kind == kind
            if run.spec.device == device and here:
                place = run.eval_set if isinstance(run, AccuracyRun) else ""
                self._runs[self._id(run.measures, run.model, run.spec.recipe.name, place, run)] = (
                    run
                )

    @staticmethod
    def _id(measures: str, model: str, recipe: str, place: str, run: Run) -> tuple:
        return measures, model, recipe, place, run.spec.protocol.name

    def accuracy(self, model: str, recipe: str, place: str, protocol: str) -> AccuracyRun | None:
        """The accuracy run on the set named `place`."""
        return self._runs.get(("accuracy", model, recipe, place, protocol))

    def speed(self, model: str, recipe: str, protocol: str) -> SpeedRun | None:
        """The speed run beside fp32."""
        return self._runs.get(("speed", model, recipe, "", protocol))

    def size(self, model: str, recipe: str, protocol: str) -> SizeRun | None:
        """The size of a model of this shape."""
        return self._runs.get(("size", model, recipe, "", protocol))

    def knows(self, model: str) -> bool:
        """Whether the model was transcribed with at all."""
        return any(id[:2] == ("accuracy", model) for id in self._runs)

    def recipes(self, measures: str, model: str, protocol: str) -> list[str]:
        """Names of all recipes with such a record."""
        return sorted(
            {id[2] for id in self._runs if id[:2] == (measures, model) and id[4] == protocol}
        )

    def places(self, split: str, model: str, recipes: Iterable[str], protocol: str) -> list[str]:
        """Sets for the split on which all of the recipes were measured, on the same utterances."""
        names = list(recipes)
        measured = [
            [p for p in line if _alike([self.accuracy(model, r, p, protocol) for r in names])]
            for line in SPLITS[split]
        ]
        return measured[0][:1] + measured[1]

    def compared(self, baseline: AccuracyRun, candidate: AccuracyRun) -> Comparison:
        """compare_runs, remembered."""
        key = baseline.key, candidate.key
        if key not in self._compared:
            self._compared[key] = compare_runs(baseline, candidate)
        return self._compared[key]


def _alike(runs: list[AccuracyRun | None]) -> bool:
    """Whether all are there and of the same utterances: two sets may bear one name."""
    return None not in runs and len({frozenset(u.id for u in run.utterances) for run in runs}) == 1


def sample_text(run: AccuracyRun) -> str:
    """What a run was measured on: set, utterances, speakers, minutes."""
    speakers = {u.speaker for u in run.utterances}
    said_by = "unknown speakers" if None in speakers else f"{len(speakers)} speakers"
    return f"{run.eval_set}, {len(run.utterances)} utterances, {said_by}, {run.minutes:.1f} min"


def commands(parts: Iterable[Answer], device: str = "cpu") -> list[str]:
    """The commands that would measure what is missing, one for each model and protocol."""
    wanted: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for part in parts:
        for model, recipe, place in part.missing:
            wanted.setdefault((model, part.protocol), []).append((recipe, place))
    lines = []
    for (model, protocol), pairs in wanted.items():
        options = "" if protocol == STUDY.name else f" --protocol {short_name(protocol)}"
        options += "" if device == "cpu" else f" --device {device}"
        names = ",".join(dict.fromkeys(("fp32", *(recipe for recipe, _ in pairs))))
        places = list(dict.fromkeys(place for _, place in pairs if place not in ("", "size")))
        if any(place == "size" for _, place in pairs):
            lines.append(
                f"python -m whisperq_core sizes --models {model} --recipes {names}{options}"
            )
        lines += [f"python -m whisperq_core download {p}" for p in places if p in _WHOLE]
        if places or any(place == "" for _, place in pairs):
            sets = f" --sets {','.join(places)}" if places else " --only speed"
            lines.append(
                f"python -m whisperq_core run --models {model} --recipes {names}{sets}{options}"
            )
    return list(dict.fromkeys(lines))


# Splits that have to be fetched before they can be run on.
_WHOLE = ("test-clean", "test-other")
