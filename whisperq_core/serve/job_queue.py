"""The same work as tasks in worker processes, on Dask: one worker on this machine by default.

The app's process stays free of torch and answers while work runs. Progress is what lies in the
store; a job that is stopped, or whose worker dies, goes on from there when it is asked for again.

Jobs wait here, not in Dask: as many are handed over as there is room for, and users take turns.
With a cluster, evaluations go there in slices; recordings and exports stay on this machine.
"""

import asyncio
import atexit
import os
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from whisperq_core.errors import Cancelled, ClusterError, InputError, WhisperQError
from whisperq_core.evaluate import history, planner, runner
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.requests import Request, work_item
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize import model_export
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.quantize.model_export import Manifest
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve import cluster, cluster_certificate
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import STUDY, Protocol


class JobState(StrEnum):
    """The state of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


# The worker and its models leave memory after this long without work.
_IDLE_TIMEOUT = "30 minutes"
# What one user may have waiting or running: a grid of every recipe for several models.
MAX_JOBS_PER_USER = 500
# How long is waited for processes to end before they are left to the system.
_CLOSED_S = 10
# Jobs that are over and still listed; their results stay in the store.
_REMEMBERED = 500
# How often a slice is tried anew where what it raised may pass, such as a folder out of reach.
_RETRIES = 2


@dataclass
class Job:
    """One task: an evaluation (planned is set), an export (folder) or a recording (heard).

    store: where its results go. heard: the recording's id and the listener's key.
    work and who are what the history says of it; recordings have no place there.
    owner: whose turn it takes: who, or the session of somebody who did not log in.
    hand_over: gives it to Dask, by a client; the future is there from then on, until it is over.
    value: what it returned: a key, a Manifest or a Heard.
    """

    label: str
    store: Store = field(repr=False)
    owner: str = ""
    hand_over: Callable | None = field(default=None, repr=False)
    planned: PlannedRun | None = None
    folder: Path | None = None
    heard: tuple[str, str] | None = None
    work: history.WorkItem | None = None
    who: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    submitted_at: float = field(default_factory=time.time)
    started_at: float | None = None
    finished_at: float | None = None
    state: JobState = JobState.QUEUED
    message: str = ""
    future: Any = field(default=None, repr=False)
    value: Any = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (JobState.DONE, JobState.FAILED, JobState.STOPPED)


def _evaluate_task(request: Request, store: Store, job_id: str, who: str | None) -> str:
    with history.record(store.root, work_item(request), who) as note:
        note.key = runner.run(request, store, stop=_stop_event(job_id).is_set).key
    return note.key


def _slice_task(planned: PlannedRun, batches: range, store: Store, job_id: str) -> None:
    runner.transcribe_slice(planned, batches, store, _stop_event(job_id).is_set)


def _assembled_task(request: Request, store: Store, job_id: str, slices: list[None]) -> str:
    return runner.run(request, store, stop=_stop_event(job_id).is_set).key


def _recording_task(kept: Recording, listener: TranscriptionConfig, root: Path) -> Transcription:
    from whisperq_core.quantize.file_transcription import transcribe_file

    shelf = RecordingStore(root)
    if shelf.get(kept.id) is None:
        raise InputError(f"{kept.name} was deleted before its turn. Upload it again.")
    heard = transcribe_file(shelf.original_path(kept.id), listener, kept.name)
    shelf.put_transcription(kept.id, listener, heard)
    return heard


def _export_task(
    work: history.WorkItem,
    recipe: Recipe,
    folder: Path,
    root: Path,
    protocol: Protocol,
    who: str | None,
) -> Manifest:
    with history.record(root, work, who):
        return model_export.export(work.model, recipe, folder, work.device, protocol)


def _stop_event(job_id: str, client=None):
    from distributed import Event

    return Event(f"stop-{job_id}", client=client)


class _Workers:
    """A client, made when it is first needed and again when it was lost, and its room for jobs."""

    def __init__(self, start_client: Callable):
        self._start_client = start_client
        self.client = None

    def connected(self):
        if self.client is None or self.client.status != "running":
            self.client = self._start_client()
        return self.client

    def close(self) -> None:
        if self.client is not None:
            _close(self.client)
            self.client = None

    def abandon_if_broken(self) -> bool:
        """Whether a process of our own, a worker's or the scheduler's, ended under us.

        Nothing starts it again, and Dask would wait for it for ever. What is left of them is ended.
        """
        own = getattr(self.client, "cluster", None)
        if own is None or not any(map(_has_ended, [own.scheduler, *own.workers.values()])):
            return False
        threading.Thread(target=_close, args=(self.client,), daemon=True).start()
        self.client = None
        return True


def _has_ended(process) -> bool:
    """Of Dask's subprocesses."""
    running = getattr(process, "process", None)
    return running is not None and running.returncode is not None


