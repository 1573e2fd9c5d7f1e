"""A report as one HTML page: sections become the values of `templates/report.html.j2`."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from whisperq_core.analyze import evidence_table, results_table
from whisperq_core.analyze.condition_effects import ConditionEffect
from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.evaluate.notes import Note
from whisperq_core.plurals import counted
from whisperq_core.present import (
    advisor_text,
    condition_charts,
    condition_text,
    glossary,
    interval_charts,
    report_sections,
    templating,
    tradeoff_chart,
)
from whisperq_core.present.answer import Answer
from whisperq_core.present.labels import protocol_label, verdict_label
from whisperq_core.present.report_sections import (
    Section,
    Selection,
    format_signed,
    join_unique,
    library_versions,
    report_command,
)
from whisperq_core.present.shown_notes import shown_notes
from whisperq_core.whisper.protocols import Protocol

Facts = list[tuple[str, str]]
# The page of a run by its key, where there are pages.
Links = dict[str, str]
NO_LINKS: Links = {}

_VERDICT_MEANINGS = {
    Verdict.BETTER: "significantly lower WER than the baseline",
    Verdict.NO_WORSE: "the WER increase is shown to be below the margin, at 95 % confidence",
    Verdict.WORSE: "significantly higher WER than the baseline",
    Verdict.INCONCLUSIVE: "not enough test audio for a conclusion; this does not show equality",
    BASELINE: "the recipe that all others are compared with",
    NOT_COMPARED: "the baseline was not run on the same speech",
}
_TERMS = (
    *("WER", "CER", "95 % interval", "Probability of a lower WER", "Minutes for a conclusion"),
    *("Loops", "RTF", "Relative latency", "Size"),
)
_KERNELS = {
    "library": "the quantization library's own",
    "dequantized": "fp32 layers with dequantized weights, for accuracy only; the transcripts are"
    " the same. Speed is always measured with the library's own",
}
_SETTING_NAMES = {
    "margin_s": "margin (s)",
    "fold": "silence folded by",
    "merge_at": "positions merged after",
    "tied": "projection tied",
}
_FONT = "Segoe UI, Roboto, Helvetica Neue, Arial, Liberation Sans, sans-serif"
_AXIS_NOTE = "Arrows mark values beyond the axis; lines at the edge are truncated."
# A table with more rows may be cut between pages.
_MOST_ROWS_A_PAGE = 24
# The colours of what a condition changes: those of verdicts.
_EFFECT_STYLES = {
    "costs more": "worse",
    "costs less": "better",
    "too close to call": "inconclusive",
}


@dataclass(frozen=True)
class Figure:
    """A plot: its data as JSON, which the script at the end of the page draws."""

    title: str
    note: str
    height: int
    data: Markup


@dataclass(frozen=True)
class Cell:
    """A table cell.

    interval: shown below the text. style: "code", "sets" or a verdict's class. href: of a code.
    """

    text: str
    interval: str = ""
    style: str = ""
    href: str = ""


@dataclass(frozen=True)
class Row:
    """A table row, headed by a recipe's name; href: where that leads."""

    name: str
    cells: list[Cell]
    is_baseline: bool = False
    href: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first heading is that of the rows' names."""

    header: list[str]
    rows: list[Row]
    is_long: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_long", len(self.rows) > _MOST_ROWS_A_PAGE)


def render_page(
    answer: Answer,
    sections: list[Section],
    title: str,
    date: datetime,
    x: Sequence[str],
    y: str,
    selection: Selection,
    notes: Iterable[Note] = (),
    effects: Sequence[ConditionEffect] = (),
) -> str:
    """The whole page, which needs no network: the answer first, then the sections.

    x, y: the metrics of the trade-off figures, one figure for each x. selection: of the sections.
    effects: of conditions, such as noise, on what recipes cost.
    """
    plotly, draw = get_plotlyjs(), templating.source("report.js.j2")
    return templating.render_template(
        "report.html.j2",
        policy=templating.content_security_policy((plotly, draw)),
        title=title,
        date=f"{date:%-d %B %Y}",
        **answer_values(answer),
        **results_values(sections, selection, notes, x, y, effects=effects),
        plotly=templating.script(plotly),
        draw=templating.script(draw),
    )


