"""Transcripts of several recordings by several recipes: summed up, and as files to pass on."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from whisperq_core.analyze.results_table import csv
from whisperq_core.evaluate.records import utc_now
from whisperq_core.present.templating import render_template
from whisperq_core.scoring import error_rates, key_words
from whisperq_core.scoring.error_rates import Counts
from whisperq_core.scoring.key_words import KeyWordCounts, Kind

ALL = "All recordings"


@dataclass(frozen=True)
class ComparedTranscript:
    """One recipe's transcript of one recording.

    reference: empty where there is none. baseline: fp32's transcript; None where it is not there,
    or where this is it. size_bytes: of the weights. audio_s, wall_s: seconds of audio, and of
    generation in this single pass.
    """

    recording: str
    recipe: str
    language: str
    text: str
    reference: str
    baseline: str | None
    size_bytes: int
    audio_s: float
    wall_s: float

    @property
    def errors(self) -> Counts | None:
        """Counts against the reference; None without one."""
        return self._counts(self.reference) if self.reference else None

    @property
    def differences(self) -> Counts | None:
        """Counts against fp32's transcript; None without one, or for fp32 itself."""
        return None if self.baseline is None else self._counts(self.baseline)

    @property
    def key_words(self) -> dict[Kind, KeyWordCounts]:
        """Errors in numbers, names and negations; none without a reference."""
        if not self.reference:
            return {}
        return key_words.count(self.reference, self.text, self.language)

    def _counts(self, reference: str) -> Counts:
        return error_rates.score(reference, self.text, self.language).words


def _rate(counts: Sequence[Counts | None]) -> float | None:
    present = [one for one in counts if one is not None]
    return error_rates.total(present).rate if present else None


def summary(transcripts: Sequence[ComparedTranscript]) -> pd.DataFrame:
    """One row for each recording and one for all, with columns for each recipe.

    A cell is the WER in percent where the recording has a reference, and else the word difference
    from fp32 in percent; the row for all has one row for each of the two that occurs. Rates are of
    summed counts, so longer recordings weigh more.
    """
    recipes = list(dict.fromkeys(one.recipe for one in transcripts))
    recordings = list(dict.fromkeys(one.recording for one in transcripts))
    lines = []
    for name in recordings:
        own = [one for one in transcripts if one.recording == name]
        lines.append(_line(name, bool(own[0].reference), own, recipes))
    if len(recordings) > 1:
        for scored in (True, False):
            own = [one for one in transcripts if bool(one.reference) == scored]
            if own:
                lines.append(_line(ALL, scored, own, recipes))
    return pd.DataFrame(lines, columns=["Recording", "Measure", *recipes])


def _line(
    name: str, scored: bool, own: Sequence[ComparedTranscript], recipes: Sequence[str]
) -> dict[str, object]:
    line: dict[str, object] = {
        "Recording": name,
        "Measure": "WER (%)" if scored else "word difference from fp32 (%)",
    }
    for recipe in recipes:
        of_recipe = [one for one in own if one.recipe == recipe]
        counts = [one.errors if scored else one.differences for one in of_recipe]
        line[recipe] = _rate(counts)
    return line


def table(transcripts: Sequence[ComparedTranscript]) -> pd.DataFrame:
    """One row for each transcript, with its text, rates and errors in words that matter."""
    return pd.DataFrame(
        {
            "recording": one.recording,
            "recipe": one.recipe,
            "language": one.language,
            "audio_s": round(one.audio_s, 2),
            "this_clip_once_s": round(one.wall_s, 3),
            "size_mb": round(one.size_bytes / 1e6, 1),
            "wer_pct": _rate([one.errors]),
            "difference_from_fp32_pct": _rate([one.differences]),
            "key_words": key_words.text(one.key_words),
            "transcript": one.text,
            "reference": one.reference,
        }
        for one in transcripts
    )


def as_csv(transcripts: Sequence[ComparedTranscript]) -> bytes:
    """`table` as CSV, UTF-8, safe to open in a spreadsheet."""
    return csv(table(transcripts))


def as_html(transcripts: Sequence[ComparedTranscript], facts: Sequence[str] = ()) -> str:
    """A self-contained page: the summary, and every transcript below its recording.

    facts: sentences on how they were made.
    """
    sums = summary(transcripts)
    recipes = list(sums.columns[2:])
    rows = [
        (
            row["Recording"],
            row["Measure"],
            ["–" if pd.isna(row[name]) else f"{row[name]:.1f}" for name in recipes],
        )
        for _, row in sums.iterrows()
    ]
    by_recording: dict[str, list[ComparedTranscript]] = {}
    for one in transcripts:
        by_recording.setdefault(one.recording, []).append(one)
    return render_template(
        "recordings.html.j2",
        date=f"{utc_now():%-d %B %Y}",
        facts=list(facts),
        recipes=recipes,
        rows=rows,
        recordings=[(name, own[0].reference, own) for name, own in by_recording.items()],
        key_words_text=lambda one: key_words.text(one.key_words),
        rule=key_words.RULE,
    )
