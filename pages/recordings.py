"""A user's recordings, transcribed by several recipes side by side."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pages._entry import through_app
from whisperq_core import artefacts, jobs, machine, markup, models, recipes, scores
from whisperq_core.errors import WhisperQError
from whisperq_core.recordings import AUTO, Heard, Recording
from whisperq_core.store import Store

LANGUAGES = {
    AUTO: "Detect it",
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
COLUMNS_A_ROW = 3
MAX_BYTES = 200_000_000


@dataclass(frozen=True)
class Comparison:
    """One recording and its jobs, fp32 first."""

    recording: Recording
    model: str
    jobs: tuple[tuple[str, jobs.Job], ...]


def collect() -> list[Recording]:
    """What the user gave: files, and a recording from the microphone."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        files = st.file_uploader(
            "Recordings",
            accept_multiple_files=True,
            help="WAV, FLAC, MP3, OGG, Opus, M4A or WebM; any rate and number of channels.",
        )
    with right:
        spoken = st.audio_input("Or record from the microphone")
    given = [(file.name, file.getvalue()) for file in files]
    if spoken is not None:
        given.append(("microphone.wav", spoken.getvalue()))
    found = []
    for index, (name, data) in enumerate(given):
        reference = st.text_input(
            f"What is said in {name}? (optional)",
            key=f"reference-{index}-{name}",
            help="With the words that were spoken, WER and CER are computed.",
        )
        found.append(Recording(name, data, reference))
    return found


# A column of the comparison: its heading, and what to transcribe with. An exported model has its
# folder for a name, and no recipe beside it.
Column = tuple[str, str, recipes.Recipe | None]


def exported_columns(queue: jobs.Jobs) -> list[Column]:
    known = {str(path): made for path, made in artefacts.found(queue.store.root).items()}
    chosen = st.multiselect(
        "Exported models",
        list(known),
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        placeholder="none",
        help="Quantized models that were exported to a folder, on the Advisor page or by"
        " `python -m whisperq_core export`. They need no other weights. Type a folder to add one.",
    )
    for folder in chosen:
        made = known.get(folder) or artefacts.read(folder)
        if others := made.other_versions():
            st.caption(f"{made.label} was exported with {'; '.join(others)}.")
    return [(f"{Path(folder).name}, exported", folder, None) for folder in chosen]


def options(queue: jobs.Jobs) -> tuple[str, list[Column], dict]:
    offline = models.offline_names()
    names = [*offline, *(name for name in models.NAMES if name not in offline), NO_MODEL]
    possible = [
        name
        for name, recipe in recipes.CATALOGUE.items()
        if recipe.calibration != "evaluation-10%" and name != "fp32"
    ]
    first, second = st.columns([1, 2], gap="large")
    with first:
        model = st.selectbox(
            "Model",
            names,
            format_func=lambda n: n if n in (*offline, NO_MODEL) else f"{n} (fetched from the hub)",
        )
    with second:
        chosen = st.multiselect(
            "Recipes, beside fp32",
            possible,
            ["torch-int8", "bnb-nf4"],
            disabled=model == NO_MODEL,
        )
    columns = []
    if model != NO_MODEL:
        columns = [(name, model, recipes.recipe(name)) for name in ["fp32", *chosen]]
    columns += exported_columns(queue)
    with st.container(horizontal=True):
        multilingual = not model.endswith(".en")
        language = st.selectbox(
            "Language",
            list(LANGUAGES) if multilingual else ["en"],
            format_func=LANGUAGES.get,
            width=220,
        )
        task = st.selectbox(
            "Task",
            ["transcribe", "translate"] if multilingual else ["transcribe"],
            format_func=lambda t: "Transcribe" if t == "transcribe" else "Translate to English",
            width=220,
        )
        device = st.selectbox("Device", machine.devices(), width=220)
    return model, columns, {"language": language, "task": task, "device": device}


def start(queue: jobs.Jobs, found, model, columns, how) -> list[Comparison]:
    with st.spinner("Starting the worker process"):
        return [
            Comparison(
                recording,
                model,
                tuple(
                    (heading, queue.transcribe(recording, name, recipe, **how))
                    for heading, name, recipe in columns
                ),
            )
            for recording in found
        ]


