"""Which configuration to use: ranks everything measured by the user's requirements.

`advise` is the one place that recommends: the pages, the report, the slides, the command line and
the API all call it. Pure functions that return data; `present.advisor_text` words them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from whisperq_core.analyze.configurations import REFERENCE_RECIPE, Configuration, configurations
from whisperq_core.analyze.user_requirements import (
    PRIORITIES,
    Candidate,
    Priority,
    Requirement,
    RequirementCheck,
    Requirements,
    Status,
    check_configuration,
)
from whisperq_core.analyze.verdicts import CONFIDENCE, PROBABLE
from whisperq_core.derived_values import DerivedValues
from whisperq_core.evaluate.records import Run
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import STUDY, Protocol, batch_size_of, short_name

DEFAULT_MODEL = "base"

# What a more demanding user would ask for: see `stricter_answers`.
STRICT_MARGIN = 0.2
STRICT_CONFIDENCE = 0.99

# The shipped evaluation sets, and those that can be downloaded with their length in minutes.
_SHIPPED = ("test-clean-34-speakers", "test-other-25-speakers")
WHOLE_SETS = {"test-clean": 324, "test-other": 320}

_RUN = "python -m whisperq_core run"
_LIMITS = (
    Requirement.WER_INCREASE,
    Requirement.SIZE,
    Requirement.MEMORY,
    Requirement.RELATIVE_LATENCY,
    Requirement.RTF,
)


class Conclusion(Enum):
    """What the measurements allow to recommend."""

    NO_RESULTS = auto()
    USE = auto()
    # Only the reference is shown to meet the requirements.
    KEEP_REFERENCE = auto()
    INCONCLUSIVE = auto()
    NONE_MEETS = auto()


class Reason(Enum):
    """Why a measurement comes next."""

    NO_RESULTS = auto()
    REFERENCE_NOT_RUN = auto()
    TIME_NOT_MEASURED = auto()
    # Repeated passes are on both sides of the limit: no command would help on this machine.
    TIME_STRADDLES_LIMIT = auto()
    MORE_AUDIO = auto()
    # It was evaluated on the whole sets already.
    NO_MORE_AUDIO = auto()


@dataclass(frozen=True)
class NextMeasurement:
    """What to measure next, and why; no commands where no measurement at hand would help.

    candidate: that it is about. check: its requirement that is open. instead_of: the recommended
    configuration, which it might replace. sets: to evaluate on.
    """

    reason: Reason
    commands: tuple[str, ...]
    candidate: Candidate | None = None
    check: RequirementCheck | None = None
    instead_of: Candidate | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """The conclusion, the candidates from best to worst, and what would make it surer.

    closest: the candidate to name where none, or only the reference, is recommended. probable: one
    that the user would prefer to the best, if a lower confidence were enough. most_limiting: the
    requirement that most candidates fail, and how many, where nothing is recommended. not_run:
    names of recipes by model that have no such results.
    """

    requirements: Requirements
    conclusion: Conclusion
    candidates: tuple[Candidate, ...]
    closest: Candidate | None
    probable: Candidate | None
    most_limiting: tuple[Requirement, int] | None
    not_run: dict[str, tuple[str, ...]]
    next_measurement: NextMeasurement | None

    @property
    def best(self) -> Candidate | None:
        """The first candidate that is shown to meet every requirement."""
        return _first(self.candidates, Status.MET)

    @property
    def second(self) -> Candidate | None:
        """The next that is shown to meet every requirement, the reference aside."""
        met = [c for c in self.candidates if c.status is Status.MET]
        return next((c for c in met[1:] if not c.configuration.is_reference), None)

    @property
    def named(self) -> Candidate | None:
        """What the answer names: the recommended or the probable one, or the reference to keep."""
        if self.best is None or self.best.configuration.is_reference:
            return self.probable or self.best
        return self.best

    @property
    def usable(self) -> Candidate | None:
        """What to use on this machine: the named one, or the next that this machine can run.

        The named one also where nothing else that runs here is shown to meet the requirements.
        """
        if self.named is None or self.named.configuration.unavailable_reason is None:
            return self.named
        met = (c for c in self.candidates if c.status is Status.MET)
        options = (*met, *filter(None, [self.probable]))
        quantized = (c for c in options if not c.configuration.is_reference)
        return next(
            (c for c in quantized if c.configuration.unavailable_reason is None), self.named
        )

    @property
    def proposed(self) -> Candidate | None:
        """What an answer is about: the named one, and rather than the reference the closest."""
        if self.named is not None and not self.named.configuration.is_reference:
            return self.named
        return self.closest or self.named

    @property
    def references(self) -> tuple[Candidate, ...]:
        """The reference of each model: fp32 under the Study protocol."""
        return tuple(c for c in self.candidates if c.configuration.is_reference)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were measured, the best candidate's first."""
        return tuple(dict.fromkeys(c.configuration.model for c in self.candidates))


