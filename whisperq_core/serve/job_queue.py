"""The app's queue: jobs of all users, run one after another by worker processes.

Jobs wait here and not in Dask, so that users take turns (fair_queue.py); a few at a time are handed
to worker processes (worker_pool.py), which run the functions of tasks.py. The app's process itself
never imports torch. Progress is what the store has: a job that was stopped, or whose worker died,
continues from there when it is queued again.

With a cluster, evaluations run there in slices; recordings and exports stay on this machine.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from whisperq_core.errors import Cancelled, InputError, WhisperQError
from whisperq_core.evaluate import history, planner
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve import cluster, worker_pool
from whisperq_core.serve.fair_queue import FairQueue
from whisperq_core.serve.recording_store import Recording
from whisperq_core.serve.tasks import (
    EvaluationTask,
    ExportTask,
    Task,
    TranscriptionTask,
    stop_event,
    warm_up,
)
from whisperq_core.serve.worker_pool import WorkerPool
from whisperq_core.whisper.protocols import STUDY, Protocol

# What one user may have waiting or running: a grid of every recipe for several models.
MAX_JOBS_PER_USER = 500
# Finished jobs that are still listed; their results stay in the store.
_MAX_FINISHED = 500


class JobState(StrEnum):
    """The state of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(eq=False)
