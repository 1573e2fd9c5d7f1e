"""The inside of a report's page: sections as HTML. All names and texts in it are escaped."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape

import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze import results_table
from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.present import glossary, interval_charts, tradeoff_chart
from whisperq_core.present.report_sections import (
    Section,
    format_signed,
    join_unique,
    library_versions,
    report_command,
)

_VERDICTS = {
    Verdict.BETTER: "its WER is lower than the baseline's",
    Verdict.NO_WORSE: "it loses less WER than the margin",
    Verdict.WORSE: "its WER is higher than the baseline's",
    Verdict.INCONCLUSIVE: "this speech is too little to tell; it is no proof of equality",
    BASELINE: "what all others are compared with",
    NOT_COMPARED: "the baseline was not run on the same speech",
}
_EXPLAINED = (
    *("WER", "CER", "95% interval", "Probability of a lower WER", "Minutes to decide", "Loops"),
    *("RTF", "RTF / fp32", "Size"),
)
_FONT = "Segoe UI, Roboto, Helvetica Neue, Arial, Liberation Sans, sans-serif"


def body(found: list[Section], title: str, date: datetime, x: Sequence[str], y: str) -> str:
    """The whole page: overview, sections, how to read it, and where it came from.

    x, y: the metrics of the trade-off figures, one figure for each x.
    """
    return "\n".join(
        (
            f"<header><h1>{escape(title)}</h1>",
            f'<p class="muted">{date:%-d %B %Y} · WhisperQ</p></header>',
            _list(_overview(found)),
            _contents(found) if len(found) > 1 else "",
            *(_section(s, number, found, x, y) for number, s in enumerate(found, 1)),
            _how_to_read(found),
            _reproduce(found),
        )
    )


def _list(facts: Iterable[tuple[str, str]]) -> str:
    """Labels and texts."""
    rows = (f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts)
    return f"<dl>{''.join(rows)}</dl>"


def _overview(found: list[Section]) -> list[tuple[str, str]]:
    recipes = join_unique(run.spec.recipe.name for s in found for run in s.runs)
    return [
        ("Models", join_unique(s.newest.model for s in found)),
        ("Recipes", recipes),
        ("Speech", "; ".join(dict.fromkeys(_speech(s) for s in found))),
        ("Protocol", "; ".join(dict.fromkeys(_protocol(s) for s in found))),
        ("Machine", " | ".join(dict.fromkeys(_machine(s) for s in found))),
        ("Compared with", f"{found[0].baseline}, with a margin of {found[0].margin:g} points"),
    ]


def _speech(section: Section) -> str:
    count = len(section.newest.utterances)
    speakers = f"{section.speakers} speakers" if section.speakers else "speakers not known"
    title = section.eval_set.title if section.eval_set else section.newest.eval_set
    return f"{title}: {section.minutes:.1f} minutes, {count} utterances, {speakers}"


def _protocol(section: Section) -> str:
    protocol = section.newest.spec.protocol
    return f"“{protocol.name}”: {protocol.summary}"


def _machine(section: Section) -> str:
    spec, machine = section.newest.spec, section.newest.machine
    return f"{machine.cpu}, {machine.cores} cores; {spec.device}, {spec.threads} threads"


def _contents(found: list[Section]) -> str:
    """The sections and the first sentence of each one's answer."""
    lines = (
        f'<li><a href="#section-{number}">{escape(_heading(s, found))}</a>:'
        f" {escape(s.answer[0])}</li>"
        for number, s in enumerate(found, 1)
    )
    return f"<nav><ol>{''.join(lines)}</ol></nav>"


def _heading(section: Section, found: list[Section]) -> str:
    """The section's title, and its protocol, device and machine where these differ."""
    texts = [section.title]
    for text in (_protocol_name, _machine):
        if len({text(s) for s in found}) > 1:
            texts.append(text(section))
    return " · ".join(texts)


def _protocol_name(section: Section) -> str:
    return section.newest.spec.protocol.name


def _section(section: Section, number: int, found: list[Section], x: Sequence[str], y: str) -> str:
    answer = "".join(f"<p>{escape(sentence)}</p>" for sentence in section.answer)
    apart = [("Speech", _speech), ("Protocol", _protocol), ("Machine", _machine)]
    facts, heading = "", _heading(section, found)
    if len(found) > 1:
        facts = _list((label, text(section)) for label, text in apart)
        heading = f"{number}. {heading}"
    return "\n".join(
        (
            f'<section id="section-{number}"><h2>{escape(heading)}</h2>',
            facts,
            f'<div class="answer">{answer}</div>',
            *_figures(section, x, y),
            "<h3>All results</h3>",
            _results(section),
            *(f'<p class="note">{escape(note)}</p>' for note in _notes(section)),
            "<h3>How it was measured</h3>",
            _list(_measured(section)),
            _records(section),
            "<p>Measured again by:</p>",
            f"<pre>{escape(section.command)}</pre></section>",
        )
    )