def _close(client) -> None:
    own = client.cluster
    # Some of it may be gone, which is no reason to keep the rest.
    with suppress(Exception):
        client.close(timeout=_CLOSED_S)
    with suppress(Exception):
        if own is not None:
            own.close(timeout=_CLOSED_S)


class JobQueue:
    """The queue of all sessions of one app. Every method may be called from any thread.

    elsewhere: a cluster that does the evaluations.
    """

    def __init__(
        self,
        store: Store,
        start_client: Callable | None = None,
        elsewhere: cluster.Cluster | None = None,
    ):
        self.store = store
        self._here = _Workers(start_client or start_local_client)
        self._there = _Workers(lambda: cluster.connect(elsewhere)) if elsewhere else None
        self._jobs: list[Job] = []
        self._lock = threading.RLock()

    def plan(self, requests: Sequence[Request], store: Store | None = None) -> list[PlannedRun]:
        """What would become of each request on the machines that would do it."""
        store = store or self.store
        if self._there is None:
            return planner.plan(requests, store)
        with self._lock:
            client = self._there.connected()
        workers = list(client.nthreads())
        if not workers:
            raise ClusterError("The scheduler has no workers yet. Start some, and try again.")

        def judge(requests: list[Request]) -> list[planner.Feasibility]:
            return client.run(_judge, requests, workers=workers[:1])[workers[0]]

        return planner.plan(requests, store, judge)

    def evaluate(
        self,
        planned: Sequence[PlannedRun],
        who: str | None = None,
        owner: str = "",
        store: Store | None = None,
    ) -> list[Job]:
        """Queues every planned run that is not cached or refused, in order.

        who: for the history; None is whoever runs the app. Raises InputError where these are more
        than the owner may have in the queue.
        """
        jobs = [
            Job(
                item.request.label,
                store or self.store,
                owner,
                planned=item,
                who=who,
                work=work_item(item.request),
            )
            for item in planned
            if item.status == "to run"
        ]
        for job in jobs:
            job.hand_over = partial(self._evaluated, job)
        self._queue(jobs)
        return jobs

    def _evaluated(self, job: Job, client) -> Any:
        """The future of an evaluation; on a cluster, of its slices put together."""
        store, request = job.store, job.planned.request
        if self._there is None:
            how = {"key": f"whisperq-{job.id}", "pure": False}
            return client.submit(_evaluate_task, request, store, job.id, job.who, **how)
        how = {"resources": {cluster.DEVICE: 1}, "pure": False, "retries": _RETRIES}
        made = [
            client.submit(
                *(_slice_task, job.planned, batches, store, job.id),
                key=f"whisperq-{job.id}-{batches.start}",
                **how,
            )
            for batches in runner.batch_slices(job.planned)
        ]
        how["key"] = f"whisperq-{job.id}"
        return client.submit(_assembled_task, request, store, job.id, made, **how)

    def transcribe(
        self,
        kept: Recording,
        listener: TranscriptionConfig,
        owner: str = "",
        store: Store | None = None,
    ) -> Job:
        """Queues one recording of the shelf for one listener; the job's value is a Heard.

        The shelf holds it, too, as soon as it is done. One that is under way is not queued again.
        """
        heard, store = (kept.id, listener.key), store or self.store
        with self._lock:
            going = self.transcription_job(*heard, store)
            if going is not None and not going.is_over:
                return going
            job = Job(f"{kept.name} · {listener.name}", store, owner, heard=heard)
            return self._submit(job, _recording_task, kept, listener, store.root)

    def transcription_job(self, id: str, key: str, store: Store | None = None) -> Job | None:
        """The last job for a recording of the store's shelf and a listener's key."""
        root = (store or self.store).root
        for job in reversed(self.all()):
            if job.heard == (id, key) and job.store.root == root:
                return job
        return None

    def export(
        self,
        model: str,
        recipe: Recipe,
        device: str = "cpu",
        protocol: Protocol = STUDY,
        who: str | None = None,
        owner: str = "",
        store: Store | None = None,
    ) -> Job:
        """Queues the export of a model to the store's folder; the job's value is a Manifest."""
        store = store or self.store
        folder = (
            store.root / model_export.FOLDER / model_export.folder_name(model, recipe, protocol)
        )
        work = history.WorkItem(
            kind=history.EXPORT,
            model=model,
            recipe=recipe.name,
            protocol=protocol.name,
            device=device,
        )
        job = Job(f"{model} · {recipe.name}", store, owner, folder=folder, who=who, work=work)
        return self._submit(job, _export_task, work, recipe, folder, store.root, protocol, who)

    def _submit(self, job: Job, task: Callable, *arguments) -> Job:
        job.hand_over = lambda client: client.submit(
            task, *arguments, key=f"whisperq-{job.id}", pure=False
        )
        self._queue([job])
        return job

    def _queue(self, jobs: Sequence[Job]) -> None:
        """All of them or none."""
        with self._lock:
            for job in jobs:
                self._workers_of(job).connected()  # raises now rather than when nobody looks
            counts = Counter(job.owner for job in self._jobs if not job.is_over)
            if jobs and counts[jobs[0].owner] + len(jobs) > MAX_JOBS_PER_USER:
                raise InputError(
                    f"You may have at most {MAX_JOBS_PER_USER} jobs in the queue. Wait until some"
                    " are done, or choose fewer."
                )
            self._jobs += jobs
            self._fill()

    def _workers_of(self, job: Job) -> _Workers:
        return self._there if self._there is not None and job.planned else self._here

    def _fill(self) -> None:
        """Hands over waiting jobs while there is room."""
        for workers in filter(None, (self._here, self._there)):
            mine = [j for j in self._jobs if self._workers_of(j) is workers and not j.is_over]
            going = [job for job in mine if job.future is not None]
            waiting = [job for job in mine if job.future is None]
            while waiting:
                try:
                    client = workers.connected()
                except (WhisperQError, OSError, RuntimeError) as error:
                    for job in waiting:
                        job.state, job.message = _explained(error)
                        job.finished_at = time.time()
                    break
                # One more than a cluster has workers: its slices fill the gap as the others end.
                room = 1 if workers is self._here else len(client.nthreads()) + 1
                if len(going) >= room:
                    break
                job = self._next(waiting, going)
                waiting.remove(job)
                going.append(job)
                job.state, job.started_at = JobState.RUNNING, time.time()
                job.future = job.hand_over(client)
                job.future.add_done_callback(self._went)

    def _next(self, waiting: Sequence[Job], going: Sequence[Job]) -> Job:
        """The oldest job of the user who has least under way, and waits longest for a turn."""
        under_way = Counter(job.owner for job in going)
        served = {job.owner: job.started_at for job in self._jobs if job.started_at is not None}
        return min(waiting, key=lambda job: (under_way[job.owner], served.get(job.owner, 0.0)))

    def _went(self, _) -> None:
        # Dask calls this where it must not be kept waiting.
        threading.Thread(target=self.all, daemon=True).start()

    def all(self) -> list[Job]:
        """Every job of this app, oldest first, with its status brought up to date."""
        with self._lock:
            broken = self._here.abandon_if_broken()
            for job in self._jobs:
                if job.future is not None and not job.is_over:
                    self._update(job, broken and self._workers_of(job) is self._here)
            over = [job for job in self._jobs if job.is_over]
            if len(over) > _REMEMBERED:
                gone = set(map(id, over[:-_REMEMBERED]))
                self._jobs = [job for job in self._jobs if id(job) not in gone]
            self._fill()
            return list(self._jobs)

    def _update(self, job: Job, lost: bool = False) -> None:
        future, message = job.future, ""
        status = "lost" if lost and future.status == "pending" else future.status
        if status == "pending":
            return
        job.finished_at, error = time.time(), None
        if status == "finished":
            status, job.value = JobState.DONE, future.result()
        elif status == "error":
            error = future.exception()
            status, message = _explained(error)
        else:
            error, status = ChildProcessError(), JobState.FAILED
            message = (
                "The worker process or the scheduler was lost. Run it again: finished pieces are"
                " kept."
            )
        # A process that ended could not write its entry, and slices have none of their own.
        if _died(error) or self._workers_of(job) is self._there:
            self._remember(job, status, message)
        # What Dask keeps of it goes. The status is told last: it is over when all is written.
        job.future = job.hand_over = None
        job.message, job.state = message, status

    def _remember(self, job: Job, status: str, message: str) -> None:
        """The history's entry of a job that no process of its own writes."""
        if job.work is None or job.started_at is None:
            return
        outcomes = {JobState.DONE: history.DONE, JobState.STOPPED: history.STOPPED}
        entry = history.Entry(
            who=job.who or history.current_user(),
            work=job.work,
            started_at=datetime.fromtimestamp(job.started_at, UTC),
            took_s=max(0.0, job.finished_at - job.started_at),  # clocks are set back
            outcome=outcomes.get(status, history.FAILED),
            message=message,
            key=job.value,
            machine=this_machine(),
        )
        history.write_entry(job.store.root, entry)

    def progress(self, job: Job) -> tuple[int, int]:
        """Pieces finished and in all of an evaluation."""
        return planner.stored_progress(job.planned, job.store) if job.planned else (0, 1)

    def remaining_s(self, job: Job) -> float:
        """Seconds a job will still take: by its own pace, or by the estimate before it has one."""
        if job.planned is None or job.is_over:
            return 0.0
        done, total = self.progress(job)
        if not done or job.started_at is None:
            return job.planned.estimate_s
        elapsed = max(0.0, time.time() - job.started_at)
        return elapsed * (total - done) / done

    def stop(self, job: Job) -> None:
        """Stops a job after the piece it is at; one that waits never starts."""
        with self._lock:
            if job.is_over:
                return
            if job.future is not None:
                _stop_event(job.id, self._workers_of(job).client).set()
            if job.future is None or job.planned is None:
                if job.future is not None:
                    job.future.cancel()
                job.state, job.finished_at = JobState.STOPPED, time.time()
                job.future = job.hand_over = None

    def forget(self, jobs: Sequence[Job]) -> None:
        """Removes those of them that are over from the list; results stay in the store."""
        gone = {job.id for job in jobs if job.is_over}
        with self._lock:
            self._jobs = [job for job in self._jobs if job.id not in gone]

    def close(self) -> None:
        """Ends this machine's workers, and leaves those of a cluster."""
        with self._lock:
            for workers in filter(None, (self._here, self._there)):
                workers.close()


