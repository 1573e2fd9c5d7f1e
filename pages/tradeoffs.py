"""All results: as a plot, as a table, and per utterance."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from pages import _result_details
from pages._column_help import with_help
from pages._figures import draw
from pages._navigation import open_in_app
from pages._session import all_rows, all_runs, example, user_store
from pages._tables import draw_table
from pages._utterance_view import set_title
from pages._view import View
from whisperq_core.analyze import pareto_front, results_table
from whisperq_core.analyze.configurations import REFERENCE_RECIPE, Configuration
from whisperq_core.analyze.verdicts import MARGIN, Verdict
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.plurals import counted, plural
from whisperq_core.present import advisor_text, glossary, markup, tradeoff_chart
from whisperq_core.present.labels import protocol_label, verdict_label
from whisperq_core.quantize import recipes
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import protocols

TABLE_COLUMNS = (
    *("model", "recipe", "wer_pct", "difference_points", "difference_low", "difference_high"),
    *("verdict", "front", "lower_wer_pct", "wer_low_pct", "wer_high_pct"),
    *("minutes_needed", "rtf", "rtf_ratio", "weights_bytes", "cer_pct", "cer_low_pct"),
    *("divergence_mnat", "divergence_mnat_low", "divergence_mnat_high", "changed_tokens_pct"),
    *("cer_high_pct", "size_reduction_pct", "peak_memory_bytes", "quantize_s", "loops"),
    "substitutions",
    *(
        "deletions",
        "insertions",
        "reference_words",
        *results_table.AXES,
        "modules",
        "set",
        "utterances",
    ),
    *("device", "threads", "protocol", "rtf_low", "rtf_high", "rtf_ratio_low", "rtf_ratio_high"),
    *("rtf_source", "encoder_share", "first_token_s", "tokens_per_s", "fallbacks", "kernels"),
    *("cpu", "resampled", "created_at", "key"),
)
# What the colours of the plot may tell apart.
COLOURS = ("backend", "family", "weights", "scheme")
# How the columns of `standing` are shown that do not have two decimals.
DECIMALS = {
    **dict.fromkeys(("lower_wer_pct", "minutes_needed"), "%.0f"),
    **dict.fromkeys(("difference_points", "difference_low", "difference_high"), "%+.2f"),
}


def follow_link(view: View, results: pd.DataFrame) -> None:
    """Selects the filters under which the result that the link names is shown."""
    named = results["key"] == view.requested("run")
    if named.any():
        wanted = results[named]
        for column in ("model", "set", "protocol"):
            view.imply(column, wanted.iloc[0][column])
        # The plot, which rings it, comes before the widget that holds it.
        st.session_state["run"] = wanted.iloc[0]["key"]


def choose_machine(view: View, stored: list) -> str | None:
    """Whose times are shown, where speed was measured on several kinds of machine."""
    kinds = results_table.machines(stored)
    if len(kinds) < 2 and not view.has("machine"):
        return None
    return view.one_of(
        "Speed measured on",
        kinds,
        "machine",
        kinds[0] if kinds else None,
        help="Speeds are comparable only on the same CPU, core count and operating system.",
        width=330,
    )


def choose(view: View, results: pd.DataFrame) -> pd.DataFrame:
    """The results of one protocol and evaluation set, of any design.

    By default those among which the recommended configuration is.
    """
    models = sorted(results["model"].unique())
    default = "base" if "base" in models else models[0]
    how = {"placeholder": "any", "width": 190}
    chosen = view.several("Model", models, "model", [default], **how)
    alike = results[results["model"].isin(chosen)] if chosen else results
    names = sorted(results["protocol"].unique())
    best = example()
    if len(names) > 1 or view.has("protocol"):
        is_here = best is not None and best.model in chosen and best.protocol.name in names
        first = best.protocol.name if is_here else protocols.STUDY.name
        how = {
            "format_func": protocol_label,
            "help": "How audio is windowed, decoded and batched.",
            "width": 230,
        }
        protocol = one_of(view, "Protocol", names, first, "protocol", **how)
        alike = alike[alike["protocol"] == protocol]
    sets = sorted(results["set"].unique())
    how = {"format_func": set_title, "width": 330}
    name = one_of(view, "Evaluation set", sets, usual_set(alike, best), "set", **how)
    return alike[alike["set"] == name]


def usual_set(rows: pd.DataFrame, best: Configuration | None) -> str:
    """The longest shipped set that most of the recipes, and the best one, were measured on."""
    shipped = rows[rows["set"].isin(evaluation_sets.EVALUATION_SETS)]
    if best:
        is_best = (shipped["recipe"] == best.recipe) & (shipped["protocol"] == best.protocol.name)
        if is_best.any():
            shipped = shipped[shipped["set"].isin(shipped["set"][is_best])]
    if shipped.empty:
        return "test-other-excerpt"
    sets = shipped.groupby("set").agg(recipes=("recipe", "nunique"), audio_s=("audio_s", "max"))
    most = sets[sets["recipes"] > shipped["recipe"].nunique() / 2]
    # The same length in two sets: the more difficult speech, which is the later name.
    ranked = (most if len(most) else sets).reset_index().sort_values(["audio_s", "set"])
    return str(ranked["set"].iloc[-1])


def filter_designs(view: View, alike: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The rows that the filters, folded away, leave."""
    box = st.expander("Quantization scheme, device", icon=":material/filter_alt:")
    with box.container(horizontal=True, vertical_alignment="bottom"):
        rows = filtered(view, alike, results, {"device": "Device"}, always=True)
        rows = filtered(view, rows, results, {"threads": "Threads"})
        return filtered(view, rows, results, results_table.AXES, always=True)