def _figures(section: Section, x: Sequence[str], y: str) -> Iterator[str]:
    frame, baseline = section.frame, section.baseline
    beyond = "Arrows are off the chart, with their value; lines that reach the edge go on."
    yield _figure(
        "Word error rate with its 95% interval", beyond, interval_charts.wer_figure(frame, baseline)
    )
    yield _figure(
        f"Word error rate minus that of {baseline}, with its 95% interval",
        f"{beyond} Verdicts are corrected for how many recipes are compared, intervals are not.",
        interval_charts.difference_figure(frame, section.margin),
    )
    shown, off = results_table.METRICS[y], tradeoff_chart.beyond_axis(frame, y)
    plotted = frame.loc[~off, list(results_table.COLUMNS)]
    apart = join_unique(
        f"{row['recipe']} ({shown.show(row[y])})" for _, row in frame[off].iterrows()
    )
    for column in x:
        missing = int(plotted[[column, y]].isna().any(axis=1).sum())
        notes = (
            "Named: what no other result beats on both as measured, which may be chance.",
            f"Not drawn, to leave room for the rest: {apart}." if apart else "",
            f"{missing} not drawn, for they were not measured." if missing else "",
        )
        log = column.startswith("rtf")
        plot = tradeoff_chart.tradeoff_figure(plotted, column, y, log_x=log, show_all=True)
        title = f"{shown.label} against {results_table.METRICS[column].label}"
        yield _figure(title, " ".join(filter(None, notes)), plot)


def _figure(title: str, note: str, figure: go.Figure) -> str:
    """A figure's data, for the script at the page's end to draw; nothing where it is empty."""
    if not figure.data:
        return ""
    figure = go.Figure(figure)
    figure.update_layout(template="none", font_family=_FONT, clickmode="event", autosize=True)
    data = figure.to_json().replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    return (
        f'<div class="figure"><h3>{escape(title)}</h3><p>{escape(note)}</p>'
        f'<div class="plot" role="img" aria-label="{escape(title)}"'
        f' style="height:{figure.layout.height}px"></div>'
        f'<script type="application/json">{data}</script></div>'
    )


def _number(value: float, decimals: int = 2) -> str:
    return "–" if pd.isna(value) else f"{value:.{decimals if value < 100 else 0}f}"


def _with_range(text: str, low: float, high: float, show: Callable[[float], str]) -> str:
    """A value above the ends of its range."""
    return text if pd.isna(low) else f"{text}<small>{show(low)} to {show(high)}</small>"


def _verdict(row: pd.Series) -> str:
    verdict = row["verdict"]
    return f'<span class="verdict {verdict.replace(" ", "-")}">{escape(verdict)}</span>'


def _share(value: float) -> str:
    if pd.isna(value):
        return "–"
    return "> 99 %" if value > 99 else "< 1 %" if value < 1 else f"{value:.0f} %"


_CELLS: dict[str, Callable[[pd.Series], str]] = {
    "WER (%)": lambda r: _with_range(
        _number(r["wer_pct"]), r["wer_low_pct"], r["wer_high_pct"], _number
    ),
    "Difference (points)": lambda r: _with_range(
        format_signed(r["difference_points"]),
        r["difference_low"],
        r["difference_high"],
        format_signed,
    ),
    "Probability of a lower WER": lambda r: _share(r["lower_wer_pct"]),
    "Verdict": _verdict,
    "Minutes to decide": lambda r: _number(r["minutes_needed"], 0),
    "Loops": lambda r: str(r["loops"]),
    "WER without loops (%)": lambda r: _number(r["wer_without_loops_pct"]),
    "CER (%)": lambda r: _number(r["cer_pct"]),
    "RTF / fp32": lambda r: _with_range(
        _number(r["rtf_ratio"]), r["rtf_ratio_low"], r["rtf_ratio_high"], _number
    ),
    "Size (MB)": lambda r: f"{r['weights_bytes'] / 1e6:.1f}",
    "Smaller by (%)": lambda r: _number(r["size_reduction_pct"], 1),
}


