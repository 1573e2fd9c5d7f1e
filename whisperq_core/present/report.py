"""A report of results as HTML for readers, and as CSV and JSON for programs."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from json import dumps
from typing import Any

import pandas as pd

from whisperq_core.analyze import results_table
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.present import report_html
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
    *("difference_high", "lower_wer_pct", "verdict", "verdict_rate", "minutes_needed", "loops"),
    *("wer_without_loops_pct", "cer_pct", "cer_low_pct", "cer_high_pct", "rtf", "rtf_low"),
    *("rtf_high", "rtf_ratio", "rtf_ratio_low", "rtf_ratio_high", "weights_bytes"),
    *("size_reduction_pct", "utterances", "audio_s", "kernels", "versions", "created_at"),
    *("key", "speed_key"),
)


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
    built = _sections(runs, baseline, margin)
    return report_html.render_page(built, title or report_title(built), date, x, y)


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
    built = _sections(runs, baseline, margin)
    content = {
        "title": title or report_title(built),
        "date": date.isoformat(),
        "baseline": baseline,
        "margin_points": margin,
        "command": report_command(built, ".json"),
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
                "machine": s.machine.model_dump(),
                "device": s.newest.spec.device,
                "threads": s.newest.spec.threads,
                "versions": library_versions([s]),
                "answer": s.answer,
                "command": s.command,
                "results": [_plain(row) for row in s.frame[list(COLUMNS)].to_dict("records")],
            }
            for s in built
        ],
    }
    return dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def render(
    runs: Runs, suffix: str, *, date: datetime, baseline: str = "fp32", margin: float = MARGIN
) -> bytes:
    """A report file's content, by its suffix; raises InputError if it is not in SUFFIXES."""
    if suffix not in SUFFIXES:
        raise InputError(
            f"A report cannot be written as “{suffix or 'a file without a suffix'}”. Use a file"
            f" name that ends in {', '.join(SUFFIXES)}."
        )
    if suffix == ".csv":
        return to_csv(runs, baseline=baseline, margin=margin)
    write = to_html if suffix == ".html" else to_json
    return write(runs, date=date, baseline=baseline, margin=margin).encode()


def _sections(runs: Runs, baseline: str, margin: float) -> list[Section]:
    built = build_sections(runs, baseline, margin)
    if not built:
        raise InputError(
            "There is no result to report. Run an evaluation, or select other results."
        )
    return built


def _plain(row: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """A row for JSON: missing values are null, times are ISO 8601."""

    def plain(value: Any) -> Any:
        if pd.isna(value):
            return None
        return value.isoformat() if isinstance(value, datetime) else value

    return {column: plain(value) for column, value in row.items()}
