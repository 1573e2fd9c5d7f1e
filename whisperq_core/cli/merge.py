"""`whisperq merge`: results that were measured on other machines."""

import sys
from collections import Counter
from typing import Annotated

import typer

from whisperq_core.evaluate.merging import MergeReport
from whisperq_core.evaluate.merging import merge as merge_results
from whisperq_core.evaluate.store import Store
from whisperq_core.plurals import counted, plural


def merge(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|URL",
            help="A cache folder, a folder of result files, or the URL of one (s3://…, https://…).",
        ),
    ],
) -> int:
    """Add results that were measured elsewhere. Each is checked; nothing here is changed."""
    report = merge_results(source, Store())
    for name, reason in report.refused.items():
        print(f"{name}: refused. {reason}", file=sys.stderr)
    for line in _lines(report):
        print(line)
    return 1 if report.refused else 0


def _lines(report: MergeReport) -> list[str]:
    machines = Counter(run.machine_kind for run in report.added)
    lines = [f"{counted(len(report.added), 'result')} merged"]
    lines += [f"  {count} from {kind}" for kind, count in machines.most_common()]
    if report.rescored:
        lines.append(f"{report.rescored} of them scored anew, by the normalizers of this version")
    if report.known:
        lines.append(f"{counted(report.known, 'result')} here before")
    if others := report.other_transcripts:
        lines.append(
            f"{len(others)} of these with other transcripts there, as another CPU may give; ours"
            f" stay: {', '.join(others)}"
        )
    if report.notes:
        lines.append(f"{counted(report.notes, 'note')} merged")
    if report.refused:
        lines.append(f"{len(report.refused)} {plural(len(report.refused), 'file')} refused")
    return lines
