"""How far the transcription of recordings is: what runs, how much is done, how long it takes."""

from collections.abc import Mapping, Sequence

import streamlit as st

from pages._recording_settings import Configs, measured_of
from whisperq_core import machine
from whisperq_core.evaluate.history import format_duration
from whisperq_core.present import markup
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.serve.job_queue import Job, JobState
from whisperq_core.serve.recording_store import Recording
from whisperq_core.serve.user_session import UserSession
from whisperq_core.whisper.protocols import protocol_named

# Loading and quantizing a model, and the same with calibration.
_LOADING_S, _CALIBRATING_S = 5.0, 60.0
# Generation over audio length where nothing was measured: base in fp32 on two cores.
_RTF = 0.3

Pair = tuple[Recording, TranscriptionConfig]


def show_pending(session: UserSession, recording: Recording, missing: Configs) -> None:
    """Transcripts that are not there yet, and why others failed."""
    for config in missing:
        job = session.transcription_job(recording.id, config.key)
        name = markup.escape_markdown(config.name)
        if job is None or job.state == JobState.STOPPED:
            st.caption(f"{name}: not transcribed yet. Press **Transcribe**.")
        elif job.state == JobState.FAILED:
            st.error(f"{name}: {markup.escape_markdown(job.message)}")
        else:
            st.caption(f":material/progress_activity: {name}: {job.state} …")


def measured_configuration(config: TranscriptionConfig):
    """What was measured of a configuration's model and recipe under its protocol."""
    if config.recipe is None:
        return None
    protocol = protocol_named(config.protocol).name
    return measured_of(config.model, config.recipe.name, protocol, config.device)


def estimated_s(recording: Recording, config: TranscriptionConfig, rtf: float | None) -> float:
    """Seconds that a transcription may take, with loading. rtf: of the configuration, if known."""
    measured = measured_configuration(config)
    if rtf is None and measured is not None and measured.rtf is not None:
        rtf = measured.rtf.value
    calibrates = config.recipe is not None and config.recipe.calibrates
    loading_s = _CALIBRATING_S if calibrates else _LOADING_S
    return loading_s + recording.sound.duration_s * (_RTF if rtf is None else rtf)


def remaining_s(
    unfinished: Sequence[tuple[Job, float]], finished: Sequence[tuple[Job, float]], now: float
) -> float:
    """Seconds left, from jobs with their estimates; 0 where the last one takes longer than its own.

    Jobs that are over say how good the estimates are, and so do those that run late.
    """
    taken = sum(job.finished_at - job.started_at for job, _ in finished)
    expected = sum(estimate for _, estimate in finished)
    paces = [taken / expected] if expected else [1.0]
    running = [(now - job.started_at, estimate) for job, estimate in unfinished if job.started_at]
    pace = max([*paces, *(elapsed / estimate for elapsed, estimate in running)])
    return pace * sum(estimate for _, estimate in unfinished) - sum(
        elapsed for elapsed, _ in running
    )


def known_rtfs(stored: Mapping[tuple[str, str], Transcription]) -> dict[str, float]:
    """RTF in the last transcription of each configuration, by its key."""
    return {key: one.rtf for (_, key), one in stored.items() if not one.silent}


def show_progress(
    session: UserSession, pairs: Sequence[Pair], rtfs: Mapping[str, float], now: float
) -> bool:
    """A bar for the pairs of recording and configuration; False where none is being transcribed."""
    jobs = [
        (pair, job)
        for pair in pairs
        if (job := session.transcription_job(pair[0].id, pair[1].key)) is not None
    ]
    waiting = [(pair, job) for pair, job in jobs if not job.is_over]
    if not waiting:
        return False

    def with_estimate(pair: Pair, job: Job) -> tuple[Job, float]:
        return job, estimated_s(*pair, rtfs.get(pair[1].key))

    left_s = remaining_s(
        [with_estimate(*one) for one in waiting],
        [with_estimate(pair, job) for pair, job in jobs if job.state == JobState.DONE],
        now,
    )
    left = f"about {format_duration(left_s)} left" if left_s >= 1 else "takes longer than estimated"
    done, running = len(pairs) - len(waiting), [job for _, job in waiting if job.started_at]
    what = running[0].label if running else "Starting"
    st.progress(
        done / len(pairs),
        f"**{markup.escape_markdown(what)}** · {done} of {len(pairs)} transcripts are ready ·"
        f" {left}",
    )
    return True


def was_busy(transcription: Transcription) -> bool:
    """Whether other processes used the machine, so that its time is not the recipe's.

    One process is the transcription itself, and one more is allowed, as in stored results.
    """
    load = transcription.load_average
    return load is not None and load > machine.this_machine().cores + 1
