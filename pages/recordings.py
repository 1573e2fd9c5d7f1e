"""A user's recordings, transcribed by several recipes side by side."""

import time
from collections.abc import Mapping, Sequence

import streamlit as st

from pages._buttons import button, carry_out, show_outcome
from pages._navigation import open_in_app
from pages._recording_heading import heading
from pages._recording_jobs import by_turn, transcribe
from pages._recording_progress import known_rtfs, show_pending, show_progress
from pages._recording_reference import edit_reference
from pages._recording_samples import offer_samples
from pages._recording_settings import Configs, choose_configs, language_name
from pages._recording_summary import show_summary
from pages._session import recordings_owner, remember_browser, user_session
from pages._transcript_view import Heading, transcript_view
from pages._view import View
from whisperq_core.analyze import advisor
from whisperq_core.errors import AudioError, InputError, WhisperQError
from whisperq_core.present import markup
from whisperq_core.quantize.file_transcription import AUTO, Transcription, TranscriptionConfig
from whisperq_core.quantize.spoken_language import fixed_language
from whisperq_core.scoring import key_words
from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.transcript_alignment import align, words_of
from whisperq_core.serve import retention
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_session import UserSession
from whisperq_core.serve.user_sets import UserSets

SHOWN = 4  # recordings a screen


def upload(store: RecordingStore, owner: str) -> None:
    """Stores what was uploaded or recorded, and empties the widgets."""
    turn = st.session_state.setdefault("turn", 0)
    left, right = st.columns([3, 2], gap="large")
    with left:
        files = st.file_uploader(
            "Recordings",
            accept_multiple_files=True,
            key=f"files-{turn}",
            help="WAV, FLAC, MP3, OGG, Opus, M4A or WebM; any rate and number of channels, up to"
            " 200 MB and two hours each.",
        )
    with right:
        spoken = st.audio_input("Or record from the microphone", key=f"spoken-{turn}")
    uploads = [(file.name, file.getvalue()) for file in files]
    if spoken is not None:
        uploads.append((f"microphone {turn + 1}.wav", spoken.getvalue()))
    if uploads:
        with st.spinner("Reading the recordings"):
            added = store.add(uploads, owner)
        st.session_state["refused"] = [
            str(error) for error in added if isinstance(error, AudioError)
        ]
        new = [recording.id for recording in added if isinstance(recording, Recording)]
        chosen = st.session_state.get("recordings", [])
        st.session_state["recordings"] = list(dict.fromkeys([*new, *chosen]))
        st.session_state["turn"] += 1
        st.rerun()
    for sentence in st.session_state.get("refused", []):
        st.error(markup.escape_markdown(sentence))


def choose_recordings(store: RecordingStore, owner: str, view: View) -> list[Recording]:
    """The recordings that are shown: this browser's, and those that a link names."""
    by_id = {recording.id: recording for recording in store.all(owner)}
    linked = [*st.session_state.get("recordings", []), *st.query_params.get_all("recordings")]
    by_id |= {id: one for id in linked if id not in by_id and (one := store.get(id))}
    if not by_id:
        return []
    names = [recording.name for recording in by_id.values()]

    def label(id: str) -> str:
        name = by_id[id].name
        return name if names.count(name) == 1 else f"{name} ({id[:4]})"

    if "recordings" in st.session_state:  # some may have been deleted
        existing = [id for id in st.session_state["recordings"] if id in by_id]
        st.session_state["recordings"] = existing
    # What was added before the page was drawn to its end stays chosen, too.
    view.imply("recordings", *(st.session_state.get("recordings") or [next(iter(by_id))]))
    chosen = view.several(
        "Recordings to compare",
        list(by_id),
        "recordings",
        format_func=label,
        placeholder="Choose recordings on this machine",
    )
    return [by_id[id] for id in chosen]


