"""The study's claims, tables and figure, with the results measured here and their intervals."""

import pandas as pd
import streamlit as st

from pages._claims import badge, claim_results, show_claims
from pages._code import draw_code
from pages._figures import draw
from pages._navigation import open_in_app, open_point
from pages._session import all_rows, all_runs, shared_store
from pages._view import View
from whisperq_core.analyze import paired_comparisons, results_table
from whisperq_core.analyze.significance import Estimate
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.present.study_charts import increase_figure
from whisperq_core.study import published
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.measures import counterpart_recipe
from whisperq_core.study.robustness_gaps import RobustnessGap, robustness_gaps
from whisperq_core.whisper.protocols import PROTOCOLS, STUDY, short_name

PUBLISHED = "font-style:italic;background-color:rgba(0,114,178,0.12)"
FORMATS = {
    "CER clean": "{:.2f}",
    "CER other": "{:.2f}",
    "RTF": "{:.3g}",
    "RTF / fp32": "{:.2f}",
    "Size reduction": "{:.1f} %",
}
COLUMNS = {
    "label": "Recipe",
    "origin": "Source",
    "clean": "WER clean",
    "other": "WER other",
    "gap": "Gap",
    "cer_clean_pct": "CER clean",
    "cer_other_pct": "CER other",
    "rtf": "RTF",
    "rtf_ratio": "RTF / fp32",
    "size_reduction_pct": "Size reduction",
    "what": "Evaluated on",
    "keys": "Results",
}
# The claims that restate a row of Table 4, by what they state.
CLAIMS_OF_PRIORITY = {
    "Fastest inference": {"fastest": "fastest-cpu", "higher WER": "fastest-costs-wer"},
    "Best accuracy": {"most accurate": "choose-accurate", "higher RTF": "quanto-int8-slower"},
    "Best size reduction": {"all three": "choose-small"},
}


def show_table(
    store: Store, published_rows: list[published.PublishedResult], results: pd.DataFrame
) -> None:
    """Published rows, each followed by the row measured here."""
    lines = published.side_by_side(published_rows, results)
    is_published = lines["source"] == published.STUDY
    origin = is_published.map({True: "Study", False: "Here"}) + ", " + lines["model"]
    shown = lines.assign(
        origin=origin.map(markup.escape_markdown),
        label=lines["label"].where(is_published, lines["recipe"]),
        clean=[wer_text(store, line, "clean") for _, line in lines.iterrows()],
        other=[wer_text(store, line, "other") for _, line in lines.iterrows()],
        gap=[gap_text(store, line) for _, line in lines.iterrows()],
        keys=[key_starts(line) for _, line in lines.iterrows()],
    )
    shown = shown.rename(columns=COLUMNS)[list(COLUMNS.values())]
    styles = [PUBLISHED if published_row else "" for published_row in is_published]
    st.table(
        shown.style.apply(lambda column: styles).format(FORMATS, na_rep="–"),
        border="horizontal",
        hide_index=True,
    )


def wer_text(store: Store, line: pd.Series, split: str) -> str:
    """WER on a split; with its 95% interval where it was measured here."""
    value = line.get(f"wer_{split}_pct")
    if pd.isna(value):
        return "–"
    run = store.get(key) if isinstance(key := line.get(f"{split}_key"), str) else None
    return f"{value:.2f}" if run is None else with_interval(paired_comparisons.estimate(run))


def gap_text(store: Store, line: pd.Series) -> str:
    if pd.isna(line.get("gap_points")):
        return "–"
    keys = [line.get(f"{split}_key") for split in ("other", "clean")]
    if not all(isinstance(key, str) for key in keys):
        return f"{line['gap_points']:.2f}"
    return with_interval(paired_comparisons.robustness_gap(*(store.get(key) for key in keys)))


def with_interval(estimate: Estimate) -> str:
    if pd.isna(estimate.low):
        return f"{estimate.value:.2f} (no\u00a0interval)".replace("-", "−")
    text = f"{estimate.value:.2f} ({estimate.low:.1f}\u00a0to\u00a0{estimate.high:.1f})"
    return text.replace("-", "−")


def key_starts(line: pd.Series) -> str:
    keys = [line.get(name) for name in ("clean_key", "other_key", "speed_key")]
    return " ".join(key[:6] for key in keys if isinstance(key, str)) or "–"


def table_2(store: Store, results: pd.DataFrame, protocol: str) -> None:
    st.header("Table 2: whisper-small")
    if published.stand_in("small", results) != "small":
        names = dict.fromkeys(counterpart_recipe(row.recipe, protocol) for row in published.TABLE_2)
        option = "" if protocol == STUDY.name else f" --protocol {short_name(protocol)}"
        st.markdown(
            "whisper-small was not measured here. **Each published row is followed by the same"
            " recipe on another model.** Compare how a recipe changes WER, not WER itself. To"
            " measure whisper-small:"
        )
        draw_code(
            "python -m whisperq_core download test-clean\n"
            "python -m whisperq_core download test-other\n"
            f"python -m whisperq_core run --models small --recipes {','.join(names)}"
            f" --sets test-clean,test-other{option}",
            "commands_small",
        )
    for device, name in (("cpu", "CPU"), ("cuda", "GPU")):
        st.subheader(f"Published on {name}")
        show_table(store, [r for r in published.TABLE_2 if r.device == device], results)


def table_3(store: Store, results: pd.DataFrame) -> None:
    st.header("Table 3: whisper-base and whisper-tiny")
    st.subheader("whisper-base")
    show_table(store, [r for r in published.TABLE_3 if r.model == "base"], results)
    st.subheader("whisper-tiny")
    if published.stand_in("tiny", results) == "tiny.en":
        st.markdown(
            "**tiny.en is not the study's model**, the multilingual tiny: it is English-only."
            " Compare how a recipe changes WER, not WER itself."
        )
    show_table(store, [r for r in published.TABLE_3 if r.model == "tiny"], results)