class Wish(Enum):
    """A more demanding requirement than the user's."""

    HALF_THE_SIZE = auto()
    TWICE_THE_SPEED = auto()
    SMALLER_MARGIN = auto()
    HIGHER_CONFIDENCE = auto()


@dataclass(frozen=True)
class StricterAnswer:
    """The advice if one wish were added to the requirements.

    changes: whether another configuration would be named, or none, or it is shown no more.
    """

    wish: Wish
    advice: Advice
    changes: bool


def advise(
    requirements: Requirements, runs: Iterable[Run], derived: DerivedValues | None = None
) -> Advice:
    """Ranks the configurations by how they meet the requirements, then by the user's priority.

    Pass all runs there are: see `configurations`, also on `derived`.
    """
    measured = configurations(
        runs,
        margin=requirements.max_wer_rise_points,
        sets=requirements.sets,
        language=requirements.language,
        machine=requirements.machine,
        derived=derived,
    )
    return advise_on(requirements, measured)


def advise_on(requirements: Requirements, measured: Iterable[Configuration]) -> Advice:
    """`advise` for configurations with the margin, speech and machine of the requirements."""
    wanted = [c for c in measured if _matches(c, requirements)]
    candidates = [check_configuration(c, requirements) for c in wanted]
    candidates.sort(key=lambda candidate: _rank(candidate, requirements))
    conclusion, closest = _conclusion(candidates)
    return Advice(
        requirements,
        conclusion,
        tuple(candidates),
        closest,
        _probable(candidates, requirements),
        _most_limiting(candidates),
        _not_run(candidates, requirements.device),
        _next_measurement(candidates, requirements),
    )


def answers(
    requirements: Requirements, measured: Iterable[Configuration]
) -> dict[Priority, Advice]:
    """The advice for each priority, all else equal."""
    measured = list(measured)
    return {
        priority: advise_on(replace(requirements, priority=priority), measured)
        for priority in PRIORITIES
    }


def stricter_answers(
    advice: Advice, measured: Callable[[Requirements], Iterable[Configuration]]
) -> list[StricterAnswer]:
    """What each more demanding wish would cost, compared with the configuration that is named.

    measured: the configurations for requirements, with their margin, speech and machine. Empty
    where the advice names no quantized configuration.
    """
    named = advice.named
    if named is None or named.configuration.is_reference:
        return []
    found = []
    for wish, requirements in _wishes(advice.requirements, named.configuration):
        stricter = advise_on(requirements, measured(requirements))
        same = _work_of(stricter.named) == _work_of(named)
        changes = not same or stricter.conclusion is not advice.conclusion
        found.append(StricterAnswer(wish, stricter, changes))
    return found


def _wishes(
    requirements: Requirements, configuration: Configuration
) -> Iterator[tuple[Wish, Requirements]]:
    half = configuration.weights_bytes // 2
    yield Wish.HALF_THE_SIZE, replace(requirements, max_weights_bytes=half)
    if configuration.latency is not None:
        ratio = configuration.latency.value / 2
        yield Wish.TWICE_THE_SPEED, replace(requirements, max_rtf_ratio=ratio)
    if requirements.max_wer_rise_points > STRICT_MARGIN:
        yield Wish.SMALLER_MARGIN, replace(requirements, max_wer_rise_points=STRICT_MARGIN)
    higher = CONFIDENCE if requirements.confidence < CONFIDENCE else STRICT_CONFIDENCE
    if requirements.confidence < higher:
        yield Wish.HIGHER_CONFIDENCE, replace(requirements, confidence=higher)