def _results(section: Section) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in ("Recipe", *_CELLS))
    lines = []
    for _, row in section.frame.iterrows():
        cells = "".join(f"<td>{cell(row)}</td>" for cell in _CELLS.values())
        kind = ' class="baseline"' if row["recipe"] == section.baseline else ""
        lines.append(f"<tr{kind}><th scope='row'>{escape(row['recipe'])}</th>{cells}</tr>")
    return _table(head, lines)


def _records(section: Section) -> str:
    names = ("Recipe", "Accuracy record", "Speed record", "Kernels", "Measured (UTC)")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    lines = []
    for _, row in section.frame.iterrows():
        speed = "–" if pd.isna(row["speed_key"]) else row["speed_key"]
        cells = (f"<code>{row['key']}</code>", f"<code>{escape(speed)}</code>", row["kernels"])
        cells = (*cells, f"{row['created_at']:%Y-%m-%d %H:%M}")
        lines.append(
            f"<tr><th scope='row'>{escape(row['recipe'])}</th>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    return _table(head, lines)


def _table(head: str, lines: list[str]) -> str:
    """A table that scrolls on narrow screens, and is cut on paper only where it fills a page."""
    kind = ' class="long"' if len(lines) > 24 else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _notes(section: Section) -> Iterator[str]:
    compared = int(section.frame["verdict"].isin(tuple(Verdict)).sum())
    resampled = section.frame["resampled"].iloc[0]
    yield (
        f"Below a value: its 95% interval over {resampled}, or for RTF / fp32 the lowest and the"
        f" highest pass. Verdicts are Holm-corrected over {compared} comparisons."
    )
    if section.baseline_machine:
        yield (
            f"{section.baseline} was measured on another machine ({section.baseline_machine});"
            " transcripts do not depend on the processor."
        )
    single = int((section.frame["rtf_source"] == "this single pass").sum())
    counts = (
        (single, "RTF of a single pass, not repeated beside fp32"),
        (section.timed_elsewhere, "speed measured on another machine, and left out"),
        (section.superseded, "older results of the same recipe, left out"),
    )
    for count, what in counts:
        if count:
            yield f"{count} of the results: {what}."


def _measured(section: Section) -> list[tuple[str, str]]:
    run, frame = section.newest, section.frame
    first, last = frame["created_at"].min(), frame["created_at"].max()
    fields = {k: v for k, v in asdict(run.spec.protocol).items() if k != "name"}
    settings = (f"{name.replace('_', ' ')}: {_setting(v)}" for name, v in fields.items())
    kernels = {
        "library": "the library's own",
        "dequantized": "fp32 layers with the dequantized weights, for accuracy only: the same"
        " mathematics, faster here. Speed is always of the library's own",
    }
    used = [k for k in kernels if (frame["kernels"] == k).any()]
    return [
        ("Speech", _speech(section)),
        ("Protocol", f"{_protocol(section)}. {run.spec.protocol.description}"),
        ("Settings", "; ".join(settings)),
        ("Machine", f"{_machine(section)}; {run.machine.system}, Python {run.machine.python}"),
        ("Libraries", ", ".join(f"{k} {v}" for k, v in library_versions([section]).items())),
        ("Kernels", "; ".join(f"{k}: {kernels[k]}" for k in used)),
        ("Dates", join_unique((f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}")).replace(", ", " to ")),
        ("Weights", run.spec.weights_digest),
        ("Set's digest", run.spec.eval_set_digest),
    ]


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "each utterance's own" if value is None else str(value)


def _how_to_read(found: list[Section]) -> str:
    occurring = {v for s in found for v in s.frame["verdict"]}
    verdicts = "; ".join(f"“{v}”: {text}" for v, text in _VERDICTS.items() if v in occurring)
    meanings = {name: glossary.definition(name) for name in _EXPLAINED} | {
        "Verdict": f"What is decided of WER, corrected for many: {verdicts}."
    }
    return f"<section><h2>How to read it</h2>{_list(meanings.items())}</section>"


def _reproduce(found: list[Section]) -> str:
    credits = join_unique(s.eval_set.attribution for s in found if s.eval_set)
    own = "" if all(s.eval_set for s in found) else " A set of your own is named by its folder."
    speech = f" Speech: {credits}." if credits else ""
    return (
        "<section><h2>Where this came from</h2><p>Each section above names the command that"
        f" measures its results again.{own} This report is written from stored results by:</p>"
        f"<pre>{escape(report_command(found))}</pre></section>"
        f'<footer class="muted">Whisper is OpenAI\'s (MIT).{escape(speech)}</footer>'
    )
