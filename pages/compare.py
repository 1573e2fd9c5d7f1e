"""Two results on the same audio: the difference in WER, and the utterances and words behind it."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages._figures import draw
from pages._navigation import open_in_app, utterances_url
from pages._session import all_runs, example
from pages._tables import draw_table
from pages._utterance_view import (
    audio_of,
    edits_table,
    run_label,
    show_side_by_side,
)
from pages._view import View
from whisperq_core.analyze import confusions, paired_comparisons, verdict_text
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.plurals import capitalized, counted
from whisperq_core.present import glossary, markup
from whisperq_core.present.contribution_chart import contribution_figure

MOST_BARS, MOST_ERRORS, UTTERANCES_A_PAGE = 25, 100, 6
GROUPS = {"utterance": "By utterance", "speaker": "By speaker"}


def swap() -> None:
    state = st.session_state
    state["first"], state["second"] = state["second"], state["first"]


def imply_example(view: View) -> None:
    """Without a link to two results, the recommended configuration against fp32."""
    if view.has("first") or view.has("second"):
        return
    if (recommended := example()) is not None:
        longest = recommended.pool.parts[0]
        view.imply("first", longest.baseline_key)
        view.imply("second", longest.key)


def choose_runs(
    view: View, runs: list[AccuracyRun]
) -> tuple[AccuracyRun | None, AccuracyRun | None]:
    """Baseline and compared run; each list begins with the runs on the other's audio."""
    by_key = {run.key: run for run in reversed(runs)}
    labels = {key: run_label(run) for key, run in by_key.items()}

    def choose(label: str, key: str, other: AccuracyRun | None) -> AccuracyRun | None:
        speech = other.speech_digest if other else None
        order = sorted(by_key, key=lambda k: (by_key[k].speech_digest != speech, labels[k]))
        chosen = view.one_of(
            label,
            order,
            key,
            format_func=lambda k: labels.get(k, k),
            placeholder="Choose a result",
            width=420,  # two in a row on a desktop, one in a row on a phone
        )
        return by_key.get(chosen)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        baseline = choose("Baseline result", "first", by_key.get(view.requested("second")))
        st.button("Swap", icon=":material/swap_horiz:", on_click=swap)
        compared = choose("Compared result", "second", baseline)
    return baseline, compared


def show_difference(baseline: AccuracyRun, compared: AccuracyRun, margin: float) -> None:
    """Both rates, their difference with its interval, and the verdict."""
    comparison = paired_comparisons.compare_runs(baseline, compared, margin=margin)
    columns = st.columns(3)
    for column, run in zip(columns, (baseline, compared), strict=False):
        rate = paired_comparisons.estimate(run, comparison.unit)
        with column.container(border=True, height="stretch", gap=None):
            st.caption(markup.escape_markdown(f"{run.spec.recipe.name} on {run.model}"))
            st.markdown(f"## {comparison.rate_name} {rate.value:.2f} %")
            st.markdown(interval(rate.low, rate.high))
            st.markdown(f"[Per-utterance results]({utterances_url(run)})")
    difference = comparison.difference
    with columns[2].container(border=True, height="stretch", gap=None):
        st.caption("Compared minus baseline")
        st.markdown(f"## {verdict_text.signed(difference.value)} points")
        words = verdict_text.describe_runs(comparison, baseline, compared)
        st.markdown(markup.escape_markdown(f"{capitalized(words)}."))
    if paired_comparisons.condition(baseline) != paired_comparisons.condition(compared):
        st.caption(
            "The results differ in more than the recipe (model, protocol or device), so"
            f" the difference in {comparison.rate_name} may not be caused by the recipe."
        )


def interval(low: float, high: float) -> str:
    return "no interval" if pd.isna(low) else f"95 % interval {low:.2f} to {high:.2f}"


