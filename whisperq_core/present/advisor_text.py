"""The Advisor's wording: the sentences for what `analyze.advisor` concludes from the results."""

import json
import math
import shlex
from collections.abc import Iterable, Iterator

from whisperq_core.analyze.advisor import (
    WHOLE_SETS,
    Advice,
    Conclusion,
    NextMeasurement,
    Reason,
    StricterAnswer,
    Wish,
)
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.user_requirements import (
    ALL_SPEECH,
    Candidate,
    Requirement,
    RequirementCheck,
    Requirements,
    Status,
)
from whisperq_core.analyze.verdict_text import (
    audio_needed,
    loops_text,
    signed,
    verdict_label,
    verdict_words,
)
from whisperq_core.analyze.verdicts import CONFIDENCE, Verdict
from whisperq_core.plurals import capitalized, counted
from whisperq_core.present.labels import protocol_label
from whisperq_core.whisper.protocols import STUDY, short_name

# What every number is compared with.
REFERENCE = "fp32 under the Study protocol, which is how Transformers runs it by default"

_SPEECH = {ALL_SPEECH: "English speech", "clean": "clean speech", "hard": "difficult speech"}
_GAIN = {"smallest": "smaller", "fastest": "faster", "most accurate": "more accurate"}


def headline(advice: Advice) -> str:
    """The recommendation in a few words, or that there is none."""
    match advice.conclusion:
        case Conclusion.NO_RESULTS:
            return f"There are no results with {_speech(advice.requirements)} yet"
        case Conclusion.KEEP_REFERENCE:
            first = advice.candidates[0].configuration
            if advice.probable is not None:
                return f"{_use(advice.probable.configuration)}, probably"
            return f"Keep {first.model} in fp32"
        case Conclusion.INCONCLUSIVE:
            if advice.probable is not None:
                return f"{_use(advice.probable.configuration)}, probably"
            return "No configuration is shown yet to meet these requirements"
        case Conclusion.NONE_MEETS:
            return "No measured configuration meets these requirements"
    return _use(advice.candidates[0].configuration)


def _use(configuration: Configuration) -> str:
    return f"Use {full_name(configuration)}"


def full_name(configuration: Configuration) -> str:
    """Recipe, model and protocol."""
    label = protocol_label(configuration.protocol.name)
    return f"{configuration.recipe} on {configuration.model}, {label}"


def explanation(advice: Advice) -> str:
    """What the recommendation gains and costs and how sure that is, or why there is none."""
    requirements = advice.requirements
    best, probable, closest = advice.best, advice.probable, advice.closest
    if advice.conclusion is Conclusion.NO_RESULTS:
        return "Evaluate fp32 and a few recipes first."
    if advice.conclusion is Conclusion.USE and best is not None:
        return _recommended(best.configuration, requirements)
    margin = f"{requirements.max_wer_rise_points:g} points"
    if probable is not None:
        configuration = probable.configuration
        return (
            f"{gain(configuration)} {cost(configuration)} The confidence that WER rises by less"
            f" than {margin} is {confidence_pct(configuration)} %; no quantized configuration is"
            f" shown with {_percent(requirements.confidence)} yet."
        )
    none = (
        f"No quantized configuration is shown yet to meet the requirements on"
        f" {_speech(requirements)}."
    )
    parts = [none] if advice.conclusion is Conclusion.KEEP_REFERENCE else []
    if closest is not None:
        name = f"{full_name(closest.configuration)} ({figures(closest.configuration)})"
        parts.append(f"Closest: {name}. {capitalized(unmet_text(closest))}.")
    return " ".join(parts)


def _recommended(configuration: Configuration, requirements: Requirements) -> str:
    comparison, pool = configuration.comparison, configuration.pool
    if comparison is None or pool is None:
        return gain(configuration)
    rate = comparison.rate_name
    if requirements.confidence < CONFIDENCE:
        shown = (
            f"The confidence that {rate} rises by less than"
            f" {requirements.max_wer_rise_points:g} points is {confidence_pct(configuration)} %"
        )
    else:
        verdict = verdict_words(comparison, "fp32")
        shown = f"Verdict: {verdict}, {loops_text(pool.loops)}"
    return f"{gain(configuration)} {cost(configuration)} {shown}."


