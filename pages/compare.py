"""Two results on the same speech: by how much they differ, where, and in which words."""

import pandas as pd
import streamlit as st

from pages._figures import draw
from pages._navigation import open_in_app, utterances_url
from pages._session import all_runs
from pages._utterance_view import audio_files, run_label, side_by_side
from pages._view import View
from whisperq_core.analyze import confusions, paired_comparisons, verdict_text
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup
from whisperq_core.present.contribution_chart import contribution_figure

BARS, WORDS, A_PAGE = 25, 100, 6
BY = {"utterance": "By utterance", "speaker": "By speaker"}


def swap() -> None:
    state = st.session_state
    state["first"], state["second"] = state["second"], state["first"]


def choose(view: View, runs: list[AccuracyRun]) -> tuple[AccuracyRun | None, AccuracyRun | None]:
    """The two runs; those that the second can be compared with come first."""
    by_key = {run.key: run for run in reversed(runs)}
    labels = {key: run_label(run) for key, run in by_key.items()}

    def one(label: str, key: str, beside: AccuracyRun | None) -> AccuracyRun | None:
        speech = beside.speech_digest if beside else None
        order = sorted(by_key, key=lambda k: (by_key[k].speech_digest != speech, labels[k]))
        chosen = view.one_of(
            label, order, key, format_func=lambda k: labels.get(k, k), placeholder="Choose a result"
        )
        return by_key.get(chosen)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = one("First", "first", by_key.get(view.requested("second")))
        st.button("Swap", icon=":material/swap_horiz:", on_click=swap)
        second = one("Second", "second", first)
    return first, second


def by_how_much(first: AccuracyRun, second: AccuracyRun, margin: float) -> None:
    found = paired_comparisons.compare_runs(first, second, margin=margin)
    columns = st.columns(3)
    for column, run in zip(columns, (first, second), strict=False):
        rate = paired_comparisons.estimate(run, found.unit)
        with column.container(border=True, height="stretch", gap=None):
            st.caption(markup.escape_markdown(f"{run.spec.recipe.name} on {run.model}"))
            st.markdown(f"### {found.rate_name} {rate.value:.2f} %")
            st.markdown(
                "no interval" if pd.isna(rate.low) else f"{rate.low:.2f} to {rate.high:.2f}"
            )
            st.markdown(f"[Its utterances]({utterances_url(run)})")
    d = found.difference
    with columns[2].container(border=True, height="stretch", gap=None):
        st.caption("Second minus first")
        st.markdown(f"### {d.value:+.2f} points".replace("-", "−"))
        ends = "no interval" if pd.isna(d.low) else f"{d.low:+.2f} to {d.high:+.2f}"
        st.markdown(ends.replace("-", "−"))
        words = verdict_text.describe_runs(found, first, second)
        st.markdown(markup.escape_markdown(words[:1].upper() + words[1:] + "."))
    if paired_comparisons.condition(first) != paired_comparisons.condition(second):
        st.caption(
            "The two differ in more than the recipe (model, protocol, device or threads), and so"
            f" may their {found.rate_name}."
        )


