import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.support.fake_workers import FakeClient
from whisperq_core.errors import ClusterError, InputError
from whisperq_core.evaluate import history, planner
from whisperq_core.evaluate.requests import requests_for
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import model_export
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue, worker_pool
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.tasks import Task
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import STUDY

# Most of these tests load real weights.
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    found = job_queue.JobQueue(Store(tmp_path_factory.mktemp("jobs")))
    yield found
    found.close()


def wait(queue, job, timeout_s=120.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        queue.all()
        if job.is_over:
            return job
        time.sleep(0.1)
    raise TimeoutError(f"{job.label} is still {job.state}")


def planned(queue, *names, eval_set="jfk", protocol=STUDY):
    chosen = [recipe(name) for name in names]
    how = {"speed": False, "threads": 2, "protocol": protocol}
    return planner.plan(requests_for(["tiny.en"], chosen, [eval_set], **how), queue.store)


def test_an_evaluation_runs_in_another_process_and_is_stored(queue):
    first, second = queue.evaluate(planned(queue, "fp32", "torch-int8"))
    assert queue.remaining_s(first) > 0
    wait(queue, second)
    assert (first.state, second.state) == (JobState.DONE, JobState.DONE)
    assert queue.progress(first) == (1, 1) and queue.remaining_s(first) == 0
    assert {first.task.planned.key, second.task.planned.key} <= queue.store.keys()
    assert queue.evaluate(planned(queue, "fp32")) == []  # it is cached now
    entries = history.read(queue.store.root).entries
    assert [entry.key for entry in entries[::-1]] == [
        first.task.planned.key,
        second.task.planned.key,
    ]


def test_a_recording_comes_back_heard(queue, jfk):
    shelf, listener = (
        RecordingStore(queue.store.root),
        TranscriptionConfig("tiny.en", recipe("fp32"), "en"),
    )
    (kept,) = shelf.add([("jfk.flac", jfk.audio.read_bytes())])
    job = queue.transcribe(kept, listener)
    assert queue.transcribe(kept, listener) is job  # not queued twice
    assert "your country" in wait(queue, job).result.text
    assert queue.transcription_job(kept.id, listener.key) is job
    # It lies on the shelf, whatever becomes of this process.
    assert shelf.transcription(kept.id, listener) == job.result


def test_a_model_is_exported_and_heard_in_the_worker(queue, jfk):
    export = wait(queue, queue.export("tiny.en", recipe("torch-int8")))
    made = export.result
    assert export.task.folder.name == "tiny.en_torch-int8" and made.label == export.label
    assert model_export.exported_models(queue.store.root) == {export.task.folder: made}
    (kept,) = RecordingStore(queue.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    job = wait(
        queue, queue.transcribe(kept, TranscriptionConfig(str(export.task.folder), None, "en"))
    )
    transcription = job.result
    assert "your country" in transcription.text
    assert (transcription.weights_bytes, transcription.fp32_bytes) == (
        made.weights_bytes,
        made.fp32_bytes,
    )
    (export.task.folder / "model.safetensors").unlink()
    (export.task.folder / "SHA256SUMS").write_text("")
    altered = TranscriptionConfig(str(export.task.folder), None, "en", device="cpu")
    job = wait(queue, queue.transcribe(kept, altered))
    assert job.state == JobState.FAILED and "Copy the folder" in job.message


def test_bad_input_is_a_sentence_not_a_trace(queue, jfk):
    shelf = RecordingStore(queue.store.root)
    (kept,) = shelf.add([("a.wav", jfk.audio.read_bytes())])
    shelf.delete(kept.id)
    job = wait(
        queue, queue.transcribe(kept, TranscriptionConfig("tiny.en", recipe("torchao-int8"), "en"))
    )
    assert job.state == JobState.FAILED
    assert job.message == "jfk.flac was deleted before its turn. Upload it again."


def test_a_running_job_stops_after_its_piece_and_a_waiting_one_never_starts(queue):
    one_by_one = replace(STUDY, batch_size=1)
    items = planned(queue, "torch-int8", "torchao-int8", eval_set="quick-look", protocol=one_by_one)
    running, waiting = queue.evaluate(items)[::-1]
    running, waiting = sorted((running, waiting), key=lambda job: job.submitted_at)
    deadline = time.monotonic() + 120
    while not queue.progress(running)[0] and time.monotonic() < deadline:
        queue.all()
        time.sleep(0.1)
    assert queue.all() and waiting.state == JobState.QUEUED
    queue.stop(waiting)
    queue.stop(running)
    wait(queue, running)
    assert (running.state, waiting.state) == (JobState.STOPPED, JobState.STOPPED)
    done, total = queue.progress(running)
    assert 1 <= done < total
    assert queue.progress(waiting)[0] == 0
    queue.forget(queue.all())
    assert queue.all() == []


class CrashingTask(Task):
    """Kills the worker that runs it."""

    label = "dies"
    work_item = history.WorkItem(kind="evaluation", model="tiny.en", recipe="fp32")

    def __init__(self, store: Store, user_name: str):
        self.store, self.user_name = store, user_name

    def submit(self, client, job_id, on_cluster=False):
        def die():
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

        return client.submit(die, key=job_id, pure=False)


class SleepingTask(Task):
    """Occupies a worker for some seconds."""

    label, user_name = "sleeps", None

    def __init__(self, store: Store, seconds: float):
        self.store, self.seconds = store, seconds

    def submit(self, client, job_id, on_cluster=False):
        return client.submit(time.sleep, self.seconds, key=job_id, pure=False)


def test_a_lost_worker_is_explained(queue):
    (job,) = queue.submit([CrashingTask(queue.store, "ada")])
    assert wait(queue, job).state == JobState.FAILED and "worker process" in job.message
    entry = history.read(queue.store.root).entries[0]
    assert (entry.who, entry.work) == ("ada", CrashingTask.work_item)
    assert entry.outcome == history.FAILED
    (after,) = queue.submit([SleepingTask(queue.store, 0)])
    assert wait(queue, after).state == JobState.DONE


def test_the_process_that_submits_never_imports_torch():
    code = (
        "import sys; from whisperq_core.serve import job_queue;"
        "from whisperq_core.evaluate import planner; from whisperq_core.quantize.recipes import *;"
        "from whisperq_core.evaluate.requests import requests_for;"
        "from whisperq_core.evaluate.store import Store;"
        "r = requests_for(['base', 'tiny.en'], list(CATALOGUE.values()), ['quick-look']);"
        "p = planner.plan(r, Store()); assert len(p) == 4 * len(CATALOGUE), len(p);"
        "assert not {'torch', 'transformers', 'hqq'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT, timeout=60)


def test_jobs_start_in_the_order_of_turns(store):
    client = FakeClient()
    queue = job_queue.JobQueue(store, start_client=lambda: client)
    ada = queue.evaluate(planned(queue, "fp32", "torch-int8", "torchao-int8"), owner="ada")
    bob = queue.evaluate(planned(queue, "fp32"), owner="bob")
    order = []
    while running := [job for job in queue.all() if job.state == JobState.RUNNING]:
        order += running
        client.futures[-1].status = "finished"
    assert order == [ada[0], bob[0], ada[1], ada[2]]
    assert all(job.state == JobState.DONE for job in queue.all())


def test_the_time_left_is_by_the_plan_and_then_by_the_jobs_own_pace(store):
    now = 1000.0
    queue = job_queue.JobQueue(store, start_client=FakeClient, clock=lambda: now)
    (run,) = planned(queue, "fp32", eval_set="test-other-excerpt")
    (job,) = queue.evaluate([run])
    assert queue.remaining_s(job) == run.estimate_s > 0
    store.put_piece(run.key, "batch-0000", {})
    done, total = queue.progress(job)
    now += 7.0
    assert (done, queue.remaining_s(job)) == (1, 7.0 * (total - 1))
    now -= 100.0  # the clock was set back
    assert queue.remaining_s(job) == 0.0


def test_nobody_fills_the_queue(store, monkeypatch):
    monkeypatch.setattr(job_queue, "MAX_JOBS_PER_USER", 1)
    client = FakeClient()
    queue = job_queue.JobQueue(store, start_client=lambda: client)
    items = planned(queue, "fp32", "torch-int8")
    with pytest.raises(InputError, match="at most 1 jobs"):
        queue.evaluate(items, owner="ada")
    assert queue.all() == [] and client.futures == []
    queue.evaluate(items[:1], owner="ada")
    with pytest.raises(InputError, match="at most 1 jobs"):
        queue.evaluate(items[1:], owner="ada")
    assert len(queue.evaluate(items[1:], owner="bob")) == 1


def test_workers_that_cannot_be_started_again_end_what_waits(store):
    client = FakeClient()

    def start_client():
        if client.status == "running":
            return client
        raise ClusterError("No processes can be started.")

    queue = job_queue.JobQueue(store, start_client=start_client)
    first, second = queue.evaluate(planned(queue, "fp32", "torch-int8"))
    client.status, client.futures[0].status = "closed", "lost"
    queue.all()
    assert (first.state, second.state) == (JobState.FAILED, JobState.FAILED)
    assert "Run it again" in first.message and second.message == "No processes can be started."


def test_a_worker_that_nothing_starts_again_does_not_keep_a_job_for_ever(store):
    clients = []

    def start_client():
        clients.append(worker_pool.start_local_client())
        return clients[-1]

    queue = job_queue.JobQueue(store, start_client=start_client)
    (job,) = queue.submit([SleepingTask(store, 10)])
    (nanny,) = clients[0].cluster.workers.values()
    nanny.process.kill()
    assert wait(queue, job, timeout_s=20).state == JobState.FAILED
    assert "Run it again" in job.message
    (again,) = queue.submit([SleepingTask(store, 0)])
    assert wait(queue, again).state == JobState.DONE and len(clients) == 2
    queue.close()