def show_contributions(view: View, baseline: AccuracyRun, compared: AccuracyRun) -> None:
    """What each utterance or speaker adds to the difference, and the utterances themselves."""
    st.header("Where they differ", anchor="where")
    group = view.one_of(
        "Group by",
        list(GROUPS),
        "by",
        "utterance",
        st.segmented_control,
        format_func=GROUPS.get,
        required=True,
        label_visibility="collapsed",
    )
    contributions = confusions.error_contributions(baseline, compared, group == "speaker")
    differing = paired_comparisons.differing(baseline, compared)
    if not contributions and not differing:
        st.info(
            "Both results have the same number of errors in every utterance. The words may still"
            " differ; see below."
        )
        return
    st.markdown(contributions_text(contributions, group))
    if contributions:
        draw_contributions(contributions, baseline, compared, group)
    by_name = {contribution.name: contribution for contribution in contributions}
    chosen = view.one_of(group.capitalize(), list(by_name), "at", placeholder="all", width=320)
    if chosen in by_name:
        differing = [pair for pair in differing if pair[0].id in by_name[chosen].ids]
    st.html(markup.alignment_legend_html())
    page = view.page_of(max(1, -(-len(differing) // UTTERANCES_A_PAGE)), "page")
    audio, unit = audio_of(baseline), paired_comparisons.unit_of_run(baseline)
    rate = "CER" if unit == "characters" else "WER"
    length = getattr(baseline, unit).reference_length
    for pair in differing[(page - 1) * UTTERANCES_A_PAGE : page * UTTERANCES_A_PAGE]:
        more = paired_comparisons.more_errors(*pair, unit)
        points = 100 * more / length if length else 0.0
        errors = f"{more:+d} {'error' if abs(more) == 1 else 'errors'}".replace("-", "−")
        note = f"{errors}, {verdict_text.signed(points)} points of {rate}"
        show_side_by_side((baseline, compared), pair, audio.get(pair[0].id), note)


def draw_contributions(
    contributions: list[confusions.ErrorContribution],
    baseline: AccuracyRun,
    compared: AccuracyRun,
    group: str,
) -> None:
    names = distinct_names((baseline, compared))
    rate = "CER" if paired_comparisons.unit_of_run(baseline) == "characters" else "WER"
    draw(
        contribution_figure(contributions[:MOST_BARS], *names, rate),
        f"Contribution of each {group} to the difference between {' and '.join(names)}",
        key="changes",
        on_select=take_bar,
        selection_mode="points",
        alt=f"Contribution of each {group} to the difference in {rate}.",
    )
    left_out = len(contributions) - MOST_BARS
    largest = f"The {MOST_BARS} largest of {len(contributions)} contributions. "
    st.caption((largest if left_out > 0 else "") + "Click a bar to show its utterances below.")


def contributions_text(contributions: list[confusions.ErrorContribution], group: str) -> str:
    """In how many of the groups errors rise or fall, and which contributes most."""
    up = [c for c in contributions if c.errors > 0]
    down = [c for c in contributions if c.errors < 0]
    added, removed = sum(c.errors for c in up), -sum(c.errors for c in down)
    text = (
        f"The compared result has more errors in {counted(len(up), group)} (+{added}) and fewer"
        f" in {len(down)} (−{removed})."
    )
    if added != removed:
        largest = (up if added > removed else down)[0]
        share = 100 * largest.errors / (added - removed)
        name = markup.escape_markdown(largest.name)
        text += f" Largest contribution: {name}, {share:.0f} % of the difference"
        text += ", partly offset by others." if share > 100 else "."
    return text


def take_bar() -> None:
    points = st.session_state["changes"].selection.points
    if points and points[0].get("customdata"):
        st.session_state["at"] = points[0]["customdata"][0]
        st.session_state["page"] = 1


def show_word_differences(baseline: AccuracyRun, compared: AccuracyRun) -> None:
    """Errors that one of the two has and the other has not, with their counts."""
    st.header("Word-level differences", anchor="words")
    unique = confusions.unique_errors(baseline, compared)
    if not unique:
        st.info("Both results have the same word errors.")
        return
    names = distinct_names((baseline, compared))
    st.markdown("Errors that occur in only one of the two results, the most frequent first.")
    shown = unique[:MOST_ERRORS]
    counts = {
        names[0]: [in_baseline for _, in_baseline, _ in shown],
        names[1]: [in_compared for _, _, in_compared in shown],
    }
    table = edits_table([edit for edit, *_ in shown], counts)
    draw_table(table, height=320)
    if len(unique) > MOST_ERRORS:
        st.caption(f"{len(unique) - MOST_ERRORS} less frequent errors are not shown.")


def distinct_names(runs: Sequence[AccuracyRun]) -> list[str]:
    """Names of the recipes; with the start of the key where they are equal."""
    names = [run.spec.recipe.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {run.key[:6]}" for name, run in zip(names, runs, strict=True)]


def main(view: View) -> None:
    runs = [run for run in all_runs() if isinstance(run, AccuracyRun)]
    if not runs:
        st.info("No results yet. Open **Run evaluations** and evaluate a few recipes.")
        return
    imply_example(view)
    baseline, compared = choose_runs(view, runs)
    if baseline is None or compared is None:
        st.info("Choose two results above, or follow a **Compare with** link on another page.")
        return
    margin = view.number(
        "Margin (points of WER)",
        *(0.1, 20.0, MARGIN, 0.1),
        "margin",
        format="%.1f",
        width=200,
        help=glossary.definition("margin"),
    )
    try:
        show_difference(baseline, compared, margin)
    except NotComparable as error:
        st.warning(markup.escape_markdown(str(error)))
        return
    show_contributions(view, baseline, compared)
    show_word_differences(baseline, compared)


open_in_app("compare.py")
st.title("Compare runs")
st.markdown(
    "Compare two results on the same audio: the difference in WER, and the utterances, speakers and"
    " words that cause it."
)
with View("compare") as shown:
    main(shown)
