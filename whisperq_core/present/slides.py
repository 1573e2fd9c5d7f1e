"""A report section as five slides: one message each, with figures in large type."""

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze import pareto_front
from whisperq_core.analyze.results_table import rate_column
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.plurals import counted, plural
from whisperq_core.present import interval_charts, tradeoff_chart
from whisperq_core.present.labels import verdict_label
from whisperq_core.present.report_sections import Section, format_signed

_FONT_PX = 21
# As many as can be read from the back of a room.
_MOST_NAMED, _MOST_LINES = 6, 12
_LINE_PX, _AROUND_PX = 34, 130


@dataclass(frozen=True)
class Fact:
    """A value in large type, its label and a note."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Slide:
    """One screen: its topic, its message, and the evidence."""

    topic: str
    message: str
    facts: tuple[Fact, ...] = ()
    sentences: tuple[str, ...] = ()
    figure: go.Figure | None = None
    alt: str = ""


def build_slides(section: Section) -> list[Slide]:
    """The five slides of a section, in order."""
    return [
        _scope(section),
        _pareto_front(section),
        _recommendation(section),
        _cost(section),
        _evidence(section),
    ]


def _scope(section: Section) -> Slide:
    run = section.newest
    names = [name for name in section.frame["recipe"] if name != section.baseline]
    count, utterances = len(names), len(run.utterances)
    return Slide(
        "Scope",
        f"{counted(count, 'configuration')} of Whisper {run.model}, compared with"
        f" {section.baseline}",
        (
            Fact(str(count), plural(count, "configuration"), f"baseline: {section.baseline}"),
            Fact(f"{section.minutes:.1f} min", "of test audio", section.set_title),
            Fact(str(utterances), plural(utterances, "utterance"), section.speakers_text),
        ),
        (
            f"{run.spec.protocol.label}: {run.spec.protocol.summary}.",
            f"Machine: {section.machine_text}.",
        ),
    )


def _pareto_front(section: Section) -> Slide:
    frame = pareto_front.pareto_status(
        section.frame, section.runs, "weights_bytes", rate_column(section.rate), section.margin
    )
    on = frame[frame["front"].str.startswith(pareto_front.ON_FRONT)].sort_values("weights_bytes")
    dominated = int(frame["dominated"].sum())
    drawn = frame[~frame["dominated"] | (frame["recipe"] == section.baseline)]
    figure = tradeoff_chart.tradeoff_figure(
        drawn, "weights_bytes", rate_column(section.rate), None, "family"
    )
    possible = len(frame) - len(on) - dominated
    sentences = [f"From smallest to largest: {_names(on['recipe'].tolist())}."]
    if dominated:
        sentences.append(f"Not drawn: {dominated} significantly dominated.")
    if possible > 0:
        be = "is" if possible == 1 else "are"
        sentences.append(
            f"{possible} more {be} possibly Pareto-optimal: the evidence is inconclusive."
        )
    return Slide(
        "Pareto front",
        f"{len(on)} of {len(frame)} configurations are Pareto-optimal in size and {section.rate},"
        " as measured",
        sentences=(" ".join(sentences),),
        figure=_large(figure),
        alt=f"{section.rate} against size; the dashed line is the Pareto front.",
    )


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _large(figure: go.Figure) -> go.Figure:
    figure.update_layout(font_size=_FONT_PX, legend_font_size=_FONT_PX - 3)
    figure.update_xaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2)
    figure.update_yaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2)
    figure.update_annotations(font_size=_FONT_PX - 3)
    return figure


def _recommendation(section: Section) -> Slide:
    best = section.recommended
    if section.compared.empty:
        message = "No recommendation: nothing is compared yet"
    elif best is None:
        message = f"Keep {section.baseline} for now"
    else:
        message = f"Use {best['recipe']}"
    return Slide("Recommendation", message, sentences=tuple(section.answer[:2]))


def _cost(section: Section) -> Slide:
    best = section.recommended
    row = best if best is not None else section.closest_to_conclusion
    if row is None:
        return Slide(
            "Cost and benefit",
            "Nothing to show: no configuration is recommended",
            sentences=tuple(section.answer),
        )
    if best is not None:
        return Slide(
            "Cost and benefit", f"Cost and benefit of {row['recipe']}", _facts(section, row)
        )
    return Slide(
        "Cost and benefit",
        f"Cost of {row['recipe']}, if confirmed",
        _facts(section, row),
        ("Of the inconclusive configurations, it needs the least additional test audio.",),
    )


def _facts(section: Section, row: pd.Series) -> tuple[Fact, ...]:
    smaller = row["size_reduction_pct"]
    size = f"{smaller:.0f} % smaller than fp32" if smaller >= 0.5 else "not smaller than fp32"
    latency = Fact("not measured", "relative latency", "Run a speed measurement.")
    if pd.notna(row["rtf_ratio"]):
        passes = f"{row['rtf_ratio_low']:.2f} to {row['rtf_ratio_high']:.2f} in repeated passes"
        latency = Fact(f"{row['rtf_ratio']:.2f} × fp32", "relative latency", passes)
    return (
        Fact(f"{row['weights_bytes'] / 1e6:.0f} MB", "size", size),
        latency,
        Fact(
            f"{format_signed(row['difference_points'])} points",
            f"{section.rate} difference from {section.baseline}",
            f"95 % interval {format_signed(row['difference_low'])} to"
            f" {format_signed(row['difference_high'])};"
            f" {section.rate} {row[rate_column(section.rate)]:.2f} %",
        ),
    )


def _evidence(section: Section) -> Slide:
    verdicts = section.compared["verdict"]
    counts = {
        v: int((verdicts == v).sum())
        for v in (Verdict.BETTER, Verdict.NO_WORSE, Verdict.WORSE, Verdict.INCONCLUSIVE)
    }
    shares = [f"{n} {verdict_label(v, section.baseline)}" for v, n in counts.items() if n]
    of = counted(len(verdicts), "configuration")
    message = f"Of {of}: {', '.join(shares)}" if shares else "Nothing is compared yet"
    sentences = [
        f"Lines: 95 % intervals (bootstrap over {section.frame['resampled'].iloc[0]}). Verdicts are"
        f" corrected for {counted(len(verdicts), 'comparison')}; margin: {section.margin:g}"
        " points."
    ]
    closest = section.closest_to_conclusion
    if closest is not None:
        sentences.append(
            f"A conclusion about {closest['recipe']} needs an estimated"
            f" {closest['minutes_needed']:.0f} minutes of test audio in total;"
            f" {section.minutes:.1f} were used."
        )
    # The frame is in the order of the rate.
    shown = section.compared.head(_MOST_LINES)
    if len(shown) < len(verdicts):
        sentences.append(
            f"Shown: the {len(shown)} with the lowest {section.rate}; the report has all."
        )
    figure = interval_charts.difference_figure(shown, section.margin, section.baseline)
    figure.update_layout(height=_LINE_PX * len(shown) + _AROUND_PX)
    return Slide(
        "Statistical evidence",
        message,
        sentences=(" ".join(sentences),),
        figure=_large(figure) if figure.data else None,
        alt=f"{section.rate} differences from {section.baseline} with 95 % intervals.",
    )
