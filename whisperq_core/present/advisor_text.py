"""The Advisor's wording: the sentences for what `analyze.advisor` concludes from the results."""

import json
from collections.abc import Iterator

import pandas as pd

from whisperq_core.analyze.advisor import Advice, Conclusion, NextMeasurement, Reason
from whisperq_core.analyze.user_requirements import (
    Configuration,
    Requirement,
    RequirementCheck,
    Status,
)
from whisperq_core.analyze.verdict_text import audio_needed, signed
from whisperq_core.analyze.verdicts import Verdict

_SPEECH = {"clean": "clean speech", "hard": "difficult speech"}


def answer(advice: Advice) -> str:
    """The recommendation, or why there is none; its first sentence is the headline."""
    requirements, speech = advice.requirements, _SPEECH[advice.requirements.speech]
    closest = f" {_closest(advice.closest)}" if advice.closest else ""
    match advice.conclusion:
        case Conclusion.NO_RESULTS:
            return f"There are no results on {requirements.device} with {speech} yet."
        case Conclusion.KEEP_FP32:
            return (
                f"Keep {advice.configurations[0].model} in fp32: no quantized configuration is"
                f" shown yet to meet these requirements on {speech}.{closest}"
            )
        case Conclusion.INCONCLUSIVE:
            return f"No configuration is shown yet to meet these requirements on {speech}.{closest}"
        case Conclusion.NONE_MEETS:
            return f"No measured configuration meets these requirements.{closest}"
    first = advice.configurations[0]
    comparison = first.comparison
    if comparison is not None and comparison.verdict is Verdict.BETTER:
        evidence = f"Its {comparison.rate_name} is significantly lower than fp32's"
    else:
        points = f"{requirements.max_wer_rise_points:g} points"
        rate = comparison.rate_name if comparison is not None else "WER"
        evidence = f"Its {rate} increase over fp32 is shown to be below {points}"
    return f"Use {_name(first)}: {figures(first)}. {evidence} on {speech}."


def _closest(configuration: Configuration) -> str:
    inconclusive = ", inconclusive" * (configuration.status is Status.INCONCLUSIVE)
    name = f"{_name(configuration)} ({figures(configuration)})"
    return f"Closest: {name}{inconclusive}. {_sentence(unmet_text(configuration))}"


def _name(configuration: Configuration) -> str:
    return f"{configuration.recipe} on {configuration.model}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def figures(configuration: Configuration) -> str:
    """Size, and latency where it was measured, in a few words."""
    row = configuration.row
    size = f"{row['weights_bytes'] / 1e6:.0f} MB"
    ratio = row["rtf_ratio"]
    return f"{size}, {ratio:.2f} × fp32's latency" if pd.notna(ratio) else size


def evaluated_on(configuration: Configuration) -> str:
    """The audio that its WER is measured on."""
    run = configuration.run
    speakers = {u.speaker for u in run.utterances}
    count = "unknown speakers" if None in speakers else f"{len(speakers)} speakers"
    return (
        f"{run.eval_set.replace('-excerpt', ' excerpt')}, {len(run.utterances)} utterances of"
        f" {count}, {run.minutes:.0f} minutes"
    )


def unmet_text(configuration: Configuration) -> str:
    """The requirements that it is not shown to meet; empty where it meets all."""
    return "; ".join(map(named_check_text, configuration.unmet()))


def named_check_text(check: RequirementCheck) -> str:
    """The requirement, and what was measured for it."""
    return f"{check.requirement}: {check_text(check)}"


def check_text(check: RequirementCheck) -> str:
    """What was measured for a requirement, with the limit, and what a conclusion needs."""
    match check.requirement:
        case Requirement.WER_INCREASE:
            return _wer_increase(check)
        case Requirement.SIZE:
            return f"{_megabytes(check.value)} (limit: {_megabytes(check.limit)})"
        case Requirement.HELD_OUT_CALIBRATION:
            return (
                "calibrated on part of the evaluation set, which is not possible with your own"
                " audio"
            )
    if check.status is Status.NOT_MEASURED:
        return "its speed was not measured together with fp32's"
    on = f" on {check.machine}" if check.requirement is Requirement.RTF else ""
    return (
        f"{check.value:.2f}{on} ({check.low:.2f} to {check.high:.2f} in repeated passes;"
        f" limit: {check.limit:.2f})"
    )


def _megabytes(size: float | None) -> str:
    return "unknown size" if size is None else f"{size / 1e6:.0f} MB"


def _wer_increase(check: RequirementCheck) -> str:
    if check.status is Status.NOT_MEASURED:
        return "fp32 was not evaluated on the same utterances"
    if check.value is None:
        return "none, it is the baseline"
    if check.low is None or check.high is None:
        return "too little speech for a confidence interval"
    interval = f"{signed(check.low)} to {signed(check.high)}"
    text = (
        f"{signed(check.value)} points compared with fp32 ({interval}; allowed: +{check.limit:g})"
    )
    return text if check.more_minutes is None else f"{text}; {audio_needed(check.more_minutes)}"


