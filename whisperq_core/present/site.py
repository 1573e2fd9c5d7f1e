"""A published site: static pages that need no server and no network.

index.html        what to use, and every configuration
tradeoffs.html    the figures, whose points lead to runs
report.html       the report's sections
runs.html         every run; runs/<key>.html has its transcripts
speech/           references, one file a set; audio/ where recordings are published
assets/           style, scripts, one copy of Plotly
"""

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs

from whisperq_core.analyze.configurations import configurations
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError, StoreError
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, Run
from whisperq_core.present import report_html, site_runs, slides, templating
from whisperq_core.present.answer import Answer, answer_of
from whisperq_core.present.report_sections import (
    EVERYTHING,
    Section,
    Selection,
    build_sections,
    effects_under_conditions,
    join_unique,
    report_title,
)
from whisperq_core.present.shown_notes import run_title
from whisperq_core.speech.evaluation_sets import Utterance

PAGES = (
    ("Overview", "index.html"),
    ("Trade-offs", "tradeoffs.html"),
    ("Report", "report.html"),
    ("Runs", "runs.html"),
)
# Tells a site from a folder that must not be replaced.
MARKER = "whisperq-site.json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; media-src 'self'; base-uri 'none'; form-action 'none'"
)
# The inside of the Overview's plot on a desktop and on a phone.
_SCREENS = ((1075.0, 233.0, 1.0), (330.0, 233.0, 0.7))
_LICENCE = "Whisper: OpenAI, MIT license."


@dataclass(frozen=True)
class Site:
    """What is published.

    runs: all that there are of the published sets, since verdicts are corrected for all. selection:
    of the runs with a page. with_audio: also the recordings, of sets that are on this machine.
    """

    runs: tuple[Run, ...]
    date: datetime
    notes: tuple[Note, ...] = ()
    margin: float = MARGIN
    selection: Selection = EVERYTHING
    with_audio: bool = False

    @cached_property
    def sections(self) -> list[Section]:
        """Of the report. Raises InputError where there is no result."""
        return build_sections(self.runs, margin=self.margin, selection=self.selection)

    @cached_property
    def answer(self) -> Answer:
        """The Advisor's."""
        measured = configurations(self.runs, margin=self.margin)
        return answer_of(measured, self.selection.models, self.margin)

    @cached_property
    def links(self) -> dict[str, str]:
        """The page of each run, from the site's folder, by its key."""
        return {run.key: f"runs/{run.key}.html" for s in self.sections for run in s.runs}

    @property
    def footer(self) -> str:
        """Licences and sources."""
        speech = join_unique(s.eval_set.attribution for s in self.sections if s.eval_set)
        return f"{_LICENCE} Speech: {speech}." if speech else _LICENCE

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Path in the site and content of each file."""
        yield "assets/plotly.js", get_plotlyjs().encode()
        yield "assets/site.css", templating.render_template("site.css.j2").encode()
        yield "assets/figures.js", self._figures_script().encode()
        yield "assets/run.js", templating.source("site_run.js.j2").encode()
        yield "assets/print.js", templating.source("site_print.js.j2").encode()
        yield "index.html", self._overview()
        yield "tradeoffs.html", self._tradeoffs()
        yield "report.html", self._report()
        yield "runs.html", self._runs()
        yield from self._run_files()
        about = {"written_by": "WhisperQ", "date": self.date.isoformat()}
        yield MARKER, json.dumps(about, indent=1).encode()

    def _figures_script(self) -> str:
        keys = json.dumps(sorted(self.links))
        draw, points = (templating.source(f"{n}.js.j2") for n in ("report", "site_points"))
        return f"{draw}const runs = {keys};\n{points}"

    def _page(self, template: str, here: str, heading: str, **values: object) -> bytes:
        defaults = {"footer": self.footer, "root": "../" * here.count("/")}
        page = templating.render_template(
            template,
            **defaults | values,
            policy=_POLICY,
            pages=PAGES,
            here=here,
            heading=heading,
            date=f"{self.date:%-d %B %Y}",
        )
        return page.encode()

    def _overview(self) -> bytes:
        speed = report_html.page_figure(
            "Speed and change in WER of every configuration",
            slides.speed_note(self.answer),
            slides.speed_figure(self.answer, _SCREENS),
        )
        has_results = self.answer.has_results
        heading = self.answer.headline if has_results else report_title(self.sections)
        values = report_html.answer_values(self.answer, self.links)
        return self._page("site_overview.html.j2", "index.html", heading, speed=speed, **values)

    def _tradeoffs(self) -> bytes:
        shown = []
        for section in self.sections:
            figures = report_html.tradeoffs(section, ("weights_bytes", "rtf"), "wer_pct")
            drawn = [figure for figure in figures if figure]
            heading = report_html.section_heading(section, self.sections)
            shown += [{"heading": heading, "figures": drawn}] if drawn else []
        return self._page("site_tradeoffs.html.j2", "tradeoffs.html", "Trade-offs", sections=shown)

    def _report(self) -> bytes:
        effects = effects_under_conditions(self.runs, self.selection)
        values = report_html.results_values(
            self.sections, self.selection, self.notes, (), "wer_pct", self.links, effects
        )
        title = report_title(self.sections)
        return self._page(
            "site_report.html.j2", "report.html", title, configurations=None, **values
        )

    def _runs(self) -> bytes:
        tables = [
            (report_html.section_heading(s, self.sections), report_html.runs_table(s, self.links))
            for s in self.sections
        ]
        return self._page("site_runs.html.j2", "runs.html", "Runs", tables=tables)

    def _run_files(self) -> Iterator[tuple[str, bytes]]:
        written: set[str] = set()
        for section in self.sections:
            for run, (_, row) in zip(section.runs, section.frame.iterrows(), strict=True):
                file = site_runs.speech_file(run)
                if file not in written:
                    written.add(file)
                    recordings = _recordings(section) if self.with_audio else {}
                    addresses = {
                        id: f"audio/{u.sha256}{u.audio.suffix}" for id, u in recordings.items()
                    }
                    yield file, site_runs.speech_script(run, addresses)
                    for id, utterance in recordings.items():
                        yield addresses[id], utterance.audio.read_bytes()
                yield self.links[run.key], self._run_page(section, run, row)

    def _run_page(self, section: Section, run: AccuracyRun, row: "pd.Series") -> bytes:
        attribution = section.eval_set.attribution if section.eval_set else ""
        footer = f"{_LICENCE} Speech: {attribution}." if attribution else _LICENCE
        values = site_runs.run_values(run, row, self.notes, footer)
        return self._page("site_run.html.j2", self.links[run.key], run_title(run), **values)


def _recordings(section: Section) -> dict[str, Utterance]:
    """The recordings of a shipped set by the id of their utterance; none of any other."""
    utterances = section.eval_set.utterances if section.eval_set else ()
    # Of speech under a condition the file is not what was transcribed.
    plain = (u for u in utterances if not u.conditions)
    return {u.id: u for u in plain if u.sha256 and u.audio.is_file()}


def write(out: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Writes a site as a whole or not at all, in place of an earlier one; returns its bytes.

    Raises InputError for a folder that holds something else, StoreError where it cannot be written.
    """
    if out.exists() and not (out / MARKER).is_file() and (out.is_file() or any(out.iterdir())):
        raise InputError(
            f"{out} holds something else than a published site. Choose another folder."
        )
    fresh, old = (out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.{n}") for n in ("new", "old"))
    total = 0
    try:
        for name, content in files:
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            total += len(content)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return total
