"""The details of one result, down to its utterances: shared by Trade-offs and Utterances."""

from contextlib import suppress
from typing import NamedTuple

import pandas as pd
import streamlit as st

from pages._navigation import compare_url
from pages._notes import notes_on, show_notes
from pages._tables import draw_table
from pages._utterance_view import (
    audio_of,
    edits_table,
    playable,
    show_alignment,
    show_transcript,
)
from pages._view import View
from whisperq_core.analyze import confusions, paired_comparisons
from whisperq_core.analyze.confusions import ERROR_KINDS, UtteranceFilter
from whisperq_core.analyze.paired_comparisons import Agreement
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import NotComparable
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.plurals import capitalized, counted
from whisperq_core.present import labels, markup
from whisperq_core.present.provenance import command_for_batches_of_one, provenance_rows
from whisperq_core.scoring.error_rates import Edit
from whisperq_core.speech.evaluation_sets import Utterance

UTTERANCES_A_PAGE = 6
MOST_FREQUENT = 200
STEP_S = 0.5


def choose_result(view: View, rows: pd.DataFrame, runs: list[AccuracyRun]) -> AccuracyRun | None:
    """The run that the user selects among the rows, lowest WER first."""
    rows = rows.sort_values(["wer_pct", "key"])
    labels = {
        key: f"{model} · {recipe} · WER {wer:.2f} % · {key[:6]}"
        for key, model, recipe, wer in zip(
            *(rows[column] for column in ("key", "model", "recipe", "wer_pct")), strict=True
        )
    }
    key = view.one_of(
        "Result",
        list(labels),
        "run",
        format_func=lambda key: labels.get(key, key),
        placeholder="Choose a point, a row of the table, or a result here",
    )
    return next((run for run in runs if run.key == key), None) if key else None


