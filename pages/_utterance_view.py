"""Utterances as they were heard: what every page that shows some has in common."""

from pathlib import Path

import streamlit as st

from whisperq_core.analyze import confusions
from whisperq_core.errors import EvalSetError
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.present import markup
from whisperq_core.speech import evaluation_sets


@st.cache_resource
def shipped_sets() -> dict[str, evaluation_sets.EvalSet]:
    try:
        return evaluation_sets.shipped_sets()
    except EvalSetError:
        return {}


def set_title(name: str) -> str:
    """What an evaluation set is called."""
    return shipped_sets()[name].title if name in shipped_sets() else name


def run_label(run: AccuracyRun) -> str:
    """A run in a list of many."""
    rate = "no words" if run.words.rate is None else f"WER {run.words.rate:.2f} %"
    name, protocol = run.spec.recipe.name, run.spec.protocol.name
    return " · ".join((run.model, run.eval_set, name, protocol, rate, run.key[:6]))


def audio_files(run: AccuracyRun) -> dict[str, Path]:
    """Files by utterance, of the sets that are at hand."""
    found = (s for s in shipped_sets().values() if s.digest == run.spec.eval_set_digest)
    return {u.id: u.audio for s in found for u in s.utterances if u.audio and u.audio.is_file()}


def alignment(utterance: UtteranceResult) -> None:
    """Its words beside the reference's."""
    st.html(markup.alignment_html(confusions.aligned(utterance)))


def transcript(run: AccuracyRun, utterance: UtteranceResult) -> None:
    """One recipe's transcript with its errors."""
    words = utterance.score.words
    loop = " :orange-badge[loop]" if utterance.score.looped else ""
    errors = "1 error" if words.errors == 1 else f"{words.errors} errors"
    st.markdown(
        f"**{markup.escape_markdown(run.spec.recipe.name)}**: {errors} in"
        f" {words.reference_length} words{loop}"
    )
    alignment(utterance)


def side_by_side(
    runs: tuple[AccuracyRun, AccuracyRun],
    pair: tuple[UtteranceResult, UtteranceResult],
    audio: Path | None,
    note: str = "",
) -> None:
    """An utterance as two runs heard it, side by side."""
    first = pair[0]
    parts = [f"**{markup.escape_markdown(first.id)}**"]
    parts += [f"speaker {markup.escape_markdown(first.speaker)}"] if first.speaker else []
    parts += [f"{first.duration_s:.1f} s", *([note] if note else [])]
    with st.container(border=True):
        st.markdown(" · ".join(parts))
        for column, run, utterance in zip(st.columns(2), runs, pair, strict=True):
            with column:
                transcript(run, utterance)
        if audio is not None:
            st.audio(str(audio))
