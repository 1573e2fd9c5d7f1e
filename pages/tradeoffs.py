"""Every measured result: as a plot, as a table, and utterance by utterance."""

import pandas as pd
import streamlit as st

from pages._entry import through_app
from pages._utterances import details, shipped_sets
from whisperq_core import charts, markup, table
from whisperq_core.store import Store

TABLE_COLUMNS = (
    *("front", "model", "recipe", "wer_pct", "cer_pct", "rtf", "rtf_ratio", "weights_bytes"),
    *("size_reduction_pct", "peak_memory_bytes", "quantize_s", "loops", "substitutions"),
    *("deletions", "insertions", "reference_words", *table.AXES, "modules", "set", "utterances"),
    *("device", "threads", "protocol", "rtf_low", "rtf_high", "rtf_source", "kernels", "cpu"),
    *("created_at", "key"),
)


@st.cache_resource
def store_at(root) -> Store:
    return Store(root)


def title_of(name: str) -> str:
    return shipped_sets()[name].title if name in shipped_sets() else name


def choose(results: pd.DataFrame) -> pd.DataFrame:
    """The sidebar: which results to look at."""
    with st.sidebar:
        models = sorted(results["model"].unique())
        default = "base" if "base" in models else models[0]
        chosen = st.multiselect(
            "Model", models, [default], key="model", bind="query-params", placeholder="any"
        )
        found = results[results["model"].isin(chosen)] if chosen else results
        sets = sorted(results["set"].unique())
        default = "test-other-excerpt" if "test-other-excerpt" in sets else sets[0]
        name = st.selectbox(
            "Evaluation set",
            sets,
            sets.index(default),
            format_func=title_of,
            key="set",
            bind="query-params",
        )
        found = found[found["set"] == name]
        found = filtered(found, results, {"device": "Device"}, always=True)
        found = filtered(found, results, {"threads": "Threads", "protocol": "Protocol"})
        with st.expander("Design of the quantization"):
            return filtered(found, results, table.AXES, always=True)


def filtered(found, results, columns: dict[str, str], always: bool = False) -> pd.DataFrame:
    for column, label in columns.items():
        options = sorted(results[column].dropna().unique().tolist())
        if not always and len(options) < 2:
            continue
        names = table.BACKEND_NAMES if column == "backend" else {}
        wanted = st.multiselect(
            label,
            options,
            key=f"filter_{column}",
            placeholder="any",
            format_func=lambda option, names=names: names.get(option, str(option)),
        )
        if wanted:
            found = found[found[column].isin(wanted)]
    return found


def summary(found: pd.DataFrame) -> None:
    first = found.iloc[0]
    facts = [
        f"**{len(found)} {'result' if len(found) == 1 else 'results'}**",
        markup.plain_markdown(
            f"{title_of(first['set'])}: {first['utterances']} utterances,"
            f" {first['audio_s'] / 60:.1f} minutes"
        ),
    ]
    facts += [
        markup.plain_markdown(", ".join(str(v) for v in found[column].dropna().unique()) + unit)
        for column, unit in (("device", ""), ("threads", " threads"), ("protocol", ""), ("cpu", ""))
    ]
    st.caption(" · ".join(facts))


def leaders(found: pd.DataFrame) -> None:
    """What is first in accuracy, speed and size."""
    firsts = table.highlights(found)
    for column, first in zip(st.columns(len(firsts) or 1), firsts, strict=False):
        row = first.row
        parts = [f"WER {row['wer_pct']:.2f} %"]
        if pd.notna(row["rtf_ratio"]):
            parts.append(f"{row['rtf_ratio']:.2f} × fp32's time")
        parts.append(f"{row['weights_bytes'] / 1e6:.0f} MB")
        name = row["recipe"] if found["model"].nunique() == 1 else f"{row['model']} {row['recipe']}"
        with column.container(border=True, height="stretch", gap=None):
            st.caption(first.title)
            st.markdown(f"### {markup.plain_markdown(name)}")
            st.markdown(" · ".join(parts))
    baseline = next((f.baseline for f in firsts if f.baseline is not None), None)
    if baseline is not None and found["model"].nunique() == 1:
        st.caption(
            f"fp32 for comparison: WER {baseline['wer_pct']:.2f} %,"
            f" {baseline['weights_bytes'] / 1e6:.0f} MB. As measured; on an excerpt, a small"
            " difference in WER may be chance."
        )


