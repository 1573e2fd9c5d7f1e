"""Sums over several recordings, and the comparison as files."""

from collections.abc import Sequence

import streamlit as st

from pages._recording_settings import Configs, language_name
from pages._tables import draw_table
from whisperq_core.present import recording_comparison
from whisperq_core.present.labels import protocol_label
from whisperq_core.present.recording_comparison import ComparedTranscript
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.serve.recording_store import Recording
from whisperq_core.whisper.protocols import protocol_named

Stored = dict[tuple[str, str], Transcription]


def compared_transcripts(
    recordings: Sequence[Recording], configs: Configs, stored: Stored
) -> list[ComparedTranscript]:
    """All transcripts that are there. stored: by the recording's id and the configuration's key."""
    names = _distinct_names(recordings)
    rows = []
    for recording in recordings:
        own = {c: stored[key] for c in configs if (key := (recording.id, c.key)) in stored}
        fp32 = next((one.text for config, one in own.items() if config.name == "fp32"), None)
        for config, one in own.items():
            rows.append(
                ComparedTranscript(
                    recording=names[recording.id],
                    recipe=config.name,
                    language="en" if config.task == "translate" else one.language,
                    text=one.text,
                    reference=recording.reference,
                    baseline=None if config.name == "fp32" else fp32,
                    size_bytes=one.weights_bytes,
                    audio_s=one.audio_s,
                    wall_s=one.wall_s,
                )
            )
    return rows


def _distinct_names(recordings: Sequence[Recording]) -> dict[str, str]:
    names = [recording.name for recording in recordings]
    return {
        one.id: one.name if names.count(one.name) == 1 else f"{one.name} ({one.id[:4]})"
        for one in recordings
    }


def show_summary(recordings: Sequence[Recording], configs: Configs, stored: Stored) -> None:
    transcripts = compared_transcripts(recordings, configs, stored)
    if not transcripts:
        return
    sums = recording_comparison.summary(transcripts)
    if len(recordings) > 1:
        st.header("All recordings together", anchor=False)
        number = st.column_config.NumberColumn(format="%.1f")
        draw_table(sums, column_config={name: number for name in sums.columns[2:]})
        st.caption(
            "Rates are of summed counts, so longer recordings weigh more. A few recordings do not"
            " tell recipes apart: the Advisor's numbers are of hours of speech."
        )
    with st.container(horizontal=True):
        for label, data, name, kind in (
            ("Download CSV", recording_comparison.as_csv, "transcripts.csv", "text/csv"),
            ("Download HTML", recording_comparison.as_html, "transcripts.html", "text/html"),
        ):
            st.download_button(
                label,
                _made(data, transcripts, _facts(configs[0])),
                name,
                kind,
                key=f"export-{kind}",
                icon=":material/download:",
                on_click="ignore",
            )


def _made(make, transcripts: list[ComparedTranscript], facts: list[str]):
    """What makes the file when it is asked for."""
    if make is recording_comparison.as_html:
        return lambda: make(transcripts, facts)
    return lambda: make(transcripts)


def _facts(config: TranscriptionConfig) -> list[str]:
    protocol = protocol_label(protocol_named(config.protocol).name)
    language = (
        language_name(config.language).lower()
        if config.language == "auto"
        else (language_name(config.language))
    )
    return [f"Model {config.model}, {protocol}; language: {language}; task: {config.task}."]