def _work_of(candidate: Candidate | None) -> tuple[str, ...]:
    """What tells configurations apart, whatever margin they are compared with; empty for none."""
    if candidate is None:
        return ()
    configuration = candidate.configuration
    return configuration.model, configuration.recipe, configuration.protocol.name


def default_requirements(measured: Iterable[Configuration], **limits: Any) -> Requirements:
    """What is asked where a user asks for nothing: base, or the first model that was measured."""
    models = {c.model for c in measured}
    first = DEFAULT_MODEL if DEFAULT_MODEL in models else min(models, default=DEFAULT_MODEL)
    return Requirements(**({"models": (first,)} | limits))


def _matches(configuration: Configuration, requirements: Requirements) -> bool:
    return (
        configuration.run.spec.device == requirements.device
        and (not requirements.models or configuration.model in requirements.models)
        and (
            not requirements.protocols
            or configuration.is_reference
            or configuration.protocol.name in requirements.protocols
        )
    )


def _first(candidates: Sequence[Candidate], status: Status) -> Candidate | None:
    return next((c for c in candidates if c.status is status), None)


def _cost(configuration: Configuration, priority: Priority) -> tuple[float, ...]:
    """What the user's priority makes small, then what decides between equals."""
    latency = configuration.latency.value if configuration.latency else math.inf
    comparison = configuration.comparison
    # The upper end of the interval: what is the least worse for sure.
    loss = 0.0 if comparison is None else comparison.difference.high
    size = float(configuration.megabytes)
    match priority:
        case "smallest":
            return size, latency, loss
        case "fastest":
            return latency, size, loss
    return (math.inf if math.isnan(loss) else loss), size, latency


def _rank(candidate: Candidate, requirements: Requirements) -> tuple[float, ...]:
    """Met first, then inconclusive and within the limits, inconclusive beyond them, not met."""
    cost = _cost(candidate.configuration, requirements.priority)
    if failed := candidate.failed():
        return 3, len(failed), sum(check.beyond for check in failed), *cost
    if candidate.status is Status.MET:
        # The reference last: it saves nothing.
        return 0, candidate.configuration.is_reference, 0.0, *cost
    return (1 if candidate.within_limits else 2), 0, 0.0, *cost


def _conclusion(candidates: Sequence[Candidate]) -> tuple[Conclusion, Candidate | None]:
    """The conclusion, and the closest candidate to name where it is not a recommendation."""
    if not candidates:
        return Conclusion.NO_RESULTS, None
    first = candidates[0]
    if first.status is Status.MET and first.configuration.is_reference:
        return Conclusion.KEEP_REFERENCE, _first(candidates, Status.INCONCLUSIVE)
    if first.status is Status.MET:
        return Conclusion.USE, None
    if first.status is Status.INCONCLUSIVE:
        return Conclusion.INCONCLUSIVE, first
    return Conclusion.NONE_MEETS, first


def _preferred(candidates: Sequence[Candidate], requirements: Requirements) -> Iterator[Candidate]:
    """The inconclusive ones that the user would prefer to the recommendation, the best first."""
    best = _first(candidates, Status.MET)
    for candidate in candidates:
        if candidate.status is not Status.INCONCLUSIVE or candidate.configuration.is_reference:
            continue
        if best is None or best.configuration.is_reference:
            yield candidate
        elif candidate.within_limits:
            cost, of_best = (
                _cost(c.configuration, requirements.priority)[0] for c in (candidate, best)
            )
            if cost < of_best:
                yield candidate


def _probable(candidates: Sequence[Candidate], requirements: Requirements) -> Candidate | None:
    """The first preferred one that is probably within the margin, and meets all else."""
    for candidate in _preferred(candidates, requirements):
        comparison = candidate.configuration.comparison
        others = candidate.meets(but=(Requirement.WER_INCREASE,))
        if others and comparison is not None and comparison.p_within_margin >= PROBABLE:
            return candidate
    return None


def _most_limiting(candidates: Sequence[Candidate]) -> tuple[Requirement, int] | None:
    if not candidates or candidates[0].status is Status.MET:
        return None
    failed = [check.requirement for c in candidates for check in c.failed()]
    worst = max(_LIMITS, key=failed.count)
    return (worst, failed.count(worst)) if worst in failed else None


