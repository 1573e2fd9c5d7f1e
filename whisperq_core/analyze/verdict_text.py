"""A comparison's verdict as a sentence."""

import math

from whisperq_core.analyze.loop_risk import LoopRisk
from whisperq_core.analyze.paired_comparisons import condition
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.verdicts import (
    Verdict,
    is_probably_no_worse,
    is_probably_worse,
)
from whisperq_core.evaluate.records import AccuracyRun

# An estimate of more audio than this is too far from the measured amount to be given as a number.
_MOST_HOURS = 300


def describe(comparison: Comparison, baseline: str, minutes: float) -> str:
    """The verdict on a candidate's WER (or CER), its interval, and the audio needed for one.

    baseline: its name. minutes: of the audio that was compared.
    """
    d, rate = comparison.difference, comparison.rate_name
    if math.isnan(d.low):
        return f"too little speech for an interval of the difference from {baseline}"
    points = f"({signed(d.value)} points, 95 % interval {signed(d.low)} to {signed(d.high)})"
    # A rate other than WER is named; the sentences are about WER otherwise.
    by_rate = "" if rate == "WER" else f" by {rate}"
    match comparison.verdict:
        case Verdict.BETTER:
            return f"significantly lower {rate} than {baseline} {points}"
        case Verdict.WORSE:
            return f"significantly higher {rate} than {baseline} {points}"
        case Verdict.NO_WORSE:
            margin = f"margin: {comparison.margin:g} points"
            return f"no worse{by_rate} than {baseline}, {margin} {points}"
    needed = comparison.minutes_needed(minutes)
    more = f"; {audio_needed(needed - minutes)}" if needed is not None else ""
    difference = f"no statistically conclusive difference{by_rate} from {baseline}"
    likely = ""
    if is_probably_no_worse(comparison):
        likely = f", {verdict_words(comparison, baseline)}"
    return f"{difference} {points}{likely}{more}"


_LABELS: dict[str, str] = {
    Verdict.NO_WORSE: "no worse than {baseline} (95 %)",
    Verdict.INCONCLUSIVE: "too close to call",
}


def verdict_label(verdict: str, baseline: str = "fp32") -> str:
    """What readers see for a stored verdict; one that is not in the table keeps its own words."""
    return _LABELS.get(verdict, str(verdict)).format(baseline=baseline)


def verdict_words(comparison: Comparison, baseline: str) -> str:
    """The label of the verdict, or how probable either side of the margin is where it is open."""
    # Never 100 %: it is not shown.
    if is_probably_no_worse(comparison):
        percent = min(99, math.floor(100 * comparison.p_within_margin))
        return f"probably no worse: {percent} %"
    if is_probably_worse(comparison):
        percent = min(99, math.floor(100 * comparison.p_beyond_margin))
        return f"probably worse by more than {comparison.margin:g} points: {percent} %"
    return verdict_label(comparison.verdict, baseline)


def loops_text(risk: LoopRisk) -> str:
    """What a verdict of "no worse" does not cover, with its bound.

    As in “apart from rare loops, which could add up to 4.7 points”.
    """
    most = risk.highest_cost
    points = f"{most:.2g}" if most < 10 else f"{most:.0f}"
    return f"apart from rare loops, which could add up to {points} points"


def describe_runs(comparison: Comparison, baseline: AccuracyRun, candidate: AccuracyRun) -> str:
    """`describe` for two runs, which are named in full where they differ in more than the recipe.

    As in: bnb-nf4 under “Fitted window”: no worse than fp32 under “Study protocol”, margin: …
    """
    if condition(baseline) == condition(candidate):
        return describe(comparison, baseline.spec.recipe.name, baseline.minutes)
    text = describe(comparison, _full_name(baseline, candidate), baseline.minutes)
    return f"{_full_name(candidate, baseline)}: {text}"


def _full_name(run: AccuracyRun, other: AccuracyRun) -> str:
    """The recipe, and whatever else sets the run apart from the other."""
    name, spec, its = run.spec.recipe.name, run.spec, other.spec
    if run.model != other.model:
        name += f" of {run.model}"
    if spec.protocol != its.protocol:
        same_name = spec.protocol.name == its.protocol.name
        protocol = spec.protocol.summary if same_name else spec.protocol.label
        name += f" under “{protocol}”"
    if spec.device != its.device:
        name += f" on {spec.device}"
    return name


def audio_needed(minutes: float) -> str:
    """How much more audio a conclusion needs, to two digits.

    As in “an estimated 90 more minutes of test audio are needed for a conclusion”.
    """
    if minutes < 1.5:
        return "an estimated 1 more minute of test audio is needed for a conclusion"
    amount = (
        f"more than {_MOST_HOURS} more hours"
        if minutes > 60 * _MOST_HOURS
        else f"an estimated {float(f'{minutes:.2g}'):,.0f} more minutes"
    )
    return f"{amount} of test audio are needed for a conclusion"


def signed(value: float) -> str:
    """A difference to two decimals with its sign, a true minus for negative ones."""
    return f"{value:+.2f}".replace("-", "−")