def where(view: View, first: AccuracyRun, second: AccuracyRun) -> None:
    st.header("Where they differ", anchor="where")
    by = view.one_of(
        "Where",
        list(BY),
        "by",
        "utterance",
        st.segmented_control,
        format_func=BY.get,
        required=True,
        label_visibility="collapsed",
    )
    changes = confusions.error_contributions(first, second, by == "speaker")
    differing = paired_comparisons.differing(first, second)
    if not changes and not differing:
        st.info("No utterance has another number of errors. The words may still differ; see below.")
        return
    names = [run.spec.recipe.name for run in (first, second)]
    st.markdown(driven_by(changes, by))
    if changes:
        draw(
            contribution_figure(changes[:BARS], *names),
            f"What each {by} adds to the difference between {' and '.join(names)}",
            key="changes",
            on_select=take_bar,
            selection_mode="points",
            alt=f"What each {by} adds to the difference in WER.",
        )
        beyond = len(changes) - BARS
        st.caption(
            f"The {BARS} largest; {beyond} smaller ones are not drawn. Click a bar to see it below."
            if beyond > 0
            else "Click a bar to see it below."
        )
    inside = {change.name: change for change in changes}
    chosen = view.one_of(by.capitalize(), list(inside), "at", placeholder="all", width=320)
    if chosen in inside:
        differing = [pair for pair in differing if pair[0].id in inside[chosen].ids]
    st.html(markup.alignment_legend_html())
    page = view.page_of(max(1, -(-len(differing) // A_PAGE)), "page")
    audio, total = audio_files(first), first.words.reference_length
    for pair in differing[(page - 1) * A_PAGE : page * A_PAGE]:
        more = pair[1].score.words.errors - pair[0].score.words.errors
        points = 100 * more / total if total else 0.0
        note = f"{more:+d} errors, {points:+.2f} points".replace("-", "−")
        side_by_side((first, second), pair, audio.get(pair[0].id), note)


def driven_by(changes: list[confusions.ErrorContribution], by: str) -> str:
    """How few of them make the difference, in a sentence."""
    up = [c for c in changes if c.errors > 0]
    down = [c for c in changes if c.errors < 0]
    total = sum(c.errors for c in changes)
    text = (
        f"The second has more errors in {counted(len(up), by)} ({sum(c.errors for c in up)} more)"
        f" and fewer in {len(down)} ({-sum(c.errors for c in down)} fewer)."
    )
    side = up if total > 0 else down
    if total:
        share = 100 * side[0].errors / total
        name = markup.escape_markdown(side[0].name)
        text += f" The largest share is that of {name}: {share:.0f} % of the difference"
        text += ", more than all of it." if share > 100 else "."
    return text


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def take_bar() -> None:
    points = st.session_state["changes"].selection.points
    if points and points[0].get("customdata"):
        st.session_state["at"] = points[0]["customdata"][0]
        st.session_state["page"] = 1


def words(first: AccuracyRun, second: AccuracyRun) -> None:
    st.header("In which words", anchor="words")
    alone = confusions.unique_errors(first, second)
    if not alone:
        st.info("Both make the same errors.")
        return
    names = [run.spec.recipe.name for run in (first, second)]
    if names[0] == names[1]:
        names = [f"{name} {run.key[:6]}" for name, run in zip(names, (first, second), strict=True)]
    st.markdown("Errors that only one of the two makes, the most frequent first.")
    lines = [
        {
            "Heard": edit.hypothesis or "–",
            "Said": edit.reference or "–",
            "Kind": edit.kind,
            names[0]: ours,
            names[1]: theirs,
        }
        for edit, ours, theirs in alone[:WORDS]
    ]
    st.dataframe(without_formulas(pd.DataFrame(lines)), hide_index=True, height=320)
    if len(alone) > WORDS:
        st.caption(f"{len(alone) - WORDS} rarer ones are left out.")


def main(view: View) -> None:
    runs = [run for run in all_runs() if isinstance(run, AccuracyRun)]
    if not runs:
        st.info("There are no results yet. Open **Run evaluations** and measure a few recipes.")
        return
    first, second = choose(view, runs)
    if first is None or second is None:
        st.info("Choose two results above, or follow a link from a result's utterances.")
        return
    margin = view.number(
        "Margin (points of WER)", 0.1, 20.0, MARGIN, 0.1, "margin", format="%.1f", width=200
    )
    try:
        by_how_much(first, second, margin)
    except NotComparable as error:
        st.warning(markup.escape_markdown(str(error)))
        return
    where(view, first, second)
    words(first, second)


open_in_app("compare.py")
st.title("Compare runs")
st.markdown("Two results on the same speech: by how much they differ, where, and in which words.")
with View("compare") as shown:
    main(shown)
