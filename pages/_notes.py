"""Readers' notes on a run and its utterances: shown, starred and written."""

import platform
from collections.abc import Iterable

import streamlit as st

from pages._authentication import user_name
from pages._buttons import carry_out, show_outcome
from pages._session import user_store
from whisperq_core import settings
from whisperq_core.evaluate import history
from whisperq_core.evaluate.notes import MAX_CHARACTERS, Note
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup


def author() -> str:
    """Who writes: the user who logged in, or the one whose process this is."""
    return user_name() or f"{history.current_user()}@{platform.node()}"


def notes_on(run: AccuracyRun) -> list[Note]:
    """The notes on a run and its utterances, oldest first."""
    return [note for note in user_store().notes() if note.run == run.key]


def show_notes(run: AccuracyRun, notes: Iterable[Note], utterance: str | None = None) -> None:
    """The notes on an utterance, or on the run itself, and a button to write one."""
    about = [note for note in notes if note.utterance == utterance]
    for note in about:
        star = ":material/star: " if note.starred else ""
        signature = f"{note.signature}, {note.at:%Y-%m-%d}"
        text = "  \n".join(map(markup.escape_markdown, note.comment.strip().split("\n")))
        st.markdown(f"{star}{text} — {markup.escape_markdown(signature)}")
    if settings.current().results_only:
        return
    own = next((note for note in about if note.author == author()), None)
    key = f"note-{run.key}-{utterance}"
    label = "Note" if utterance else "Note on this result"
    with st.popover(label, icon=":material/star:", key=key):
        st.toggle("Star", bool(own and own.starred), key=f"{key}-star")
        st.text_area(
            "Comment", own.comment if own else "", max_chars=MAX_CHARACTERS, key=f"{key}-comment"
        )
        st.caption("Kept with the results: whoever sees this result sees its notes.")
        st.button("Save note", key=f"{key}-save", on_click=save, args=(key, run, utterance))
    show_outcome(key)


def save(key: str, run: AccuracyRun, utterance: str | None) -> None:
    """A callback."""
    note = Note(
        author=author(),
        run=run.key,
        utterance=utterance,
        starred=bool(st.session_state.get(f"{key}-star")),
        comment=str(st.session_state.get(f"{key}-comment") or "").strip(),
    )
    carry_out(key, lambda: user_store().add_note(note, run))
