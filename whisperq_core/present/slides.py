"""The answer as five slides: one message each, with figures in large type."""

from dataclasses import dataclass
from datetime import datetime

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.verdict_text import loops_text, signed
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.plurals import capitalized, counted
from whisperq_core.present import (
    advisor_text,
    figure_export,
    interval_charts,
    overview_chart,
    templating,
)
from whisperq_core.present.answer import Answer, Fact, hour_text, size_text, speech_text

_FONT_PX = 22
# The plot on a desktop and on a phone, as if its letters were 12 px high.
_SCREENS = ((690.0, 290.0, 1.0), (275.0, 440.0, 0.8))


@dataclass(frozen=True)
class Table:
    """A table in large type: the first column names the rows; the last may be in bold."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Block:
    """A heading and a few short sentences."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Slide:
    """One screen: its topic, its message, the evidence, and notes in smaller type."""

    topic: str
    message: str
    facts: tuple[Fact, ...] = ()
    sentences: tuple[str, ...] = ()
    table: Table | None = None
    blocks: tuple[Block, ...] = ()
    figure: go.Figure | None = None
    alt: str = ""
    notes: tuple[str, ...] = ()


def build_slides(answer: Answer) -> list[Slide]:
    """The five slides, in order. The answer has to have results."""
    return [
        _answer(answer),
        _tradeoff(answer),
        _cost(answer),
        _certainty(answer),
        _next_steps(answer),
    ]


def style() -> str:
    """The slides' style sheet; text is of the colour of what is around them."""
    return templating.render_template("slides.css.j2")


def head_html(slide: Slide) -> str:
    """Topic, message and all that is not a figure or a note, as HTML."""
    return templating.render_template("slide_head.html.j2", slide=slide)


def notes_html(slide: Slide) -> str:
    """The notes below, as HTML."""
    return templating.render_template("slide_notes.html.j2", slide=slide)


def to_html(answer: Answer, date: datetime) -> str:
    """All slides as one page that needs no network and prints one slide a page."""
    plotly, draw = get_plotlyjs(), templating.source("slides.js.j2")
    return templating.render_template(
        "slides.html.j2",
        policy=templating.content_security_policy((plotly, draw)),
        title=answer.headline,
        date=f"{date:%-d %B %Y}",
        slides=build_slides(answer),
        figure_data=_figure_data,
        plotly=templating.script(plotly),
        draw=templating.script(draw),
    )


def _figure_data(figure: go.Figure) -> str:
    figure = go.Figure(figure)
    figure.update_layout(
        template="none", font_family=figure_export.FONT, clickmode="event", autosize=True
    )
    return templating.json_script(figure.to_json())


def _large(figure: go.Figure) -> go.Figure | None:
    """In large type, as high as there is room."""
    if not figure.data:
        return None
    figure.update_layout(font_size=_FONT_PX, legend_font_size=_FONT_PX - 2, height=None)
    figure.update_xaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2, automargin=True)
    figure.update_yaxes(title_font_size=_FONT_PX, tickfont_size=_FONT_PX - 2, automargin=True)
    figure.update_annotations(font_size=_FONT_PX - 2)
    return figure


def _answer(answer: Answer) -> Slide:
    explanation = () if answer.recommended else (advisor_text.explanation(answer.advice),)
    return Slide(
        "Which Whisper should we run, and what does it cost?",
        answer.headline,
        answer.facts,
        explanation,
        notes=(f"Compared with {advisor_text.REFERENCE}.",),
    )


def _tradeoff(answer: Answer) -> Slide:
    chosen = answer.recommended
    message = f"{counted(len(answer.advice.candidates), 'configuration')} compared with fp32"
    if chosen is not None and chosen.comparison is not None:
        loss = f"{chosen.comparison.rate_name} {signed(chosen.comparison.difference.value)} points"
        words = "" if chosen.latency is None else advisor_text.speed_words(chosen.latency.value)
        message = f"{capitalized(words)}, {loss}" if words else loss
    return Slide(
        "Speed and accuracy",
        message,
        figure=_large(speed_figure(answer)),
        alt="Speed of each configuration relative to fp32, and the change in WER.",
        notes=(speed_note(answer),),
    )