def one_of(view: View, label: str, options: list[str], default: str, key: str, **how) -> str:
    """A selectbox with the default first, or what there is where that is not."""
    options = sorted(options, key=lambda option: option != default)
    return view.one_of(label, options, key, options[0], **how)


def compared_with(view: View, alike: pd.DataFrame) -> tuple[str, float]:
    """The baseline of every difference, and what still counts as no worse."""
    order = list(recipes.CATALOGUE)
    names = sorted(alike["recipe"].unique(), key=lambda n: (n not in order, n != "fp32", n))
    baseline = one_of(
        view,
        "Baseline",
        names,
        "fp32",
        "baseline",
        help="All WER differences and verdicts are relative to this recipe.",
        width=190,
    )
    margin = view.number(
        "Margin (points of WER)",
        *(0.1, 20.0, MARGIN, 0.1),
        "margin",
        format="%.1f",
        help=glossary.definition("margin"),
        width=190,
    )
    return baseline, margin


def filtered(
    view: View,
    rows: pd.DataFrame,
    results: pd.DataFrame,
    columns: dict[str, str],
    always: bool = False,
) -> pd.DataFrame:
    for column, label in columns.items():
        key, options = f"filter_{column}", sorted(results[column].dropna().unique().tolist())
        if not (always or len(options) > 1 or view.has(key)):
            continue
        names = results_table.BACKEND_NAMES if column == "backend" else {}
        wanted = view.several(
            label,
            options,
            key,
            help=glossary.find_definition(column),
            placeholder="any",
            width=210,
            format_func=lambda option, names=names: names.get(option, str(option)),
        )
        if wanted:
            rows = rows[rows[column].isin(wanted)]
    return rows


def summary(rows: pd.DataFrame, runs: list[AccuracyRun]) -> None:
    first = rows.iloc[0]
    keys = set(rows["key"])
    used = {run.spec.protocol for run in runs if run.key in keys}
    ways = "; ".join(sorted(f"{protocol_label(p.name)} ({p.summary})" for p in used))
    facts = [
        f"**{counted(len(rows), 'result')}**",
        markup.escape_markdown(
            f"{set_title(first['set'])}: {counted(first['utterances'], 'utterance')},"
            f" {first['audio_s'] / 60:.1f} minutes"
        ),
        *(
            markup.escape_markdown(text)
            for text in (", ".join(rows["device"].unique()), _threads(rows["threads"].unique()))
        ),
        markup.escape_markdown(f"Protocol: {ways}"),
        markup.escape_markdown(", ".join(rows["cpu"].dropna().unique())),
    ]
    st.caption(" · ".join(facts))


def say_over_all_sets(rows: pd.DataFrame) -> None:
    """What all sets together show of the recommended recipe, where this set leaves it open."""
    best = example()
    if best is None or best.comparison is None:
        return
    own = rows.set_index(["model", "recipe", "protocol"])["verdict"]
    verdict = own.get((best.model, best.recipe, best.protocol.name))
    if verdict == Verdict.INCONCLUSIVE and best.comparison.verdict is not Verdict.INCONCLUSIVE:
        st.info(
            markup.escape_markdown(
                f"{best.recipe} is {verdict_label(verdict)} on this evaluation set alone. Over all"
                f" English sets together it is {advisor_text.certainty(best)}:"
                f" {advisor_text.cost(best)} Overview and Advisor answer from all sets."
            )
        )