def alternative(advice: Advice) -> str:
    """The configuration that the user would prefer at a lower confidence; empty without one.

    Empty, too, where the headline names it already.
    """
    if advice.probable is None or advice.named is advice.probable:
        return ""
    configuration = advice.probable.configuration
    better = _GAIN[advice.requirements.priority]
    return (
        f"{capitalized(better)}, if a confidence of {confidence_pct(configuration)} % is enough:"
        f" {full_name(configuration)}. {gain(configuration)} {cost(configuration)}"
    )


def second_choice(advice: Advice) -> str:
    """The next configuration that is shown to meet the requirements; empty without one."""
    if advice.second is None:
        return ""
    configuration = advice.second.configuration
    return f"Second: {full_name(configuration)}. {gain(configuration)} {cost(configuration)}"


def on_this_machine(advice: Advice) -> str:
    """Why this machine cannot run the configuration that is named, and what it can run instead.

    Empty where it can run it.
    """
    reason = advice.named.configuration.unavailable_reason if advice.named else None
    if advice.named is None or reason is None:
        return ""
    first = f"This machine cannot run {advice.named.configuration.recipe}: {reason}"
    usable = advice.usable
    if usable is None or usable is advice.named:
        return f"{first} Nothing else that it can run is shown to meet the requirements."
    configuration = usable.configuration
    return (
        f"{first} Use here: {full_name(configuration)}. {gain(configuration)} {cost(configuration)}"
    )


def limits_text(requirements: Requirements) -> str:
    """The limits that apply, as a sentence."""
    rise, confidence = requirements.max_wer_rise_points, requirements.confidence
    parts = [f"WER increase below {rise:g} points with {_percent(confidence)} confidence"]
    if (size := requirements.max_weights_bytes) is not None:
        parts.append(f"at most {_megabytes(size)}")
    if (memory := requirements.max_memory_bytes) is not None:
        parts.append(f"peak memory at most {_megabytes(memory)}")
    if (ratio := requirements.max_rtf_ratio) is not None:
        times = "no slower than fp32" if ratio == 1 else f"at most {ratio:.2g} × fp32's latency"
        parts.append(times)
    if requirements.max_rtf is not None:
        parts.append(f"RTF at most {requirements.max_rtf:g}")
    return f"Limits: {'; '.join(parts)}."


def wish_text(wish: Wish, requirements: Requirements) -> str:
    """A more demanding wish with its limit. requirements: with the wish."""
    match wish:
        case Wish.HALF_THE_SIZE:
            return f"Half the size (at most {_megabytes(requirements.max_weights_bytes)})"
        case Wish.TWICE_THE_SPEED:
            return f"Twice the speed (at most {requirements.max_rtf_ratio:.2g} × fp32's latency)"
        case Wish.SMALLER_MARGIN:
            return f"WER increase below {requirements.max_wer_rise_points:g} points"
    return f"{_percent(requirements.confidence)} confidence"


def price_of(stricter: StricterAnswer) -> tuple[str, str]:
    """What the wish would lead to, and how sure that is or what it lacks."""
    advice = stricter.advice
    named, confidence = advice.named, _percent(advice.requirements.confidence)
    if named is not None and not named.configuration.is_reference:
        if named is not advice.probable:
            return _in_full(named), f"shown with {confidence} confidence"
        percent = confidence_pct(named.configuration)
        return _in_full(named), f"probable ({percent} %), not shown with {confidence} confidence"
    closest = advice.closest
    if closest is None:
        return ("none", "") if named is None else (_in_full(named), "the only one that is shown")
    unmet = ", ".join(check.requirement for check in closest.unmet())
    return f"none is shown; closest: {_in_full(closest)}", f"not shown: {unmet}"


def _in_full(candidate: Candidate) -> str:
    configuration = candidate.configuration
    increase = increase_text(configuration)
    wer = "" if configuration.is_reference else f", WER {increase} points"
    return f"{full_name(configuration)}: {figures(configuration)}{wer}"