def show_details(
    view: View,
    run: AccuracyRun,
    row: pd.Series,
    runs: list[AccuracyRun],
    baseline: str = "fp32",
    margin: float = MARGIN,
) -> None:
    """The run's rates, its comparison with the baseline, its provenance and its utterances."""
    show_rates(run, row)
    show_comparison(run, row, runs, baseline, margin)
    notes = notes_on(run)
    show_notes(run, notes)
    with_errors = sum(not u.score.exact for u in run.utterances)
    st.markdown(f"**{with_errors} of {len(run.utterances)} utterances have errors**, worst first.")
    wanted = choose_filters(view, run, notes)
    ordered = confusions.worst_first(run.utterances, wanted)
    if not ordered:
        st.info("No utterance matches these filters. Clear one of them.")
        return
    if len(ordered) < len(run.utterances):
        st.markdown(f"{len(ordered)} match the filters.")
    st.html(markup.alignment_legend_html())
    page = view.page_of(-(-len(ordered) // UTTERANCES_A_PAGE), "page")
    audio, other_runs = audio_of(run), confusions.other_recipes(run, runs)
    for utterance in ordered[(page - 1) * UTTERANCES_A_PAGE : page * UTTERANCES_A_PAGE]:
        show_utterance(run, utterance, audio.get(utterance.id), other_runs, notes)


def choose_filters(view: View, run: AccuracyRun, notes: list[Note]) -> UtteranceFilter:
    """Which utterances to show, by widgets whose values are in the URL."""
    speakers = sorted({u.speaker for u in run.utterances if u.speaker})
    durations = [u.duration_s for u in run.utterances]
    low, high = min(durations) // STEP_S * STEP_S, -(-max(durations) // STEP_S) * STEP_S
    counts = confusions.most_frequent(confusions.confusions(run.utterances))[:MOST_FREQUENT]
    edits = {confusions.edit_text(edit): (edit, count) for edit, count in counts}
    show_frequent_errors(counts)
    chosen_speakers, (shortest, longest) = (), (low, high)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = {"placeholder": "any", "width": 230}
        if len(speakers) > 1 or view.has("speaker"):
            chosen_speakers = view.several("Speaker", speakers, "speaker", **how)
        kinds = view.several(
            "Error types",
            ERROR_KINDS,
            "errors",
            format_func=lambda kind: "no errors" if kind == "exact" else kind,
            **how,
        )
        error = view.one_of(
            "Error (hypothesis → reference)",
            list(edits),
            "confusion",
            format_func=lambda text: f"{text} ({edits[text][1]})" if text in edits else text,
            placeholder="any",
            width=260,
        )
        if low < high or view.has("seconds"):
            top = max(high, low + STEP_S)
            shortest, longest = view.span("Duration (s)", low, top, STEP_S, "seconds", width=260)
        noted = {note.utterance for note in notes} - {None}
        only_noted = bool(noted or view.has("noted")) and view.flag("With notes", False, "noted")
    edit = edits[error][0] if error in edits else None
    ids = noted if only_noted else None
    return UtteranceFilter(tuple(chosen_speakers), shortest, longest, tuple(kinds), edit, ids)


def show_frequent_errors(counts: list[tuple[Edit, int]]) -> None:
    """The most frequent errors of the run; a click on one filters the utterances by it."""
    if not counts:
        return
    edits = [edit for edit, _ in counts]
    table = edits_table(edits, {"Count": [count for _, count in counts]})
    with st.expander("Most frequent errors"):
        draw_table(
            table,
            height=260,
            width=520,
            key="confusions",
            on_select=take_confusion,
            selection_mode="single-row",
        )
        st.caption("Click a row to show the utterances with this error.")
    st.session_state["listed confusions"] = [confusions.edit_text(edit) for edit in edits]


def take_confusion() -> None:
    rows = st.session_state["confusions"].selection.rows
    listed = st.session_state["listed confusions"]
    st.session_state["confusion"] = listed[rows[0]] if rows and rows[0] < len(listed) else None


def show_rates(run: AccuracyRun, row: pd.Series) -> None:
    """WER and CER with intervals and counts, RTF, and what the numbers depend on."""
    words, spec = run.words, run.spec
    st.markdown(
        f"{markup.escape_markdown(spec.recipe.description)}  \n"
        f"**WER {row['wer_pct']:.2f} %** {interval(row['wer_low_pct'], row['wer_high_pct'])}:"
        f" {labels.error_counts(words)} in {counted(words.reference_length, 'word')} ·"
        f" **CER {row['cer_pct']:.2f} %**"
        f" {interval(row['cer_low_pct'], row['cer_high_pct'])} ·"
        f" {counted(run.loops, 'looping transcript')} ·"
        f" RTF {'–' if pd.isna(row['rtf']) else format(row['rtf'], '.3f')}, {row['rtf_source']}",
        help="In parentheses: 95 % intervals.",
    )
    if spec.kernels == "dequantized":
        st.caption(
            "These transcripts were computed by fp32 layers with the dequantized weights, which"
            " is mathematically equivalent and faster on this device. The batch times below are"
            " therefore not those of the recipe's own kernels."
        )
    if (note := spec.recipe.batch_note) and spec.protocol.batch_size > 1:
        st.caption(
            f"{note} Here a batch has up to {spec.protocol.batch_size} utterances. To measure"
            f" batches of 1: `{command_for_batches_of_one(run)}`"
        )
    with st.expander("Provenance"):
        st.html(markup.labelled_html(provenance_rows(run, row["speed_key"])))


def interval(low: float, high: float) -> str:
    return "(no interval)" if pd.isna(low) else f"({low:.2f} to {high:.2f})"


class Comparisons(NamedTuple):
    """What is computed of a run and against fp32; None where it cannot be."""

    agreement: Agreement | None
    without_loops: Estimate | None


@st.cache_data(max_entries=50, show_spinner=False)
def compare(identities: tuple, _run: AccuracyRun, _fp32: AccuracyRun | None) -> Comparisons:
    """Agreement with fp32, WER without loops.

    identities: of the runs, as the cache's key, because whole runs are slow to hash.
    """
    agreement = None
    with suppress(NotComparable):
        agreement = paired_comparisons.agreement(_fp32, _run) if _fp32 else None
    without_loops = paired_comparisons.without_loops(_run) if _run.loops else None
    return Comparisons(agreement, without_loops)


def identity(run: AccuracyRun | None) -> tuple:
    return () if run is None else (run.key, run.created_at, run.words, run.characters)


def show_comparison(
    run: AccuracyRun, row: pd.Series, runs: list[AccuracyRun], baseline: str, margin: float
) -> None:
    """The verdict against the baseline with its evidence, and the agreement with fp32."""
    recipe = run.spec.recipe.name
    base = paired_comparisons.baseline_run(run, runs, baseline) if recipe != baseline else None
    fp32 = paired_comparisons.baseline_run(run, runs) if recipe != "fp32" else None
    computed = compare((identity(run), identity(fp32)), run, fp32)
    words = row["in_words"]
    if base:
        st.markdown(
            markup.escape_markdown(capitalized(words)),
            help=(
                f"Student's t of the difference over {row['resampled']}; interval and verdict are"
                " corrected for multiple comparisons (all recipes measured on this evaluation"
                f" set). Margin: {margin:g} points."
            ),
        )
    others = {other.key: other for other in (base, fp32) if other is not None}
    for other in others.values():
        name = markup.escape_markdown(other.spec.recipe.name)
        st.markdown(f"[Compare with {name}]({compare_url(other, run)})")
    show_agreement(run, computed)


def show_agreement(run: AccuracyRun, computed: Comparisons) -> None:
    """How similar the transcripts are to fp32's, and the WER without looping ones."""
    agreement, without_loops = computed.agreement, computed.without_loops
    parts = []
    if agreement:
        rate = "WER" if paired_comparisons.unit_of_run(run) == "words" else "CER"
        parts.append(
            f"Agreement with fp32: {rate} equal or lower in {agreement.no_worse_pct:.0f} % of"
            " utterances"
        )
        if agreement.disagreement_pct is not None:
            parts.append(f"{agreement.disagreement_pct:.2f} % word difference from fp32")
        parts.append(f"{agreement.identical} of {agreement.utterances} transcripts identical")
    if without_loops and pd.isna(without_loops.value):
        parts.append("Every transcript loops")
    elif without_loops:
        parts.append(
            f"WER without {counted(run.loops, 'looping transcript')}:"
            f" {without_loops.value:.2f} % {interval(without_loops.low, without_loops.high)}"
        )
    if parts:
        st.markdown(
            markup.escape_markdown(" · ".join(parts)),
            help=(
                "The share of utterances with no more errors than fp32 is WhisperKit's “quality"
                " of inference”. Word difference: edits between the two transcripts, in percent"
                " of the words of fp32's; the reference is not used. Looping transcripts repeat a"
                " phrase until the token limit."
            ),
        )


def show_utterance(
    run: AccuracyRun,
    utterance: UtteranceResult,
    audio: Utterance | None,
    other_runs: list[AccuracyRun],
    notes: list[Note],
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
        f"{words.substitutions} substituted, {words.deletions} deleted, {words.insertions}"
        f" inserted in {counted(words.reference_length, 'word')}"
    )
    if batch is not None:
        parts.append(f"batch of {batch.utterances} in {batch.wall_s:.1f} s")
    if utterance.score.looped:
        parts.append(":orange-badge[loop]")
    with st.container(border=True):
        st.markdown(" · ".join(parts))
        show_alignment(utterance)
        st.html(
            markup.labelled_html(
                [("Reference", utterance.reference), ("Hypothesis", utterance.hypothesis)]
            )
        )
        if audio is not None:
            st.audio(playable(audio))
        show_notes(run, notes, utterance.id)
        if other_runs:
            show_other_recipes(run, utterance, other_runs)


def show_other_recipes(
    run: AccuracyRun, utterance: UtteranceResult, other_runs: list[AccuracyRun]
) -> None:
    """The utterance's transcripts by other recipes, drawn only when the expander is open."""
    label = f"Transcripts by {counted(len(other_runs), 'other recipe')}"
    box = st.expander(label, key=f"others-{run.key}-{utterance.id}", on_change="rerun")
    if not box.open:
        return
    with box:
        for other in other_runs:
            same = next((u for u in other.utterances if u.id == utterance.id), None)
            if same is not None:
                show_transcript(other, same)
