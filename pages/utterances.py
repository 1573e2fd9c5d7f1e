"""One result, utterance by utterance: where a point of a plot leads."""

import streamlit as st

from pages._navigation import open_in_app
from pages._result_details import choose, details
from pages._session import all_rows, all_runs
from pages._utterance_view import set_title
from pages._view import View
from whisperq_core.analyze import pareto_front
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup
from whisperq_core.whisper import protocols


def main(view: View) -> None:
    stored = all_runs()
    rows = all_rows(stored)
    if rows.empty:
        st.info("There are no results yet. Open **Run evaluations** and measure a few recipes.")
        return
    wanted = rows[rows["key"] == view.requested("run")]
    for column in ("model", "set", "protocol"):
        if len(wanted):
            view.imply(column, wanted.iloc[0][column])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for column, label, default in (
            ("model", "Model", "base"),
            ("set", "Evaluation set", "test-other-excerpt"),
            ("protocol", "Protocol", protocols.STUDY.name),
        ):
            options = sorted(rows[column].unique())
            first = default if default in options else options[0]
            how = {"format_func": set_title} if column == "set" else {}
            value = view.one_of(label, options, column, first, width=300, **how)
            rows = rows[rows[column] == value]
    runs = [run for run in stored if isinstance(run, AccuracyRun)]
    run = choose(view, rows, runs)
    if run is None:
        st.info("Choose a result above, or click a point of a plot on another page.")
        return
    st.header(markup.escape_markdown(f"{run.spec.recipe.name} on {run.model}"), anchor=False)
    row = pareto_front.with_verdicts(rows[rows["key"] == run.key], runs, margin=MARGIN).iloc[0]
    details(view, run, row, runs)


open_in_app("utterances.py")
st.title("Utterances")
with View("utterances") as shown:
    main(shown)