def answer_values(answer: Answer, links: Links = NO_LINKS) -> dict[str, object]:
    """What the templates show of the answer. links: the page of a run by its key."""
    return {
        "answer": answer if answer.has_results else None,
        "explanation": _explanation(answer),
        "intervals": _answer_figure(answer),
        "configurations": _configurations(answer, links),
    }


def results_values(
    sections: list[Section],
    selection: Selection,
    notes: Iterable[Note],
    x: Sequence[str],
    y: str,
    links: Links = NO_LINKS,
    effects: Sequence[ConditionEffect] = (),
) -> dict[str, object]:
    """What the templates show of the sections; see `render_page`."""
    runs = [run for section in sections for run in section.runs]
    return {
        "overview": _overview(sections),
        "alone": report_sections.ALONE,
        "sections": [_section_values(section, sections, x, y, links) for section in sections],
        "conditions": _conditions(effects),
        "notes": shown_notes(runs, notes, links),
        "terms": _terms(sections),
        "has_own_sets": not all(s.eval_set for s in sections),
        "command": report_command(sections, selection),
        "credits": join_unique(s.eval_set.attribution for s in sections if s.eval_set),
    }


def _conditions(effects: Sequence[ConditionEffect]) -> dict[str, object] | None:
    """The answer on conditions, a figure for each measure, model and set, and every change."""
    if not effects:
        return None
    groups: dict[tuple[str, ...], list[ConditionEffect]] = {}
    rows = []
    for effect in effects:
        place = effect.model, effect.protocol, effect.eval_set
        groups.setdefault((*place, effect.measure), []).append(effect)
        is_factor = effect.measure == "divergence"
        show = _number if is_factor else format_signed
        change = effect.change
        value = show(change.value)
        cells = [
            Cell(f"{effect.model}, {effect.eval_set}"),
            Cell(condition_text.condition_label(effect.condition)),
            Cell("divergence" if is_factor else "WER (points)"),
            Cell(show(effect.in_quiet)),
            Cell(show(effect.under_condition)),
            _with_interval(f"× {value}" if is_factor else value, change.low, change.high, show),
            Cell(effect.verdict, style=_EFFECT_STYLES[effect.verdict]),
            Cell(_number(effect.minutes_needed or math.nan, 0)),
        ]
        rows.append(Row(effect.recipe, cells))
    figures = [
        page_figure(
            f"{model} on {eval_set}: {'WER' if measure == 'WER' else 'divergence'} by condition",
            "Filled: a change from quiet that is shown. Open: too close to call.",
            condition_charts.curves(own),
        )
        for (model, _, eval_set, measure), own in groups.items()
    ]
    header = ["Recipe", "Model and speech", "Condition", "Measure", "In quiet", "Under it"]
    header += ["Change", "Verdict", "Minutes for a conclusion"]
    return {
        "sentences": condition_text.summary(effects),
        "figures": figures,
        "table": Table(header, rows),
    }


def _explanation(answer: Answer) -> list[str]:
    """What the facts do not say: why none is recommended, and what is at a lower confidence."""
    why = "" if answer.recommended else advisor_text.explanation(answer.advice)
    return list(filter(None, (why, advisor_text.alternative(answer.advice))))


def _answer_figure(answer: Answer) -> Figure | None:
    return page_figure(
        "WER difference from fp32 with 95 % intervals",
        "The configurations that no other beats on both speed and WER, the fastest first."
        f" Intervals are corrected for everything that was compared. {_AXIS_NOTE}",
        interval_charts.configurations_figure(answer.front, answer.margin, answer.recommended),
    )


def _configurations(answer: Answer, links: Links) -> Table | None:
    """Everything that the answer was chosen from, the smallest first."""
    header = ["Recipe", "Protocol", "Size (MB)", "Relative latency (× fp32)", "WER (%)"]
    header += ["WER difference (points)", "Verdict", "Confidence (%)"]
    header += ["Divergence (mnat per token)", "Minutes", "Evaluation sets"]
    chosen = [c.configuration for c in answer.advice.candidates]
    frame = evidence_table.evidence(chosen)
    several = frame["model"].nunique() > 1
    rows = [
        Row(
            f"{row['recipe']} · {row['model']}" if several else row["recipe"],
            [
                Cell(protocol_label(row["protocol"])),
                Cell(f"{row['weights_bytes'] / 1e6:.0f}"),
                _with_interval(
                    _number(row["latency"]), row["latency_low"], row["latency_high"], _number
                ),
                Cell(_number(row["wer_pct"])),
                _with_interval(
                    format_signed(row["difference"]), row["low"], row["high"], format_signed
                ),
                Cell(row["verdict"], style="no-worse" if row["shown"] else ""),
                Cell(_number(row["within_margin_pct"], 0)),
                Cell(_number(row["divergence_mnat"], 1)),
                Cell(f"{row['minutes']:.0f}"),
                Cell(row["sets"], style="sets"),
            ],
            row["is_reference"],
            links.get(row["key"], ""),
        )
        for _, row in frame.iterrows()
    ]
    return Table(header, rows) if rows else None


