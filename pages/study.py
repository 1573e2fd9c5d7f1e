"""The study: its tables, figure and claims, with what was measured here and how sure that is."""

import pandas as pd
import streamlit as st

from pages._claims import badge, claim_results, claims
from pages._figures import draw
from pages._navigation import open_in_app, open_point
from pages._session import all_rows, all_runs, shared_store
from pages._view import View
from whisperq_core.analyze import paired_comparisons, results_table
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.present.study_charts import increase_figure
from whisperq_core.study import published
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.measures import counterpart_recipe, robustness_gaps
from whisperq_core.whisper.protocols import CORRECTED, PROTOCOLS, STUDY, short_name

PUBLISHED = "font-style:italic;background-color:rgba(0,114,178,0.12)"
FORMATS = {
    "CER clean": "{:.2f}",
    "CER other": "{:.2f}",
    "RTF": "{:.3g}",
    "RTF / fp32": "{:.2f}",
    "Smaller by": "{:.1f} %",
}
COLUMNS = {
    "label": "Recipe",
    "who": "Source",
    "clean": "WER clean",
    "other": "WER other",
    "gap": "Gap",
    "cer_clean_pct": "CER clean",
    "cer_other_pct": "CER other",
    "rtf": "RTF",
    "rtf_ratio": "RTF / fp32",
    "size_reduction_pct": "Smaller by",
    "what": "Measured on",
    "records": "Records",
}
# The claims that restate a line of Table 4.
CHOICES = {
    "Fastest inference": ("fastest-cpu", "fastest-costs-wer"),
    "Best accuracy": ("choose-accurate", "quanto-int8-slower"),
    "Best size reduction": ("choose-small",),
}


def show(
    store: Store, published_rows: list[published.PublishedResult], results: pd.DataFrame
) -> None:
    lines = published.side_by_side(published_rows, results)
    theirs = lines["source"] == published.STUDY
    who = theirs.map({True: "Study", False: "Here"}) + ", " + lines["model"]
    shown = lines.assign(
        who=who.map(markup.escape_markdown),
        label=lines["label"].where(theirs, lines["recipe"]),
        clean=[with_interval(store, line, "clean") for _, line in lines.iterrows()],
        other=[with_interval(store, line, "other") for _, line in lines.iterrows()],
        gap=[gap_of(store, line) for _, line in lines.iterrows()],
        records=[records_of(line) for _, line in lines.iterrows()],
    )
    shown = shown.rename(columns=COLUMNS)[list(COLUMNS.values())]
    styles = [PUBLISHED if is_published else "" for is_published in theirs]
    st.table(
        shown.style.apply(lambda column: styles).format(FORMATS, na_rep="–"),
        border="horizontal",
        hide_index=True,
    )


def with_interval(store: Store, line: pd.Series, split: str) -> str:
    """WER, and below our own its 95% interval."""
    value = line.get(f"wer_{split}_pct")
    if pd.isna(value):
        return "–"
    run = store.get(key) if isinstance(key := line.get(f"{split}_key"), str) else None
    return f"{value:.2f}" if run is None else spread(paired_comparisons.estimate(run))


def gap_of(store: Store, line: pd.Series) -> str:
    if pd.isna(line.get("gap_points")):
        return "–"
    keys = [line.get(f"{split}_key") for split in ("other", "clean")]
    if not all(isinstance(key, str) for key in keys):
        return f"{line['gap_points']:.2f}"
    return spread(paired_comparisons.robustness_gap(*(store.get(key) for key in keys)))


def spread(found) -> str:
    text = f"{found.value:.2f} ({found.low:.1f}\u00a0to\u00a0{found.high:.1f})"
    return text.replace("-", "−")


def records_of(line: pd.Series) -> str:
    keys = [line.get(name) for name in ("clean_key", "other_key", "speed_key")]
    return " ".join(key[:6] for key in keys if isinstance(key, str)) or "–"


def table_2(store: Store, results: pd.DataFrame, protocol: str) -> None:
    st.header("Table 2: whisper-small")
    if published.stand_in("small", results) != "small":
        names = dict.fromkeys(counterpart_recipe(row.recipe, protocol) for row in published.TABLE_2)
        option = "" if protocol == STUDY.name else f" --protocol {short_name(protocol)}"
        st.markdown(
            "whisper-small is not measured here; **below each published row stands the same recipe"
            " on another model.** Its WER cannot be compared, what the recipe changes can."
            " To measure it:"
        )
        st.code(
            "python -m whisperq_core download test-clean\n"
            "python -m whisperq_core download test-other\n"
            f"python -m whisperq_core run --models small --recipes {','.join(names)}"
            f" --sets test-clean,test-other{option}",
            language="bash",
            wrap_lines=True,
        )
    for device, name in (("cpu", "CPU"), ("cuda", "GPU")):
        st.subheader(f"{name}, as published")
        show(store, [r for r in published.TABLE_2 if r.device == device], results)