def unchanged_text(stricter: Iterable[StricterAnswer]) -> str:
    """The wishes that would not change the answer, as a sentence; empty without any."""
    wishes = [wish_text(one.wish, one.advice.requirements) for one in stricter if not one.changes]
    return f"The answer stays the same with: {'; '.join(wishes)}." if wishes else ""


def size_words(configuration: Configuration) -> str:
    """Its size, and how much smaller than fp32 it is."""
    size = f"{configuration.megabytes} MB"
    if configuration.size_reduction_pct >= 0.5:
        size += f", {configuration.size_reduction_pct:.0f} % smaller than fp32"
    return size


def gain(configuration: Configuration) -> str:
    """How large and how fast it is, as a sentence."""
    size = size_words(configuration)
    latency = configuration.latency
    if latency is None:
        return f"{size}; its speed was not measured."
    cpu = short_machine(str(configuration.row["cpu"]))
    speeds = [f"{speed_words(latency.value)} on {cpu}"]
    speeds += [
        f"{speed_words(other.value)} on {short_machine(machine)}"
        for machine, other in configuration.latency_elsewhere
    ]
    return f"{size}, {' and '.join(speeds)}."


def short_machine(kind: str) -> str:
    """The processor alone, without trademarks, as in “Intel Xeon (6/207)”."""
    cpu = kind.partition(",")[0]
    for extra in ("(R)", "(TM)", " Processor"):
        cpu = cpu.replace(extra, "")
    return cpu


def speed_words(latency: float) -> str:
    """A latency relative to the reference's in words, as in “8.1 times as fast”."""
    if 0.95 <= latency <= 1.05:
        return "about as fast"
    if latency > 1:
        return f"takes {latency:.2g} times as long"
    times = 1 / latency
    return f"{times:.2g} times as fast" if times < 9.95 else f"{times:.0f} times as fast"


def cost(configuration: Configuration) -> str:
    """The change in WER with its interval and the speech that it was measured on."""
    if configuration.comparison is None:
        return ""
    on = f"{configuration.minutes:.0f} minutes, {_speakers(configuration)}"
    return f"{wer_words(configuration)} ({on})."


def wer_words(configuration: Configuration) -> str:
    """The change in WER with its interval; empty where it was not compared."""
    comparison = configuration.comparison
    if comparison is None:
        return ""
    points, interval = _difference(comparison)
    interval = f", 95 % interval {interval}" if interval else ""
    return f"{comparison.rate_name} {points} points{interval}"


def certainty(configuration: Configuration) -> str:
    """The verdict in a few words; where it is open, how probable either side of the margin is."""
    comparison = configuration.comparison
    if comparison is None:
        return "the reference" if configuration.is_reference else "not compared with fp32"
    words = verdict_words(comparison, "fp32")
    if words != verdict_label(Verdict.INCONCLUSIVE):
        return words
    return f"{words} ({100 * comparison.p_within_margin:.0f} % that it is no worse)"


def increase_text(configuration: Configuration) -> str:
    """The change in WER with its interval, in points; a dash for the reference."""
    comparison = configuration.comparison
    if comparison is None:
        return "–"
    points, interval = _difference(comparison)
    return f"{points} ({interval})" if interval else points


def _difference(comparison: Comparison) -> tuple[str, str]:
    """The difference in points, and its interval; empty where there is none."""
    d = comparison.difference
    interval = "" if math.isnan(d.low) else f"{signed(d.low)} to {signed(d.high)}"
    return signed(d.value), interval


def rates_text(configuration: Configuration) -> str:
    """The WER next to fp32's on the same speech."""
    comparison = configuration.comparison
    rate = "WER" if comparison is None else comparison.rate_name
    on = f"{configuration.minutes:.0f} minutes of {counted(len(configuration.sets), 'set')}"
    if configuration.is_reference:
        return f"{rate} {configuration.rate_pct:.2f} % on {on}"
    if comparison is None:
        return f"{rate} {configuration.rate_pct:.2f} % on {on}; fp32 was not evaluated on them"
    return (
        f"{rate} {configuration.rate_pct:.2f} %, fp32 {configuration.reference_rate_pct:.2f} % on"
        f" the same {on}"
    )


