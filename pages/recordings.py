"""A user's recordings, transcribed by several recipes side by side."""

from pathlib import Path

import streamlit as st

from pages._buttons import button, carry_out, show_outcome
from pages._navigation import open_in_app
from pages._session import user_session
from pages._transcript_view import Heading, transcript_view
from pages._view import View
from whisperq_core import machine
from whisperq_core.errors import AudioError, InputError, WhisperQError
from whisperq_core.present import markup
from whisperq_core.quantize import recipes
from whisperq_core.quantize.file_transcription import AUTO, Transcription, TranscriptionConfig
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.transcript_alignment import Word, align, disagreement_pct, words_of
from whisperq_core.serve import retention
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_session import UserSession
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.whisper import model_sources

LANGUAGES = {
    AUTO: "Detect automatically",
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "ru": "Russian",
    "ja": "Japanese",
    "zh": "Chinese",
    "ar": "Arabic",
    "hi": "Hindi",
}
NO_MODEL = "none, exported models only"
SHOWN = 4  # recordings a screen

Configs = list[TranscriptionConfig]


def upload(store: RecordingStore) -> None:
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
            added = store.add(uploads)
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


def choose_recordings(store: RecordingStore, view: View) -> list[Recording]:
    """The stored recordings that are shown."""
    by_id = {recording.id: recording for recording in store.all()}
    if not by_id:
        return []
    names = [recording.name for recording in by_id.values()]

    def label(id: str) -> str:
        name = by_id[id].name
        return name if names.count(name) == 1 else f"{name} ({id[:4]})"

    if "recordings" in st.session_state:  # some may have been deleted
        existing = [id for id in st.session_state["recordings"] if id in by_id]
        st.session_state["recordings"] = existing
    view.imply("recordings", next(iter(by_id)))
    chosen = view.several(
        "Recordings to compare",
        list(by_id),
        "recordings",
        format_func=label,
        placeholder="Choose recordings on this machine",
    )
    return [by_id[id] for id in chosen]


def choose_exported_models(session: UserSession, view: View) -> list[str]:
    manifests = session.exported_models()
    typed = [folder for folder in st.session_state.get("exported", []) if folder not in manifests]
    chosen = view.several(
        "Exported models",
        [*manifests, *typed],
        "exported",
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        placeholder="none",
        help="Quantized models exported on the Advisor page or by"
        " `python -m whisperq_core export`; they are self-contained. Type a folder to add one.",
    )
    for folder in chosen:
        manifest = manifests.get(folder) or session.exported_model(folder)
        if others := manifest.other_versions():
            st.caption(
                markup.escape_markdown(
                    f"{manifest.label} was exported with other library versions:"
                    f" {'; '.join(others)}."
                )
            )
    return chosen


def choose_configs(session: UserSession, view: View) -> Configs:
    """The models and recipes that are compared, fp32 first."""
    offline = model_sources.offline_names()
    names = [*offline, *(name for name in model_sources.NAMES if name not in offline), NO_MODEL]
    possible = [
        name
        for name, recipe in recipes.CATALOGUE.items()
        if recipe.calibration != "evaluation-10%" and name != "fp32"
    ]
    first, second = st.columns([1, 2], gap="large")
    with first:
        model = view.one_of(
            "Model",
            names,
            "model",
            names[0],
            format_func=lambda n: n if n in (*offline, NO_MODEL) else f"{n} (will be downloaded)",
        )
    with second:
        usual = ["torch-int8", "bnb-nf4"]
        chosen = view.several(
            "Recipes to compare with fp32", possible, "recipes", usual, disabled=model == NO_MODEL
        )
    folders = choose_exported_models(session, view)
    multilingual = not model.endswith(".en")
    languages = list(LANGUAGES) if multilingual else ["en"]
    tasks = {"transcribe": "Transcribe", "translate": "Translate to English"}
    offered = list(tasks) if multilingual else ["transcribe"]
    how = {"width": 220}
    for key, options in (("language", languages), ("task", offered)):
        if st.session_state.get(key, options[0]) not in options:
            st.session_state[key] = options[0]
    with st.container(horizontal=True):
        settings = {
            "language": view.one_of(
                "Language", languages, "language", languages[0], format_func=LANGUAGES.get, **how
            ),
            "task": view.one_of("Task", offered, "task", offered[0], format_func=tasks.get, **how),
            "device": view.one_of("Device", machine.devices(), "device", "cpu", **how),
        }
    configs = []
    if model != NO_MODEL:
        configs = [
            TranscriptionConfig(model, recipes.recipe(name), **settings)
            for name in ["fp32", *chosen]
        ]
    return configs + [TranscriptionConfig(folder, None, **settings) for folder in folders]