def _threads(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers))} {plural(numbers[-1], 'thread')}"


def plot(view: View, rows: pd.DataFrame, runs: list[AccuracyRun], margin: float) -> pd.DataFrame:
    """The plot and its controls; returns the rows with their Pareto status, lowest y first."""
    metrics, difference = list(results_table.METRICS), tradeoff_chart.DIFFERENCE
    # Differences of several models are from several baselines, so no line would be a front of them.
    has_difference = rows["model"].nunique() == 1 and rows["verdict_rate"].notna().any()
    rates = [difference, *metrics] if has_difference else metrics

    titles = {column: tradeoff_chart.metric(rows, column).title for column in rates}

    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = {"format_func": titles.get, "width": 230}
        x = view.one_of("X axis", metrics, "x", "rtf", **how)
        y = view.one_of("Y axis", rates, "y", rates[0], **how)
        size = view.one_of("Marker area", metrics, "area", "weights_bytes", **how)
        how["format_func"] = results_table.AXES.get
        color = view.one_of("Colour", COLOURS, "color", COLOURS[0], **how)
        log_x = view.flag("Log X axis", x.startswith(("rtf", "divergence")), f"log_{x}")
        # Other metrics of the Y axis span less than a power of ten.
        log_y = y == "divergence_mnat" and view.flag("Log Y axis", True, "log_y")
        drawn = rows[[x, y]].notna().all(axis=1)
        off = (tradeoff_chart.beyond_axis(rows, x) | tradeoff_chart.beyond_axis(rows, y)) & drawn
        show_all = False
        if off.any() or view.has("whole_range"):
            show_all = view.flag("Include outliers", False, "whole_range")
        intervals = view.flag("Show intervals", False, "intervals")
    rate = results_table.rate_column(results_table.compared_rate(rows))
    rows = pareto_front.pareto_status(rows, runs, x, rate if y == difference else y, margin)
    figure = tradeoff_chart.tradeoff_figure(
        rows,
        *(x, y, size, color),
        log_x=log_x,
        log_y=log_y,
        show_all=show_all,
        chosen=st.session_state.get("run"),
        intervals=intervals,
    )
    draw(
        figure,
        f"{titles[y]} against {titles[x]}",
        key="chart",
        on_select=take_point,
        selection_mode="points",
        config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
        alt=f"{titles[y]} against {titles[x]}; the table below has the same results.",
    )
    notes = [explained(rows, {x, y}, margin, intervals)]
    if off.any() and not show_all:
        notes.append(f"Arrows mark {off.sum()} outside the axis range; tooltips have their values.")
    if not drawn.all():
        notes.append(f"{(~drawn).sum()} not drawn: {titles[x]} or {titles[y]} was not measured.")
    st.caption(" ".join(notes))
    return rows.sort_values(y, kind="stable")


def explained(rows: pd.DataFrame, axes: set[str], margin: float, intervals: bool) -> str:
    """What the bars, the line and the hollow points are."""
    notes = []
    many = rows[sorted(axes)].notna().all(axis=1).sum() > tradeoff_chart.MAX_LABELLED_POINTS
    if many or not intervals:
        notes.append(
            "Error bars: of the Pareto front and the selected result. Those of the others are in"
            f" their tooltips{'' if many else ' or shown by the switch'}."
        )
    if axes & {"rtf", "rtf_ratio"}:
        notes.append("Error bars of speed: minimum to maximum of repeated passes.")
    over = sorted(rows["resampled"].unique())
    if tradeoff_chart.DIFFERENCE in axes:
        notes.append(
            f"Error bars of differences: 95 % intervals over {', '.join(over)}, simultaneous for"
            " all recipes measured on this evaluation set."
        )
    if axes & {"wer_pct", "cer_pct"}:
        notes.append(
            f"Error bars of WER and CER: 95 % intervals, bootstrap over {', '.join(over)}."
        )
    of_words = axes & {"wer_pct", "cer_pct", tradeoff_chart.DIFFERENCE}
    if of_words and any("utterance" in blocks for blocks in over):
        notes.append(
            "**Without speaker labels, utterances are resampled: intervals are too narrow.**"
        )
    if axes & {"wer_pct", "cer_pct"}:
        notes.append(
            "Comparisons are paired, so a difference can be significant where intervals overlap."
        )
    if "divergence_mnat" in axes:
        notes.append("Error bars of divergence: 95 % intervals, bootstrap over speakers.")
    notes.append(
        "Dashed line: Pareto front of the measured values. Hollow: significantly dominated, by a"
        f" recipe no worse on both axes (margins: {margin:g} points of WER or CER, 5 % of time) and"
        " better on one (corrected for multiple comparisons). Filled: possibly on the front."
    )
    return " ".join(notes)


