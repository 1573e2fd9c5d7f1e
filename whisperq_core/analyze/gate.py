"""A gate for releases: whether a recipe loses WER, with a margin, in three outcomes.

One comparison that was decided on beforehand, so it is not corrected for others: what else is
stored changes nothing. `python -m benchmarks.gate` simulates how often the gate errs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.pooled_comparisons import (
    PooledComparison,
    compare_pooled,
    language_of,
    pooled_counts,
)
from whisperq_core.analyze.verdict_text import audio_needed, loops_text, signed
from whisperq_core.analyze.verdicts import MARGIN, PROBABLE, Verdict, keeps_margin_at
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.plurals import capitalized, counted


class Outcome(StrEnum):
    """PASS: the loss is shown to be below the margin. FAIL: it is probably above the margin.

    OPEN: neither.
    """

    PASS = "pass"
    FAIL = "fail"
    OPEN = "too close to call"


@dataclass(frozen=True)
class Gate:
    """The outcome for a recipe, and the comparison behind it."""

    outcome: Outcome
    pooled: PooledComparison

    @property
    def title(self) -> str:
        """See `title_of`."""
        (recipe, protocol), (baseline, its) = (
            (run.spec.recipe.name, run.spec.protocol.label)
            for run in (self.pooled.runs[0], self.pooled.baselines[0])
        )
        return title_of(recipe, protocol, self.pooled.model, baseline, its)

    @property
    def paragraph(self) -> str:
        """The outcome with its evidence."""
        pooled, comparison = self.pooled, self.pooled.comparison
        rate, margin = (
            comparison.rate_name,
            f"{comparison.margin:g} points of {comparison.rate_name}",
        )
        verdict = {
            Outcome.PASS: f"the loss is shown to be below {margin}",
            Outcome.FAIL: f"the loss is probably above {margin}"
            f" ({min(99, math.floor(100 * comparison.p_beyond_margin))} % confidence)",
            Outcome.OPEN: f"whether the loss is below {margin} is too close to call",
        }[self.outcome]
        rates = [pooled_counts(runs).rate for runs in (pooled.runs, pooled.baselines)]
        sets = "; ".join(
            f"{part.eval_set} {signed(part.comparison.difference.value)}" for part in pooled.parts
        )
        speakers = sum(part.speakers for part in pooled.parts)
        sentences = [
            f"{self.title}: {verdict}",
            f"{rate} {rates[0]:.2f} % instead of {rates[1]:.2f} %, {_difference(comparison)}, on"
            f" {pooled.minutes:.0f} minutes"
            f" by {counted(speakers, 'speaker') if speakers else 'unknown speakers'} ({sets})",
        ]
        if self.outcome is Outcome.OPEN and not math.isnan(comparison.standard_error):
            more = audio_needed(comparison.minutes_for_margin(pooled.minutes) - pooled.minutes)
            sentences.append(capitalized(more))
        if self.outcome is Outcome.PASS:
            sentences.append(f"This holds {loops_text(pooled.loops)}")
        return f"{'. '.join(sentences)}."


def gate(
    bases: Sequence[AccuracyRun],
    runs: Sequence[AccuracyRun],
    margin: float = MARGIN,
    confidence: float = PROBABLE,
) -> Gate:
    """Holds a recipe's runs to those of a baseline on the same sets.

    bases, runs: of the same sets, in the same order. Of sets that share utterances the larger one
    counts. confidence: see `outcome_of`. Raises NotComparable where the speech differs, has several
    languages or no words, InputError for a margin or confidence that is none.
    """
    if any(base.speech_digest != run.speech_digest for base, run in zip(bases, runs, strict=True)):
        raise NotComparable("The two were not evaluated on the same speech. Evaluate both again.")
    languages = {language_of(base) for base in bases}
    if None in languages or len(languages) > 1:
        raise NotComparable(
            "The evaluation sets have several languages, whose words are counted differently."
            " Choose sets of one language."
        )
    if not sum(base.words.reference_length for base in bases):
        raise NotComparable("The evaluation sets have no words. Choose sets with speech.")
    pooled, _ = compare_pooled(zip(bases, runs, strict=True), margin)
    return Gate(outcome_of(pooled.comparison, confidence), pooled)


def outcome_of(comparison: Comparison, confidence: float = PROBABLE) -> Outcome:
    """Whether the candidate is shown to be no worse, or loses more than the margin, or neither.

    confidence: that the loss is above the margin, from which it fails; 0.5 to below 1.
    """
    above = keeps_margin_at(comparison, confidence) is False
    if comparison.verdict is Verdict.BETTER or comparison.non_inferior:
        return Outcome.PASS
    return Outcome.FAIL if above else Outcome.OPEN


def title_of(recipe: str, protocol: str, model: str, baseline: str, baseline_protocol: str) -> str:
    """What is held to what: bf16 (Fitted window) of base against fp32 (Study protocol)."""
    return f"{recipe} ({protocol}) of {model} against {baseline} ({baseline_protocol})"


def _difference(comparison: Comparison) -> str:
    d = comparison.difference
    if math.isnan(d.low):
        return f"{signed(d.value)} points, too few speakers for an interval"
    return f"{signed(d.value)} points (95 % interval {signed(d.low)} to {signed(d.high)})"
