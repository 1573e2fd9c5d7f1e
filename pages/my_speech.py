"""A user's own evaluation sets: to run, to judge blindly, to take elsewhere, to delete."""

import pandas as pd
import streamlit as st

from pages._authentication import user_name
from pages._buttons import button
from pages._navigation import open_in_app
from pages._session import user_store
from pages._view import View
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate import history
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup
from whisperq_core.serve import blind_test as blind
from whisperq_core.serve.blind_test import Tally
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech.evaluation_sets import EvalSet


def bring(sets: UserSets) -> None:
    """A set from another machine."""
    with st.popover("Import a set", icon=":material/upload:"):
        turn = st.session_state.setdefault("imports", 0)
        name = st.text_input("Name", placeholder="as in the file", key=f"import-name-{turn}")
        file = st.file_uploader(
            "ZIP archive",
            type="zip",
            key=f"import-{turn}",
            help="What **Export** gives, or any folder of recordings with a manifest.jsonl or"
            " manifest.csv (columns audio, text).",
        )
        if file is not None and st.button("Import", type="primary"):
            st.session_state["set"] = sets.import_zip(file.getvalue(), name)
            st.session_state["imports"] += 1
            st.rerun()


def choose(sets: UserSets, view: View) -> str | None:
    """The set that is looked at; `?set=` in the URL."""
    names = sets.names()
    if st.session_state.get("set") not in names:
        st.session_state.pop("set", None)
    return view.one_of("Evaluation set", names, "set", names[0]) if names else None


def everyday(sets: UserSets, name: str, found: EvalSet) -> None:
    """How large it is; run, export, delete."""
    speakers = {u.speaker for u in found.utterances}
    whose = "unknown speakers" if None in speakers else f"{len(speakers)} speakers"
    st.markdown(
        f"**{len(found.utterances)} recordings**, {found.audio_s / 60:.1f} minutes, {whose},"
        f" {', '.join(found.languages)}"
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


def recordings(sets: UserSets, name: str, found: EvalSet) -> None:
    with st.expander(
        f"Recordings in this set ({len(found.utterances)})", icon=":material/graphic_eq:"
    ):
        pages = -(-len(found.utterances) // 10)
        page = st.pagination(pages, key=f"own-{name}") if pages > 1 else 1
        for utterance in found.utterances[(page - 1) * 10 : page * 10]:
            with st.container(border=True):
                said_by = f" · {utterance.speaker}" if utterance.speaker else ""
                st.markdown(
                    f"**{markup.escape_markdown(utterance.id)}** · {utterance.duration_s:.1f} s"
                    f" · {utterance.language}{markup.escape_markdown(said_by)}"
                )
                st.markdown(markup.escape_markdown(utterance.reference))
                st.audio(str(utterance.audio))
                key = f"out-{name}-{utterance.id}"
                button("Remove from set", key, sets.remove, name, utterance.id)


def measured(found: EvalSet) -> dict[str, AccuracyRun]:
    """Runs on exactly this set, by name; the newest of each."""
    runs = [
        run
        for run in user_store().runs()
        if isinstance(run, AccuracyRun) and run.spec.eval_set_digest == found.digest
    ]
    return {blind.system_name(run): run for run in runs}


def blind_test(sets: UserSets, name: str, found: EvalSet) -> None:
    st.header("Blind test")
    st.markdown(
        "Two anonymous transcripts of one recording: choose the one that reads better. Votes are"
        " stored with the set."
    )
    runs = measured(found)
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
    left = blind.pending_trials([runs[n] for n in names], votes, reader, name)
    if len(names) < 2:
        st.info("Choose at least two recipes.")
    elif left:
        trial(sets, name, found, left, reader)
    else:
        st.success("You have judged every recording whose transcripts differ.")
    tally(blind.tallies(votes))


def trial(sets: UserSets, name: str, found: EvalSet, left: list[blind.Trial], reader: str) -> None:
    now = left[0]
    utterance = next(u for u in found.utterances if u.id == now.utterance)
    st.caption(f"{len(left)} to judge")
    st.audio(str(utterance.audio))
    for column, side, text in zip(
        st.columns(2), "AB", (now.left_text, now.right_text), strict=True
    ):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{side}**")
            st.markdown(markup.escape_markdown(text) or "*no words*")
    labels = {"left": "A reads better", "same": "No difference", "right": "B reads better"}
    with st.container(horizontal=True, horizontal_alignment="center"):
        for chosen, label in labels.items():
            button(label, f"vote-{chosen}", vote, sets, name, now, chosen, reader)


def vote(sets: UserSets, name: str, now: blind.Trial, chosen: blind.Choice, reader: str) -> None:
    # A second click may come before the next two transcripts are drawn: it says nothing of them.
    made = now.vote(chosen, reader)
    if made.judges not in {before.judges for before in sets.votes(name)}:
        sets.vote(name, made)


def tally(found: list[Tally]) -> None:
    if not found:
        return
    with st.expander("Votes", icon=":material/how_to_vote:"):
        st.dataframe(
            without_formulas(
                pd.DataFrame(
                    {
                        "Recipe A": [t.first for t in found],
                        "Recipe B": [t.second for t in found],
                        "Votes for A": [t.for_first for t in found],
                        "Votes for B": [t.for_second for t in found],
                        "No difference": [t.same for t in found],
                        "Result": [in_words(t) for t in found],
                    }
                )
            ),
            hide_index=True,
        )
        st.caption(
            "All readers on this machine. p: two-sided sign test, without “no difference” votes."
        )


def in_words(one: Tally) -> str:
    if one.p is None:
        return "no votes for either"
    if one.p > 0.05:
        return f"not significant (p = {one.p:.2f})"
    liked = one.first if one.for_first > one.for_second else one.second
    return f"{liked} reads better (p = {one.p:.3f})"


def main() -> None:
    open_in_app("my_speech.py")
    st.title("My speech")
    st.markdown(
        "Evaluation sets of your own recordings. They stay on this machine until you delete them."
    )
    sets = UserSets(user_store().root)
    try:
        with View("my_speech") as view:
            bring(sets)
            name = choose(sets, view)
        if name is None:
            st.info(
                "No set yet. Open **Compare recordings**, upload speech, enter its reference"
                " transcript and press **Add to a set**; or import a set."
            )
            return
        found = sets.get(name)
    except WhisperQError as error:
        st.error(markup.escape_markdown(str(error)))
        return
    everyday(sets, name, found)
    recordings(sets, name, found)
    blind_test(sets, name, found)


main()
