"""Recordings that come with WhisperQ, to try with one click."""

import streamlit as st

from pages._buttons import button
from pages._recording_jobs import transcribe
from pages._recording_settings import Configs
from whisperq_core.errors import InputError
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_session import UserSession
from whisperq_core.speech import evaluation_sets

# Label, shipped set, and name of the recording. Each has a reference, so it is scored at once.
SAMPLES = {
    "jfk": ("Kennedy, 11 s", "jfk", "Kennedy.flac"),
    "book": ("A book, difficult speech", "test-other-excerpt", "A book.flac"),
    "german": ("German, 18 s", "fleurs-de-example", "German.flac"),
}
_TYPICAL_S = 12.0


def utterance_of(set_name: str) -> evaluation_sets.Utterance:
    utterances = evaluation_sets.shipped_sets()[set_name].utterances
    return min(utterances, key=lambda u: (abs(u.duration_s - _TYPICAL_S), u.id))


def offer_samples(
    store: RecordingStore, session: UserSession, owner: str, configs: Configs
) -> None:
    st.info("No recordings yet. Upload or record a few seconds of speech, or try a sample:")
    with st.container(horizontal=True):
        for place, (name, (label, _, _)) in enumerate(SAMPLES.items()):
            button(
                label,
                f"sample-{name}",
                try_sample,
                store,
                session,
                owner,
                name,
                configs,
                icon=":material/play_circle:",
                type="primary" if place == 0 else "secondary",
            )


def try_sample(
    store: RecordingStore, session: UserSession, owner: str, name: str, configs: Configs
) -> None:
    """Adds the recording with its reference, and transcribes it."""
    _, set_name, file_name = SAMPLES[name]
    utterance = utterance_of(set_name)
    (added,) = store.add([(file_name, utterance.audio.read_bytes())], owner)
    if not isinstance(added, Recording):
        raise InputError(str(added))
    if not added.reference:
        added = store.set_reference(added.id, utterance.reference)
    st.session_state["recordings"] = [added.id]
    missing = [(added, one) for one in configs if store.transcription(added.id, one) is None]
    transcribe(session, missing, configs)