def plot(found: pd.DataFrame) -> tuple[str, str]:
    """The plot below its axes; returns the axes."""
    metrics = list(table.METRICS)

    def named(column: str) -> str:
        return table.METRICS[column].title

    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = {"format_func": named, "bind": "query-params", "width": 180}
        x = st.selectbox("Across", metrics, metrics.index("rtf"), key="x", **options)
        y = st.selectbox("Up", metrics, 0, key="y", **options)
        size = st.selectbox(
            "Marker area", metrics, metrics.index("weights_bytes"), key="area", **options
        )
        log_x = st.toggle("Logarithmic", x.startswith("rtf"), key=f"log_{x}")
        drawn = found[[x, y]].notna().all(axis=1)
        off = (charts.off_chart(found, x) | charts.off_chart(found, y)) & drawn
        show_all = off.any() and st.toggle("Whole range", key="whole_range")
    figure = charts.tradeoff_figure(
        found, x, y, size, log_x=log_x, show_all=show_all, chosen=st.session_state.get("run")
    )
    st.plotly_chart(
        figure,
        key="chart",
        on_select=take_point,
        selection_mode="points",
        config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
        alt=f"{named(y)} against {named(x)}; the table below has the same results.",
    )
    notes = []
    if off.any() and not show_all:
        notes.append(f"{off.sum()} off the chart, drawn as arrows with their values.")
    if not drawn.all():
        notes.append(
            f"{(~drawn).sum()} not drawn, for want of a measured {named(x)} or {named(y)}."
        )
    bars = "Bars: lowest to highest RTF of repeated passes. " if "rtf" in (x, y) else ""
    st.caption(
        f"{bars}Named: the Pareto front, which no other result beats on both axes. "
        + " ".join(notes)
    )
    return x, y


def take_point() -> None:
    points = st.session_state["chart"].selection.points
    if points and points[0].get("customdata"):
        st.session_state["run"] = points[0]["customdata"][0]


def show_table(found: pd.DataFrame, x: str, y: str) -> None:
    found = found.sort_values(y, kind="stable")
    numbers = {
        metric.column: st.column_config.NumberColumn(metric.title, format=f"%.{metric.decimals}f")
        for metric in table.METRICS.values()
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("All results", width="stretch")
        st.download_button(
            "CSV", table.csv(found), "whisperq-results.csv", "text/csv", icon=":material/download:"
        )
    st.dataframe(
        table.display(found, x, y),
        hide_index=True,
        column_order=TABLE_COLUMNS,
        column_config=table.LABELS | numbers,
        key="results",
        on_select=take_row,
        selection_mode="single-row",
    )
    st.session_state["table_keys"] = found["key"].tolist()


def take_row() -> None:
    chosen = st.session_state["results"].selection.rows
    if chosen:
        st.session_state["run"] = st.session_state["table_keys"][chosen[0]]


def main() -> None:
    through_app("tradeoffs.py")
    st.title("Trade-offs")
    st.markdown("Which way of quantizing Whisper should I use, and what will it cost me?")
    store = store_at(Store().root)
    results = table.rows(store.runs())
    if store.unreadable:
        names = ", ".join(path.name for path in store.unreadable)
        st.warning(f"Left out, for they cannot be read: {markup.plain_markdown(names)}.")
    if results.empty:
        st.info(
            "There are no results yet. Open **Run evaluations** and measure a few recipes, or run"
            " `python -m whisperq_core run --models base --recipes fp32,quanto-int8 --sets"
            " quick-look`."
        )
        return
    found = choose(results)
    if found.empty:
        st.info("No result matches these filters. Clear one of them in the sidebar.")
        return
    leaders(found)
    summary(found)
    x, y = plot(found)
    if st.session_state.get("run") in set(found["key"]):
        name = found.set_index("key")["recipe"][st.session_state["run"]]
        st.markdown(f"Chosen: **{markup.plain_markdown(name)}**. [Its utterances](#utterances)")
    show_table(found, x, y)
    details(store, found)


main()
