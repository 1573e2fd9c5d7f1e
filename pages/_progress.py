"""Running jobs in the sidebar of every page, and a notification when one ends."""

import streamlit as st

from pages._session import user_session
from whisperq_core.evaluate.history import format_duration
from whisperq_core.present import markup
from whisperq_core.serve import job_queue
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.tasks import EvaluationTask, ExportTask
from whisperq_core.serve.user_session import UserSession

EVERY_S = 2.0
# Jobs that this session saw before they were over, by id.
SEEN = "jobs_seen"


def show_progress() -> None:
    """Draws it here, and again every two seconds while there is work; the page is left alone."""
    session = user_session()
    busy = not all(job.is_over for job in session.all())
    st.fragment(run_every=EVERY_S if busy else None)(draw)(session, busy)


def draw(session: UserSession, looks_again: bool) -> None:
    jobs = session.all()
    waiting = [job for job in jobs if not job.is_over]
    if looks_again and not waiting:
        # Drawing the whole page anew ends the looking, and shows what the work has brought. The
        # notices wait for that, which would wipe them away.
        st.rerun()
    announce(jobs)
    if not waiting:
        return
    running = waiting[0]
    done, total = session.queue.progress(running)
    left_s = sum(session.queue.remaining_s(job) for job in waiting)
    with st.container(border=True, gap="xsmall"):
        label = markup.escape_markdown(running.label)
        st.progress(min(1.0, done / max(1, total)), f"**{label}** · {running.state}")
        parts = [f"{done} of {total} steps"] if isinstance(running.task, EvaluationTask) else []
        parts += [f"{len(waiting) - 1} queued"] if len(waiting) > 1 else []
        parts += [f"about {format_duration(left_s)} left"] if left_s else []
        if others := session.unfinished_jobs_of_others():
            parts.append(f"{others} of other users in the same queue")
        if parts:
            st.caption(" · ".join(parts))
        page, name = where(running)
        st.page_link(page, label=name, icon=":material/arrow_forward:")


def where(job: job_queue.Job) -> tuple[str, str]:
    """The page with the details of a job: its path and name."""
    if isinstance(job.task, EvaluationTask):
        return "pages/run_evaluations.py", "Run evaluations"
    if isinstance(job.task, ExportTask):
        return "pages/advisor.py", "Advisor"
    return "pages/recordings.py", "Compare recordings"


def announce(jobs: list[job_queue.Job]) -> None:
    """A notice of each job that was under way when this session last looked, and is over."""
    seen = st.session_state.setdefault(SEEN, set())
    for job in jobs:
        label = markup.escape_markdown(job.label)
        if not job.is_over:
            seen.add(job.id)
        elif job.id in seen:
            seen.discard(job.id)
            if job.state == JobState.DONE:
                st.toast(f"Done: {label}", icon=":material/check_circle:", duration="long")
            elif job.state == JobState.FAILED:
                why = markup.escape_markdown(job.message)
                st.toast(f"Failed: {label}. {why}", icon=":material/error:", duration="infinite")