def confidence_pct(configuration: Configuration) -> str:
    """The confidence that WER rises by less than the margin, in percent; never 100."""
    comparison = configuration.comparison
    if comparison is None:
        return "–"
    return f"{min(99.9, 100 * comparison.p_within_margin):.3g}"


def answer(advice: Advice) -> str:
    """Headline and explanation."""
    return f"{headline(advice)}. {explanation(advice)}".strip()


def _speech(requirements: Requirements) -> str:
    return _SPEECH.get(requirements.speech, f"the evaluation set {requirements.speech}")


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.3g} %"


def _speakers(configuration: Configuration) -> str:
    number = configuration.speakers
    return counted(number, "speaker") if number else "unknown speakers"


def figures(configuration: Configuration) -> str:
    """Size, and speed where it was measured, in a few words."""
    size = f"{configuration.megabytes} MB"
    latency = configuration.latency
    return size if latency is None else f"{size}, {speed_words(latency.value)}"


def evaluated_on(configuration: Configuration) -> str:
    """The speech that its WER is measured on."""
    return (
        f"{configuration.minutes:.0f} minutes, {_speakers(configuration)}:"
        f" {', '.join(configuration.sets)}"
    )


def unmet_text(candidate: Candidate) -> str:
    """The requirements that it is not shown to meet; empty where it meets all."""
    return "; ".join(map(named_check_text, candidate.unmet()))


def named_check_text(check: RequirementCheck) -> str:
    """The requirement, and what was measured for it."""
    return f"{check.requirement}: {check_text(check)}"


def check_text(check: RequirementCheck) -> str:
    """What was measured for a requirement, with the limit, and what a conclusion needs."""
    match check.requirement:
        case Requirement.WER_INCREASE:
            return _wer_increase(check)
        case Requirement.SIZE | Requirement.MEMORY:
            return f"{_megabytes(check.value)} (limit: {_megabytes(check.limit)})"
        case Requirement.HELD_OUT_CALIBRATION:
            return (
                "calibrated on part of the evaluation set, which is not possible with your own"
                " audio"
            )
    if check.status is Status.NOT_MEASURED:
        return "its speed was not measured"
    on = f" on {check.machine}" if check.requirement is Requirement.RTF else ""
    return (
        f"{check.value:.2f}{on} ({check.low:.2f} to {check.high:.2f} in repeated passes;"
        f" limit: {check.limit:.2f})"
    )


def _megabytes(size: float | None) -> str:
    return "not known" if size is None else f"{size / 1e6:.0f} MB"


def _wer_increase(check: RequirementCheck) -> str:
    if check.status is Status.NOT_MEASURED:
        return "fp32 was not evaluated on the same utterances"
    if check.value is None:
        return "none, it is the reference"
    if check.low is None or check.high is None:
        return "too little speech for a confidence interval"
    interval = f"{signed(check.low)} to {signed(check.high)}"
    text = (
        f"{signed(check.value)} points compared with fp32 ({interval}; allowed: +{check.limit:g})"
    )
    return text if check.more_minutes is None else f"{text}; {audio_needed(check.more_minutes)}"


def notes(advice: Advice) -> list[str]:
    """What to know about the answer: what it is compared with, what limits exclude much."""
    if not advice.candidates:
        return []
    return [f"Compared with {REFERENCE}.", *_limits(advice)]


def _limits(advice: Advice) -> Iterator[str]:
    if advice.most_limiting:
        requirement, count = advice.most_limiting
        total = len(advice.candidates)
        yield (f"The limit on {requirement} excludes the most: {count} of {total} configurations.")
    for reference in advice.references:
        if failed := reference.failed():
            reasons = "; ".join(map(named_check_text, failed))
            model = reference.configuration.model
            yield (f"fp32 itself does not meet the requirements on {model} ({reasons}).")
    if len(advice.models) > 1:
        wers = ", ".join(
            f"{c.model} {c.rate_pct:.2f} %" for c in (r.configuration for r in advice.references)
        )
        yield f"WER increases are relative to fp32 of the same model. WER of fp32: {wers}."
    for model, recipes in advice.not_run.items():
        yield f"Not yet measured on {model} with this kind of speech: {', '.join(recipes)}."


