"""The same work as tasks in worker processes, on Dask: one worker on this machine by default.

The app's process stays free of torch and answers while work runs. Progress is what lies in the
store; a job that is stopped, or whose worker dies, goes on from there when it is asked for again.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from whisperq_core import artefacts, evaluate, history
from whisperq_core.artefacts import Manifest
from whisperq_core.errors import Cancelled, InputError, WhisperQError
from whisperq_core.evaluate import Planned, Request
from whisperq_core.machine import this_machine
from whisperq_core.protocols import STUDY, Protocol
from whisperq_core.recipes import Recipe
from whisperq_core.recordings import Heard, Listener
from whisperq_core.shelf import Kept, Shelf
from whisperq_core.store import Store

QUEUED, RUNNING, DONE, FAILED, STOPPED = "queued", "running", "done", "failed", "stopped"
# The worker and its models leave memory after this long without work.
_IDLE_TIMEOUT = "30 minutes"


@dataclass
class Job:
    """One task: an evaluation (planned is set), an export (folder) or a recording (heard).

    heard: the recording's id and the listener's key.
    work and who are what the history says of it; recordings have no place there.
    """

    label: str
    planned: Planned | None = None
    folder: Path | None = None
    heard: tuple[str, str] | None = None
    work: history.Work | None = None
    who: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    submitted_at: float = field(default_factory=time.time)
    started_at: float | None = None
    finished_at: float | None = None
    status: str = QUEUED
    message: str = ""
    future: Any = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in (DONE, FAILED, STOPPED)


def _evaluate_task(request: Request, root: Path, job_id: str, who: str | None) -> str:
    with history.recorded(root, evaluate.work_of(request), who) as note:
        note.key = evaluate.run(request, Store(root), stop=_stop_event(job_id).is_set).key
    return note.key


def _recording_task(kept: Kept, listener: Listener, root: Path) -> Heard:
    from whisperq_core.recordings import hear

    shelf = Shelf(root)
    if shelf.get(kept.id) is None:
        raise InputError(f"{kept.name} was deleted before its turn. Upload it again.")
    heard = hear(shelf.original(kept.id), listener, kept.name)
    shelf.put_heard(kept.id, listener, heard)
    return heard


def _export_task(
    work: history.Work,
    recipe: Recipe,
    folder: Path,
    root: Path,
    protocol: Protocol,
    who: str | None,
) -> Manifest:
    with history.recorded(root, work, who):
        return artefacts.export(work.model, recipe, folder, work.device, protocol)


def _stop_event(job_id: str, client=None):
    from distributed import Event

    return Event(f"stop-{job_id}", client=client)


class Jobs:
    """The queue of all sessions of one app. Every method may be called from any thread."""

    def __init__(self, store: Store, start_client: Callable | None = None):
        self.store = store
        self._start_client = start_client or start_local_client
        self._client = None
        self._jobs: list[Job] = []
        self._lock = threading.RLock()

    def _connected(self):
        with self._lock:
            if self._client is None or self._client.status != "running":
                self._client = self._start_client()
            return self._client

    def evaluate(self, planned: Sequence[Planned], who: str | None = None) -> list[Job]:
        """Queues every planned run that is not cached or refused, in order.

        who: for the history; None is whoever runs the app.
        """
        root = self.store.root
        jobs = [
            Job(item.request.label, item, who=who, work=evaluate.work_of(item.request))
            for item in planned
            if item.status == "to run"
        ]
        return [
            self._submit(job, _evaluate_task, job.planned.request, root, job.id, who)
            for job in jobs
        ]

    def transcribe(self, kept: Kept, listener: Listener) -> Job:
        """Queues one recording of the shelf for one listener; the job's future holds a Heard.

        The shelf holds it, too, as soon as it is done. One that is under way is not queued again.
        """
        heard = kept.id, listener.key
        with self._lock:
            going = self.hearing(*heard)
            if going is not None and not going.is_over:
                return going
            job = Job(f"{kept.name} · {listener.name}", heard=heard)
            return self._submit(job, _recording_task, kept, listener, self.store.root)

    def hearing(self, id: str, key: str) -> Job | None:
        """The last job for a recording and a listener's key."""
        return next((job for job in reversed(self.all()) if job.heard == (id, key)), None)

    def export(
        self,
        model: str,
        recipe: Recipe,
        device: str = "cpu",
        protocol: Protocol = STUDY,
        who: str | None = None,
    ) -> Job:
        """Queues the export of a model to the app's folder; the job's future holds a Manifest."""
        folder = self.store.root / artefacts.FOLDER / artefacts.folder_name(model, recipe, protocol)
        work = history.Work(
            kind=history.EXPORT,
            model=model,
            recipe=recipe.name,
            protocol=protocol.name,
            device=device,
        )
        job = Job(f"{model} · {recipe.name}", folder=folder, who=who, work=work)
        root = self.store.root
        return self._submit(job, _export_task, work, recipe, folder, root, protocol, who)

    def _submit(self, job: Job, task: Callable, *arguments) -> Job:
        client = self._connected()
        job.future = client.submit(task, *arguments, key=f"whisperq-{job.id}", pure=False)
        with self._lock:
            self._jobs.append(job)
        return job

    def all(self) -> list[Job]:
        """Every job of this app, oldest first, with its status brought up to date."""
        with self._lock:
            free = True  # one task at a time: the oldest that is not over is the one that runs
            for job in self._jobs:
                if not job.is_over:
                    self._update(job, free)
                    free = free and job.is_over
            return list(self._jobs)

    def _update(self, job: Job, free: bool) -> None:
        status = job.future.status
        if status == "pending":
            if free and job.started_at is None:
                job.status, job.started_at = RUNNING, time.time()
            return
        job.finished_at = time.time()
        if status == "finished":
            job.status = DONE
        elif status == "error":
            error = job.future.exception()
            job.status, job.message = _explained(error)
            if _died(error):
                self._remember(job)
        elif job.status != STOPPED:
            job.status = FAILED
            job.message = "The worker process was lost. Run it again: finished pieces are kept."
            self._remember(job)

    def _remember(self, job: Job) -> None:
        """The history's entry of a job whose process ended before it could write one."""
        if job.work is None or job.started_at is None:
            return
        entry = history.Entry(
            who=job.who or history.login(),
            work=job.work,
            started_at=datetime.fromtimestamp(job.started_at, UTC),
            took_s=job.finished_at - job.started_at,
            outcome=history.FAILED,
            message=job.message,
            machine=this_machine(),
        )
        history.put(self.store.root, entry)

    def result(self, job: Job) -> Any:
        """What a finished job returned."""
        return job.future.result()

    def progress(self, job: Job) -> tuple[int, int]:
        """Pieces finished and in all of an evaluation."""
        return evaluate.progress_of(job.planned, self.store) if job.planned else (0, 1)

    def remaining_s(self, job: Job) -> float:
        """Seconds a job will still take: by its own pace, or by the estimate before it has one."""
        if job.planned is None or job.is_over:
            return 0.0
        done, total = self.progress(job)
        if not done or job.started_at is None:
            return job.planned.estimate_s
        elapsed = time.time() - job.started_at
        return elapsed * (total - done) / done

    def stop(self, job: Job) -> None:
        """Stops a job after the piece it is at; one that waits never starts."""
        if job.is_over:
            return
        _stop_event(job.id, self._client).set()
        if job.status == QUEUED or job.planned is None:
            job.future.cancel()
            job.status, job.finished_at = STOPPED, time.time()

    def forget_finished(self) -> None:
        """Removes what is over from the list; results stay in the store."""
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.is_over]

    def close(self) -> None:
        """Ends the workers."""
        with self._lock:
            if self._client is not None:
                cluster = self._client.cluster
                self._client.close()
                if cluster is not None:
                    cluster.close()
                self._client = None


