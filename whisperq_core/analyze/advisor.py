"""Which recipe to use: options ranked by what is decided of them, and what would decide more.

Pure functions over stored runs. Nothing is recommended on a comparison that is undecided without
saying so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from whisperq_core.analyze import paired_comparisons, results_table
from whisperq_core.analyze.user_requirements import (
    MET,
    NOT_MEASURED,
    NOT_MET,
    OPEN,
    REAL_TIME,
    RISE,
    SETS_OF_SPEECH,
    SIZE,
    TIME,
    USABLE,
    Configuration,
    Requirements,
    check_configuration,
    minutes_to_settle,
)
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import STUDY, short_name

# What can be downloaded whole of each kind of speech, and its minutes.
WHOLE_SETS = {"clean": ("test-clean", 324), "hard": ("test-other", 320)}


@dataclass(frozen=True)
class NextMeasurement:
    """What to run next, in order, and why; no commands where nothing at hand would decide."""

    why: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """The answer in a sentence, the options from best to worst, and what would make it surer."""

    needs: Requirements
    answer: str
    options: tuple[Configuration, ...]
    notes: tuple[str, ...]
    next_measurement: NextMeasurement | None

    @property
    def best(self) -> Configuration | None:
        """The first option that is decided to meet everything."""
        return next((o for o in self.options if o.status == MET), None)


def advise(needs: Requirements, runs: Iterable) -> Advice:
    """Ranks what was measured by what is decided of it, then by the user's priority."""
    runs = list(runs)
    heard = [run for run in runs if isinstance(run, AccuracyRun) and _counts(run, needs)]
    timed = [run for run in runs if isinstance(run, SpeedRun)]
    compared = paired_comparisons.verdicts(heard, "fp32", needs.max_wer_rise_points)
    rows = {row["key"]: row for _, row in results_table.rows([*heard, *timed]).iterrows()}
    best: dict[tuple[str, str], AccuracyRun] = {}
    for run in sorted(heard, key=lambda r: (r.key in compared, r.minutes, r.created_at)):
        best[run.model, run.spec.recipe.name] = run
    options = [
        check_configuration(run, rows[run.key], compared.get(run.key), fp32, needs)
        for run in best.values()
        for fp32 in (paired_comparisons.baseline_run(run, heard),)
    ]
    options.sort(key=lambda option: _rank(option, needs))
    return Advice(
        needs,
        _answer(options, needs),
        tuple(options),
        tuple(_notes(options, needs)),
        _next_measurement(options, needs),
    )


def _counts(run: AccuracyRun, needs: Requirements) -> bool:
    return (
        run.spec.device == needs.device
        and run.eval_set in SETS_OF_SPEECH[needs.speech]
        and run.spec.protocol.name == needs.protocol
        and (not needs.models or run.model in needs.models)
        and run.words.rate is not None
    )


def _preferred(row: pd.Series, needs: Requirements) -> float:
    value = row["weights_bytes"] if needs.priority == "smallest" else row["rtf_ratio"]
    return math.inf if pd.isna(value) else float(value)


def _rank(option: Configuration, needs: Requirements) -> tuple:
    """Decided first, then undecided within the limits as measured, undecided beyond, rejected."""
    failed = [check for check in option.checks if check.status == NOT_MET]
    if failed:
        missed = sum(check.beyond for check in failed)
        return 3, len(failed), missed, _preferred(option.row, needs), option.wer.value
    tier = 0 if option.status == MET else 1 if option.plausible else 2
    return tier, 0, 0.0, _preferred(option.row, needs), option.wer.value


def _answer(options: Sequence[Configuration], needs: Requirements) -> str:
    speech = f"{needs.speech} speech"
    if not options:
        return f"Nothing was measured on {needs.device} with {speech} yet."
    first = options[0]
    name = f"{first.recipe} on {first.model}"
    if first.status == MET and first.recipe == "fp32":
        keep = f"Keep {first.model} in fp32: no quantized recipe is decided to meet these needs"
        near = next((option for option in options if option.status == OPEN), None)
        return f"{keep} with {speech}. {_closest(near)}" if near else f"{keep} with {speech}."
    if first.status == MET:
        lower = first.comparison.verdict == Verdict.BETTER
        limit = f"lose less than {needs.max_wer_rise_points:g} points of WER to fp32"
        what = "have a lower WER than fp32" if lower else limit
        return f"Use {name}: {first.figures}, and decided to {what} with {speech}."
    if first.status == OPEN:
        return f"No recipe is decided to meet these needs with {speech}. {_closest(first)}"
    return f"Nothing measured meets these needs. {_closest(first)}"


