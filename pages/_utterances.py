"""One result, utterance by utterance: a part of the Trade-offs page."""

from contextlib import suppress

import pandas as pd
import streamlit as st

from whisperq_core import comparisons, eval_sets, markup, scores
from whisperq_core.errors import EvalSetError, NotComparable
from whisperq_core.provenance import provenance
from whisperq_core.records import AccuracyRun, UtteranceResult
from whisperq_core.significance import MARGIN
from whisperq_core.store import Store

UTTERANCES_A_PAGE = 6


@st.cache_resource
def shipped_sets() -> dict[str, eval_sets.EvalSet]:
    try:
        return eval_sets.shipped()
    except EvalSetError:
        return {}


def details(
    store: Store,
    found: pd.DataFrame,
    runs: list[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
) -> None:
    """The chosen run beside its baseline, its utterances, and all that its numbers depend on."""
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
    beside(run, row, runs, baseline, margin)
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
        f"**WER {row['wer_pct']:.2f} %** {interval(row['wer_low_pct'], row['wer_high_pct'])}:"
        f" {words.substitutions} substitutions,"
        f" {words.deletions} deletions, {words.insertions} insertions in {words.reference_length}"
        f" words · **CER {row['cer_pct']:.2f} %**"
        f" {interval(row['cer_low_pct'], row['cer_high_pct'])} · {run.loops} looping transcripts ·"
        f" RTF {'–' if pd.isna(row['rtf']) else format(row['rtf'], '.3f')}, {row['rtf_source']}"
    )
    if spec.kernels == "dequantized":
        st.caption(
            "The transcripts come from fp32 layers with the dequantized weights: the same"
            " mathematics, faster on this device. Batch times below are theirs, not the recipe's."
        )
    with st.expander("What these numbers depend on"):
        st.html(markup.labelled_html(provenance(run, row["speed_key"])))


def interval(low: float, high: float) -> str:
    return "(no interval)" if pd.isna(low) else f"({low:.2f} to {high:.2f})"


@st.cache_data(max_entries=50, show_spinner=False)
def compared(facts: tuple, _run: AccuracyRun, _base: AccuracyRun | None, _fp32: AccuracyRun | None):
    """MAPSSWE against the baseline, agreement with fp32, WER without loops.

    facts: what the results hang on, since whole runs are slow to tell apart.
    """
    segments = agreement = None
    with suppress(NotComparable):
        segments = comparisons.segment_test(_base, _run) if _base else None
    with suppress(NotComparable):
        agreement = comparisons.agreement(_fp32, _run) if _fp32 else None
    return segments, agreement, comparisons.without_loops(_run) if _run.loops else None


def identity(run: AccuracyRun | None) -> tuple:
    return () if run is None else (run.key, run.created_at, run.words, run.characters)


def beside(
    run: AccuracyRun, row: pd.Series, runs: list[AccuracyRun], baseline: str, margin
) -> None:
    """How sure the chosen result is, and how it agrees with fp32's transcripts."""
    mine = run.spec.recipe.name
    base = comparisons.baseline_of(run, runs, baseline) if mine != baseline else None
    fp32 = comparisons.baseline_of(run, runs) if mine != "fp32" else None
    key = (identity(run), identity(base), identity(fp32))
    segments, agreement, unlooped = compared(key, run, base, fp32)
    words = row["in_words"]
    lines = [words[:1].upper() + words[1:]] if base else []
    if segments:
        p = "p < 0.001" if segments.p < 0.001 else f"p = {segments.p:.3f}"
        lines.append(f"MAPSSWE: z = {segments.z:+.2f}, {p}, {segments.segments} segments")
    if lines:
        st.markdown(
            markup.plain_markdown(" · ".join(lines)),
            help=f"The interval is a bootstrap of the difference over {row['resampled']}; the"
            f" verdict is Holm-corrected over the recipes shown; the margin is {margin:g} points."
            " MAPSSWE is the matched-pairs test of NIST's SCTK: it takes stretches of speech as"
            " independent, whoever speaks, and is not corrected.",
        )
    lines = []
    if agreement:
        lines.append(f"No worse than fp32 in {agreement.no_worse_pct:.0f} % of utterances")
        if agreement.disagreement_pct is not None:
            lines.append(f"{agreement.disagreement_pct:.2f} % of words unlike fp32's")
        lines.append(f"{agreement.identical} of {agreement.utterances} transcripts the same")
    if unlooped:
        lines.append(
            f"WER without the {run.loops} that loop {unlooped.value:.2f} %"
            f" {interval(unlooped.low, unlooped.high)}"
        )
    if lines:
        st.markdown(
            markup.plain_markdown(" · ".join(lines)),
            help="The share of utterances with no more errors than fp32 is WhisperKit's “quality of"
            " inference”. Words unlike fp32's are edits between the two transcripts, whatever was"
            " said. Transcripts that loop repeat a phrase until the decoder's limit.",
        )


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