def next_measurement(measurement: NextMeasurement, priority: str) -> str:
    """Why the measurement comes next. priority: the user's."""
    if measurement.reason is Reason.NO_RESULTS or measurement.candidate is None:
        return "This measures every recipe that the device can run."
    name = full_name(measurement.candidate.configuration)
    if measurement.reason is Reason.REFERENCE_NOT_RUN:
        return f"fp32 was not evaluated on the same utterances as {name}."
    if measurement.reason is Reason.TIME_NOT_MEASURED:
        return f"The speed of {name} was not measured."
    best = measurement.instead_of
    better = best is not None and not best.configuration.is_reference
    relation = (
        f"would be {_GAIN[priority]} than {best.configuration.recipe}"
        if better and best is not None
        else "comes closest"
    )
    reason = check_text(measurement.check) if measurement.check else ""
    if measurement.reason is Reason.TIME_STRADDLES_LIMIT:
        return (
            f"{name} {relation}, but only some of its repeated passes meet the limit ({reason}):"
            " a conclusion needs a less loaded or a faster machine."
        )
    text = f"{name} {relation}, but the evidence is inconclusive: {reason}."
    if measurement.reason is Reason.NO_MORE_AUDIO:
        return f"{text} It was already evaluated on all of LibriSpeech's test sets."
    minutes = sum(WHOLE_SETS.get(name, 0) for name in measurement.sets)
    return f"{text} The sets below have about {minutes} minutes." if minutes else text


def snippet(configuration: Configuration, path: str = "speech.wav") -> str:
    """Python that quantizes the configuration's model with its recipe and transcribes a file."""
    spec = configuration.run.spec
    protocol = configuration.protocol
    arguments = f"{_literal(configuration.model)}, {_literal(configuration.recipe)}"
    if spec.device != "cpu":
        arguments += f", device={_literal(spec.device)}"
    how = "" if protocol.name == STUDY.name else f", protocol={_literal(short_name(protocol.name))}"
    if protocol.tied or spec.recipe.calibrates:
        arguments += how
    return f"""import whisperq_core as wq
model = wq.quantize({arguments})
print(model.transcribe({_literal(path)}{how}).text)"""


def _literal(text: str) -> str:
    # A JSON string is a Python literal too, in the double quotes of the documentation.
    return json.dumps(text, ensure_ascii=False)


def command_line(configuration: Configuration, path: str = "speech.wav") -> str:
    """The command that transcribes a file with the configuration."""
    name = short_name(configuration.protocol.name)
    under = "" if configuration.protocol.name == STUDY.name else f" --protocol {name}"
    device = configuration.run.spec.device
    on = "" if device == "cpu" else f" --device {device}"
    return (
        f"python -m whisperq_core transcribe {shlex.quote(path)}"
        f" --model {shlex.quote(configuration.model)}"
        f" --recipes {configuration.recipe}{under}{on}"
    )


def as_text(advice: Advice, count: int = 8) -> str:
    """The advice as plain text with its first `count` candidates, for the command line."""
    others = filter(None, [on_this_machine(advice), alternative(advice), second_choice(advice)])
    lines = [answer(advice), *others, *notes(advice), ""]
    for candidate in advice.candidates[:count]:
        configuration = candidate.configuration
        lines += [
            f"{candidate.status:12s} {full_name(configuration)}: {figures(configuration)}",
            f"{'':12s} WER {configuration.rate_pct:.2f} %, fp32"
            f" {configuration.reference_rate_pct:.2f} % ({evaluated_on(configuration)})",
        ]
        lines += [
            f"{'':12s} {check.requirement}, {check.status}: {check_text(check)}"
            for check in candidate.checks
        ]
    if len(advice.candidates) > count:
        rest = len(advice.candidates) - count
        lines.append(f"… and {rest} more, further from the requirements.")
    if measurement := advice.next_measurement:
        reason = next_measurement(measurement, advice.requirements.priority)
        lines += ["", f"Measure next: {reason}"]
        lines += [f"    {command}" for command in measurement.commands]
    use = advice.usable
    if use and not use.configuration.is_reference:
        configuration = use.configuration
        lines += ["", "To use it:", "", snippet(configuration), "", command_line(configuration)]
    return "\n".join(lines)