def table_3(store: Store, results: pd.DataFrame) -> None:
    st.header("Table 3: whisper-base and whisper-tiny")
    st.subheader("whisper-base")
    show(store, [r for r in published.TABLE_3 if r.model == "base"], results)
    st.subheader("whisper-tiny")
    if published.stand_in("tiny", results) == "tiny.en":
        st.markdown(
            "**tiny.en is another model** than the study's multilingual tiny: it knows English"
            " only. Compare what a recipe changes, not the WER itself."
        )
    show(store, [r for r in published.TABLE_3 if r.model == "tiny"], results)


def table_4(store: Store, results: pd.DataFrame) -> None:
    st.header("Table 4: what to choose")
    st.markdown(
        "The study's choices, for whisper-small; whether they hold here; and what comes first in"
        " the same respect here, for whisper-base on test-other, among recipes that still"
        f" transcribe (a WER of at most {published.USABLE:g} times fp32's)."
    )
    verdicts = {result.claim.id: result.outcome for result in claim_results(store)}
    lines = []
    for row in published.TABLE_4:
        best = published.best_measured_here(row, results)
        lines.append(
            {
                "Priority": row.priority,
                "Study's choice": row.label,
                "At the price of a higher": " and ".join(row.worse),
                "Does it hold here?": " ".join(badge(verdicts[id]) for id in CHOICES[row.priority]),
                "First here": "not measured here" if best is None else first(store, row, best),
            }
        )
    shown = pd.DataFrame(lines)
    st.table(
        shown.style.map(lambda _: PUBLISHED, subset=list(shown.columns[:3])),
        border="horizontal",
        hide_index=True,
    )


def first(store: Store, row: published.PublishedChoice, best: pd.Series) -> str:
    metric = results_table.METRICS[row.column]
    parts = [f"{metric.label} {metric.show(best[row.column])}"] if row.column != "wer_pct" else []
    parts.append(f"WER {spread(paired_comparisons.estimate(store.get(best['key'])))} %")
    parts.append(f"record {best['key'][:6]}")
    return markup.escape_markdown(f"{best['recipe']}: {', '.join(parts)}")


def figure_1(protocol: str) -> None:
    st.header("Figure 1: how much harder is test-other?")
    evidence = Evidence(all_runs())
    bars = [
        bar
        for model in ("base", "tiny.en", "small")
        for bar in robustness_gaps(evidence, model, protocol)
    ]
    clicked = draw(
        increase_figure(bars),
        "WER on test-other minus WER on test-clean",
        key="increases",
        on_select="rerun",
        selection_mode="points",
        alt="WER on test-other minus WER on test-clean for each recipe, published and measured.",
    )
    st.caption(
        "Hollow diamonds: as published, without intervals. Filled: measured here on the excerpts,"
        " with 95 % intervals over speakers. Arrows: beyond the chart, with their values. Click a"
        " filled point to see its utterances on test-other."
    )
    open_point(clicked)


def main(view: View) -> None:
    store = shared_store()
    claims(view, store)
    everything = all_rows(all_runs())
    st.header("Its tables and figure")
    protocol = view.one_of(
        "Our measurements",
        list(PROTOCOLS),
        "protocol",
        STUDY.name,
        st.segmented_control,
        required=True,
    )
    st.caption(PROTOCOLS[protocol].description)
    if protocol == CORRECTED.name:
        st.warning("The published numbers are of the study's protocol; ours below are not.")
    results = everything[everything["protocol"] == protocol]
    table_2(store, results, protocol)
    table_3(store, results)
    figure_1(protocol)
    table_4(store, results)
    with st.expander("How the study's words map to recipes here"):
        st.markdown(
            "- *Dynamic* is **weight-only** here for Quanto, HQQ and bitsandbytes: activations"
            " stay in floating point. PyTorch's int8 is dynamic in both senses.\n"
            "- *Quanto int8/fp8 (stat.)* is `quanto-int8-float8-eval10`: scales calibrated on a"
            " random tenth of the evaluated data. Under the corrected protocol it is"
            " `quanto-int8-float8`, calibrated on held-out speech.\n"
            "- HQQ's group size is not published; 64 here.\n"
            "- Table 3 does not name its device; its RTFs are of a GPU's order.\n"
            "- The published sizes imply that PyTorch and Quanto quantized every linear layer, and"
            " that HQQ and bitsandbytes left the output projection alone. The recipes here do so;"
            " under the corrected protocol all leave it tied to the token table."
        )


open_in_app("study.py")
st.title("Study")
st.markdown(
    f"{published.AUTHORS}: *{published.TITLE}*. Its numbers are in"
    " italics on a tinted ground; ours are upright, on plain."
)
st.info(
    "**What can be compared.** The study transcribed all of LibriSpeech test-clean and"
    " test-other (2620 and 2939 utterances) on other hardware. Unless a row says otherwise,"
    " ours are excerpts of 22 and 74 utterances, so every WER of ours has its 95 % interval"
    " over speakers in parentheses. RTFs of different machines do not compare;"
    " **RTF / fp32** does, within limits. WER and CER are in percent; the gap is WER on"
    " test-other minus WER on test-clean, in points. The last column names the records, by the"
    " beginning of their keys, in `cache/results`."
)
with View("study") as shown:
    main(shown)
