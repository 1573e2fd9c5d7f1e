"""Readers' notes as reports and published sites show them."""

from collections.abc import Iterable
from dataclasses import dataclass

from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun


@dataclass(frozen=True)
class ShownNote:
    """A reader's note. about: the run, and the utterance where it is on one."""

    about: str
    starred: bool
    comment: str
    signature: str
    href: str = ""


def shown_note(note: Note, about: str = "", href: str = "") -> ShownNote:
    """A note on that; href: of where it is."""
    signature = f"{note.signature}, {note.at:%-d %B %Y}"
    return ShownNote(about, note.starred, note.comment.strip(), signature, href)


def shown_notes(
    runs: Iterable[AccuracyRun], notes: Iterable[Note], links: dict[str, str]
) -> list[ShownNote]:
    """The notes on these runs. links: the page of a run by its key."""
    by_key = {run.key: run for run in runs}
    return [
        shown_note(
            note,
            " · ".join(filter(None, (run_title(by_key[note.run]), note.utterance))),
            links.get(note.run, ""),
        )
        for note in notes
        if note.run in by_key
    ]


def run_title(run: AccuracyRun) -> str:
    """Recipe, model, evaluation set and protocol."""
    spec = run.spec
    return f"{spec.recipe.name} · {run.model} · {run.eval_set} · {spec.protocol.label}"
