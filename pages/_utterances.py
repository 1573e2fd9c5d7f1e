"""One result, utterance by utterance: a part of the Trade-offs page."""

import pandas as pd
import streamlit as st

from whisperq_core import eval_sets, markup, scores
from whisperq_core.errors import EvalSetError
from whisperq_core.provenance import provenance
from whisperq_core.records import AccuracyRun, UtteranceResult
from whisperq_core.store import Store

UTTERANCES_A_PAGE = 6


@st.cache_resource
def shipped_sets() -> dict[str, eval_sets.EvalSet]:
    try:
        return eval_sets.shipped()
    except EvalSetError:
        return {}


def details(store: Store, found: pd.DataFrame) -> None:
    """The chosen run's utterances and everything that its numbers depend on."""
    names = {
        row["key"]: " · ".join(
            (row["model"], row["recipe"], f"WER {row['wer_pct']:.2f} %", row["key"][:6])
        )
        for _, row in found.sort_values("wer_pct").iterrows()
    }
    st.subheader("Utterances", anchor="utterances")
    key = st.selectbox(
        "Result",
        list(names),
        index=None,
        format_func=lambda key: names.get(key, key),
        key="run",
        bind="query-params",
        placeholder="Choose a point, a row of the table, or a result here",
    )
    run = store.get(key) if key else None
    if not isinstance(run, AccuracyRun):
        return
    row = found[found["key"] == key].iloc[0]
    facts(run, row)
    ordered = sorted(run.utterances, key=lambda u: (-u.score.words.errors, u.id))
    wrong = sum(not u.score.exact for u in ordered)
    st.markdown(f"**{wrong} of {len(ordered)} utterances have errors**, worst first.")
    st.html(markup.legend_html())
    pages = -(-len(ordered) // UTTERANCES_A_PAGE)
    page = st.pagination(pages, key=f"page_{key}")
    eval_set = next(
        (s for s in shipped_sets().values() if s.digest == run.spec.eval_set_digest), None
    )
    audio = {u.id: u.audio for u in eval_set.utterances} if eval_set else {}
    for utterance in ordered[(page - 1) * UTTERANCES_A_PAGE : page * UTTERANCES_A_PAGE]:
        show_utterance(run, utterance, audio.get(utterance.id))


def facts(run: AccuracyRun, row: pd.Series) -> None:
    words, spec = run.words, run.spec
    st.markdown(
        f"{markup.plain_markdown(spec.recipe.description)}  \n"
        f"**WER {row['wer_pct']:.2f} %**: {words.substitutions} substitutions,"
        f" {words.deletions} deletions, {words.insertions} insertions in {words.reference_length}"
        f" words · **CER {row['cer_pct']:.2f} %** · {run.loops} looping transcripts ·"
        f" RTF {'–' if pd.isna(row['rtf']) else format(row['rtf'], '.3f')}, {row['rtf_source']}"
    )
    if spec.kernels == "dequantized":
        st.caption(
            "The transcripts come from fp32 layers with the dequantized weights: the same"
            " mathematics, faster on this device. Batch times below are theirs, not the recipe's."
        )
    with st.expander("What these numbers depend on"):
        st.html(markup.labelled_html(provenance(run, row["speed_key"])))


def show_utterance(run: AccuracyRun, utterance: UtteranceResult, audio) -> None:
    words = utterance.score.words
    batch = next((b for b in run.batches if b.batch == utterance.batch), None)
    parts = [f"**{markup.plain_markdown(utterance.id)}**", f"{utterance.duration_s:.1f} s"]
    if words.rate is not None:
        parts.append(f"WER {words.rate:.0f} %")
    parts.append(
        f"{words.substitutions} substituted, {words.deletions} deleted,"
        f" {words.insertions} inserted of {words.reference_length}"
    )
    if batch is not None:
        parts.append(f"batch of {batch.utterances} in {batch.wall_s:.1f} s")
    if utterance.score.looped:
        parts.append(":orange-badge[loop]")
    with st.container(border=True):
        st.markdown(" · ".join(parts))
        edits = scores.align(utterance.reference, utterance.hypothesis, utterance.language)
        st.html(markup.aligned_html(edits))
        st.html(
            markup.labelled_html(
                [("Reference", utterance.reference), ("Hypothesis", utterance.hypothesis)]
            )
        )
        if audio is not None and audio.is_file():
            st.audio(str(audio))
