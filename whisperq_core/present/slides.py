"""What a report says, one message a screen, for a room: sentences with figures, and charts.

Nothing is computed anew: a section's frame, its answer and the report's charts, in large type.
"""

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze import pareto_front
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.present import interval_charts, tradeoff_chart
from whisperq_core.present.report_sections import Section, format_signed

_FONT_PX = 21
# What still reads from the back of a room.
_MOST_NAMED, _MOST_LINES = 6, 12
_LINE_PX, _AROUND_PX = 34, 130


@dataclass(frozen=True)
class Fact:
    """A value in large type, what it is, and what has to be known beside it."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Slide:
    """One screen: what it is about, its message, and what bears it out."""

    topic: str
    message: str
    facts: tuple[Fact, ...] = ()
    sentences: tuple[str, ...] = ()
    figure: go.Figure | None = None
    alt: str = ""


def build_slides(section: Section) -> list[Slide]:
    """The five screens of a section, in the order one would say them."""
    return [_compared(section), _front(section), _advice(section), _costs(section), _sure(section)]


def _compared(section: Section) -> Slide:
    run = section.newest
    names = [name for name in section.frame["recipe"] if name != section.baseline]
    ways = f"{len(names)} {'way' if len(names) == 1 else 'ways'}"
    speech = section.eval_set.title if section.eval_set else run.eval_set
    return Slide(
        "What we compared",
        f"{ways} of running Whisper {run.model}, beside {section.baseline}",
        (
            Fact(str(len(names)), "recipes", f"beside {section.baseline}"),
            Fact(f"{section.minutes:.1f} min", "of speech", speech),
            Fact(str(len(run.utterances)), "utterances", _speakers(section)),
        ),
        (
            f"Protocol “{run.spec.protocol.name}”: {run.spec.protocol.summary}.",
            f"Measured on {run.machine.cpu}, {run.machine.cores} cores; {run.spec.device},"
            f" {run.spec.threads} threads.",
        ),
    )


def _speakers(section: Section) -> str:
    return f"of {section.speakers} speakers" if section.speakers else "of speakers not known"


def _front(section: Section) -> Slide:
    frame = pareto_front.pareto_status(
        section.frame, section.runs, "weights_bytes", "wer_pct", section.margin
    )
    on = frame[frame["front"].str.startswith(pareto_front.ON_FRONT)].sort_values("weights_bytes")
    dominated = int(frame["dominated"].sum())
    drawn = frame[~frame["dominated"] | (frame["recipe"] == section.baseline)]
    figure = tradeoff_chart.tradeoff_figure(drawn, "weights_bytes", "wer_pct", None, "family")
    rest = len(frame) - len(on) - dominated
    sentences = [f"From small to large: {_named(on['recipe'].tolist())}."]
    if dominated:
        sentences.append(f"{dominated} are decidedly dominated, and not drawn.")
    if rest > 0:
        sentences.append(f"{rest} more may be on it: this speech does not tell.")
    return Slide(
        "The front",
        f"{len(on)} of {len(frame)} are beaten by none on both size and errors, as measured",
        sentences=(" ".join(sentences),),
        figure=_large(figure),
        alt="WER against size; the Pareto front is the dashed line.",
    )


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _large(figure: go.Figure) -> go.Figure:
    figure.update_layout(font_size=_FONT_PX, legend_font_size=_FONT_PX - 3)
    figure.update_xaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2)
    figure.update_yaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2)
    figure.update_annotations(font_size=_FONT_PX - 3)
    return figure


def _advice(section: Section) -> Slide:
    best = section.recommended
    if section.compared.empty:
        message = "Nothing can be recommended: nothing is compared yet"
    elif best is None:
        message = f"Stay with {section.baseline} for now"
    else:
        message = f"Use {best['recipe']}"
    return Slide("The recommendation", message, sentences=tuple(section.answer[:2]))


def _costs(section: Section) -> Slide:
    best, near = section.recommended, section.closest_to_conclusion
    row = best if best is not None else near
    if row is None:
        return Slide(
            "What it costs",
            "There is no cost to name: nothing is recommended",
            sentences=tuple(section.answer),
        )
    if best is not None:
        message = f"What {row['recipe']} costs, and what it saves"
        sentences = ()
    else:
        message = f"What {row['recipe']} would cost, if it were decided"
        sentences = ("It is the undecided one that the least speech would decide.",)
    return Slide("What it costs", message, _prices(section, row), sentences)


def _prices(section: Section, row: pd.Series) -> tuple[Fact, ...]:
    smaller = row["size_reduction_pct"]
    size = f"{smaller:.0f} % smaller than fp32" if smaller >= 0.5 else "no smaller than fp32"
    time = Fact("not measured", "time beside fp32", "Run a speed measurement to know it.")
    if pd.notna(row["rtf_ratio"]):
        passes = f"{row['rtf_ratio_low']:.2f} to {row['rtf_ratio_high']:.2f} in repeated passes"
        time = Fact(f"{row['rtf_ratio']:.2f} ×", "fp32's time", passes)
    return (
        Fact(f"{row['weights_bytes'] / 1e6:.0f} MB", "size", size),
        time,
        Fact(
            f"{format_signed(row['difference_points'])} points",
            f"WER beside {section.baseline}",
            f"95% interval {format_signed(row['difference_low'])} to"
            f" {format_signed(row['difference_high'])};"
            f" WER {row['wer_pct']:.2f} %",
        ),
    )


def _sure(section: Section) -> Slide:
    verdicts = section.compared["verdict"]
    counts = {
        v: int((verdicts == v).sum())
        for v in (Verdict.BETTER, Verdict.NO_WORSE, Verdict.WORSE, Verdict.INCONCLUSIVE)
    }
    known = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    message = f"Of {len(verdicts)}: {', '.join(known)}" if known else "Nothing is compared"
    sentences = [
        f"Lines are 95% intervals over {section.frame['resampled'].iloc[0]}; verdicts are corrected"
        f" for {len(verdicts)} comparisons, with a margin of {section.margin:g} points."
    ]
    near = section.closest_to_conclusion
    if near is not None:
        sentences.append(
            f"About {near['minutes_needed']:.0f} minutes of such speech would decide"
            f" {near['recipe']}; {section.minutes:.1f} were heard."
        )
    # The frame is in the order of WER.
    shown = section.compared.head(_MOST_LINES)
    if len(shown) < len(verdicts):
        sentences.append(f"Drawn: the {len(shown)} with the lowest WER; the report has all.")
    figure = interval_charts.difference_figure(shown, section.margin)
    figure.update_layout(height=_LINE_PX * len(shown) + _AROUND_PX)
    return Slide(
        "How sure it is",
        message,
        sentences=(" ".join(sentences),),
        figure=_large(figure) if figure.data else None,
        alt=f"Differences in WER to {section.baseline} with their 95% intervals.",
    )