def _overview(sections: list[Section]) -> Facts:
    recipes = {run.spec.recipe.name for s in sections for run in s.runs}
    return [
        ("Models", join_unique(s.newest.model for s in sections)),
        ("Recipes", f"{len(recipes)}, named in the tables"),
        ("Speech", "; ".join(dict.fromkeys(_speech(s) for s in sections))),
        ("Protocol", "; ".join(dict.fromkeys(_protocol(s) for s in sections))),
        ("Machine", " | ".join(dict.fromkeys(_machine(s) for s in sections))),
        (
            "Baseline",
            f"{sections[0].baseline}; margin: {sections[0].margin:g} points of {_rates(sections)}",
        ),
    ]


def _rates(sections: list[Section]) -> str:
    """What verdicts compare: WER, CER, or both where sections differ in it."""
    return " or ".join(sorted({section.rate for section in sections}, reverse=True))


def _section_values(
    section: Section, sections: list[Section], x: Sequence[str], y: str, links: Links
) -> dict[str, object]:
    """What the template shows of a section."""
    return {
        "heading": section_heading(section, sections),
        "answer": section.answer,
        "conditions": [
            ("Speech", _speech(section)),
            ("Protocol", _protocol(section)),
            ("Machine", _machine(section)),
        ],
        "figures": [
            figure for figure in (*_interval_figures(section), *tradeoffs(section, x, y)) if figure
        ],
        "results": _results(section, links),
        "notes": list(_notes(section)),
        "measurement": _measurement(section),
        "records": _records(section, links),
        "command": section.command,
    }


def _speech(section: Section) -> str:
    utterances = counted(len(section.newest.utterances), "utterance")
    minutes = f"{section.minutes:.1f} minutes"
    return f"{section.set_title}: {minutes}, {utterances}, {section.speakers_text}"


def _protocol(section: Section) -> str:
    protocol = section.newest.spec.protocol
    return f"{protocol.label}: {protocol.summary}"


def _machine(section: Section) -> str:
    return section.machine_text


def _protocol_label(section: Section) -> str:
    return section.newest.spec.protocol.label


def section_heading(section: Section, sections: list[Section]) -> str:
    """The section's title, with protocol and machine where sections differ in them."""
    texts = [section.title]
    for text in (_protocol_label, _machine):
        if len({text(s) for s in sections}) > 1:
            texts.append(text(section))
    return " · ".join(texts)


def _interval_figures(section: Section) -> Iterator[Figure | None]:
    frame, baseline = section.frame, section.baseline
    yield page_figure(
        f"{section.rate} with 95 % intervals",
        _AXIS_NOTE,
        interval_charts.rate_figure(frame, baseline),
    )
    yield page_figure(
        f"{section.rate} difference from {baseline} with 95 % intervals",
        "Comparisons are paired, so a difference can be significant where the intervals above"
        " overlap. Verdicts and intervals of differences are corrected for multiple comparisons."
        f" {_AXIS_NOTE}",
        interval_charts.difference_figure(frame, section.margin, baseline),
    )


def tradeoffs(section: Section, x: Sequence[str], y: str) -> Iterator[Figure | None]:
    """A metric against each of others; None where nothing was measured."""
    frame = section.frame
    metric, beyond = results_table.METRICS[y], tradeoff_chart.beyond_axis(frame, y)
    plotted = frame.loc[~beyond, list(results_table.COLUMNS)]
    left_out = join_unique(
        f"{row['recipe']} ({metric.show(row[y])})" for _, row in frame[beyond].iterrows()
    )
    for column in x:
        missing = int(plotted[[column, y]].isna().any(axis=1).sum())
        notes = (
            "Labels mark configurations that are Pareto-optimal as measured, possibly by chance.",
            f"Not drawn, beyond the axis: {left_out}." if left_out else "",
            f"Not drawn, not measured: {missing}." if missing else "",
        )
        log = column.startswith("rtf")
        plot = tradeoff_chart.tradeoff_figure(plotted, column, y, log_x=log, show_all=True)
        title = f"{metric.label} against {results_table.METRICS[column].label}"
        yield page_figure(title, " ".join(filter(None, notes)), plot)


