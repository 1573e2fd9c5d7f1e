"""All evidence: what to use, from every English set and protocol together."""

import pandas as pd
import streamlit as st

from pages._navigation import open_in_app
from pages._session import all_configurations
from pages._view import View
from whisperq_core.analyze import advisor, evidence_table
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.user_requirements import Requirements
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.present import advisor_text, glossary, markup
from whisperq_core.present.labels import protocol_label

CONFIDENCES = (80, 90, 95, 99)


def show_answer(advice: advisor.Advice) -> None:
    st.header(markup.escape_markdown(advisor_text.headline(advice)))
    st.markdown(markup.escape_markdown(advisor_text.explanation(advice)))
    if advice.best and advice.probable:
        st.markdown(markup.escape_markdown(advisor_text.alternative(advice)))


def show_table(frame: pd.DataFrame) -> None:
    st.header("All configurations")
    table = pd.DataFrame(
        {
            "Recipe": frame["recipe"],
            "Protocol": frame["protocol"].map(protocol_label),
            "Size (MB)": frame["weights_bytes"].astype(float) / 1e6,
            "Relative latency (× fp32)": frame["latency"],
            "WER (%)": frame["wer_pct"],
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
            "WER (%)": number(format="%.2f", help="Over the sets that the row names."),
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
        "Errors and words of all English sets that a configuration and fp32 were both evaluated"
        " on; speakers are resampled as blocks, within each set. Of sets"
        " that share recordings, only the larger one is used."
    )


def main(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        margin = view.number(
            "Margin (points of WER)",
            *(0.1, 5.0, MARGIN, 0.1),
            "evidence_margin",
            width=200,
            help=glossary.definition("margin"),
        )
        found = all_configurations(margin)
        frame = evidence_table.evidence(found)
        if frame.empty:
            st.info("No recipe has been evaluated together with fp32 yet. Open Run evaluations.")
            return
        models = list(dict.fromkeys(frame["model"]))
        first = "base" if "base" in models else models[0]
        model = view.one_of("Model", models, "evidence_model", first, width=160)
        confidence = view.one_of(
            "Confidence (%)", list(CONFIDENCES), "evidence_confidence", 95, width=160
        )
    wanted = Requirements(max_wer_rise_points=margin, confidence=confidence / 100, models=(model,))
    show_answer(advisor.advise_on(wanted, found))
    show_table(frame[frame["model"] == model])


open_in_app("evidence.py")
st.title("All evidence")
st.markdown(
    "**Which configuration should I use?** Every recipe and protocol, compared with fp32 under the"
    " Study protocol over all English evaluation sets together."
)
with View("evidence") as page:
    main(page)
