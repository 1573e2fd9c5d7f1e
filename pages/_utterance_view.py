"""Utterances with their audio and marked errors: shared by every page that shows some."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from whisperq_core.analyze import confusions
from whisperq_core.errors import EvalSetError, InputError
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.plurals import counted
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.scoring.error_rates import Edit
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.speech.evaluation_sets import EvalSet, Utterance

NO_WORD = "–"
EDIT_NAMES = {"substitute": "substitution", "delete": "deletion", "insert": "insertion"}


@st.cache_resource
def shipped_sets() -> dict[str, evaluation_sets.EvalSet]:
    try:
        return evaluation_sets.shipped_sets()
    except EvalSetError:
        return {}


def set_title(name: str) -> str:
    """The title of an evaluation set; its name where it has none."""
    return shipped_sets()[name].title if name in shipped_sets() else name


def run_label(run: AccuracyRun) -> str:
    """A run as an option of a list: model, set, recipe, protocol, WER, start of the key."""
    rate = "no words" if run.words.rate is None else f"WER {run.words.rate:.2f} %"
    name, protocol = run.spec.recipe.name, protocol_label(run.spec.protocol.name)
    return " · ".join((run.model, run.eval_set, name, protocol, rate, run.key[:6]))


def audio_of(run: AccuracyRun) -> dict[str, Utterance]:
    """Utterances that can be played, by id; none where the run's set is not a shipped one."""
    try:
        return _with_audio(
            evaluation_sets.shipped_with_digest(run.eval_set, run.spec.eval_set_digest)
        )
    except InputError:
        return {}


@st.cache_resource(max_entries=32, show_spinner=False)
def public_utterances(name: str) -> dict[str, Utterance]:
    """Utterances by id of a public set that is on this machine; none of any other."""
    try:
        return _with_audio(
            evaluation_sets.by_name(name) if evaluation_sets.is_public(name) else None
        )
    except InputError:
        return {}


def _with_audio(eval_set: EvalSet | None) -> dict[str, Utterance]:
    utterances = eval_set.utterances if eval_set else ()
    return {u.id: u for u in utterances if u.audio.is_file()}


def playable(utterance: Utterance) -> str | bytes:
    """What st.audio plays: the file, or the samples under the utterance's conditions as WAV."""
    if not utterance.conditions:
        return str(utterance.audio)
    return decode.encode_wav(evaluation_sets.read_audio(utterance))


def edits_table(edits: Sequence[Edit], counts: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Errors as rows: hypothesis, reference, type, and the columns of counts."""
    columns = {
        "Hypothesis": [edit.hypothesis or NO_WORD for edit in edits],
        "Reference": [edit.reference or NO_WORD for edit in edits],
        "Type": [EDIT_NAMES[edit.kind] for edit in edits],
    }
    return pd.DataFrame(columns | dict(counts))


def show_alignment(utterance: UtteranceResult) -> None:
    """The transcript aligned with the reference, errors marked."""
    st.html(markup.alignment_html(confusions.aligned(utterance)))


def show_transcript(run: AccuracyRun, utterance: UtteranceResult) -> None:
    """One recipe's transcript with its errors."""
    words = utterance.score.words
    loop = " :orange-badge[loop]" if utterance.score.looped else ""
    st.markdown(
        f"**{markup.escape_markdown(run.spec.recipe.name)}**: {counted(words.errors, 'error')}"
        f" in {counted(words.reference_length, 'word')}{loop}"
    )
    show_alignment(utterance)


def show_side_by_side(
    runs: tuple[AccuracyRun, AccuracyRun],
    pair: tuple[UtteranceResult, UtteranceResult],
    audio: Utterance | None,
    note: str = "",
) -> None:
    """An utterance with its transcripts in two runs. note: a text to add to its heading."""
    utterance = pair[0]
    parts = [f"**{markup.escape_markdown(utterance.id)}**"]
    if utterance.speaker:
        parts.append(f"speaker {markup.escape_markdown(utterance.speaker)}")
    parts += [f"{utterance.duration_s:.1f} s", *([note] if note else [])]
    with st.container(border=True):
        st.markdown(" · ".join(parts))
        for column, run, result in zip(st.columns(2), runs, pair, strict=True):
            with column:
                show_transcript(run, result)
        if audio is not None:
            st.audio(playable(audio))