def page_figure(title: str, note: str, figure: go.Figure) -> Figure | None:
    """A figure for a page; None where it has no data."""
    if not figure.data:
        return None
    figure = go.Figure(figure)
    figure.update_layout(template="none", font_family=_FONT, clickmode="event", autosize=True)
    data = templating.json_script(figure.to_json())
    return Figure(title, note, int(figure.layout.height), data)


def _number(value: float, decimals: int = 2) -> str:
    return "–" if pd.isna(value) else f"{value:.{decimals if value < 100 else 0}f}"


def _with_interval(text: str, low: float, high: float, show: Callable[[float], str]) -> Cell:
    return Cell(text, "" if pd.isna(low) else f"{show(low)} to {show(high)}")


def _verdict_cell(verdict: str, baseline: str) -> Cell:
    return Cell(verdict_label(verdict, baseline), style=str(verdict).replace(" ", "-"))


def _share(value: float) -> str:
    if pd.isna(value):
        return "–"
    return "> 99 %" if value > 99 else "< 1 %" if value < 1 else f"{value:.0f} %"


_COLUMNS: dict[str, Callable[[pd.Series, str], Cell]] = {
    "WER (%)": lambda r, _: _with_interval(
        _number(r["wer_pct"]), r["wer_low_pct"], r["wer_high_pct"], _number
    ),
    "Difference (points)": lambda r, _: _with_interval(
        format_signed(r["difference_points"]),
        r["difference_low"],
        r["difference_high"],
        format_signed,
    ),
    "Probability of a lower WER": lambda r, _: Cell(_share(r["lower_wer_pct"])),
    "Verdict": lambda r, baseline: _verdict_cell(r["verdict"], baseline),
    "Minutes for a conclusion": lambda r, _: Cell(_number(r["minutes_needed"], 0)),
    "Loops": lambda r, _: Cell(str(r["loops"])),
    "WER without loops (%)": lambda r, _: Cell(_number(r["wer_without_loops_pct"])),
    "CER without loops (%)": lambda r, _: Cell(_number(r["cer_without_loops_pct"])),
    "CER (%)": lambda r, _: Cell(_number(r["cer_pct"])),
    "Divergence (mnat per token)": lambda r, _: _with_interval(
        _number(r["divergence_mnat"], 1),
        r["divergence_mnat_low"],
        r["divergence_mnat_high"],
        lambda value: _number(value, 1),
    ),
    "Relative latency (× fp32)": lambda r, _: _with_interval(
        _number(r["rtf_ratio"]), r["rtf_ratio_low"], r["rtf_ratio_high"], _number
    ),
    "Size (MB)": lambda r, _: Cell(f"{r['weights_bytes'] / 1e6:.1f}"),
    "Size reduction (%)": lambda r, _: Cell(_number(r["size_reduction_pct"], 1)),
}


def _results(section: Section, links: Links) -> Table:
    """Without divergence where it was not measured, and with the loops of the rate compared."""
    left_out = {f"{'CER' if section.rate == 'WER' else 'WER'} without loops (%)"}
    if section.frame["divergence_mnat"].isna().all():
        left_out.add("Divergence (mnat per token)")
    columns = {name: cell for name, cell in _COLUMNS.items() if name not in left_out}
    rows = [
        Row(
            row["recipe"],
            [cell(row, section.baseline) for cell in columns.values()],
            row["recipe"] == section.baseline,
            links.get(row["key"], ""),
        )
        for _, row in section.frame.iterrows()
    ]
    return Table(["Recipe", *(_of_rate(name, section.rate) for name in columns)], rows)


def runs_table(section: Section, links: Links) -> Table:
    """The runs of a section in few columns, each with its page."""
    columns = ("WER (%)", "Loops", "Verdict", "Size (MB)", "Relative latency (× fp32)")
    rows = [
        Row(
            row["recipe"],
            [_COLUMNS[column](row, section.baseline) for column in columns],
            row["recipe"] == section.baseline,
            links.get(row["key"], ""),
        )
        for _, row in section.frame.iterrows()
    ]
    return Table(["Recipe", *columns], rows)