class Job:
    """A task in the queue, and what became of it.

    owner: whose turn it takes: a user, or a session without a login. Times are seconds since the
    epoch. message: why it failed or was stopped. result: what the task's function returned.
    """

    task: Task
    owner: str = ""
    submitted_at: float = field(default_factory=time.time)
    started_at: float | None = None
    finished_at: float | None = None
    state: JobState = JobState.QUEUED
    message: str = ""
    result: Any = field(default=None, repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    # Dask's, while it runs.
    future: Any = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """What the job is called in lists."""
        return self.task.label

    @property
    def is_over(self) -> bool:
        """Whether its state is final."""
        return self.state in (JobState.DONE, JobState.FAILED, JobState.STOPPED)


class JobQueue:
    """The queue of all sessions of one app. Every method may be called from any thread.

    start_client: returns a Dask client of this machine's workers; by default it starts one worker.
    elsewhere: a cluster that does the evaluations. clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        start_client: Callable[[], Any] | None = None,
        elsewhere: cluster.Cluster | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.store = store
        self._clock = clock
        self._local_pool = WorkerPool(start_client or (lambda: worker_pool.start_local_client()))
        self._turns: dict[WorkerPool, FairQueue[Job]] = {self._local_pool: FairQueue()}
        self._cluster_pool = None
        if elsewhere is not None:
            self._cluster_pool = WorkerPool(lambda: cluster.connect(elsewhere), is_cluster=True)
            self._turns[self._cluster_pool] = FairQueue()
        self._jobs: list[Job] = []
        self._warmed_up = ""  # key of the configuration whose model was loaded ahead
        self._lock = threading.RLock()

    def plan(self, requests: Sequence[Request], store: Store | None = None) -> list[PlannedRun]:
        """What each request would do, on the machine or the cluster that would run it.

        Raises ClusterError where the cluster cannot be reached or has no workers.
        """
        store = store or self.store
        if self._cluster_pool is None:
            return planner.plan(requests, store)
        with self._lock:
            client, worker = self._cluster_pool.client(), self._cluster_pool.one_worker()

        def check_on_worker(requests: list[Request]) -> list[planner.Feasibility]:
            answers: dict[str, list[planner.Feasibility]] = client.run(
                _check_requests, requests, workers=[worker]
            )
            return answers[worker]

        return planner.plan(requests, store, check_on_worker)

    def evaluate(
        self,
        planned: Sequence[PlannedRun],
        user_name: str | None = None,
        owner: str = "",
        store: Store | None = None,
    ) -> list[Job]:
        """Queue every planned run that is neither cached nor refused, in order.

        user_name: for the history; None is whoever runs the app. Raises InputError if the owner
        would have more than MAX_JOBS_PER_USER jobs in the queue; then none is queued.
        """
        to_run = [run for run in planned if run.status == "to run"]
        tasks = [EvaluationTask(run, store or self.store, user_name) for run in to_run]
        return self.submit(tasks, owner)

    def transcribe(
        self,
        recording: Recording,
        config: TranscriptionConfig,
        owner: str = "",
        store: Store | None = None,
    ) -> Job:
        """Queue the transcription of a recording of the store; the job's result is a Transcription.

        A transcription that is queued or running already is returned, and not queued again.
        """
        store = store or self.store
        with self._lock:
            last = self.transcription_job(recording.id, config.key, store)
            if last is not None and not last.is_over:
                return last
            (job,) = self.submit([TranscriptionTask(recording, config, store)], owner)
            return job

    def warm_up(self, config: TranscriptionConfig) -> None:
        """Start this machine's worker and load a configuration's model there; returns at once.

        Nothing where the worker has work, or was told to load the same model last.
        """
        with self._lock:
            turns = self._turns[self._local_pool]
            if turns.waiting or turns.running or self._warmed_up == config.key:
                return
            self._warmed_up = config.key
        threading.Thread(target=self._warm_up, args=(config,), daemon=True).start()

    def _warm_up(self, config: TranscriptionConfig) -> None:
        # Without the queue's lock: starting a worker takes seconds, and pages wait for the lock.
        with suppress(WhisperQError, OSError, RuntimeError):  # the job that needs it says why
            self._local_pool.run_in_background(warm_up, config)

    def transcription_job(
        self, recording_id: str, config_key: str, store: Store | None = None
    ) -> Job | None:
        """The last job for a recording of the store and a configuration's key."""
        root = (store or self.store).root
        for job in reversed(self.all()):
            task = job.task
            if isinstance(task, TranscriptionTask) and task.is_of(recording_id, config_key, root):
                return job
        return None

    def export(
        self,
        model: str,
        recipe: Recipe,
        device: str = "cpu",
        protocol: Protocol = STUDY,
        user_name: str | None = None,
        owner: str = "",
        store: Store | None = None,
    ) -> Job:
        """Queue the export of a model to the store's folder; the job's result is a Manifest."""
        task = ExportTask(model, recipe, store or self.store, device, protocol, user_name)
        (job,) = self.submit([task], owner)
        return job

    def submit(self, tasks: Sequence[Task], owner: str = "") -> list[Job]:
        """Queue tasks in order, all of them or none.

        Raises InputError if the owner would have too many, ClusterError or OSError if the workers
        cannot be started or reached.
        """
        jobs = [Job(task, owner, submitted_at=self._clock()) for task in tasks]
        with self._lock:
            for pool in {self._pool_of(job) for job in jobs}:
                pool.client()  # raises here, where somebody is told, and not later
            unfinished = sum(queue.unfinished(owner) for queue in self._turns.values())
            if jobs and unfinished + len(jobs) > MAX_JOBS_PER_USER:
                raise InputError(
                    f"You may have at most {MAX_JOBS_PER_USER} jobs in the queue. Wait until some"
                    " are done, or choose fewer."
                )
            for job in jobs:
                self._turns[self._pool_of(job)].add(job, owner)
            self._jobs += jobs
            self._start_waiting()
        return jobs

    def _pool_of(self, job: Job) -> WorkerPool:
        if self._cluster_pool is not None and job.task.runs_on_cluster:
            return self._cluster_pool
        return self._local_pool

    def _start_waiting(self) -> None:
        """Hand waiting jobs to the workers while these have free slots."""
        for pool, queue in self._turns.items():
            while queue.waiting:
                try:
                    client, slots = pool.client(), pool.slots()
                except (WhisperQError, OSError, RuntimeError) as error:
                    for waiting in queue.waiting:
                        self._end(waiting, *_explain(error))
                    break
                job = queue.take() if len(queue.running) < slots else None
                if job is None:
                    break
                job.state, job.started_at = JobState.RUNNING, self._clock()
                job.future = job.task.submit(client, job.id, pool.is_cluster)
                job.future.add_done_callback(self._on_done)

    def _on_done(self, _: Any) -> None:
        # Dask calls this in its event loop, which must not wait for the lock.
        threading.Thread(target=self.all, daemon=True).start()

    def all(self) -> list[Job]:
        """Every job of this app, oldest first, with its state brought up to date."""
        with self._lock:
            pool_died = self._local_pool.discard_if_process_died()
            if pool_died:
                self._warmed_up = ""
            for job in self._jobs:
                if job.future is not None:
                    self._update(job, pool_died and self._pool_of(job) is self._local_pool)
            finished = [job for job in self._jobs if job.is_over]
            self.forget(finished[:-_MAX_FINISHED])
            self._start_waiting()
            return list(self._jobs)

    def _update(self, job: Job, pool_died: bool) -> None:
        """Take over the outcome of a job's future, if it has one."""
        status, error = job.future.status, None
        if status == "pending" and not pool_died:
            return
        if status == "finished":
            state, message, result = JobState.DONE, "", job.future.result()
        elif status == "error":
            error, result = job.future.exception(), None
            state, message = _explain(error)
        else:
            error, result, state = ChildProcessError(), None, JobState.FAILED
            message = (
                "The worker process or the scheduler was lost. Run it again: finished pieces are"
                " kept."
            )
        # A process that died could not write its entry, and slices have none of their own.
        if _is_worker_death(error) or self._pool_of(job).is_cluster:
            _write_history(job, state, message, result, self._clock())
        job.result = result
        self._end(job, state, message)

    def _end(self, job: Job, state: JobState, message: str = "") -> None:
        self._turns[self._pool_of(job)].remove(job)
        job.future = None  # with it, Dask lets go of the result
        job.message, job.finished_at = message, self._clock()
        job.state = state  # last: whoever sees it is over sees all of it

    def progress(self, job: Job) -> tuple[int, int]:
        """Pieces of work that are finished, and their number in all."""
        return job.task.progress()

    def remaining_s(self, job: Job) -> float:
        """Estimated seconds left: by the job's own pace, and before it has one by the plan."""
        if job.is_over:
            return 0.0
        done, total = job.task.progress()
        if not done or job.started_at is None:
            return job.task.estimate_s
        return max(0.0, self._clock() - job.started_at) * (total - done) / done

    def stop(self, job: Job) -> None:
        """Stop a job: an evaluation after its current piece, a waiting or any other one at once."""
        with self._lock:
            if job.is_over:
                return
            if job.future is not None:
                self._pool_of(job).set_event(stop_event(job.id))
                if isinstance(job.task, EvaluationTask):
                    return
                job.future.cancel()
            self._end(job, JobState.STOPPED)

    def forget(self, jobs: Sequence[Job]) -> None:
        """Remove those of the jobs that are over from the list; results stay in the store."""
        removed = {job for job in jobs if job.is_over}
        with self._lock:
            self._jobs = [job for job in self._jobs if job not in removed]

    def close(self) -> None:
        """End this machine's workers, and disconnect from a cluster's."""
        with self._lock:
            for pool in self._turns:
                pool.close()


async def _check_requests(requests: list[Request]) -> list[planner.Feasibility]:
    # In a thread, so that it does not wait for the task that the worker runs, which takes minutes.
    return await asyncio.to_thread(planner.check_requests, requests)


def _explain(error: BaseException) -> tuple[JobState, str]:
    """State and a sentence for what a task raised; a stack trace is for the log only."""
    if isinstance(error, Cancelled):
        return JobState.STOPPED, "Stopped; finished pieces are kept."
    if isinstance(error, WhisperQError):
        return JobState.FAILED, str(error)
    if _is_worker_death(error) or isinstance(error, MemoryError):
        return (
            JobState.FAILED,
            "The worker process died, probably because memory ran out. Try a smaller model.",
        )
    return JobState.FAILED, f"Unexpected error ({type(error).__name__}: {error})."


def _is_worker_death(error: BaseException | None) -> bool:
    """Whether the worker process ended while it ran the task."""
    return isinstance(error, ChildProcessError) or type(error).__name__ == "KilledWorker"


def _write_history(job: Job, state: JobState, message: str, key: Any, finished_at: float) -> None:
    """Write the history's entry of a job for which no worker process writes one."""
    if job.task.work_item is None or job.started_at is None:
        return
    outcomes: dict[JobState, Literal["done", "failed", "stopped"]] = {
        JobState.DONE: "done",
        JobState.STOPPED: "stopped",
    }
    entry = history.Entry(
        who=job.task.user_name or history.current_user(),
        work=job.task.work_item,
        started_at=datetime.fromtimestamp(job.started_at, UTC),
        took_s=max(0.0, finished_at - job.started_at),  # a clock may be set back
        outcome=outcomes.get(state, "failed"),
        message=message,
        key=key,
        machine=this_machine(),
    )
    history.write_entry(job.task.store.root, entry)


@lru_cache
def shared_queue(root: Path) -> JobQueue:
    """The one queue of this process for results below root, whichever session or page asks."""
    return JobQueue(Store(root), elsewhere=cluster.from_environment())