def is_over(comparisons: list[Comparison]) -> bool:
    return all(job.is_over for one in comparisons for _, job in one.jobs)


def show(queue: jobs.Jobs, comparisons: list[Comparison]) -> None:
    queue.all()  # brings every job up to date
    for comparison in comparisons:
        with st.container(border=True):
            recording = comparison.recording
            st.subheader(markup.plain_markdown(recording.name))
            st.audio(recording.data)
            compare(queue, comparison)


def compare(queue: jobs.Jobs, comparison: Comparison) -> None:
    heard = {job.id: queue.result(job) for _, job in comparison.jobs if job.status == jobs.DONE}
    known = comparison.recording.reference.strip()
    baseline = next((heard.get(job.id) for name, job in comparison.jobs if name == "fp32"), None)
    if baseline is not None:
        facts = [f"{baseline.audio_s:.1f} s of audio", comparison.model]
        language = LANGUAGES.get(baseline.language, baseline.language)
        facts.append(f"{language} (detected)" if baseline.detected else language)
        st.caption(" · ".join(facts))
        if baseline.silent:
            st.warning("This recording is silent; words below are invented by the model.")
    against = known or (baseline.text if baseline else "")
    if known:
        st.caption("Differences are against your reference text.")
        st.html(markup.labelled_html([("Reference", known)]))
    elif baseline is not None:
        st.caption("Differences are against fp32; it is not necessarily right.")
    for row in range(0, len(comparison.jobs), COLUMNS_A_ROW):
        part = comparison.jobs[row : row + COLUMNS_A_ROW]
        for column, (name, job) in zip(st.columns(COLUMNS_A_ROW), part, strict=False):
            with column:
                st.markdown(f"**{markup.plain_markdown(name)}**")
                if job.id in heard:
                    show_heard(heard[job.id], against, is_reference=name == "fp32" and not known)
                elif job.is_over:
                    st.error(markup.plain_markdown(job.message))
                else:
                    st.caption(f":material/progress_activity: {job.status} …")


def show_heard(heard: Heard, against: str, is_reference: bool) -> None:
    facts = [f"{heard.wall_s:.2f} s", f"RTF {heard.rtf:.2f}", f"{heard.weights_bytes / 1e6:.0f} MB"]
    if heard.score is not None:
        words, characters = heard.score.words, heard.score.characters
        if words.rate is not None:
            facts += [f"WER {words.rate:.1f} %", f"CER {characters.rate:.1f} %"]
    st.caption(" · ".join(facts))
    if heard.looped:
        st.warning("The transcript repeats itself: a decoding loop.")
    if not heard.text:
        st.info("Nothing was heard.")
    elif is_reference or not against:
        same = [scores.Edit("equal", word, word) for word in heard.text.split()]
        st.html(markup.aligned_html(same))
    else:
        st.html(markup.aligned_html(scores.align(against, heard.text, heard.language)))


@st.fragment(run_every=1.0)
def watch(queue: jobs.Jobs) -> None:
    comparisons = st.session_state["comparisons"]
    show(queue, comparisons)
    if is_over(comparisons):
        # Redrawing the whole page ends the polling.
        st.rerun()


through_app("recordings.py")
st.title("Compare recordings")
st.markdown(
    "Upload speech or record some, and read what each recipe hears."
    " Recordings stay on this machine."
)
queue = jobs.shared(Store().root)
try:
    found = collect()
    model, columns, how = options(queue)
    large = [r.name for r in found if len(r.data) > MAX_BYTES]
    if large:
        st.error(f"{', '.join(large)} is larger than 200 MB. Cut it into shorter pieces.")
    ready = bool(found and columns) and not large
    if st.button("Transcribe", type="primary", icon=":material/graphic_eq:", disabled=not ready):
        st.session_state["comparisons"] = start(queue, found, model, columns, how)
    comparisons = st.session_state.get("comparisons", [])
    if comparisons and not is_over(comparisons):
        watch(queue)
    elif comparisons:
        st.html(markup.legend_html())
        show(queue, comparisons)
    elif not found:
        st.info("Nothing yet. A few seconds of clear speech are enough for a first impression.")
except WhisperQError as error:
    st.error(str(error))