def header(
    store: RecordingStore, recording: Recording, transcriptions: list[Transcription]
) -> None:
    """Name, length, language; adding to a set, deleting."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(markup.escape_markdown(recording.name), width="stretch", anchor=False)
        with st.popover("Add to a set", icon=":material/library_add:"):
            add_to_set(store, recording, transcriptions)
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown("The recording and its transcripts are removed from this machine.")
            if ends := retention.expires_at(recording):
                st.caption(f"It is deleted automatically on {ends:%-d %B %Y}.")
            button(
                "Delete it", f"delete-{recording.id}", store.delete, recording.id, type="primary"
            )
    facts = [f"{recording.sound.duration_s:.1f} s"]
    if transcriptions:
        language = LANGUAGES.get(transcriptions[0].language, transcriptions[0].language)
        facts.append(f"{language} (detected)" if transcriptions[0].detected else language)
    st.caption(markup.escape_markdown(" · ".join(facts)))
    for note in recording.sound.notes:
        st.caption(f":material/info: {markup.escape_markdown(note)}")
    if recording.sound.silent or any(not one.has_speech for one in transcriptions):
        problem = "is silent" if recording.sound.silent else "probably has no speech"
        text = ": the words below are hallucinated" * any(one.text for one in transcriptions)
        st.warning(f"This recording {problem}{text}.")


def add_to_set(
    store: RecordingStore, recording: Recording, transcriptions: list[Transcription]
) -> None:
    sets = UserSets(store.folder.parent)
    if not recording.reference:
        st.markdown("Enter a reference transcript before adding this recording to a set.")
        return
    name = st.selectbox(
        "Evaluation set",
        sets.names(),
        index=0 if sets.names() else None,
        accept_new_options=True,
        placeholder="Type a name for a new set",
        key=f"set-{recording.id}",
    )
    speaker = st.text_input(
        "Speaker (optional)",
        key=f"speaker-{recording.id}",
        help="Any name; use the same one for all recordings of a person. Without speakers,"
        " confidence intervals are too narrow.",
    )
    language = transcriptions[0].language if transcriptions else "en"
    how = {"type": "primary", "disabled": not name}
    button(
        "Add", f"add-{recording.id}", add, sets, store, recording.id, language, name, speaker, **how
    )


def add(
    sets: UserSets, store: RecordingStore, id: str, language: str, name: str, speaker: str
) -> str:
    recording = store.get(id)
    if recording is None:
        raise InputError("The recording was deleted. Upload it again.")
    # The fields may have changed since the button was drawn.
    name = st.session_state.get(f"set-{id}", name)
    speaker = st.session_state.get(f"speaker-{id}", speaker)
    sets.add(name, recording, store.original_path(id), language, speaker)
    return (
        f"{recording.name} is in {name}. You can evaluate, export or delete the set on My speech."
    )


def edit_reference(store: RecordingStore, recording: Recording, suggestion: str) -> None:
    """The reference transcript, to type or to correct; it is stored and scored against."""
    title, icon = "Reference transcript", ":material/edit:"
    with st.expander(title, expanded=not recording.reference, icon=icon):
        key = f"reference-{recording.id}-{hash(recording.reference):x}"
        typed = st.text_area(
            "Reference",
            recording.reference,
            key=key,
            on_change=carry_out,
            args=(recording.id, store_reference, store, recording.id, key),
            placeholder="Type the spoken words to score every recipe against them.",
            height="content",
        )
        label = "Start from fp32's transcript"
        if suggestion and not typed.strip():
            st.button(
                label,
                key=f"suggest-{recording.id}",
                on_click=carry_out,
                args=(recording.id, store.set_reference, recording.id, suggestion),
            )
        show_outcome(recording.id)


def store_reference(store: RecordingStore, id: str, key: str) -> None:
    """Stores what is typed in the field of that key."""
    store.set_reference(id, st.session_state[key])


def compare(
    store: RecordingStore, session: UserSession, recording: Recording, configs: Configs
) -> None:
    """One recording: player, reference, and the transcript of each configuration."""
    stored = {config: store.transcription(recording.id, config) for config in configs}
    transcriptions = {config: stored[config] for config in configs if stored[config]}
    header(store, recording, list(transcriptions.values()))
    with st.container(key=f"audio-{recording.id}"):
        st.audio(str(store.playback_path(recording.id)))
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
        config: words_of(one.text, language, [word.start_s for word in one.words])
        for config, one in transcriptions.items()
    }
    for config, one in transcriptions.items():
        fp32_words = words[fp32] if fp32 and config != fp32 else None
        about = heading(config, one, recording.reference, language, words[config], fp32_words)
        headings.append(about)
        transcripts.append(words[config])
    transcript_view(
        f"side-{recording.id}",
        headings,
        align(transcripts),
        recording.sound,
        f"audio-{recording.id}",
        joint="" if unit_of(language) == "characters" else " ",
    )


def heading(
    config: TranscriptionConfig,
    transcription: Transcription,
    reference: str,
    language: str,
    words: tuple[Word, ...],
    fp32_words: tuple[Word, ...] | None,
) -> Heading:
    """The figures above a column."""
    facts = []
    if reference:
        score = error_rates.score(reference, transcription.text, language)
        if score.words.rate is not None:
            facts.append(f"WER {score.words.rate:.1f} %, CER {score.characters.rate:.1f} %")
    if fp32_words is not None and (change := disagreement_pct(fp32_words, words)) is not None:
        facts.append(f"{change:.1f} % word difference from fp32")
    size = f"{transcription.weights_bytes / 1e6:.0f} MB"
    facts.append(f"{transcription.wall_s:.2f} s, RTF {transcription.rtf:.2f}, {size}")
    if transcription.words_note:
        facts.append(transcription.words_note)
    warnings = []
    if transcription.looped:
        warnings.append("Repeats itself: a decoding loop.")
    if not transcription.text:
        warnings.append("The transcript is empty.")
    elif not words:
        warnings.append(f"Nothing that is scored: “{transcription.text}”")
    if transcription.has_speech:
        warnings += [
            f"Probably hallucinated, no speech at {phrase.start_s:.1f} s: “{phrase.text}”"
            for phrase in transcription.hallucinated
        ]
    return Heading(config.name, tuple(facts), tuple(warnings))


def show_pending(session: UserSession, recording: Recording, missing: Configs) -> None:
    """Transcripts that are not there yet, and why others failed."""
    for config in missing:
        job = session.transcription_job(recording.id, config.key)
        name = markup.escape_markdown(config.name)
        if job is None or job.state == JobState.STOPPED:
            st.caption(f"{name}: not transcribed yet. Press **Transcribe**.")
        elif job.state == JobState.FAILED:
            st.error(f"{name}: {markup.escape_markdown(job.message)}")
        else:
            st.caption(f":material/progress_activity: {name}: {job.state} …")


def transcribe(session: UserSession, missing: list[tuple[Recording, TranscriptionConfig]]) -> None:
    for recording, config in missing:
        session.transcribe(recording, config)


@st.fragment(run_every=1.0)
def watch(session: UserSession, pairs: list[tuple[str, str]]) -> None:
    """Redraws the page when one of its jobs has started or ended."""
    states = [job and job.state for job in (session.transcription_job(*pair) for pair in pairs)]
    if states != st.session_state.setdefault("statuses", states):
        st.session_state["statuses"] = states
        st.rerun(scope="app")


def is_going(session: UserSession, pair: tuple[str, str]) -> bool:
    job = session.transcription_job(*pair)
    return job is not None and not job.is_over


def main() -> None:
    open_in_app("recordings.py")
    st.title("Compare recordings")
    days = retention.retention_days()
    until = (
        "until you delete them" if days is None else f"for {days:g} days, or until you delete them"
    )
    st.markdown(
        "Upload or record speech and compare the transcripts of each recipe. Recordings stay on"
        f" this machine {until}. Copies in a set on **My speech** are kept."
    )
    session = user_session()
    store = RecordingStore(session.store.root)
    with View("recordings") as view:
        upload(store)
        chosen = choose_recordings(store, view)
        configs = choose_configs(session, view)
        pages = -(-len(chosen) // SHOWN)
        page = view.page_of(pages, "page") if pages > 1 else 1
    missing = [
        (recording, config)
        for recording in chosen
        for config in configs
        if store.transcription(recording.id, config) is None
    ]
    how = {"type": "primary", "icon": ":material/graphic_eq:", "disabled": not missing}
    button("Transcribe", "transcribe", transcribe, session, missing, **how)
    if not chosen:
        st.info(
            "No recordings yet. A few seconds of clear speech are enough for a first impression."
        )
        return
    shown = chosen[(page - 1) * SHOWN : page * SHOWN]
    for recording in shown:
        with st.container(border=True):
            compare(store, session, recording, configs)
    pairs = [(recording.id, config.key) for recording, config in missing if recording in shown]
    if any(is_going(session, pair) for pair in pairs):
        watch(session, pairs)


try:
    main()
except WhisperQError as error:
    st.error(markup.escape_markdown(str(error)))
