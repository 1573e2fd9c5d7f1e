"""All evidence: what to use, from every English set and protocol together."""

import math

import pandas as pd
import streamlit as st

from pages._navigation import open_in_app
from pages._session import all_runs, user_store
from pages._view import View
from whisperq_core.analyze import evidence_table
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.verdict_text import signed
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.present import glossary, markup
from whisperq_core.present.labels import protocol_label

CONFIDENCES = (80, 90, 95, 99)


@st.cache_resource(max_entries=8, show_spinner="Comparing all results with fp32")
def evidence_of(state: tuple, margin: float, _runs: list) -> pd.DataFrame:
    return evidence_table.evidence(_runs, margin=margin)


def answer(row: pd.Series, margin: float) -> str:
    """The sentence on a configuration: what it is, what it saves, what it costs, how sure."""
    name = markup.escape_markdown(row["recipe"])
    latency = (
        ""
        if math.isnan(row["rtf_ratio"])
        else f", {row['rtf_ratio']:.2f} × fp32's latency under the same protocol"
    )
    return (
        f"**{name}, {protocol_label(row['protocol'])}: {row['weights_bytes'] / 1e6:.0f} MB"
        f" (−{row['size_reduction_pct']:.0f} %){latency}.** WER difference from fp32:"
        f" {signed(row['difference'])} points (95 % interval {signed(row['low'])} to"
        f" {signed(row['high'])}) on {row['minutes']:.0f} minutes by {row['speakers']} speakers."
        f" Confidence that WER rises by less than {margin:g} points:"
        f" {min(99.9, row['within_margin_pct']):.1f} %."
    )


def show_answer(frame: pd.DataFrame, confidence: int, margin: float) -> None:
    shown = evidence_table.smallest_shown(frame)
    if shown is None:
        st.info(f"No configuration is shown to keep the WER increase below {margin:g} points yet.")
    else:
        st.header("The smallest configuration that is shown to be accurate enough")
        st.markdown(answer(shown, margin))
        st.caption(
            "Shown with 95 %, corrected for all recipes that were compared, apart from rare loops:"
            f" loops too rare to occur here could add {shown['loops_points']:.1f} points at most."
        )
    likely = evidence_table.smallest_within(frame, confidence / 100)
    if likely is None:
        st.info(
            f"No configuration reaches a confidence of {confidence} %. Choose a lower confidence or"
            " a larger margin."
        )
    elif shown is None or likely.name != shown.name:
        st.header(f"The smallest with a confidence of {confidence} %")
        st.markdown(answer(likely, margin))
        st.caption(
            "This confidence is not corrected for multiple comparisons. The smallest of many"
            " configurations is in part selected by chance, so its true confidence is somewhat"
            " lower."
        )


def show_table(frame: pd.DataFrame) -> None:
    st.header("All configurations")
    table = pd.DataFrame(
        {
            "Recipe": frame["recipe"],
            "Protocol": frame["protocol"].map(protocol_label),
            "Size (MB)": frame["weights_bytes"].astype(float) / 1e6,
            "Relative latency (× fp32)": frame["rtf_ratio"],
            "WER difference (points)": frame["difference"],
            "Low": frame["low"],
            "High": frame["high"],
            "Verdict": frame["verdict"],
            "Confidence (%)": frame["within_margin_pct"],
            "Divergence (mnat per token)": frame["divergence_mnat"],
            "Minutes": frame["minutes"],
            "Evaluation sets": frame["sets"],
            "Sets differ (p)": frame["sets_differ_p"].astype(float),
        }
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        without_formulas(table),
        hide_index=True,
        column_config={
            "Size (MB)": number(format="%.0f"),
            "Relative latency (× fp32)": number(format="%.2f"),
            **{
                name: number(format="%+.2f", help="95 %, simultaneous over all recipes.")
                for name in ("Low", "High")
            },
            "WER difference (points)": number(format="%+.2f"),
            "Confidence (%)": number(
                format="%.1f",
                help=(
                    "That the WER increase is below the margin; not corrected for multiple"
                    " comparisons."
                ),
            ),
            "Divergence (mnat per token)": number(
                format="%.1f", help=glossary.definition("divergence")
            ),
            "Minutes": number(format="%.0f"),
            "Sets differ (p)": number(
                format="%.2f",
                help=(
                    "p-value of the hypothesis that the difference is the same in all sets. If it"
                    " is small, the sets differ, and the pooled difference is only their average."
                ),
            ),
        },
    )
    st.caption(
        "Errors and words of all English sets that a recipe and fp32 were both evaluated on,"
        " under the same protocol; speakers are resampled as blocks, within each set. Of sets"
        " that share recordings, only the larger one is used."
    )


def main(view: View) -> None:
    runs = all_runs()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        margin = view.number(
            "Margin (points of WER)",
            *(0.1, 5.0, MARGIN, 0.1),
            "evidence_margin",
            width=200,
            help=glossary.definition("margin"),
        )
        frame = evidence_of(user_store().state, margin, runs)
        if frame.empty:
            st.info("No recipe has been evaluated together with fp32 yet. Open Run evaluations.")
            return
        models = list(dict.fromkeys(frame["model"]))
        first = "base" if "base" in models else models[0]
        model = view.one_of("Model", models, "evidence_model", first, width=160)
        confidence = view.one_of(
            "Confidence (%)", list(CONFIDENCES), "evidence_confidence", 95, width=160
        )
    frame = frame[frame["model"] == model]
    show_answer(frame, confidence, margin)
    show_table(frame)


open_in_app("evidence.py")
st.title("All evidence")
st.markdown(
    "**Which configuration should I use?** Every recipe and protocol, compared with fp32 over all"
    " English evaluation sets together."
)
with View("evidence") as page:
    main(page)