def table_4(store: Store, results: pd.DataFrame) -> None:
    st.header("Table 4: recommendations")
    st.markdown(
        "The study's recommendations for whisper-small, the verdicts on them here, and the best"
        " result measured here by the same criterion: whisper-base on test-other, recipes with a"
        f" WER of at most {published.MAX_WER_RATIO:g} times fp32's."
    )
    verdicts = {result.claim.id: result.outcome for result in claim_results(store)}
    lines = []
    for row in published.TABLE_4:
        best = published.best_measured_here(row, results)
        claims = CLAIMS_OF_PRIORITY[row.priority].items()
        lines.append(
            {
                "Priority": row.priority,
                "Study's recommendation": row.label,
                "Drawback": f"higher {' and '.join(row.worse)}",
                "Verdict here": "  \n".join(
                    f"{part}: {badge(verdicts[id])}" for part, id in claims
                ),
                "Best measured here": "not measured here"
                if best is None
                else result_text(store, row, best),
            }
        )
    shown = pd.DataFrame(lines)
    st.table(
        shown.style.map(lambda _: PUBLISHED, subset=list(shown.columns[:3])),
        border="horizontal",
        hide_index=True,
    )


def result_text(store: Store, row: published.PublishedChoice, best: pd.Series) -> str:
    """A recipe with the metric that it is best in, its WER, and the start of its key."""
    metric = results_table.METRICS[row.column]
    parts = [f"{metric.label} {metric.show(best[row.column])}"] if row.column != "wer_pct" else []
    parts.append(f"WER {with_interval(paired_comparisons.estimate(store.get(best['key'])))} %")
    parts.append(f"result {best['key'][:6]}")
    return markup.escape_markdown(f"{best['recipe']}: {', '.join(parts)}")


def figure_1(protocol: str) -> None:
    st.header("Figure 1: robustness gap")
    st.markdown("WER on test-other minus WER on test-clean, for each recipe.")
    evidence = Evidence(all_runs())
    gaps = [
        gap
        for model in ("base", "tiny.en", "small")
        for gap in robustness_gaps(evidence, model, protocol)
    ]
    clicked = draw(
        increase_figure(gaps),
        "WER on test-other minus WER on test-clean",
        key="increases",
        on_select="rerun",
        selection_mode="points",
        alt="WER on test-other minus WER on test-clean for each recipe, published and measured.",
    )
    st.caption(
        "Hollow diamonds: published values, without intervals. Filled markers: measured here, with"
        f" 95 % intervals over speakers{sets_text(gaps)}. Arrows: values beyond the axis. Click a"
        " filled marker for its per-utterance results on test-other."
    )
    open_point(clicked)


def sets_text(gaps: list[RobustnessGap]) -> str:
    """As in “, base on test-other-25-speakers and test-clean-34-speakers”."""
    sets = {gap.model: " and ".join(gap.eval_sets) for gap in gaps}
    text = "".join(f", {model} on {names}" for model, names in sets.items())
    return markup.escape_markdown(text)


def recipe_mapping() -> None:
    with st.expander("How the study's terms map to recipes here"):
        st.markdown(
            "- *Dynamic* recipes of Quanto, HQQ and bitsandbytes are **weight-only** here:"
            " activations stay in floating point. Of the dynamic recipes, only PyTorch's int8"
            " quantizes activations.\n"
            "- *Quanto int8/fp8 (stat.)* is `quanto-int8-float8-eval10`: scales calibrated on a"
            " random tenth of the evaluated data. Under the corrected protocol it is"
            " `quanto-int8-float8`, calibrated on held-out speech.\n"
            "- HQQ's group size is not published; it is 64 here.\n"
            "- Table 3 does not name its device; its RTFs are of a GPU's magnitude.\n"
            "- The published sizes imply that PyTorch and Quanto quantized every linear layer, and"
            " that HQQ and bitsandbytes did not quantize the output projection. The recipes here do"
            " the same; under the corrected protocol the output projection stays tied to the token"
            " embeddings in every recipe."
        )


def main(view: View) -> None:
    store = shared_store()
    show_claims(view, store)
    all_results = all_rows(all_runs())
    st.header("Tables and figure")
    protocol = view.one_of(
        "Protocol",
        list(PROTOCOLS),
        "protocol",
        STUDY.name,
        st.segmented_control,
        format_func=protocol_label,
        required=True,
        help="The protocol of the results measured here.",
    )
    st.caption(PROTOCOLS[protocol].description)
    if protocol != STUDY.name:
        st.warning(
            "Published values use the study protocol, results measured here the"
            f" {protocol_label(protocol)} protocol."
        )
    results = all_results[all_results["protocol"] == protocol]
    table_2(store, results, protocol)
    table_3(store, results)
    figure_1(protocol)
    table_4(store, results)
    recipe_mapping()


open_in_app("study.py")
st.title("Study")
st.markdown(
    f"{published.AUTHORS}: *{published.TITLE}*. Published values are in italics on a tinted"
    " background; values measured here are upright."
)
st.info(
    "**What can be compared.** The study evaluated all of LibriSpeech test-clean and test-other"
    " (2620 and 2939 utterances), on other hardware. Results here are on parts of them, which"
    " each row names; rows of one model share their speech. 95 % intervals of WER over speakers are"
    " in parentheses. RTFs of different machines are not comparable; **RTF / fp32** is, within"
    " limits. WER and CER are in percent. Gap: WER on test-other minus WER on test-clean, in"
    " points. Results are identified by the first characters of their keys in `cache/results`."
)
with View("study") as shown:
    main(shown)
