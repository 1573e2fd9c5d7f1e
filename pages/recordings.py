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

Asked = list[TranscriptionConfig]


def take(shelf: RecordingStore) -> None:
    """Puts what was uploaded or recorded on the shelf, and empties the widgets."""
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
    given = [(file.name, file.getvalue()) for file in files]
    if spoken is not None:
        given.append((f"microphone {turn + 1}.wav", spoken.getvalue()))
    if given:
        with st.spinner("Reading the recordings"):
            found = shelf.add(given)
        st.session_state["refused"] = [str(one) for one in found if isinstance(one, AudioError)]
        new = [one.id for one in found if isinstance(one, Recording)]
        chosen = st.session_state.get("recordings", [])
        st.session_state["recordings"] = list(dict.fromkeys([*new, *chosen]))
        st.session_state["turn"] += 1
        st.rerun()
    for sentence in st.session_state.get("refused", []):
        st.error(markup.escape_markdown(sentence))


def choose_recordings(shelf: RecordingStore, view: View) -> list[Recording]:
    """Which of the recordings on the shelf are looked at."""
    kept = {one.id: one for one in shelf.all()}
    if not kept:
        return []
    names = [one.name for one in kept.values()]

    def label(id: str) -> str:
        name = kept[id].name
        return name if names.count(name) == 1 else f"{name} ({id[:4]})"

    if "recordings" in st.session_state:  # some may have been deleted
        known = [id for id in st.session_state["recordings"] if id in kept]
        st.session_state["recordings"] = known
    view.imply("recordings", next(iter(kept)))
    chosen = view.several(
        "Recordings to compare",
        list(kept),
        "recordings",
        format_func=label,
        placeholder="Choose recordings on this machine",
    )
    return [kept[id] for id in chosen]


def exported(mine: UserSession, view: View) -> list[str]:
    known = mine.exported_models()
    typed = [folder for folder in st.session_state.get("exported", []) if folder not in known]
    chosen = view.several(
        "Exported models",
        [*known, *typed],
        "exported",
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        placeholder="none",
        help="Quantized models exported on the Advisor page or by"
        " `python -m whisperq_core export`; they are self-contained. Type a folder to add one.",
    )
    for folder in chosen:
        made = known.get(folder) or mine.exported_model(folder)
        if others := made.other_versions():
            st.caption(f"{made.label} was exported with {'; '.join(others)}.")
    return chosen


def choose_listeners(mine: UserSession, view: View) -> Asked:
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
    folders = exported(mine, view)
    multilingual = not model.endswith(".en")
    languages = list(LANGUAGES) if multilingual else ["en"]
    tasks = {"transcribe": "Transcribe", "translate": "Translate to English"}
    offered = list(tasks) if multilingual else ["transcribe"]
    how = {"width": 220}
    for key, options in (("language", languages), ("task", offered)):
        if st.session_state.get(key, options[0]) not in options:
            st.session_state[key] = options[0]
    with st.container(horizontal=True):
        how_heard = {
            "language": view.one_of(
                "Language", languages, "language", languages[0], format_func=LANGUAGES.get, **how
            ),
            "task": view.one_of("Task", offered, "task", offered[0], format_func=tasks.get, **how),
            "device": view.one_of("Device", machine.devices(), "device", "cpu", **how),
        }
    asked = []
    if model != NO_MODEL:
        asked = [
            TranscriptionConfig(model, recipes.recipe(name), **how_heard)
            for name in ["fp32", *chosen]
        ]
    return asked + [TranscriptionConfig(folder, None, **how_heard) for folder in folders]