def _not_run(candidates: Sequence[Candidate], device: str) -> dict[str, tuple[str, ...]]:
    """Recipes of the catalogue without a result, by model; not those that would be of no use."""
    measured: dict[str, set[str]] = {}
    for candidate in candidates:
        configuration = candidate.configuration
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
    candidates: Sequence[Candidate], requirements: Requirements
) -> NextMeasurement | None:
    """What would settle the first inconclusive candidate that the user would prefer."""
    if not candidates:
        model = (requirements.models or (DEFAULT_MODEL,))[0]
        sets = requirements.sets or _SHIPPED
        device = _on_device(requirements)
        command = f"{_RUN} --models {model} --recipes all --sets {','.join(sets)}{device}"
        return NextMeasurement(Reason.NO_RESULTS, (command,))
    best = _first(candidates, Status.MET)
    found = [_measurement_of(c, requirements, best) for c in _preferred(candidates, requirements)]
    with_commands = (m for m in found if m.commands)
    return next(with_commands, found[0] if found else None)


def _on_device(requirements: Requirements) -> str:
    return "" if requirements.device == "cpu" else f" --device {requirements.device}"


def _commands(
    configuration: Configuration, requirements: Requirements, *options: str
) -> tuple[str, ...]:
    """Commands that run the reference and the configuration; stored results are reused."""

    def command(recipes: str, protocol: Protocol) -> str:
        name = short_name(protocol.name)
        under = [] if protocol.name == STUDY.name else [f"--protocol {name}"]
        if size := batch_size_of(protocol):
            under.append(f"--batch-size {size}")
        parts = (f"{_RUN} --models {configuration.model} --recipes {recipes}", *options, *under)
        return " ".join(parts) + _on_device(requirements)

    recipe, protocol = configuration.recipe, configuration.protocol
    if protocol.name == STUDY.name:
        return (command(f"{REFERENCE_RECIPE},{recipe}", protocol),)
    return command(REFERENCE_RECIPE, STUDY), command(recipe, protocol)


def _measurement_of(
    candidate: Candidate, requirements: Requirements, best: Candidate | None
) -> NextMeasurement:
    """What would settle the requirement of a candidate that takes least to settle."""
    configuration = candidate.configuration

    def measurement(reason: Reason, *commands: str, **details: Any) -> NextMeasurement:
        return NextMeasurement(reason, commands, candidate, instead_of=best, **details)

    unmet = {check.requirement: check for check in reversed(candidate.unmet())}
    not_measured = [r for r, check in unmet.items() if check.status is Status.NOT_MEASURED]
    if Requirement.WER_INCREASE in not_measured:
        sets = f"--sets {','.join(configuration.sets)}"
        commands = _commands(configuration, requirements, sets)
        return measurement(Reason.REFERENCE_NOT_RUN, *commands)
    if not_measured:
        commands = _commands(configuration, requirements, "--only speed")
        return measurement(Reason.TIME_NOT_MEASURED, *commands)
    increase = unmet.get(Requirement.WER_INCREASE)
    if increase is None:
        return measurement(Reason.TIME_STRADDLES_LIMIT, check=next(iter(unmet.values())))
    sets_left = _sets_left(configuration, requirements)
    if not sets_left:
        return measurement(Reason.NO_MORE_AUDIO, check=increase)
    downloads = [f"python -m whisperq_core download {s}" for s in sets_left if s in WHOLE_SETS]
    commands = _commands(configuration, requirements, f"--sets {','.join(sets_left)}")
    return measurement(Reason.MORE_AUDIO, *downloads, *commands, check=increase, sets=sets_left)


def _sets_left(configuration: Configuration, requirements: Requirements) -> tuple[str, ...]:
    """The shipped sets that it was not evaluated on; where there are none, the whole ones."""
    for sets in (_SHIPPED, tuple(WHOLE_SETS)):
        wanted = [s for s in sets if not requirements.sets or s in requirements.sets]
        left = tuple(s for s in wanted if s not in configuration.sets)
        if left:
            return left
    return ()
