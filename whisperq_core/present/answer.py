"""The answer that reports and slides open with: what to use, what it costs, how sure that is.

`analyze.advisor` decides; here is what of it is shown. Words of the recommendation itself are those
of `advisor_text`, so that every page says the same.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from whisperq_core.analyze.advisor import Advice, Conclusion, advise_on, default_requirements
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.user_requirements import Requirement, Requirements
from whisperq_core.analyze.verdict_text import audio_needed, loops_text, signed
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.plurals import capitalized, counted
from whisperq_core.present import advisor_text

# Configurations in one figure that can be read from the back of a room.
_MOST_SHOWN = 7
# Points of WER beyond which a configuration is broken, and would only stretch the axis.
_BROKEN_POINTS = 5.0


@dataclass(frozen=True)
class Fact:
    """A value in large type, its label and a note."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """The advice with what is shown of it. measured: all configurations it was given."""

    advice: Advice
    measured: tuple[Configuration, ...]

    @property
    def has_results(self) -> bool:
        """Whether there is anything to say."""
        return self.advice.conclusion is not Conclusion.NO_RESULTS

    @property
    def margin(self) -> float:
        """Points that WER may rise by."""
        return self.advice.requirements.max_wer_rise_points

    @property
    def recommended(self) -> Configuration | None:
        """The quantized configuration that is recommended, be it probably; None for fp32."""
        best = self.advice.best
        if best is not None and not best.configuration.is_reference:
            return best.configuration
        return self.advice.probable.configuration if self.advice.probable else None

    @property
    def is_shown(self) -> bool:
        """Whether the recommended one is shown to meet the requirements, not only probable."""
        best = self.advice.best
        return best is not None and not best.configuration.is_reference

    @property
    def reference(self) -> Configuration | None:
        """fp32 as Transformers runs it, of the recommended model."""
        model = self.recommended.model if self.recommended else None
        of_model = (r.configuration for r in self.advice.references)
        return next((c for c in of_model if model in (None, c.model)), None)

    @property
    def headline(self) -> str:
        """The recommendation in a few words."""
        return advisor_text.headline(self.advice)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Size, speed, change in WER and confidence of the recommended one, or size of fp32."""
        if self.recommended is not None:
            return _facts(self.recommended, self.reference, self.advice.requirements, self.is_shown)
        return () if self.reference is None else _facts_of_reference(self.reference)

    @property
    def python(self) -> str:
        """Three lines that use the recommended configuration; empty where there is none."""
        return "" if self.recommended is None else advisor_text.snippet(self.recommended)

    @property
    def command(self) -> str:
        """The command that uses it; empty where there is none."""
        return "" if self.recommended is None else advisor_text.command_line(self.recommended)

    @property
    def how_sure(self) -> tuple[str, ...]:
        """What the confidence rests on, in short sentences."""
        if self.recommended is None or self.recommended.pool is None:
            return ()
        pool, comparison = self.recommended.pool, self.recommended.pool.comparison
        percent = advisor_text.confidence_pct(self.recommended)
        rises = f"that {comparison.rate_name} rises by less than {self.margin:g} points"
        if self.is_shown:
            first = (f"95 % confidence {rises}.", *_joint(comparison.family))
        else:
            first = (f"{percent} % confidence {rises}. That is probable, not shown.",)
        differ = pool.heterogeneity is not None and pool.heterogeneity.p < 0.05
        return (
            *first,
            f"Measured on {advisor_text.evaluated_on(self.recommended)}.",
            *(("The sets differ, so the difference is only their average.",) if differ else ()),
            f"That holds {loops_text(pool.loops)}.",
        )

    @property
    def to_settle(self) -> tuple[str, ...]:
        """What could change the answer, and what would settle it, in short sentences."""
        measurement = self.advice.next_measurement
        candidate = measurement.candidate if measurement else None
        if measurement is None or candidate is None:
            return ("Nothing that was measured is left open.",)
        name = advisor_text.full_name(candidate.configuration)
        figures = advisor_text.figures(candidate.configuration)
        check = candidate.check(Requirement.WER_INCREASE)
        if check is None or check.more_minutes is None:
            return (advisor_text.next_measurement(measurement, self.advice.requirements.priority),)
        sure = advisor_text.confidence_pct(candidate.configuration)
        needed = audio_needed(check.more_minutes)
        return (
            f"{name} ({figures}) might do as well: confidence {sure} %.",
            f"{capitalized(needed)}.",
        )

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands that measure what would settle it."""
        measurement = self.advice.next_measurement
        return () if measurement is None else measurement.commands

    @property
    def front(self) -> list[Configuration]:
        """See `front`; the recommended one is always among them."""
        compared = [c.configuration for c in self.advice.candidates]
        return front(compared, self.recommended)


def _joint(family: int) -> Iterator[str]:
    """What the correction for several comparisons means."""
    if family > 1:
        yield f"That holds for all {family} configurations compared at once, not just for each."


def answer_of(
    measured: Iterable[Configuration], models: Sequence[str] = (), margin: float = MARGIN
) -> Answer:
    """The Advisor's answer to a user who asks for nothing but these models and this margin.

    measured: all configurations there are, with that margin. models: by default the Advisor's.
    """
    measured = tuple(measured)
    of_models = [c for c in measured if c.model in models] if models else list(measured)
    if models and not of_models:
        requirements = Requirements(models=tuple(models[:1]), max_wer_rise_points=margin)
    else:
        requirements = default_requirements(of_models, max_wer_rise_points=margin)
    return Answer(advise_on(requirements, measured), measured)


def front(
    configurations: Iterable[Configuration], always: Configuration | None = None
) -> list[Configuration]:
    """Those that no other beats on both latency and WER as measured, the fastest first.

    On size instead of latency where speed was not measured. Without the reference, which is what
    they are compared with, and without broken ones; at most as many as a figure has room for.
    """
    compared = [
        c
        for c in configurations
        if c.comparison is not None and c.comparison.difference.value < _BROKEN_POINTS
    ]
    timed = [c for c in compared if c.latency is not None]
    if len(timed) > 1:
        compared = timed
    costs = {c: (_cost(c), c.comparison.difference.value if c.comparison else 0) for c in compared}

    def is_beaten(configuration: Configuration) -> bool:
        x, y = costs[configuration]
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in costs.values())

    on = sorted((c for c in compared if not is_beaten(c)), key=lambda c: costs[c])
    if always is not None and always not in on:
        on.append(always)
    # The least accurate go first where there are too many.
    by_loss = sorted(on, key=lambda c: (c is not always, _loss(c)))[:_MOST_SHOWN]
    return sorted(by_loss, key=lambda c: (_cost(c), _loss(c)))


def _cost(configuration: Configuration) -> float:
    latency = configuration.latency
    return float(configuration.weights_bytes) if latency is None else latency.value


def _loss(configuration: Configuration) -> float:
    comparison = configuration.comparison
    return math.inf if comparison is None else comparison.difference.value


def size_text(configuration: Configuration) -> str:
    """Size in MB."""
    return f"{configuration.megabytes:,} MB"


def hour_text(configuration: Configuration) -> str:
    """How long an hour of audio takes on the machine that was measured; a dash where unknown."""
    if configuration.rtf is None:
        return "–"
    minutes = 60 * configuration.rtf.value
    return f"{60 * minutes:.0f} s" if minutes < 0.95 else f"{minutes:.2g} min"


def _facts(
    configuration: Configuration,
    reference: Configuration | None,
    requirements: Requirements,
    is_shown: bool,
) -> tuple[Fact, ...]:
    comparison, latency = configuration.comparison, configuration.latency
    smaller = configuration.size_reduction_pct
    of_reference = "" if reference is None else f"instead of {size_text(reference)}"
    size = Fact(
        size_text(configuration),
        f"{smaller:.0f} % smaller than fp32" if smaller >= 0.5 else "not smaller than fp32",
        of_reference,
    )
    if latency is None:
        speed = Fact("–", "speed was not measured")
    else:
        times = 1 / latency.value
        hour = f"an hour of audio in {hour_text(configuration)}"
        if reference is not None and reference.rtf is not None:
            hour += f" instead of {hour_text(reference)}"
        shown = f"{times:.2g}" if times < 9.95 else f"{times:.0f}"
        on = advisor_text.short_machine(str(configuration.row["cpu"]))
        elsewhere = "".join(
            f"; {advisor_text.speed_words(other.value)} on {advisor_text.short_machine(machine)}"
            for machine, other in configuration.latency_elsewhere
        )
        speed = Fact(f"{shown} ×", "as fast as fp32", f"{hour} on {on}{elsewhere}")
    if comparison is None:
        return size, speed
    d = comparison.difference
    interval = "" if math.isnan(d.low) else f"95 % interval {signed(d.low)} to {signed(d.high)}"
    loss = Fact(signed(d.value), f"points of {comparison.rate_name} compared with fp32", interval)
    # Never more than what is corrected for all comparisons.
    percent = f"{100 * requirements.confidence:.3g}"
    sure = Fact(
        f"{percent if is_shown else advisor_text.confidence_pct(configuration)} %",
        f"sure: {comparison.rate_name} rises by less than"
        f" {requirements.max_wer_rise_points:g} points",
        speech_text(configuration),
    )
    return size, speed, loss, sure


def _facts_of_reference(reference: Configuration) -> tuple[Fact, ...]:
    size = Fact(size_text(reference), "size of fp32")
    rate = Fact(f"{reference.rate_pct:.2f} %", "WER of fp32", speech_text(reference))
    if reference.rtf is None:
        return size, rate
    machine = str(reference.row["cpu"])
    return size, Fact(hour_text(reference), "for an hour of audio", f"on {machine}"), rate


def speech_text(configuration: Configuration) -> str:
    """How much speech it was evaluated on."""
    number = configuration.speakers
    speakers = counted(number, "speaker") if number else "unknown speakers"
    return f"{configuration.minutes:.0f} minutes of speech, {speakers}"