async def _judge(requests: list[Request]) -> list[planner.Feasibility]:
    # Beside what the worker is doing, which may take minutes.
    return await asyncio.to_thread(planner.check_requests, requests)


def _explained(error: BaseException) -> tuple[str, str]:
    """Status and a sentence for what a task raised; a stack trace is for the log only."""
    if isinstance(error, Cancelled):
        return JobState.STOPPED, "Stopped; finished pieces are kept."
    if isinstance(error, WhisperQError):
        return JobState.FAILED, str(error)
    if _died(error) or isinstance(error, MemoryError):
        return (
            JobState.FAILED,
            "The worker process died, most likely for lack of memory. Try a smaller model.",
        )
    return JobState.FAILED, f"Something unexpected happened ({type(error).__name__}: {error})."


def _died(error: BaseException | None) -> bool:
    """Whether the worker process ended under the task."""
    return isinstance(error, ChildProcessError) or type(error).__name__ == "KilledWorker"


@lru_cache
def shared_queue(root: Path) -> JobQueue:
    """The one queue of this process for results below root, whichever session or page asks."""
    return JobQueue(Store(root), elsewhere=cluster.from_environment())


def start_local_client():
    """A Dask client of one worker process on this machine, reachable from this machine only.

    By its own certificate, too: other users of this machine stay out.
    """
    import dask
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    # The worker imports this package from wherever the app was started.
    project = str(PROJECT)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if project not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([project, *filter(None, paths)])
    dask.config.set({"distributed.worker.daemon": False})
    security = cluster_certificate.tls_security(_own_certificate())
    os.environ |= cluster_certificate.tls_environment(_own_certificate())
    made = SubprocessCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={
            "dashboard": False,
            "idle_timeout": _IDLE_TIMEOUT,
            "protocol": "tls://",
        },
        worker_kwargs={"dashboard": False},
        security=security,
    )
    return Client(made, security=security, set_as_default=False)


@lru_cache
def _own_certificate() -> Path:
    """A folder with this process's certificate, which goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="whisperq-")
    atexit.register(folder.cleanup)
    cluster_certificate.create_certificate(Path(folder.name))
    return Path(folder.name)