def header(shelf: RecordingStore, kept: Recording, heard: list[Transcription]) -> None:
    """Name, length, language; adding to a set, deleting."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(markup.escape_markdown(kept.name), width="stretch", anchor=False)
        with st.popover("Add to a set", icon=":material/library_add:"):
            add_to_set(shelf, kept, heard)
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown("The recording and its transcripts are removed from this machine.")
            if ends := retention.expires_at(kept):
                st.caption(f"It is deleted automatically on {ends:%-d %B %Y}.")
            button("Delete it", f"delete-{kept.id}", shelf.delete, kept.id, type="primary")
    facts = [f"{kept.sound.duration_s:.1f} s"]
    if heard:
        language = LANGUAGES.get(heard[0].language, heard[0].language)
        facts.append(f"{language} (detected)" if heard[0].detected else language)
    st.caption(" · ".join(facts))
    if kept.sound.silent:
        st.warning("This recording is silent; the model invented any words below.")


def add_to_set(shelf: RecordingStore, kept: Recording, heard: list[Transcription]) -> None:
    sets = UserSets(shelf.folder.parent)
    if not kept.reference:
        st.markdown("Enter a reference transcript before adding this recording to a set.")
        return
    name = st.selectbox(
        "Evaluation set",
        sets.names(),
        index=0 if sets.names() else None,
        accept_new_options=True,
        placeholder="Type a name for a new set",
        key=f"set-{kept.id}",
    )
    speaker = st.text_input(
        "Speaker (optional)",
        key=f"speaker-{kept.id}",
        help="Any name; use the same one for all recordings of a person. Without speakers,"
        " confidence intervals are too narrow.",
    )
    language = heard[0].language if heard else "en"
    how = {"type": "primary", "disabled": not name}
    button("Add", f"add-{kept.id}", add, sets, shelf, kept.id, language, name, speaker, **how)


def add(
    sets: UserSets, shelf: RecordingStore, id: str, language: str, name: str, speaker: str
) -> str:
    kept = shelf.get(id)
    if kept is None:
        raise InputError("The recording was deleted. Upload it again.")
    # The fields may have changed since the button was drawn.
    name = st.session_state.get(f"set-{id}", name)
    speaker = st.session_state.get(f"speaker-{id}", speaker)
    sets.add(name, kept, shelf.original_path(id), language, speaker)
    return f"{kept.name} is in {name}. Run it, export it or delete it on My speech."


def reference(shelf: RecordingStore, kept: Recording, suggestion: str) -> None:
    """The words that are said, to type or to correct; what is typed is kept and scored."""
    title, icon = "Reference transcript", ":material/edit:"
    with st.expander(title, expanded=not kept.reference, icon=icon):
        key = f"reference-{kept.id}-{hash(kept.reference):x}"
        typed = st.text_area(
            "Reference",
            kept.reference,
            key=key,
            on_change=carry_out,
            args=(kept.id, refer, shelf, kept.id, key),
            placeholder="Type the spoken words to score every recipe against them.",
            height="content",
        )
        label = "Start from fp32's transcript"
        offered = suggestion and not typed.strip()
        if offered:
            st.button(
                label,
                key=f"suggest-{kept.id}",
                on_click=carry_out,
                args=(kept.id, shelf.set_reference, kept.id, suggestion),
            )
        show_outcome(kept.id)


def refer(shelf: RecordingStore, id: str, key: str) -> None:
    """Keeps what is typed in the field of that key."""
    shelf.set_reference(id, st.session_state[key])


def compare(shelf: RecordingStore, mine: UserSession, kept: Recording, asked: Asked) -> None:
    """One recording: player, reference, and what each listener heard."""
    heard = {one: found for one in asked if (found := shelf.transcription(kept.id, one))}
    header(shelf, kept, list(heard.values()))
    with st.container(key=f"audio-{kept.id}"):
        st.audio(str(shelf.playback_path(kept.id)))
    fp32 = next((one for one in heard if one.name == "fp32"), None)
    reference(shelf, kept, heard[fp32].text if fp32 else "")
    waiting(mine, kept, [one for one in asked if one not in heard])
    if not heard:
        return
    language = "en" if asked[0].task == "translate" else next(iter(heard.values())).language
    headings, transcripts = [], []
    if kept.reference:
        headings.append(Heading("Reference"))
        transcripts.append(words_of(kept.reference, language))
    elif fp32:
        st.caption("No reference: differences are from the fp32 transcript, which may be wrong.")
    words = {
        one: words_of(found.text, language, [w.start_s for w in found.words])
        for one, found in heard.items()
    }
    for one, found in heard.items():
        against = words[fp32] if fp32 and one != fp32 else None
        headings.append(heading(one, found, kept.reference, language, words[one], against))
        transcripts.append(words[one])
    transcript_view(f"side-{kept.id}", headings, align(transcripts), kept.sound, f"audio-{kept.id}")


def heading(
    listener: TranscriptionConfig,
    heard: Transcription,
    said: str,
    language: str,
    words: tuple[Word, ...],
    fp32: tuple[Word, ...] | None,
) -> Heading:
    """The figures above a column."""
    facts = []
    if said:
        score = error_rates.score(said, heard.text, language)
        if score.words.rate is not None:
            facts.append(f"WER {score.words.rate:.1f} %, CER {score.characters.rate:.1f} %")
    if fp32 is not None and (unlike := disagreement_pct(fp32, words)) is not None:
        facts.append(f"{unlike:.1f} % word difference from fp32")
    facts.append(f"{heard.wall_s:.2f} s, RTF {heard.rtf:.2f}, {heard.weights_bytes / 1e6:.0f} MB")
    warnings = []
    if heard.looped:
        warnings.append("Repeats itself: a decoding loop.")
    if not heard.text:
        warnings.append("The transcript is empty.")
    return Heading(listener.name, tuple(facts), tuple(warnings))


def waiting(mine: UserSession, kept: Recording, missing: Asked) -> None:
    """What is still to be heard, and why something was not."""
    for one in missing:
        job = mine.transcription_job(kept.id, one.key)
        name = markup.escape_markdown(one.name)
        if job is None or job.state == JobState.STOPPED:
            st.caption(f"{name}: not transcribed yet. Press **Transcribe**.")
        elif job.state == JobState.FAILED:
            st.error(f"{name}: {markup.escape_markdown(job.message)}")
        else:
            st.caption(f":material/progress_activity: {name}: {job.state} …")


def transcribe(mine: UserSession, missing: list[tuple[Recording, TranscriptionConfig]]) -> None:
    for kept, one in missing:
        mine.transcribe(kept, one)


@st.fragment(run_every=1.0)
def watch(mine: UserSession, pairs: list[tuple[str, str]]) -> None:
    """Draws the page anew when one of its jobs has ended, or begun."""
    found = [job and job.state for job in (mine.transcription_job(*pair) for pair in pairs)]
    if found != st.session_state.setdefault("statuses", found):
        st.session_state["statuses"] = found
        st.rerun(scope="app")


def is_going(mine: UserSession, pair: tuple[str, str]) -> bool:
    job = mine.transcription_job(*pair)
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
    mine = user_session()
    shelf = RecordingStore(mine.store.root)
    with View("recordings") as view:
        take(shelf)
        chosen = choose_recordings(shelf, view)
        asked = choose_listeners(mine, view)
        pages = -(-len(chosen) // SHOWN)
        page = view.page_of(pages, "page") if pages > 1 else 1
    missing = [
        (kept, one) for kept in chosen for one in asked if shelf.transcription(kept.id, one) is None
    ]
    how = {"type": "primary", "icon": ":material/graphic_eq:", "disabled": not missing}
    button("Transcribe", "transcribe", transcribe, mine, missing, **how)
    if not chosen:
        st.info(
            "No recordings yet. A few seconds of clear speech are enough for a first impression."
        )
        return
    shown = chosen[(page - 1) * SHOWN : page * SHOWN]
    for kept in shown:
        with st.container(border=True):
            compare(shelf, mine, kept, asked)
    pairs = [(kept.id, one.key) for kept, one in missing if kept in shown]
    if any(is_going(mine, pair) for pair in pairs):
        watch(mine, pairs)


try:
    main()
except WhisperQError as error:
    st.error(markup.escape_markdown(str(error)))
