"""Which configuration to use: ranks what was measured by the user's requirements.

Pure functions over stored runs that return data; `present.advisor_text` words the answer. Nothing
inconclusive is recommended.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from whisperq_core.analyze import paired_comparisons, results_table
from whisperq_core.analyze.user_requirements import (
    SETS_OF_SPEECH,
    Configuration,
    KindOfSpeech,
    Requirement,
    RequirementCheck,
    Requirements,
    Status,
    check_configuration,
)
from whisperq_core.evaluate.records import AccuracyRun, Run, SpeedRun
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import STUDY, short_name


@dataclass(frozen=True)
class WholeSet:
    """An evaluation set that can be downloaded, and its length in minutes."""

    name: str
    minutes: int


# The whole sets of each kind of speech, of which the excerpts are a part.
WHOLE_SETS: dict[KindOfSpeech, WholeSet] = {
    "clean": WholeSet("test-clean", 324),
    "hard": WholeSet("test-other", 320),
}

_RUN = "python -m whisperq_core run"
_LIMITS = (
    Requirement.WER_INCREASE,
    Requirement.SIZE,
    Requirement.RELATIVE_LATENCY,
    Requirement.RTF,
)


class Conclusion(Enum):
    """What the measurements allow to recommend."""

    NO_RESULTS = auto()
    USE = auto()
    # Only fp32 is shown to meet the requirements.
    KEEP_FP32 = auto()
    INCONCLUSIVE = auto()
    NONE_MEETS = auto()


class Reason(Enum):
    """Why a measurement comes next."""

    NO_RESULTS = auto()
    FP32_NOT_RUN = auto()
    TIME_NOT_MEASURED = auto()
    # Repeated passes are on both sides of the limit: no command would help on this machine.
    TIME_STRADDLES_LIMIT = auto()
    MORE_AUDIO = auto()
    # It was evaluated on the whole set already.
    NO_MORE_AUDIO = auto()


@dataclass(frozen=True)
class NextMeasurement:
    """What to measure next, and why; no commands where no measurement at hand would help.

    configuration: that it is about. check: its requirement that is open. instead_of: the
    recommended configuration, which it might replace. whole_set: to evaluate on; enough_audio:
    whether that is as long as the estimate.
    """

    reason: Reason
    commands: tuple[str, ...]
    configuration: Configuration | None = None
    check: RequirementCheck | None = None
    instead_of: Configuration | None = None
    whole_set: WholeSet | None = None
    enough_audio: bool = False


@dataclass(frozen=True)
class Advice:
    """The conclusion, the configurations from best to worst, and what would make it surer.

    closest: the configuration to name where none, or only fp32, is recommended. most_limiting: the
    requirement that most configurations fail, and how many, where nothing is recommended.
    not_run: names of recipes by model that have no such results.
    """

    requirements: Requirements
    conclusion: Conclusion
    configurations: tuple[Configuration, ...]
    closest: Configuration | None
    most_limiting: tuple[Requirement, int] | None
    not_run: dict[str, tuple[str, ...]]
    next_measurement: NextMeasurement | None

    @property
    def best(self) -> Configuration | None:
        """The first configuration that is shown to meet every requirement."""
        return _first(self.configurations, Status.MET)

    @property
    def baselines(self) -> tuple[Configuration, ...]:
        """fp32 of each model."""
        return tuple(c for c in self.configurations if c.is_baseline)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were measured, the best configuration's first."""
        return tuple(dict.fromkeys(c.model for c in self.configurations))


def advise(requirements: Requirements, runs: Iterable[Run]) -> Advice:
    """Ranks the configurations by how they meet the requirements, then by the user's priority."""
    runs = list(runs)
    accuracy_runs = [r for r in runs if isinstance(r, AccuracyRun) and _matches(r, requirements)]
    speed_runs = [run for run in runs if isinstance(run, SpeedRun)]
    comparisons = paired_comparisons.verdicts(
        accuracy_runs, "fp32", requirements.max_wer_rise_points
    )
    table = results_table.rows([*accuracy_runs, *speed_runs])
    rows = {row["key"]: row for _, row in table.iterrows()}
    best_runs: dict[tuple[str, str], AccuracyRun] = {}
    for run in sorted(accuracy_runs, key=lambda r: (r.key in comparisons, r.minutes, r.created_at)):
        best_runs[run.model, run.spec.recipe.name] = run
    configurations = [
        check_configuration(
            run,
            rows[run.key],
            comparisons.get(run.key),
            paired_comparisons.baseline_run(run, accuracy_runs),
            requirements,
        )
        for run in best_runs.values()
    ]
    configurations.sort(key=lambda configuration: _rank(configuration, requirements))
    conclusion, closest = _conclusion(configurations)
    return Advice(
        requirements,
        conclusion,
        tuple(configurations),
        closest,
        _most_limiting(configurations),
        _not_run(configurations, requirements.device),
        _next_measurement(configurations, requirements),
    )


def _matches(run: AccuracyRun, requirements: Requirements) -> bool:
    return (
        run.spec.device == requirements.device
        and run.eval_set in SETS_OF_SPEECH[requirements.speech]
        and run.spec.protocol.name == requirements.protocol
        and (not requirements.models or run.model in requirements.models)
        and run.words.rate is not None
    )


def _first(configurations: Sequence[Configuration], status: Status) -> Configuration | None:
    return next((c for c in configurations if c.status is status), None)