def take_point() -> None:
    points = st.session_state["chart"].selection.points
    if points and points[0].get("customdata"):
        st.session_state["run"] = points[0]["customdata"][0]


def show_table(rows: pd.DataFrame, baseline: str, margin: float) -> None:
    numbers = {
        metric.column: st.column_config.NumberColumn(metric.title, format=f"%.{metric.decimals}f")
        for metric in results_table.METRICS.values()
    }
    sure = {
        column: st.column_config.NumberColumn(label, format=DECIMALS.get(column, "%.2f"))
        for column, label in pareto_front.LABELS.items()
        if pd.api.types.is_float_dtype(rows[column])
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.header("All results", width="stretch")
        st.download_button(
            "CSV",
            partial(results_table.csv, rows),
            "whisperq-results.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    draw_table(
        labelled(results_table.display(rows), baseline),
        column_order=TABLE_COLUMNS,
        column_config=with_help(results_table.LABELS | pareto_front.LABELS | numbers | sure),
        key="results",
        on_select=take_row,
        selection_mode="single-row",
    )
    st.session_state["table_keys"] = rows["key"].tolist()
    st.caption(
        markup.escape_markdown(
            f"Differences, probabilities and verdicts are relative to {baseline} on the same"
            " utterances, corrected for multiple comparisons (all recipes measured on this"
            f" evaluation set). No worse: WER increase below {margin:g} points. Minutes:"
            " estimated total audio for 80 % power, if further audio is similar."
        )
    )


def labelled(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The frame with verdicts and protocols in the words of the pages."""
    return frame.assign(
        verdict=[verdict_label(verdict, baseline) for verdict in frame["verdict"]],
        protocol=[protocol_label(name) for name in frame["protocol"]],
    )


def take_row() -> None:
    chosen = st.session_state["results"].selection.rows
    if chosen:
        st.session_state["run"] = st.session_state["table_keys"][chosen[0]]


def main(view: View) -> None:
    store = user_store()
    stored = all_runs()
    if store.unreadable:
        names = ", ".join(store.unreadable)
        st.warning(f"Results that cannot be read are not shown: {markup.escape_markdown(names)}.")
    # Above the plot on every screen: a phone hides the sidebar.
    filters = st.container(border=True)
    with filters.container(horizontal=True, vertical_alignment="bottom"):
        results = all_rows(stored, choose_machine(view, stored))
        if not results.empty:
            follow_link(view, results)
            alike = choose(view, results)
            baseline, margin = compared_with(view, alike) if len(alike) else ("fp32", MARGIN)
    if results.empty:
        st.info(
            "No results yet. Open **Run evaluations** and evaluate a few recipes, or run"
            " `python -m whisperq_core run --models base --recipes fp32,quanto-int8 --sets"
            " quick-look`."
        )
        return
    with filters:
        rows = filter_designs(view, alike, results)
    if rows.empty:
        st.info("No results match these filters. Clear one of them.")
        return
    runs = [run for run in stored if isinstance(run, AccuracyRun)]
    keys = set(alike["key"])
    comparable = [run for run in runs if run.key in keys]
    with st.spinner("Computing confidence intervals", show_time=True):
        rows = pareto_front.with_verdicts(rows, comparable, baseline, margin, store.derived)
    rows = tradeoff_chart.with_difference_of_baseline(rows)
    summary(rows, comparable)
    if baseline == REFERENCE_RECIPE:
        say_over_all_sets(rows)
    rows = plot(view, rows, comparable, margin)
    if st.session_state.get("run") in set(rows["key"]):
        name = rows.set_index("key")["recipe"][st.session_state["run"]]
        st.markdown(
            f"Selected: **{markup.escape_markdown(name)}**. [Per-utterance results](#utterances)"
        )
    show_table(rows, baseline, margin)
    st.header("Per-utterance results", anchor="utterances")
    run = _result_details.choose_result(view, rows, runs)
    if run is not None:
        row = rows[rows["key"] == run.key].iloc[0]
        _result_details.show_details(view, run, row, runs, baseline, margin)


open_in_app("tradeoffs.py")
st.title("Trade-offs")
st.markdown(
    "Every result of one evaluation set and protocol: WER, latency, size and memory."
    " The **Advisor** says what to use."
)
with View("tradeoffs") as shown:
    main(shown)
