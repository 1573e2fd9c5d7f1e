"""A user's own evaluation sets: to evaluate on, to compare blindly, to export, to delete."""

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages._authentication import user_name
from pages._buttons import button
from pages._navigation import open_in_app
from pages._session import user_store
from pages._tables import draw_table
from pages._view import View
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate import history
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.plurals import counted
from whisperq_core.present import markup
from whisperq_core.serve import blind_test as blind
from whisperq_core.serve.blind_test import Tally
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets, recording_of
from whisperq_core.speech.evaluation_sets import EvalSet, SetPreview


def import_set(sets: UserSets) -> None:
    """Uploads an exported set."""
    with st.popover("Import a set", icon=":material/upload:"):
        turn = st.session_state.setdefault("imports", 0)
        name = st.text_input(
            "Name", placeholder=("default: name in the archive"), key=f"import-name-{turn}"
        )
        file = st.file_uploader(
            "ZIP archive",
            type="zip",
            key=f"import-{turn}",
            help="An exported set, or a folder of recordings with a manifest.jsonl or manifest.csv"
            " (columns audio, text).",
        )
        if file is None:
            return
        try:
            sentences = preview(file.file_id, sets, file)
        except WhisperQError as error:
            st.error(markup.escape_markdown(str(error)))
            return
        for sentence in sentences:
            st.caption(markup.escape_markdown(sentence))
        if st.button("Import", type="primary"):
            st.session_state["set"] = sets.import_zip(file.getvalue(), name)
            st.session_state["imports"] += 1
            st.rerun()


@st.cache_data(max_entries=20, show_spinner="Reading the archive")
def preview(file_id: str, _sets: UserSets, _file: UploadedFile) -> list[str]:
    """What an import would add, and what it would leave out; file_id: the cache's key."""
    return _sets.preview_zip(_file.getvalue()).sentences


def choose(sets: UserSets, view: View) -> str | None:
    """The name of the set that is shown; `?set=` in the URL."""
    names = sets.names()
    if st.session_state.get("set") not in names:
        st.session_state.pop("set", None)
    return view.one_of("Evaluation set", names, "set", names[0]) if names else None


def summary(sets: UserSets, name: str, eval_set: EvalSet) -> None:
    """Its size; run, export, delete."""
    speakers = {u.speaker for u in eval_set.utterances}
    by = "unknown speakers" if None in speakers else counted(len(speakers), "speaker")
    count = counted(len(eval_set.utterances), "recording")
    for sentence in SetPreview.of(eval_set).sentences[1:]:  # the first is the line below
        st.caption(markup.escape_markdown(sentence))
    st.markdown(
        f"**{count}**, {eval_set.audio_s / 60:.1f} minutes, {by},"
        f" {markup.escape_markdown(', '.join(eval_set.languages))}"
    )
    with st.container(horizontal=True):
        if st.button("Evaluate on this set", type="primary", icon=":material/play_circle:"):
            st.switch_page("pages/run_evaluations.py", query_params={"sets": name})
        st.download_button(
            "Export",
            lambda: sets.export(name),
            f"{name}.zip",
            "application/zip",
            icon=":material/download:",
            on_click="ignore",
            help="A ZIP archive of the recordings, their manifest and the votes.",
        )
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown(
                "Removes the set, its copies of the recordings and its votes from this machine."
                " Results measured on it are kept."
            )
            button("Delete the set", "delete-set", sets.delete, name, type="primary")


