"""One result, utterance by utterance: a part of two pages."""

from contextlib import suppress
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._navigation import compare_url
from pages._utterance_view import alignment, audio_files, transcript
from pages._view import View
from whisperq_core.analyze import confusions, paired_comparisons
from whisperq_core.analyze.confusions import ERROR_KINDS, UtteranceFilter
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.present import markup
from whisperq_core.present.provenance import provenance_rows

UTTERANCES_A_PAGE = 6
# How many kinds of error are listed.
FREQUENT = 200
STEP_S = 0.5


def choose(view: View, found: pd.DataFrame, runs: list[AccuracyRun]) -> AccuracyRun | None:
    """Which of the results to look at."""
    found = found.sort_values(["wer_pct", "key"])
    names = {
        key: f"{model} · {recipe} · WER {wer:.2f} % · {key[:6]}"
        for key, model, recipe, wer in zip(
            *(found[column] for column in ("key", "model", "recipe", "wer_pct")), strict=True
        )
    }
    key = view.one_of(
        "Result",
        list(names),
        "run",
        format_func=lambda key: names.get(key, key),
        placeholder="Choose a point, a row of the table, or a result here",
    )
    return next((run for run in runs if run.key == key), None) if key else None


def details(
    view: View,
    run: AccuracyRun,
    row: pd.Series,
    runs: list[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
) -> None:
    """The chosen run beside its baseline, its utterances, and all that its numbers depend on."""
    facts(run, row)
    beside(run, row, runs, baseline, margin)
    wrong = sum(not u.score.exact for u in run.utterances)
    st.markdown(f"**{wrong} of {len(run.utterances)} utterances have errors**, worst first.")
    wanted = filters(view, run)
    ordered = confusions.worst_first(run.utterances, wanted)
    if not ordered:
        st.info("No utterance matches these filters. Clear one of them.")
        return
    if len(ordered) < len(run.utterances):
        st.markdown(f"{len(ordered)} match the filters.")
    st.html(markup.alignment_legend_html())
    page = view.page_of(-(-len(ordered) // UTTERANCES_A_PAGE), "page")
    audio, others = audio_files(run), confusions.other_recipes(run, runs)
    for utterance in ordered[(page - 1) * UTTERANCES_A_PAGE : page * UTTERANCES_A_PAGE]:
        show_utterance(run, utterance, audio.get(utterance.id), others)


def filters(view: View, run: AccuracyRun) -> UtteranceFilter:
    """Which utterances, as the reader asks; in the URL, too."""
    speakers = sorted({u.speaker for u in run.utterances if u.speaker})
    lengths = [u.duration_s for u in run.utterances]
    low, high = min(lengths) // STEP_S * STEP_S, -(-max(lengths) // STEP_S) * STEP_S
    counts = confusions.most_frequent(confusions.confusions(run.utterances))[:FREQUENT]
    edits = {confusions.edit_text(edit): (edit, count) for edit, count in counts}
    frequent(counts)
    chosen, (shortest, longest) = (), (low, high)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = {"placeholder": "any", "width": 230}
        if len(speakers) > 1 or view.has("speaker"):
            chosen = view.several("Speaker", speakers, "speaker", **how)
        kinds = view.several("With", ERROR_KINDS, "errors", **how)
        confusion = view.one_of(
            "With the error (heard → said)",
            list(edits),
            "confusion",
            format_func=lambda text: f"{text} ({edits[text][1]})" if text in edits else text,
            placeholder="any",
            width=260,
        )
        if low < high or view.has("seconds"):
            top = max(high, low + STEP_S)
            shortest, longest = view.span("Seconds", low, top, STEP_S, "seconds", width=260)
    edit = edits[confusion][0] if confusion in edits else None
    return UtteranceFilter(tuple(chosen), shortest, longest, tuple(kinds), edit)


def frequent(counts: list) -> None:
    """The most frequent errors of the run; a click on one shows the utterances that have it."""
    if not counts:
        return
    with st.expander("The most frequent errors of this result"):
        st.dataframe(
            without_formulas(
                pd.DataFrame(
                    {
                        "Heard": [edit.hypothesis or "–" for edit, _ in counts],
                        "Said": [edit.reference or "–" for edit, _ in counts],
                        "Kind": [edit.kind for edit, _ in counts],
                        "Times": [count for _, count in counts],
                    }
                )
            ),
            hide_index=True,
            height=260,
            width=520,
            key="confusions",
            on_select=take_confusion,
            selection_mode="single-row",
        )
        st.caption("Click a row to see the utterances that have it.")
    st.session_state["listed confusions"] = [confusions.edit_text(edit) for edit, _ in counts]


def take_confusion() -> None:
    rows = st.session_state["confusions"].selection.rows
    listed = st.session_state["listed confusions"]
    st.session_state["confusion"] = listed[rows[0]] if rows and rows[0] < len(listed) else None


def facts(run: AccuracyRun, row: pd.Series) -> None:
    words, spec = run.words, run.spec
    st.markdown(
        f"{markup.escape_markdown(spec.recipe.description)}  \n"
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
        st.html(markup.labelled_html(provenance_rows(run, row["speed_key"])))


def interval(low: float, high: float) -> str:
    return "(no interval)" if pd.isna(low) else f"({low:.2f} to {high:.2f})"


@st.cache_data(max_entries=50, show_spinner=False)
def compared(facts: tuple, _run: AccuracyRun, _base: AccuracyRun | None, _fp32: AccuracyRun | None):
    """MAPSSWE against the baseline, agreement with fp32, WER without loops.

    facts: what the results hang on, since whole runs are slow to tell apart.
    """
    segments = agreement = None
    with suppress(NotComparable):
        segments = paired_comparisons.segment_test(_base, _run) if _base else None
    with suppress(NotComparable):
        agreement = paired_comparisons.agreement(_fp32, _run) if _fp32 else None
    return segments, agreement, paired_comparisons.without_loops(_run) if _run.loops else None


def identity(run: AccuracyRun | None) -> tuple:
    return () if run is None else (run.key, run.created_at, run.words, run.characters)


def beside(
    run: AccuracyRun, row: pd.Series, runs: list[AccuracyRun], baseline: str, margin
) -> None:
    """How sure the chosen result is, and how it agrees with fp32's transcripts."""
    mine = run.spec.recipe.name
    base = paired_comparisons.baseline_run(run, runs, baseline) if mine != baseline else None
    fp32 = paired_comparisons.baseline_run(run, runs) if mine != "fp32" else None
    key = (identity(run), identity(base), identity(fp32))
    segments, agreement, unlooped = compared(key, run, base, fp32)
    words = row["in_words"]
    lines = [words[:1].upper() + words[1:]] if base else []
    if segments:
        p = "p < 0.001" if segments.p < 0.001 else f"p = {segments.p:.3f}"
        lines.append(f"MAPSSWE: z = {segments.z:+.2f}, {p}, {segments.segments} segments")
    if lines:
        st.markdown(
            markup.escape_markdown(" · ".join(lines)),
            help=f"The interval is a bootstrap of the difference over {row['resampled']}; the"
            f" verdict is Holm-corrected over the recipes shown; the margin is {margin:g} points."
            " MAPSSWE is the matched-pairs test of NIST's SCTK: it takes stretches of speech as"
            " independent, whoever speaks, and is not corrected.",
        )
    for other in {one.key: one for one in (base, fp32) if one is not None}.values():
        name = markup.escape_markdown(other.spec.recipe.name)
        st.markdown(f"[Where it differs from {name}]({compare_url(other, run)})")
    lines = []
    if agreement:
        lines.append(f"No worse than fp32 in {agreement.no_worse_pct:.0f} % of utterances")
        if agreement.disagreement_pct is not None:
            lines.append(f"{agreement.disagreement_pct:.2f} % of words unlike fp32's")
        lines.append(f"{agreement.identical} of {agreement.utterances} transcripts the same")
    if unlooped and pd.isna(unlooped.value):
        lines.append("Every transcript loops")
    elif unlooped:
        lines.append(
            f"WER without the {run.loops} that loop {unlooped.value:.2f} %"
            f" {interval(unlooped.low, unlooped.high)}"
        )
    if lines:
        st.markdown(
            markup.escape_markdown(" · ".join(lines)),
            help="The share of utterances with no more errors than fp32 is WhisperKit's “quality of"
            " inference”. Words unlike fp32's are edits between the two transcripts, whatever was"
            " said. Transcripts that loop repeat a phrase until the decoder's limit.",
        )


def show_utterance(
    run: AccuracyRun, utterance: UtteranceResult, audio: Path | None, others: list[AccuracyRun]
) -> None:
    words = utterance.score.words
    batch = next((b for b in run.batches if b.batch == utterance.batch), None)
    parts = [f"**{markup.escape_markdown(utterance.id)}**"]
    if utterance.speaker:
        parts.append(f"speaker {markup.escape_markdown(utterance.speaker)}")
    parts.append(f"{utterance.duration_s:.1f} s")
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
        alignment(utterance)
        st.html(
            markup.labelled_html(
                [("Reference", utterance.reference), ("Hypothesis", utterance.hypothesis)]
            )
        )
        if audio is not None:
            st.audio(str(audio))
        if others:
            under_others(run, utterance, others)


def under_others(run: AccuracyRun, utterance: UtteranceResult, others: list[AccuracyRun]) -> None:
    """The same utterance as other recipes heard it, once asked for."""
    label = f"The same utterance under {len(others)} other recipes"
    box = st.expander(label, key=f"others-{run.key}-{utterance.id}", on_change="rerun")
    if not box.open:
        return
    with box:
        for other in others:
            same = next((u for u in other.utterances if u.id == utterance.id), None)
            if same is not None:
                transcript(other, same)