def header(
    store: RecordingStore, owner: str, recording: Recording, transcriptions: list[Transcription]
) -> None:
    """Name, length, language; adding to a set, deleting."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(markup.escape_markdown(recording.name), width="stretch", anchor=False)
        with st.popover("Add to a set", icon=":material/library_add:"):
            add_to_set(store, recording, transcriptions)
        if recording.owner in ("", owner):  # not what somebody else shared by a link
            with st.popover("Delete", icon=":material/delete:"):
                delete(store, recording)
    facts = [f"{recording.sound.duration_s:.1f} s"]
    if transcriptions:
        language = language_name(transcriptions[0].language)
        facts.append(f"{language} (detected)" if transcriptions[0].detected else language)
    st.caption(markup.escape_markdown(" · ".join(facts)))
    for note in recording.sound.notes:
        st.caption(f":material/info: {markup.escape_markdown(note)}")
    if recording.sound.silent or any(not one.has_speech for one in transcriptions):
        problem = "is silent" if recording.sound.silent else "probably has no speech"
        text = ": the words below are hallucinated" * any(one.text for one in transcriptions)
        st.warning(f"This recording {problem}{text}.")


def delete(store: RecordingStore, recording: Recording) -> None:
    st.markdown("The recording and its transcripts are removed from this machine.")
    if ends := retention.expires_at(recording):
        st.caption(f"It is deleted automatically on {ends:%-d %B %Y}.")
    button("Delete it", f"delete-{recording.id}", store.delete, recording.id, type="primary")


def warn_of_language(store: RecordingStore, recording: Recording, configs: Configs) -> None:
    """That the recording is in another language than it is transcribed in, and what to do."""
    spoken = store.spoken_language(recording.id)
    wrong = [config for config in configs if spoken is not None and spoken.contradicts(config)]
    if spoken is None or not wrong:
        return
    config, language = wrong[0], language_name(spoken.language)
    used = language_name(fixed_language(config) or AUTO)
    sure = f"{min(99, round(100 * spoken.probability))} %"
    if config.model.endswith(".en"):
        why = f"{config.model} transcribes {used} only"
        what = f"Use a multilingual model, such as {advisor.DEFAULT_MODEL}, and let it detect the"
        what += " language."
    else:
        why = f"the language is set to {used}"
        what = f"Set the language to {language}, or let the model detect it."
    st.error(
        f"**This recording is in {language}** ({sure} sure),"
        f" **but {markup.escape_markdown(why)}**: the transcripts below"
        f" are not what was said. {what}",
        icon=":material/translate:",
    )
    model = advisor.DEFAULT_MODEL if config.model.endswith(".en") else config.model
    st.button(
        f"Use {model} and detect the language" if model != config.model else "Detect the language",
        key=f"multilingual-{recording.id}",
        on_click=use_multilingual,
        args=(model,),
    )


def use_multilingual(model: str) -> None:
    st.session_state["model"], st.session_state["language"] = model, AUTO


def add_to_set(
    store: RecordingStore, recording: Recording, transcriptions: list[Transcription]
) -> None:
    sets = UserSets(store.folder.parent)
    if not recording.reference:
        st.markdown("Enter a reference transcript before adding this recording to a set.")
        return
    names, key = sets.names(), f"add-{recording.id}"
    # A form, since the page is drawn again whenever a job ends, and takes what is typed with it.
    with st.form(f"{key}-form", border=False):
        if names:
            st.selectbox(
                "Evaluation set",
                names,
                accept_new_options=True,
                key=f"set-{recording.id}",
                help="One of yours, or type a name for a new set.",
            )
        else:
            st.text_input("Name of the new evaluation set", key=f"new-set-{recording.id}")
        st.text_input(
            "Speaker (optional)",
            key=f"speaker-{recording.id}",
            help="Any name; use the same one for all recordings of a person. Without speakers,"
            " confidence intervals are too narrow.",
        )
        language = transcriptions[0].language if transcriptions else "en"
        st.form_submit_button(
            "Add",
            key=key,
            type="primary",
            on_click=carry_out,
            args=(key, add, sets, store, recording.id, language),
        )
    show_outcome(key)


def add(sets: UserSets, store: RecordingStore, id: str, language: str) -> str:
    """Adds a recording to the set that the form of `add_to_set` names."""
    recording = store.get(id)
    if recording is None:
        raise InputError("The recording was deleted. Upload it again.")
    state = st.session_state
    name = state.get(f"set-{id}") or state.get(f"new-set-{id}") or ""
    if not name.strip():
        raise InputError("Name the evaluation set that the recording is added to.")
    sets.add(name, recording, store.original_path(id), language, state.get(f"speaker-{id}") or "")
    return (
        f"{recording.name} is in {name}. You can evaluate, export or delete the set on My speech."
    )


def compare(
    store: RecordingStore,
    session: UserSession,
    recording: Recording,
    configs: Configs,
    transcriptions: Mapping[TranscriptionConfig, Transcription],
) -> None:
    """One recording: player, reference, and the transcript of each configuration."""
    header(store, recordings_owner(), recording, list(transcriptions.values()))
    with st.container(key=f"audio-{recording.id}"):
        st.audio(str(store.playback_path(recording.id)))
    warn_of_language(store, recording, configs)
    fp32 = next((config for config in transcriptions if config.name == "fp32"), None)
    edit_reference(store, recording, transcriptions[fp32].text if fp32 else "")
    show_pending(session, recording, [c for c in configs if c not in transcriptions])
    if not transcriptions:
        return
    is_english = configs[0].task == "translate"
    language = "en" if is_english else next(iter(transcriptions.values())).language
    headings, transcripts = [], []
    if recording.reference:
        headings.append(Heading("Reference"))
        transcripts.append(words_of(recording.reference, language))
    elif fp32:
        st.caption(
            "No reference transcript: differences are relative to fp32's transcript, which may"
            " contain errors."
        )
    words = {
        config: words_of(
            one.text,
            language,
            [word.start_s for word in one.words],
            [word.probability for word in one.words],
        )
        for config, one in transcriptions.items()
    }
    for config, one in transcriptions.items():
        fp32_words = words[fp32] if fp32 and config != fp32 else None
        headings.append(
            heading(config, one, recording.reference, language, words[config], fp32_words)
        )
        transcripts.append(words[config])
    transcript_view(
        f"side-{recording.id}",
        headings,
        align(transcripts),
        recording.sound,
        f"audio-{recording.id}",
        joint="" if unit_of(language) == "characters" else " ",
    )
    if recording.reference:
        st.caption(f"Words that matter are counted by a plain rule. {key_words.RULE}")


@st.fragment(run_every=0.5)
def watch(
    session: UserSession,
    pairs: Sequence[tuple[Recording, TranscriptionConfig]],
    rtfs: Mapping[str, float],
) -> None:
    """The progress; redraws the page when a job of these recordings has started or ended."""
    states = {job.id: job.state for job in session.recording_jobs([one for one, _ in pairs])}
    show_progress(session, pairs, rtfs, time.time())
    if states != st.session_state.setdefault("statuses", states):
        st.session_state["statuses"] = states
        st.rerun(scope="app")


def introduction(private: bool) -> str:
    days = retention.retention_days()
    until = (
        "until you delete them" if days is None else f"for {days:g} days, or until you delete them"
    )
    who = "Only you see them."
    sets = "Copies in a set on **My speech** are kept."
    if not private:
        who = (
            "Only this browser lists them; whoever has this page's link sees the ones in it, and"
            " whoever runs this machine can read its files."
        )
        sets = (
            "Copies in a set on **My speech** are kept, and everybody who uses this app sees them."
        )
    return (
        "Upload or record speech and compare the transcripts of each recipe. Recordings stay on"
        f" this machine {until}. {who} {sets}"
    )


def main() -> None:
    open_in_app("recordings.py")
    st.title("Compare recordings")
    session = user_session()
    st.markdown(introduction(session.is_private))
    remember_browser()
    store, owner = RecordingStore(session.store.root), recordings_owner()
    with View("recordings") as view:
        upload(store, owner)
        samples = st.container()
        chosen = choose_recordings(store, owner, view)
        configs = choose_configs(session, view)
        pages = -(-len(chosen) // SHOWN)
        page = view.page_of(pages, "page") if pages > 1 else 1
    pairs = [(recording, config) for recording in chosen for config in configs]
    found = {
        (recording.id, config.key): store.transcription(recording.id, config)
        for recording, config in pairs
    }
    stored = {key: one for key, one in found.items() if one is not None}
    missing = [pair for pair in pairs if (pair[0].id, pair[1].key) not in stored]
    # What comes and goes above the recordings has a place of its own: if it moved them, the popover
    # that a user is in would close.
    start, progress, sums = st.container(), st.container(), st.container()
    with start:
        how = {"type": "primary", "icon": ":material/graphic_eq:", "disabled": not missing}
        button("Transcribe", "transcribe", transcribe, session, missing, configs, **how)
    if not chosen:
        with samples:
            offer_samples(store, session, owner, configs)
    if not all(job.is_over for job in session.recording_jobs(chosen)):
        with progress:
            watch(session, pairs, known_rtfs(stored))
    with sums:
        show_summary(chosen, configs, stored)
    for recording in chosen[(page - 1) * SHOWN : page * SHOWN]:
        own = {c: stored[k] for c in configs if (k := (recording.id, c.key)) in stored}
        with st.container(border=True):
            compare(store, session, recording, configs, own)
    if missing or not chosen:
        warm_up(session, configs)


def warm_up(session: UserSession, configs: Configs) -> None:
    """Loads what is transcribed with first, while the user chooses a recording."""
    first = next((c for c in by_turn(configs) if c.recipe and not c.recipe.calibrates), None)
    if first is not None:
        session.warm_up(first)


try:
    main()
except WhisperQError as error:
    st.error(markup.escape_markdown(str(error)))