def _cost(configuration: Configuration, requirements: Requirements) -> float:
    """What the user's priority makes small: bytes, or relative latency; infinite if unknown."""
    column = "weights_bytes" if requirements.priority == "smallest" else "rtf_ratio"
    value = float(configuration.row[column])
    return math.inf if math.isnan(value) else value


def _rank(
    configuration: Configuration, requirements: Requirements
) -> tuple[int, int, float, float, float]:
    """Met first, then inconclusive and within the limits, inconclusive beyond them, not met."""
    cost, wer = _cost(configuration, requirements), configuration.wer.value
    if failed := configuration.failed():
        return 3, len(failed), sum(check.beyond for check in failed), cost, wer
    if configuration.status is Status.MET:
        return 0, 0, 0.0, cost, wer
    return (1 if configuration.within_limits else 2), 0, 0.0, cost, wer


def _conclusion(
    configurations: Sequence[Configuration],
) -> tuple[Conclusion, Configuration | None]:
    """The conclusion, and the closest configuration to name where it is not a recommendation."""
    if not configurations:
        return Conclusion.NO_RESULTS, None
    first = configurations[0]
    if first.status is Status.MET and first.is_baseline:
        return Conclusion.KEEP_FP32, _first(configurations, Status.INCONCLUSIVE)
    if first.status is Status.MET:
        return Conclusion.USE, None
    if first.status is Status.INCONCLUSIVE:
        return Conclusion.INCONCLUSIVE, first
    return Conclusion.NONE_MEETS, first


def _most_limiting(configurations: Sequence[Configuration]) -> tuple[Requirement, int] | None:
    if not configurations or configurations[0].status is Status.MET:
        return None
    failed = [check.requirement for c in configurations for check in c.failed()]
    worst = max(_LIMITS, key=failed.count)
    return (worst, failed.count(worst)) if worst in failed else None


def _not_run(configurations: Sequence[Configuration], device: str) -> dict[str, tuple[str, ...]]:
    """Recipes of the catalogue without a result, by model; not those that would be of no use."""
    measured: dict[str, set[str]] = {}
    for configuration in configurations:
        measured.setdefault(configuration.model, set()).add(configuration.recipe)
    available = [
        name
        for name, recipe in CATALOGUE.items()
        if recipe.calibration != "evaluation-10%"
        and backends.unavailable_reason(recipe, device) is None
    ]
    missing = {
        model: tuple(name for name in available if name not in recipes)
        for model, recipes in measured.items()
    }
    return {model: recipes for model, recipes in missing.items() if recipes}


def _next_measurement(
    configurations: Sequence[Configuration], requirements: Requirements
) -> NextMeasurement | None:
    """What would settle the first inconclusive configuration that the user would prefer."""
    if not configurations:
        model = (requirements.models or ("base",))[0]
        eval_set = SETS_OF_SPEECH[requirements.speech][-1]
        command = f"{_RUN} --models {model} --recipes all --sets {eval_set}"
        return NextMeasurement(Reason.NO_RESULTS, (command + _options(requirements),))
    best = _first(configurations, Status.MET)
    preferred = [
        configuration
        for configuration in configurations
        if configuration.status is Status.INCONCLUSIVE
        and (configuration.within_limits or best is None)
        and (best is None or _cost(configuration, requirements) < _cost(best, requirements))
    ]
    measurements = [_measurement_of(c, requirements, best) for c in preferred]
    with_commands = (m for m in measurements if m.commands)
    return next(with_commands, measurements[0] if measurements else None)


def _options(requirements: Requirements) -> str:
    """The options of a command that are not its defaults."""
    device, protocol = requirements.device, requirements.protocol
    on_device = "" if device == "cpu" else f" --device {device}"
    return on_device + ("" if protocol == STUDY.name else f" --protocol {short_name(protocol)}")


def _measurement_of(
    configuration: Configuration, requirements: Requirements, best: Configuration | None
) -> NextMeasurement:
    """What would settle the requirement of a configuration that takes least to settle."""
    command = f"{_RUN} --models {configuration.model} --recipes fp32,{configuration.recipe}"
    options = _options(requirements)

    def measurement(reason: Reason, *commands: str, **details: Any) -> NextMeasurement:
        return NextMeasurement(reason, commands, configuration, instead_of=best, **details)

    unmet = {check.requirement: check for check in reversed(configuration.unmet())}
    not_measured = [r for r, check in unmet.items() if check.status is Status.NOT_MEASURED]
    if Requirement.WER_INCREASE in not_measured:
        sets = f" --sets {configuration.run.eval_set}"
        return measurement(Reason.FP32_NOT_RUN, command + sets + options)
    if not_measured:
        return measurement(Reason.TIME_NOT_MEASURED, f"{command} --only speed{options}")
    increase = unmet.get(Requirement.WER_INCREASE)
    if increase is None:
        return measurement(Reason.TIME_STRADDLES_LIMIT, check=next(iter(unmet.values())))
    if "excerpt" not in configuration.run.eval_set:
        return measurement(Reason.NO_MORE_AUDIO, check=increase)
    whole = WHOLE_SETS[requirements.speech]
    more_minutes = math.inf if increase.more_minutes is None else increase.more_minutes
    return measurement(
        Reason.MORE_AUDIO,
        f"python -m whisperq_core download {whole.name}",
        f"{command} --sets {whole.name}{options}",
        check=increase,
        whole_set=whole,
        enough_audio=configuration.run.minutes + more_minutes <= whole.minutes,
    )