def speed_figure(answer: Answer, screens: overview_chart.Screens = _SCREENS) -> go.Figure:
    """The Overview's plot of everything that the answer was chosen from.

    screens: see `overview_chart.overview_figure`; by default those of slides.
    """
    chosen = answer.recommended
    roles = {} if chosen is None else {chosen.run.key: overview_chart.RECOMMENDED}
    if answer.reference is not None:
        roles[answer.reference.run.key] = overview_chart.REFERENCE
    shown = overview_chart.drawable(c.configuration for c in answer.advice.candidates)
    return overview_chart.overview_figure(shown.configurations, roles, answer.margin, screens)


def speed_note(answer: Answer) -> str:
    """What the plot's areas and colours mean."""
    return f"Area: size. Shaded: WER rises by less than {answer.margin:g} points."


def _cost(answer: Answer) -> Slide:
    """What the recommended configuration and staying with fp32 cost."""
    chosen, reference = answer.recommended, answer.reference
    options = [c for c in (reference, chosen) if c is not None]
    names = [
        f"fp32, {c.protocol.label}" if c.is_reference else f"{c.recipe}, {c.protocol.label}"
        for c in options
    ]
    rate = "WER"
    if chosen is not None and chosen.comparison is not None:
        rate = chosen.comparison.rate_name
    rates = [f"{c.rate_pct:.2f} %" for c in options]
    if chosen is not None and reference is not None:
        rates[0] = f"{chosen.reference_rate_pct:.2f} %"
    table = Table(
        ("", *names),
        (
            ("Size", *map(size_text, options)),
            ("An hour of audio", *map(hour_text, options)),
            (rate, *rates),
        ),
    )
    timed = next((c for c in options if c.rtf is not None), None)
    speed = "Speed was not measured." if timed is None else _machine(timed)
    return Slide(
        "Cost and benefit",
        _cost_message(chosen, reference),
        table=table,
        notes=(speed, *((f"{rate} on {speech_text(options[-1])}.",) if options else ())),
    )


def _machine(configuration: Configuration) -> str:
    """Where its times were measured."""
    threads = counted(configuration.timed.spec.threads, "thread")
    return f"Times: {configuration.row['cpu']}, {threads}."


def _cost_message(chosen: Configuration | None, reference: Configuration | None) -> str:
    if chosen is None:
        return "Staying with fp32 is what we can justify today"
    if reference is None:
        return f"What {chosen.recipe} costs"
    if chosen.rtf is None or reference.rtf is None:
        return f"{size_text(chosen)} instead of {size_text(reference)}"
    return (
        f"An hour of audio in {hour_text(chosen)} instead of {hour_text(reference)},"
        f" with {size_text(chosen)} instead of {size_text(reference)}"
    )


def _certainty(answer: Answer) -> Slide:
    chosen, shown = answer.recommended, answer.front
    figure = interval_charts.configurations_figure(shown, answer.margin, chosen)
    if answer.how_sure:
        message, *rest = answer.how_sure
    else:
        message, rest = "No quantized configuration is shown to be accurate enough yet", []
    verdicts = [c.comparison.verdict for c in shown if c.comparison is not None]
    inconclusive = verdicts.count(Verdict.INCONCLUSIVE)
    lines = "Lines: 95 % intervals, cut off at the edge."
    if inconclusive:
        lines += f" Too close to call: {inconclusive} of the {len(verdicts)} shown."
    return Slide(
        "How sure is that?",
        message.removesuffix("."),
        figure=_large(figure),
        alt="WER differences from fp32 with 95 % intervals; each configuration is named.",
        notes=(*rest[:2], lines),
    )


def _next_steps(answer: Answer) -> Slide:
    chosen, reference = answer.recommended, answer.reference
    measured: list[str] = []
    limits = ["Your audio may differ: measure on your own recordings."]
    if chosen is not None and chosen.pool is not None:
        measured.append(f"{advisor_text.evaluated_on(chosen)}.")
        loops = loops_text(chosen.pool.loops)
        limits.append(f"{capitalized(loops)}.")
    elif reference is not None:
        measured.append(f"fp32: {advisor_text.evaluated_on(reference)}.")
    measured.append("Every difference: same utterances, fp32 under the Study protocol.")
    timed = next((c for c in (chosen, reference) if c is not None and c.rtf is not None), None)
    if timed is not None:
        measured.append(_machine(timed))
        limits.append("Times hold for this kind of machine.")
    has_steps = bool(answer.commands)
    return Slide(
        "What next?",
        "One measurement would settle more" if has_steps else "What was measured, and its limits",
        blocks=(
            Block("What would settle more", answer.to_settle),
            Block("How it was measured", tuple(measured)),
            Block("Limits", tuple(limits)),
        ),
    )