def _closest(option: Configuration) -> str:
    reasons = "; ".join(f"{check.need}: {check.reason}" for check in option.unmet())
    undecided = ", not decided" if option.status == OPEN else ""
    name = f"{option.recipe} on {option.model} ({option.figures})"
    return f"Closest is {name}{undecided}. {_sentence(reasons)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _notes(options: Sequence[Configuration], needs: Requirements) -> list[str]:
    if not options:
        return []
    notes = [f"{_sentence(f'heard: {options[0].basis}')}"]
    failed = [{c.need for c in o.checks if c.status == NOT_MET} - {USABLE} for o in options]
    counts = {need: sum(need in each for each in failed) for need in (RISE, SIZE, TIME, REAL_TIME)}
    worst = max(counts, key=lambda need: counts[need])
    if options[0].status != MET and counts[worst]:
        notes.append(
            f"The limit on {worst} excludes most: {counts[worst]} of {len(options)} recipes."
        )
    for option in options:
        broken = [c for c in option.checks if c.status == NOT_MET]
        if option.recipe == "fp32" and broken:
            reasons = "; ".join(f"{check.need}: {check.reason}" for check in broken)
            notes.append(f"fp32 itself does not meet the needs on {option.model} ({reasons}).")
    models = {option.model: option for option in options if option.recipe == "fp32"}
    if len({option.model for option in options}) > 1:
        levels = ", ".join(f"{name} {o.wer.value:.2f} %" for name, o in models.items())
        notes.append(f"A rise in WER is over fp32 of the same model, whose own WER is: {levels}.")
    for model in dict.fromkeys(option.model for option in options):
        known = {option.recipe for option in options if option.model == model}
        missing = [
            name
            for name, recipe in CATALOGUE.items()
            if name not in known
            and recipe.calibration != "evaluation-10%"
            and backends.unavailable_reason(recipe, needs.device) is None
        ]
        if missing:
            notes.append(f"Not measured on {model} with such speech: {', '.join(missing)}.")
    return notes


def _next_measurement(
    options: Sequence[Configuration], needs: Requirements
) -> NextMeasurement | None:
    """What would settle the first undecided option that the user would rather have."""
    how = "" if needs.device == "cpu" else f" --device {needs.device}"
    how += "" if needs.protocol == STUDY.name else f" --protocol {short_name(needs.protocol)}"
    run = "python -m whisperq_core run"
    if not options:
        model, name = (needs.models or ("base",))[0], SETS_OF_SPEECH[needs.speech][-1]
        command = f"{run} --models {model} --recipes all --sets {name}{how}"
        return NextMeasurement("This measures every recipe that the device can run.", (command,))
    best = next((o for o in options if o.status == MET), None)
    wanted = [
        option
        for option in options
        if option.status == OPEN
        and (option.plausible or best is None)
        and (best is None or _preferred(option.row, needs) < _preferred(best.row, needs))
    ]
    found = [_settling(option, needs, best, run, how) for option in wanted]
    return next((made for made in found if made.commands), found[0] if found else None)


def _settling(
    option: Configuration, needs: Requirements, best: Configuration | None, run: str, how: str
) -> NextMeasurement:
    """What would decide an option's quickest open check."""
    name = f"{option.recipe} on {option.model}"
    command = f"{run} --models {option.model} --recipes fp32,{option.recipe}"
    open_checks = {check.need: check for check in reversed(option.unmet())}
    unmeasured = [need for need, check in open_checks.items() if check.status == NOT_MEASURED]
    if RISE in unmeasured:
        reason = f"fp32 was not run on the speech of {name}."
        return NextMeasurement(reason, (f"{command} --sets {option.run.eval_set}{how}",))
    if unmeasured:
        reason = f"The time of {name} was not measured."
        return NextMeasurement(reason, (f"{command} --only speed{how}",))
    gain = "smaller" if needs.priority == "smallest" else "faster"
    stands = f"would be {gain} than {best.recipe}" if best else "comes closest"
    if RISE not in open_checks:
        check = next(iter(open_checks.values()))
        return NextMeasurement(
            f"{name} {stands}, but its passes lie on both sides of the limit ({check.reason}): only"
            " a calmer or a faster machine would decide it.",
            (),
        )
    why = f"{name} {stands}, but is not decided: {open_checks[RISE].reason} (an estimate)."
    if "excerpt" not in option.run.eval_set:
        return NextMeasurement(f"{why} It was heard in the whole set already.", ())
    whole, minutes = WHOLE_SETS[needs.speech]
    enough = minutes_to_settle(option.comparison, option.run.minutes) <= minutes
    return NextMeasurement(
        f"{why} {whole} has {'' if enough else 'only '}about {minutes} minutes.",
        (
            f"python -m whisperq_core download {whole}",
            f"{command} --sets {whole}{how}",
        ),
    )


def snippet(option: Configuration, path: str = "speech.wav") -> str:
    """Python that quantizes the option's model with its recipe and transcribes a file."""
    device = option.run.spec.device
    on = "" if device == "cpu" else f", device={device!r}"
    return f"""from pathlib import Path

from whisperq_core.quantize.recipes import recipe
from whisperq_core.quantize.file_transcription import TranscriptionConfig, transcribe_file

config = TranscriptionConfig({option.model!r}, recipe({option.recipe!r}){on})
print(transcribe_file(Path({path!r}), config).text)
"""


def as_text(advice: Advice, count: int = 8) -> str:
    """The advice as plain text, for the command line."""
    lines = [advice.answer, *advice.notes, ""]
    for option in advice.options[:count]:
        lines.append(f"{option.status:12s} {option.model} {option.recipe}: {option.figures}")
        interval = f"{option.wer.low:.2f} to {option.wer.high:.2f}"
        lines.append(f"{'':12s} WER {option.wer.value:.2f} % ({interval}, {option.run.eval_set})")
        lines += [f"{'':12s} {c.need}, {c.status}: {c.reason}" for c in option.checks]
    if len(advice.options) > count:
        lines.append(f"… and {len(advice.options) - count} more, further from the needs.")
    if advice.next_measurement:
        lines += ["", f"What to measure next. {advice.next_measurement.why}"]
        lines += [f"    {command}" for command in advice.next_measurement.commands]
    if advice.best:
        lines += ["", "To use it:", "", snippet(advice.best)]
    return "\n".join(lines)
