"""One result, utterance by utterance: where links from plots and tables lead."""

import streamlit as st

from pages._navigation import open_in_app
from pages._result_details import choose_result, show_details
from pages._session import all_rows, all_runs, example, user_store
from pages._utterance_view import set_title
from pages._view import View
from whisperq_core.analyze import pareto_front
from whisperq_core.analyze.paired_comparisons import condition
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.whisper import protocols


def imply_example(view: View) -> None:
    """Without a link to anything, the recommended configuration's longest set."""
    if any(view.has(key) for key in ("run", "model", "set", "protocol")):
        return
    if (recommended := example()) is not None:
        view.imply("run", recommended.pool.parts[0].key)


def main(view: View) -> None:
    stored = all_runs()
    rows = all_rows(stored)
    if rows.empty:
        st.info("No results yet. Open **Run evaluations** and evaluate a few recipes.")
        return
    imply_example(view)
    linked = rows[rows["key"] == view.requested("run")]
    for column in ("model", "set", "protocol"):
        if len(linked):
            view.imply(column, linked.iloc[0][column])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for column, label, default, format_func in (
            ("model", "Model", "base", str),
            ("set", "Evaluation set", "test-other-excerpt", set_title),
            ("protocol", "Protocol", protocols.STUDY.name, protocol_label),
        ):
            options = sorted(rows[column].unique())
            value = view.one_of(
                label,
                options,
                column,
                default if default in options else options[0],
                width=300,
                format_func=format_func,
            )
            rows = rows[rows[column] == value]
    runs = [run for run in stored if isinstance(run, AccuracyRun)]
    run = choose_result(view, rows, runs)
    if run is None:
        st.info("Choose a result above, or click a point of a plot on another page.")
        return
    st.header(markup.escape_markdown(f"{run.spec.recipe.name} on {run.model}"), anchor=False)
    rows = rows[rows["key"] == run.key]
    alike = [one for one in runs if condition(one) == condition(run)]
    rows = pareto_front.with_verdicts(rows, alike, derived=user_store().derived)
    show_details(view, run, rows.iloc[0], runs)


open_in_app("utterances.py")
st.title("Utterances")
st.markdown("The transcripts of one result, with errors marked and the audio to play.")
with View("utterances") as shown:
    main(shown)
