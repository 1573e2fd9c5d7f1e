"""Every job on this machine: who ran it, when, for how long, and its outcome."""

import pandas as pd
import streamlit as st

from pages._column_help import with_help
from pages._navigation import open_in_app, run_url, utterances_url
from pages._session import user_store
from pages._tables import draw_table
from pages._view import View
from whisperq_core.evaluate import history
from whisperq_core.evaluate.history import Entry
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.plurals import counted
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label

ICONS = {history.DONE: "✓ done", history.FAILED: "✗ failed", history.STOPPED: "■ stopped"}
LINKS = {
    "Result": st.column_config.LinkColumn(display_text="per-utterance results"),
    "Again": st.column_config.LinkColumn(
        display_text="run again", help="Opens Run evaluations with the same choices."
    ),
    "Started (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
}


def choose(view: View, entries: tuple[Entry, ...]) -> list[Entry]:
    """The entries that pass the filters; none chosen is all."""
    fields = {
        "Who": lambda entry: entry.who,
        "Outcome": lambda entry: entry.outcome,
        "Model": lambda entry: entry.work.model,
    }
    selected = list(entries)
    with st.container(horizontal=True):
        for label, value in fields.items():
            options = sorted({value(entry) for entry in entries})
            key = f"history_{label.lower()}"
            wanted = view.several(label, options, key, placeholder="any", width=240)
            selected = [entry for entry in selected if not wanted or value(entry) in wanted]
    return selected


def show(entries: list[Entry], runs: dict[str, AccuracyRun | SpeedRun]) -> None:
    if not entries:
        st.info("No jobs match these filters. Clear one of them.")
        return
    lines = [
        {
            "Started (UTC)": entry.started_at,
            "Who": entry.who,
            "Outcome": ICONS[entry.outcome],
            "Took": history.format_duration(entry.took_s),
            "What": entry.work.kind,
            "Model": entry.work.model,
            "Recipe": entry.work.recipe,
            "Evaluation set": entry.work.eval_set or "",
            "Measures": entry.work.measures or "",
            "Result": link_to(runs.get(entry.key)),
            "Again": run_url(entry.work) if entry.work.kind == history.EVALUATION else None,
            "Why": entry.message if entry.outcome != history.DONE else "",
            "Protocol": protocol_label(entry.work.protocol),
            "Machine": entry.machine.cpu,
            "Key": entry.key or "",
        }
        for entry in entries
    ]
    config = with_help({name: name for name in lines[0]} | LINKS)
    draw_table(pd.DataFrame(lines), column_config=config)
    took_s = sum(entry.took_s for entry in entries)
    st.caption(f"{counted(len(entries), 'job')}, {history.format_duration(took_s)} total")


def link_to(run: AccuracyRun | SpeedRun | None) -> str | None:
    return utterances_url(run) if isinstance(run, AccuracyRun) else None


def show_others(others: list[AccuracyRun | SpeedRun]) -> None:
    st.header("Results without a history entry")
    st.markdown(
        f"{counted(len(others), 'stored result')}: shipped with WhisperQ, copied here, or older"
        " than this history. Who measured them and how long it took is unknown; their records hold"
        " the date and the machine."
    )
    box = st.expander("Show them", key="history_others", on_change="rerun")
    if box.open:
        with box:
            table_of(others)


def table_of(others: list[AccuracyRun | SpeedRun]) -> None:
    lines = [
        {
            "Measured (UTC)": run.created_at,
            "Model": run.model,
            "Recipe": run.spec.recipe.name,
            "Evaluation set": run.eval_set,
            "Measures": run.measures,
            "Result": link_to(run),
            "Machine": f"{run.machine.cpu}, {counted(run.machine.cores, 'core')}",
            "Key": run.key,
        }
        for run in others
    ]
    names = {name: name for name in lines[0]}
    config = with_help(names | LINKS | {"Measured (UTC)": LINKS["Started (UTC)"]})
    draw_table(pd.DataFrame(lines), column_config=config)


def main() -> None:
    open_in_app("history.py")
    st.title("History")
    st.markdown("Every job on this machine: who ran it, when, for how long, and its outcome.")
    store = user_store()
    log, stored = history.read(store.root), store.runs()
    if log.unreadable:
        names = ", ".join(path.name for path in log.unreadable)
        st.warning(
            f"Unreadable entries were skipped: {markup.escape_markdown(names)}. They are kept in"
            f" `{store.root / history.FOLDER}`."
        )
    if log.entries:
        with View("history") as view:
            chosen = choose(view, log.entries)
        show(chosen, {run.key: run for run in stored})
    else:
        st.info(
            "Nothing has run on this machine yet. Open **Run evaluations** and press Start, or run"
            " `python -m whisperq_core run`. Every finished job is listed here, failed ones too."
        )
    runs = [run for run in stored if isinstance(run, AccuracyRun | SpeedRun)]
    if others := history.runs_without_entry(runs, log.entries):
        show_others(others)


main()