def recordings(sets: UserSets, name: str, eval_set: EvalSet) -> None:
    with st.expander(
        f"Recordings in this set ({len(eval_set.utterances)})", icon=":material/graphic_eq:"
    ):
        pages = -(-len(eval_set.utterances) // 10)
        page = st.pagination(pages, key=f"own-{name}") if pages > 1 else 1
        uploaded = RecordingStore(sets.root.parent).all()
        for utterance in eval_set.utterances[(page - 1) * 10 : page * 10]:
            with st.container(border=True):
                speaker = f" · {utterance.speaker}" if utterance.speaker else ""
                st.markdown(
                    f"**{markup.escape_markdown(utterance.id)}** · {utterance.duration_s:.1f} s"
                    f" · {markup.escape_markdown(utterance.language + speaker)}"
                )
                st.markdown(markup.escape_markdown(utterance.reference))
                original = recording_of(utterance, uploaded)
                for note in original.sound.notes if original else ():
                    st.caption(f":material/info: {markup.escape_markdown(note)}")
                st.audio(str(utterance.audio))
                key = f"out-{name}-{utterance.id}"
                button("Remove from set", key, sets.remove, name, utterance.id)


def runs_on(eval_set: EvalSet) -> dict[str, AccuracyRun]:
    """Runs on exactly this set, by name; the newest of each."""
    runs = [
        run
        for run in user_store().runs()
        if isinstance(run, AccuracyRun) and run.spec.eval_set_digest == eval_set.digest
    ]
    return {blind.system_name(run): run for run in runs}


def blind_test(sets: UserSets, name: str, eval_set: EvalSet) -> None:
    st.header("Blind test")
    st.markdown(
        "Two anonymous transcripts of one recording: choose the one that reads better. Votes are"
        " stored with the set."
    )
    runs = runs_on(eval_set)
    if len(runs) < 2:
        st.info(
            "A blind test needs results of two recipes on the current set. Press **Evaluate on this"
            " set**."
        )
        return
    names = st.multiselect(
        "Recipes to compare",
        list(runs),
        list(runs),
        key=f"between-{name}",
        placeholder="Choose two",
    )
    reader, votes = user_name() or history.current_user(), sets.votes(name)
    pending = blind.pending_trials([runs[n] for n in names], votes, reader, name)
    if len(names) < 2:
        st.info("Choose at least two recipes.")
    elif pending:
        show_trial(sets, name, eval_set, pending, reader)
    else:
        st.success("You have compared all transcripts that differ.")
    show_tallies(blind.tallies(votes))


def show_trial(
    sets: UserSets, name: str, eval_set: EvalSet, pending: list[blind.Trial], reader: str
) -> None:
    trial = pending[0]
    utterance = next(u for u in eval_set.utterances if u.id == trial.utterance)
    st.caption(f"{len(pending)} left to compare")
    st.audio(str(utterance.audio))
    for column, side, text in zip(
        st.columns(2), "AB", (trial.left_text, trial.right_text), strict=True
    ):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{side}**")
            st.markdown(markup.escape_markdown(text) or "*no words*")
    labels = {"left": "A reads better", "same": "No difference", "right": "B reads better"}
    with st.container(horizontal=True, horizontal_alignment="center"):
        for chosen, label in labels.items():
            button(label, f"vote-{chosen}", vote, sets, name, trial, chosen, reader)


def vote(sets: UserSets, name: str, trial: blind.Trial, chosen: blind.Choice, reader: str) -> None:
    # A second click before the next two transcripts are drawn is no vote on them.
    new = trial.vote(chosen, reader)
    if new.subject not in {earlier.subject for earlier in sets.votes(name)}:
        sets.add_vote(name, new)


def show_tallies(tallies: list[Tally]) -> None:
    if not tallies:
        return
    with st.expander("Votes", icon=":material/how_to_vote:"):
        draw_table(
            pd.DataFrame(
                {
                    "Recipe A": [t.first for t in tallies],
                    "Recipe B": [t.second for t in tallies],
                    "Votes for A": [t.for_first for t in tallies],
                    "Votes for B": [t.for_second for t in tallies],
                    "No difference": [t.same for t in tallies],
                    "Result": [in_words(t) for t in tallies],
                }
            )
        )
        st.caption(
            "All readers on this machine. p: two-sided sign test, without “no difference” votes."
        )


def in_words(tally: Tally) -> str:
    if tally.p is None:
        return "no votes for either"
    if tally.p > 0.05:
        return f"not significant (p = {tally.p:.2f})"
    preferred = tally.first if tally.for_first > tally.for_second else tally.second
    return f"{preferred} reads better (p = {tally.p:.3f})"


def main() -> None:
    open_in_app("my_speech.py")
    st.title("My speech")
    st.markdown(
        "Evaluation sets of your own recordings. They stay on this machine until you delete them."
    )
    sets = UserSets(user_store().root)
    try:
        with View("my_speech") as view:
            import_set(sets)
            name = choose(sets, view)
        if name is None:
            st.info(
                "No set yet. Open **Compare recordings**, upload speech, enter its reference"
                " transcript and press **Add to a set**; or import a set."
            )
            return
        eval_set = sets.get(name)
    except WhisperQError as error:
        st.error(markup.escape_markdown(str(error)))
        return
    summary(sets, name, eval_set)
    recordings(sets, name, eval_set)
    blind_test(sets, name, eval_set)


main()