def _of_rate(text: str, rate: str) -> str:
    """A text on WER differences as one on those of the rate that is compared."""
    if rate == "WER":
        return text
    text = text.replace("Difference (points)", f"Difference (points of {rate})")
    return text.replace("lower WER", f"lower {rate}").replace("higher WER", f"higher {rate}")


def _records(section: Section, links: Links) -> Table:
    rows = [
        Row(
            row["recipe"],
            [
                Cell(row["key"], style="code", href=links.get(row["key"], "")),
                Cell("–" if pd.isna(row["speed_key"]) else row["speed_key"], style="code"),
                Cell(row["kernels"]),
                Cell(f"{row['created_at']:%Y-%m-%d %H:%M}"),
            ],
        )
        for _, row in section.frame.iterrows()
    ]
    header = ["Recipe", "Accuracy record", "Speed record", "Kernels", "Measured (UTC)"]
    return Table(header, rows)


def _notes(section: Section) -> Iterator[str]:
    resampled = section.frame["resampled"].iloc[0]
    yield (
        f"Below each value: its 95 % interval (bootstrap over {resampled}); below relative latency:"
        " the range of repeated passes. Verdicts and intervals of differences are corrected for"
        f" {counted(section.compared_with, 'comparison')}: everything that was measured on this"
        " speech."
    )
    single = int((section.frame["rtf_source"] == "single pass").sum())
    counts = (
        (section.elsewhere, "transcribed on another machine, which changes a word now and then"),
        (single, "RTF is from a single pass, not from passes alternating with fp32"),
        (section.timed_elsewhere, "speed was measured on another machine only and is not shown"),
        (section.superseded, "replaced by a newer result of the same recipe and not shown"),
    )
    for count, note in counts:
        if count:
            yield f"{counted(count, 'result')}: {note}."


def _measurement(section: Section) -> Facts:
    run, frame = section.newest, section.frame
    first, last = frame["created_at"].min(), frame["created_at"].max()
    kernels = [name for name in _KERNELS if (frame["kernels"] == name).any()]
    return [
        ("Speech", _speech(section)),
        ("Protocol", f"{_protocol(section)}. {run.spec.protocol.description}"),
        ("Settings", "; ".join(_settings(run.spec.protocol))),
        ("Machine", f"{_machine(section)}; {run.machine.system}, Python {run.machine.python}"),
        ("Libraries", ", ".join(f"{k} {v}" for k, v in library_versions([section]).items())),
        ("Kernels", "; ".join(f"{name}: {_KERNELS[name]}" for name in kernels)),
        ("Dates", join_unique((f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}")).replace(", ", " to ")),
        ("Weights digest", run.spec.weights_digest),
        ("Evaluation set digest", run.spec.eval_set_digest),
    ]


def _settings(protocol: Protocol) -> Iterator[str]:
    """The protocol's fields in words; what it does not use is left out."""
    for name, value in asdict(protocol).items():
        shown = value
        if name == "name" or (value is None and name != "language"):
            continue
        if value is None:
            shown = "that of each utterance"
        elif isinstance(value, tuple):
            shown = ", ".join(map(str, value))
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        yield f"{_SETTING_NAMES.get(name, name.replace('_', ' '))}: {shown}"


def _terms(sections: list[Section]) -> Facts:
    occurring = {v for s in sections for v in s.frame["verdict"]}
    baseline = sections[0].baseline
    rates = _rates(sections)
    verdicts = "; ".join(
        f"“{verdict_label(verdict, baseline)}”: {text.replace('WER', rates)}"
        for verdict, text in _VERDICT_MEANINGS.items()
        if verdict in occurring
    )
    diverged = any(s.frame["divergence_mnat"].notna().any() for s in sections)
    names = (*_TERMS, "Divergence") if diverged else _TERMS
    terms = {name: glossary.definition(name) for name in names}
    if rates == "CER":
        probability = "Probability of a lower WER"
        terms[_of_rate(probability, rates)] = _of_rate(terms.pop(probability), rates)
    terms["Verdict"] = (
        f"Result of comparing {rates} with the baseline's, corrected for multiple comparisons."
        f" {verdicts}."
    )
    return list(terms.items())