def notes(advice: Advice) -> list[str]:
    """What to know about the answer: its data, limits that exclude much, what was not run."""
    if not advice.configurations:
        return []
    return [f"Evaluated on: {evaluated_on(advice.configurations[0])}.", *_limits(advice)]


def _limits(advice: Advice) -> Iterator[str]:
    if advice.most_limiting:
        requirement, count = advice.most_limiting
        total = len(advice.configurations)
        yield (f"The limit on {requirement} excludes the most: {count} of {total} configurations.")
    for baseline in advice.baselines:
        if failed := baseline.failed():
            reasons = "; ".join(map(named_check_text, failed))
            yield (f"fp32 itself does not meet the requirements on {baseline.model} ({reasons}).")
    if len(advice.models) > 1:
        wers = ", ".join(f"{b.model} {b.wer.value:.2f} %" for b in advice.baselines)
        yield f"WER increases are relative to fp32 of the same model. WER of fp32: {wers}."
    for model, recipes in advice.not_run.items():
        yield f"Not yet measured on {model} with this kind of speech: {', '.join(recipes)}."


def next_measurement(measurement: NextMeasurement, priority: str) -> str:
    """Why the measurement comes next. priority: the user's, "smallest" or "fastest"."""
    if measurement.reason is Reason.NO_RESULTS or measurement.configuration is None:
        return "This measures every recipe that the device can run."
    name = _name(measurement.configuration)
    if measurement.reason is Reason.FP32_NOT_RUN:
        return f"fp32 was not evaluated on the same utterances as {name}."
    if measurement.reason is Reason.TIME_NOT_MEASURED:
        return f"The speed of {name} was not measured."
    gain = "smaller" if priority == "smallest" else "faster"
    best = measurement.instead_of
    relation = f"would be {gain} than {best.recipe}" if best else "comes closest"
    reason = check_text(measurement.check) if measurement.check else ""
    if measurement.reason is Reason.TIME_STRADDLES_LIMIT:
        return (
            f"{name} {relation}, but only some of its repeated passes meet the limit ({reason}):"
            " a conclusion needs a less loaded or a faster machine."
        )
    text = f"{name} {relation}, but the evidence is inconclusive: {reason}."
    if measurement.reason is Reason.NO_MORE_AUDIO or measurement.whole_set is None:
        return f"{text} It was already evaluated on the whole set."
    only = "" if measurement.enough_audio else "only "
    whole = measurement.whole_set
    return f"{text} {whole.name} has {only}about {whole.minutes} minutes."


def snippet(configuration: Configuration, path: str = "speech.wav") -> str:
    """Python that quantizes the configuration's model with its recipe and transcribes a file."""
    device = configuration.run.spec.device
    return python_lines(configuration.model, configuration.recipe, device, path)


def python_lines(model: str, recipe: str, device: str = "cpu", path: str = "speech.wav") -> str:
    """Python that quantizes the model with the recipe of that name and transcribes a file."""
    arguments = f"{_literal(model)}, {_literal(recipe)}"
    if device != "cpu":
        arguments += f", device={_literal(device)}"
    return f"""import whisperq_core as wq
model = wq.quantize({arguments})
print(model.transcribe({_literal(path)}).text)"""


def _literal(text: str) -> str:
    # A JSON string is a Python literal too, in the double quotes of the documentation.
    return json.dumps(text, ensure_ascii=False)


def as_text(advice: Advice, count: int = 8) -> str:
    """The advice as plain text with its first `count` configurations, for the command line."""
    lines = [answer(advice), *notes(advice), ""]
    for configuration in advice.configurations[:count]:
        wer, eval_set = configuration.wer, configuration.run.eval_set
        lines += [
            f"{configuration.status:12s} {configuration.model} {configuration.recipe}:"
            f" {figures(configuration)}",
            f"{'':12s} WER {wer.value:.2f} % ({wer.low:.2f} to {wer.high:.2f}, {eval_set})",
        ]
        lines += [
            f"{'':12s} {check.requirement}, {check.status}: {check_text(check)}"
            for check in configuration.checks
        ]
    if len(advice.configurations) > count:
        rest = len(advice.configurations) - count
        lines.append(f"… and {rest} more, further from the requirements.")
    if measurement := advice.next_measurement:
        reason = next_measurement(measurement, advice.requirements.priority)
        lines += ["", f"Measure next: {reason}"]
        lines += [f"    {command}" for command in measurement.commands]
    if advice.best:
        lines += ["", "To use it:", "", snippet(advice.best)]
    return "\n".join(lines)
