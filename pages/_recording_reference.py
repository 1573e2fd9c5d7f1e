"""The reference transcript of a recording: typed, corrected, or started from a transcript."""

import streamlit as st

from pages._buttons import carry_out, show_outcome
from whisperq_core.present import markup
from whisperq_core.serve.recording_store import Recording, RecordingStore

_STARTED_FROM = "fp32"


def edit_reference(store: RecordingStore, recording: Recording, suggestion: str) -> None:
    """The reference transcript, which is scored against once it is saved.

    What is typed is saved as it is; a text that was started from fp32's transcript is a draft until
    the user says that it is right, since it would score fp32 0.0 %.
    """
    open_key = f"editing-{recording.id}"
    title, icon = "Reference transcript", ":material/edit:"
    is_open = not recording.reference or bool(st.session_state.get(open_key))
    with st.expander(title, expanded=is_open, icon=icon):
        if recording.draft:
            _edit_draft(store, recording)
        else:
            _edit_saved(store, recording, suggestion)
        show_outcome(recording.id)


def _edit_saved(store: RecordingStore, recording: Recording, suggestion: str) -> None:
    key = f"reference-{recording.id}-{hash(recording.reference):x}"
    typed = st.text_area(
        "Reference",
        recording.reference,
        key=key,
        on_change=carry_out,
        args=(recording.id, _store_reference, store, recording.id, key),
        placeholder="Type the spoken words to score every recipe against them.",
        height="content",
    )
    if recording.reference_from:
        st.caption(
            f"Started from {markup.escape_markdown(recording.reference_from)}'s transcript: an"
            " error of its own that was not corrected counts in its favour."
        )
    if suggestion and not typed.strip():
        st.button(
            "Start from fp32's transcript",
            key=f"suggest-{recording.id}",
            on_click=carry_out,
            args=(recording.id, store.set_draft, recording.id, suggestion),
            help="Then correct it while you listen. It is a draft until you save it.",
        )


def _edit_draft(store: RecordingStore, recording: Recording) -> None:
    key = f"draft-{recording.id}"
    st.text_area(
        "Draft of the reference, started from fp32's transcript",
        recording.draft,
        key=key,
        on_change=carry_out,
        args=(recording.id, _store_draft, store, recording.id, key),
        height="content",
    )
    st.caption(
        "Not saved yet, and nothing is scored against it. Listen, correct what fp32 got wrong, then"
        " save it."
    )
    with st.container(horizontal=True):
        st.button(
            "Save as reference",
            key=f"save-{recording.id}",
            type="primary",
            on_click=carry_out,
            args=(recording.id, _save_draft, store, recording.id, key),
        )
        st.button(
            "Discard draft",
            key=f"discard-{recording.id}",
            on_click=carry_out,
            args=(recording.id, store.set_draft, recording.id, ""),
        )


def _store_reference(store: RecordingStore, id: str, key: str) -> None:
    """Stores what is typed in the field of that key."""
    st.session_state[f"editing-{id}"] = True
    store.set_reference(id, st.session_state[key])


def _store_draft(store: RecordingStore, id: str, key: str) -> None:
    store.set_draft(id, st.session_state[key])


def _save_draft(store: RecordingStore, id: str, key: str) -> None:
    st.session_state[f"editing-{id}"] = True
    recording = store.get(id)
    draft = recording.draft if recording else ""
    store.set_reference(id, st.session_state.get(key, draft), _STARTED_FROM)
