"""Results for people who decide, and for their programs: HTML, CSV and JSON. Runs in, text out."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from html import escape
from json import dumps
from pathlib import Path
from string import Template

import pandas as pd
from plotly.offline import get_plotlyjs

from whisperq_core.analyze import results_table
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.present.report_html import body
from whisperq_core.present.report_sections import (
    Section,
    build_sections,
    library_versions,
    report_command,
    report_title,
)

Runs = Iterable[AccuracyRun | SpeedRun]

SUFFIXES = (".html", ".csv", ".json")
# The columns of the CSV and of the JSON's results. Units are in the names; sizes are in bytes.
COLUMNS = (
    *("model", "set", "protocol", "device", "threads", "machine", "recipe"),
    *("wer_pct", "wer_low_pct", "wer_high_pct", "difference_points", "difference_low"),
    *("difference_high", "lower_wer_pct", "verdict", "minutes_needed", "loops"),
    *("wer_without_loops_pct", "cer_pct", "cer_low_pct", "cer_high_pct", "rtf", "rtf_low"),
    *("rtf_high", "rtf_ratio", "rtf_ratio_low", "rtf_ratio_high", "weights_bytes"),
    *("size_reduction_pct", "utterances", "audio_s", "kernels", "versions", "created_at"),
    *("key", "speed_key"),
)
# Plots take the page's width. On paper they get that of A4 without its margins, and two fit a page.
_DRAW = """
const plots = [...document.querySelectorAll(".plot")];
const quiet = {displayModeBar: false, responsive: true};
const heights = new Map();
for (const plot of plots) {
  const figure = JSON.parse(plot.nextElementSibling.textContent);
  heights.set(plot, figure.layout.height);
  Plotly.newPlot(plot, figure.data, figure.layout, quiet);
}
addEventListener("beforeprint", () => {
  for (const plot of plots) {
    const height = Math.min(heights.get(plot), Math.max(400, 0.62 * heights.get(plot)));
    plot.style.height = height + "px";
    Plotly.relayout(plot, {width: 690, height, autosize: false});
  }
});
addEventListener("afterprint", () => {
  for (const plot of plots) {
    const height = heights.get(plot);
    plot.style.height = height + "px";
    Plotly.relayout(plot, {width: null, height, autosize: true});
  }
});
"""


def to_html(
    runs: Runs,
    *,
    date: datetime,
    title: str | None = None,
    baseline: str = "fp32",
    margin: float = MARGIN,
    x: Sequence[str] = ("weights_bytes", "rtf"),
    y: str = "wer_pct",
) -> str:
    """One page that needs no network, for screens of both colour schemes and for A4.

    x, y: the metrics of the trade-off figures, one figure for each x. Raises InputError where there
    is no result.
    """
    found = _sections(runs, baseline, margin)
    title = title or report_title(found)
    scripts = get_plotlyjs(), _DRAW
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=_policy(scripts),
        title=escape(title),
        body=body(found, title, date, x, y),
        plotly=scripts[0],
        draw=scripts[1],
    )


def to_csv(runs: Runs, *, baseline: str = "fp32", margin: float = MARGIN) -> bytes:
    """The same results as CSV in UTF-8, unrounded."""
    frames = [s.frame[list(COLUMNS)] for s in _sections(runs, baseline, margin)]
    return results_table.csv(pd.concat(frames, ignore_index=True))


def to_json(
    runs: Runs,
    *,
    date: datetime,
    title: str | None = None,
    baseline: str = "fp32",
    margin: float = MARGIN,
) -> str:
    """The same results as JSON, unrounded, with all that they depend on."""
    found = _sections(runs, baseline, margin)
    content = {
        "title": title or report_title(found),
        "date": date.isoformat(),
        "baseline": baseline,
        "margin_points": margin,
        "command": report_command(found, ".json"),
        "sections": [
            {
                "model": s.newest.model,
                "set": s.newest.eval_set,
                "set_title": s.eval_set.title if s.eval_set else None,
                "set_digest": s.newest.spec.eval_set_digest,
                "weights_digest": s.newest.spec.weights_digest,
                "utterances": len(s.newest.utterances),
                "minutes": s.minutes,
                "speakers": s.speakers,
                "protocol": asdict(s.newest.spec.protocol)
                | {"summary": s.newest.spec.protocol.summary},
                "machine": s.newest.machine.model_dump(),
                "device": s.newest.spec.device,
                "threads": s.newest.spec.threads,
                "versions": library_versions([s]),
                "answer": s.answer,
                "command": s.command,
                "results": [_plain(row) for row in s.frame[list(COLUMNS)].to_dict("records")],
            }
            for s in found
        ],
    }
    return dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def render(
    runs: Runs, suffix: str, *, date: datetime, baseline: str = "fp32", margin: float = MARGIN
) -> bytes:
    """The report as the file of that suffix holds it: one of SUFFIXES. InputError for others."""
    if suffix not in SUFFIXES:
        raise InputError(
            f"A report cannot be written as “{suffix or 'a file without a suffix'}”. Name a file"
            f" that ends in {', '.join(SUFFIXES)}."
        )
    how = {"baseline": baseline, "margin": margin}
    if suffix == ".csv":
        return to_csv(runs, **how)
    write = to_html if suffix == ".html" else to_json
    return write(runs, date=date, **how).encode()


def _sections(runs: Runs, baseline: str, margin: float) -> list[Section]:
    found = build_sections(runs, baseline, margin)
    if not found:
        raise InputError("There is no result to report. Measure some, or choose others.")
    return found


def _plain(row: dict) -> dict:
    """A row as JSON has it: missing values are null, times are ISO 8601."""

    def plain(value):
        if pd.isna(value):
            return None
        return value.isoformat() if isinstance(value, datetime) else value

    return {column: plain(value) for column, value in row.items()}


def _policy(scripts: Iterable[str]) -> str:
    """What the page may load: nothing; and run: its own scripts, by their digests."""
    digests = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )
