"""The study's published tables, with what was measured here beside them."""

import pandas as pd
import streamlit as st

from pages._entry import through_app
from whisperq_core import markup, paper, table
from whisperq_core.store import Store

PUBLISHED = "font-style:italic;background-color:rgba(0,114,178,0.12)"
FORMATS = {
    "WER clean": "{:.2f}",
    "WER other": "{:.2f}",
    "Gap": "{:.2f}",
    "CER clean": "{:.2f}",
    "CER other": "{:.2f}",
    "RTF": "{:.3g}",
    "RTF / fp32": "{:.2f}",
    "Smaller by": "{:.1f} %",
}
COLUMNS = {
    "label": "Recipe",
    "who": "Source",
    "wer_clean_pct": "WER clean",
    "wer_other_pct": "WER other",
    "gap_points": "Gap",
    "cer_clean_pct": "CER clean",
    "cer_other_pct": "CER other",
    "rtf": "RTF",
    "rtf_ratio": "RTF / fp32",
    "size_reduction_pct": "Smaller by",
    "what": "Measured on",
}


@st.cache_resource
def store_at(root) -> Store:
    return Store(root)


def show(lines: pd.DataFrame) -> None:
    published = lines["source"] == paper.STUDY
    who = published.map({True: "Study", False: "Here"}) + ", " + lines["model"]
    shown = lines.assign(
        who=who.map(markup.plain_markdown), label=lines["label"].where(published, lines["recipe"])
    )
    shown = shown.rename(columns=COLUMNS)[list(COLUMNS.values())]
    styles = [PUBLISHED if is_published else "" for is_published in published]
    st.table(
        shown.style.apply(lambda column: styles).format(FORMATS, na_rep="–"),
        border="horizontal",
        hide_index=True,
    )


def table_2(results: pd.DataFrame) -> None:
    st.header("Table 2: whisper-small")
    if paper.stand_in("small", results) != "small":
        recipes = ",".join(dict.fromkeys(row.recipe for row in paper.TABLE_2))
        st.markdown(
            "whisper-small is not measured here; **below each published row stands the same recipe"
            " on another model.** Its WER cannot be compared, what the recipe changes can."
            " To measure it:"
        )
        st.code(
            f"python -m whisperq_core run --models small --recipes {recipes}"
            " --sets test-clean,test-other",
            language="bash",
            wrap_lines=True,
        )
    for device, name in (("cpu", "CPU"), ("cuda", "GPU")):
        st.subheader(f"{name}, as published")
        show(paper.side_by_side([r for r in paper.TABLE_2 if r.device == device], results))


def table_3(results: pd.DataFrame) -> None:
    st.header("Table 3: whisper-base and whisper-tiny")
    st.subheader("whisper-base")
    show(paper.side_by_side([r for r in paper.TABLE_3 if r.model == "base"], results))
    st.subheader("whisper-tiny")
    if paper.stand_in("tiny", results) == "tiny.en":
        st.markdown(
            "**tiny.en is another model** than the study's multilingual tiny: it knows English"
            " only. Compare what a recipe changes, not the WER itself."
        )
    show(paper.side_by_side([r for r in paper.TABLE_3 if r.model == "tiny"], results))


def table_4(results: pd.DataFrame) -> None:
    st.header("Table 4: what to choose")
    st.markdown(
        "The study's choices, for whisper-small, and the first in the same respect here, for"
        " whisper-base on test-other. As measured: a small difference may be chance."
    )
    lines = []
    for row in paper.TABLE_4:
        best = paper.first_here(row, results)
        here = "not measured here"
        if best is not None:
            metric = table.METRICS[row.column]
            here = f"{best['recipe']}: {metric.label} {metric.show(best[row.column])}"
            if row.column != "wer_pct":
                here += f", WER {best['wer_pct']:.2f} %"
        lines.append(
            {
                "Priority": row.priority,
                "Study's choice": row.label,
                "At the price of a higher": " and ".join(row.worse),
                "First here": here,
            }
        )
    shown = pd.DataFrame(lines)
    st.table(
        shown.style.map(lambda _: PUBLISHED, subset=list(shown.columns[:3])),
        border="horizontal",
        hide_index=True,
    )


def main() -> None:
    through_app("study.py")
    st.title("Study")
    st.markdown(
        f"{paper.AUTHORS}: *{paper.TITLE}*. Its numbers are in"
        " italics on a tinted ground; ours are upright, on plain."
    )
    st.info(
        "**What can be compared.** The study transcribed all of LibriSpeech test-clean and"
        " test-other (2620 and 2939 utterances) on other hardware. Unless a row says otherwise,"
        " ours are excerpts of 22 and 74 utterances: read a difference of a point or two as"
        " chance. RTFs of different machines do not compare; **RTF / fp32** does, within limits."
        " WER and CER are in percent; the gap is WER on test-other minus WER on test-clean, in"
        " points."
    )
    results = table.rows(store_at(Store().root).runs())
    table_2(results)
    table_3(results)
    table_4(results)
    with st.expander("How the study's words map to recipes here"):
        st.markdown(
            "- *Dynamic* is **weight-only** here for Quanto, HQQ and bitsandbytes: activations"
            " stay in floating point. PyTorch's int8 is dynamic in both senses.\n"
            "- *Quanto int8/fp8 (stat.)* is `quanto-int8-float8-eval10`: scales calibrated on a"
            " random tenth of the evaluated data.\n"
            "- HQQ's group size is not published; 64 here.\n"
            "- Table 3 does not name its device; its RTFs are of a GPU's order.\n"
            "- The published sizes imply that PyTorch and Quanto quantized every linear layer, and"
            " that HQQ and bitsandbytes left the output projection alone. The recipes here do so."
        )


main()
