"""A report of results as HTML for readers, and as CSV and JSON for programs."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from json import dumps
from typing import Any

import pandas as pd

from whisperq_core.analyze import results_table
from whisperq_core.analyze.condition_effects import ConditionEffect, table
from whisperq_core.analyze.configurations import Configuration, configurations
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import Run
from whisperq_core.present import advisor_text, report_html, slides
from whisperq_core.present.answer import Answer, answer_of
from whisperq_core.present.report_sections import (
    EVERYTHING,
    Section,
    Selection,
    build_sections,
    effects_under_conditions,
    library_versions,
    notes_on,
    report_command,
    report_title,
)

Runs = Iterable[Run]

SUFFIXES = (".html", ".csv", ".json")
# The columns of the CSV and of the JSON's results. Units are in the names; sizes are in bytes.
COLUMNS = (
    *("model", "set", "protocol", "device", "threads", "machine", "recipe"),
    *("wer_pct", "wer_low_pct", "wer_high_pct", "difference_points", "difference_low"),
    *("difference_high", "lower_wer_pct", "verdict", "verdict_rate", "minutes_needed", "loops"),
    *("wer_without_loops_pct", "cer_pct", "cer_low_pct", "cer_high_pct"),
    *("cer_without_loops_pct", "divergence_mnat", "divergence_mnat_low", "divergence_mnat_high"),
    *("rtf", "rtf_low", "rtf_high", "rtf_ratio", "rtf_ratio_low", "rtf_ratio_high"),
    "weights_bytes",
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
    selection: Selection = EVERYTHING,
    measured: Iterable[Configuration] | None = None,
    notes: Iterable[Note] = (),
    x: Sequence[str] = ("weights_bytes", "rtf"),
    y: str = "wer_pct",
) -> str:
    """One page that needs no network, for screens of both colour schemes and for A4.

    It opens with the Advisor's answer, from all runs and for the selected models; its sections list
    the selected runs. Pass all runs there are: corrections are for everything that was measured.
    measured: `configurations` of the runs with that margin, where they are at hand. notes: of which
    those on listed runs are shown.
    x, y: the metrics of the trade-off figures, one figure for each x. Raises InputError where there
    is no result.
    """
    runs = list(runs)
    built = build_sections(runs, baseline, margin, selection)
    answer = _answer(runs, margin, selection, measured)
    return report_html.render_page(
        answer,
        built,
        title or report_title(built),
        date,
        x,
        y,
        selection,
        notes,
        effects_under_conditions(runs, selection),
    )


def slides_html(
    runs: Runs,
    *,
    date: datetime,
    margin: float = MARGIN,
    selection: Selection = EVERYTHING,
    measured: Iterable[Configuration] | None = None,
) -> str:
    """The answer as five slides on one page that needs no network and prints one slide a page.

    Raises InputError where there is no result to answer from.
    """
    answer = _answer(list(runs), margin, selection, measured)
    if not answer.has_results:
        raise InputError(f"{answer.headline}. {advisor_text.explanation(answer.advice)}")
    return slides.to_html(answer, date)


def _answer(
    runs: list[Run],
    margin: float,
    selection: Selection,
    measured: Iterable[Configuration] | None,
) -> Answer:
    found = configurations(runs, margin=margin) if measured is None else measured
    return answer_of(found, selection.models, margin)


def to_csv(
    runs: Runs,
    *,
    baseline: str = "fp32",
    margin: float = MARGIN,
    selection: Selection = EVERYTHING,
) -> bytes:
    """The selected results as CSV in UTF-8, unrounded."""
    built = build_sections(runs, baseline, margin, selection)
    frames = [s.frame[list(COLUMNS)] for s in built]
    return results_table.csv(pd.concat(frames, ignore_index=True))


def to_json(
    runs: Runs,
    *,
    date: datetime,
    title: str | None = None,
    baseline: str = "fp32",
    margin: float = MARGIN,
    selection: Selection = EVERYTHING,
    measured: Iterable[Configuration] | None = None,
    notes: Iterable[Note] = (),
) -> str:
    """The same results as JSON, unrounded, with all that they depend on."""
    runs = list(runs)
    built = build_sections(runs, baseline, margin, selection)
    content = {
        "title": title or report_title(built),
        "date": date.isoformat(),
        "answer": _answer_values(_answer(runs, margin, selection, measured)),
        "baseline": baseline,
        "margin_points": margin,
        "command": report_command(built, selection, ".json"),
        "sections": [_section_values(section) for section in built],
        "conditions": _effects_values(effects_under_conditions(runs, selection)),
        "notes": [
            note.model_dump(mode="json", exclude={"schema_version", "author"})
            | {"author": note.signature}
            for note in notes_on(built, notes)
        ],
    }
    return dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _answer_values(answer: Answer) -> dict[str, Any]:
    """The answer for programs; recipe and protocol are null where nothing is recommended."""
    configuration = answer.recommended
    return {
        "headline": answer.headline,
        "explanation": advisor_text.explanation(answer.advice),
        "how_sure": answer.how_sure,
        "to_settle": answer.to_settle,
        "model": configuration.model if configuration else None,
        "recipe": configuration.recipe if configuration else None,
        "protocol": configuration.protocol.name if configuration else None,
        "records": configuration.keys if configuration else (),
    }


def _effects_values(effects: list[ConditionEffect]) -> list[dict[Hashable, Any]]:
    """A row for each effect of a condition; null where there is no number."""
    frame = table(effects).astype(object)
    return frame.where(frame.notna(), None).to_dict("records")


def _section_values(section: Section) -> dict[str, Any]:
    newest = section.newest
    return {
        "model": newest.model,
        "set": newest.eval_set,
        "set_title": section.eval_set.title if section.eval_set else None,
        "set_digest": newest.spec.eval_set_digest,
        "weights_digest": newest.spec.weights_digest,
        "utterances": len(newest.utterances),
        "minutes": section.minutes,
        "speakers": section.speakers,
        "protocol": asdict(newest.spec.protocol) | {"summary": newest.spec.protocol.summary},
        "machine": section.machine.model_dump(),
        "device": newest.spec.device,
        "threads": newest.spec.threads,
        "versions": library_versions([section]),
        "answer": section.answer,
        "compared_with": section.compared_with,
        "command": section.command,
        "results": [_plain(row) for row in section.frame[list(COLUMNS)].to_dict("records")],
    }


def render(
    runs: Runs,
    suffix: str,
    *,
    date: datetime,
    baseline: str = "fp32",
    margin: float = MARGIN,
    selection: Selection = EVERYTHING,
    measured: Iterable[Configuration] | None = None,
    notes: Iterable[Note] = (),
) -> bytes:
    """A report file's content, by its suffix; raises InputError if it is not in SUFFIXES."""
    if suffix not in SUFFIXES:
        raise InputError(
            f"A report cannot be written as “{suffix or 'a file without a suffix'}”. Use a file"
            f" name that ends in {', '.join(SUFFIXES)}."
        )
    if suffix == ".csv":
        return to_csv(runs, baseline=baseline, margin=margin, selection=selection)
    write = to_html if suffix == ".html" else to_json
    return write(
        runs,
        date=date,
        baseline=baseline,
        margin=margin,
        selection=selection,
        measured=measured,
        notes=notes,
    ).encode()


def _plain(row: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """A row for JSON: missing values are null, times are ISO 8601."""

    def plain(value: Any) -> Any:
        if pd.isna(value):
            return None
        return value.isoformat() if isinstance(value, datetime) else value

    return {column: plain(value) for column, value in row.items()}