def _explained(error: BaseException) -> tuple[str, str]:
    """Status and a sentence for what a task raised; a stack trace is for the log only."""
    if isinstance(error, Cancelled):
        return STOPPED, "Stopped; finished pieces are kept."
    if isinstance(error, WhisperQError):
        return FAILED, str(error)
    if _died(error) or isinstance(error, MemoryError):
        return (
            FAILED,
            "The worker process died, most likely for lack of memory. Try a smaller model.",
        )
    return FAILED, f"Something unexpected happened ({type(error).__name__}: {error})."


def _died(error: BaseException) -> bool:
    """Whether the worker process ended under the task."""
    return type(error).__name__ == "KilledWorker"


@lru_cache
def shared(root: Path) -> Jobs:
    """The one queue of this process for results below root, whichever session or page asks."""
    return Jobs(Store(root))


def start_local_client():
    """A Dask client of one worker process on this machine, reachable from this machine only."""
    import dask
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    # The worker imports this package from wherever the app was started.
    project = str(Path(__file__).parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if project not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([project, *filter(None, paths)])
    dask.config.set({"distributed.worker.daemon": False})
    cluster = SubprocessCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "idle_timeout": _IDLE_TIMEOUT},
        worker_kwargs={"dashboard": False},
    )
    return Client(cluster)
