import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from whisperq_core.errors import InputError
from whisperq_core.evaluate import history, planner
from whisperq_core.evaluate.requests import requests_for
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import model_export
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.settings import PROJECT

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


def planned(queue, *names, eval_set="quick-look"):
    chosen = [recipe(name) for name in names]
    requests = requests_for(["tiny.en"], chosen, [eval_set], speed=False, threads=2)
    return planner.plan(requests, queue.store)


def test_an_evaluation_runs_in_another_process_and_is_stored(queue):
    first, second = queue.evaluate(planned(queue, "fp32", "torch-int8"))
    assert queue.remaining_s(first) > 0
    wait(queue, second)
    assert (first.state, second.state) == (JobState.DONE, JobState.DONE)
    assert queue.progress(first) == (1, 1) and queue.remaining_s(first) == 0
    assert {first.planned.key, second.planned.key} <= queue.store.keys()
    assert queue.evaluate(planned(queue, "fp32")) == []  # it is cached now
    entries = history.read(queue.store.root).entries
    assert [entry.key for entry in entries[::-1]] == [first.planned.key, second.planned.key]


def test_a_recording_comes_back_heard(queue, jfk):
    shelf, listener = (
        RecordingStore(queue.store.root),
        TranscriptionConfig("tiny.en", recipe("fp32"), "en"),
    )
    (kept,) = shelf.add([("jfk.flac", jfk.audio.read_bytes())])
    job = queue.transcribe(kept, listener)
    assert queue.transcribe(kept, listener) is job  # not queued twice
    assert "your country" in wait(queue, job).value.text
    assert queue.transcription_job(kept.id, listener.key) is job
    # It lies on the shelf, whatever becomes of this process.
    assert shelf.transcription(kept.id, listener) == job.value


def test_a_model_is_exported_and_heard_in_the_worker(queue, jfk):
    export = wait(queue, queue.export("tiny.en", recipe("torch-int8")))
    made = export.value
    assert export.folder.name == "tiny.en_torch-int8" and made.label == export.label
    assert model_export.exported_models(queue.store.root) == {export.folder: made}
    (kept,) = RecordingStore(queue.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    job = wait(queue, queue.transcribe(kept, TranscriptionConfig(str(export.folder), None, "en")))
    heard = job.value
    assert "your country" in heard.text
    assert (heard.weights_bytes, heard.fp32_bytes) == (made.weights_bytes, made.fp32_bytes)
    (export.folder / "model.safetensors").unlink()
    (export.folder / "SHA256SUMS").write_text("")
    altered = TranscriptionConfig(str(export.folder), None, "en", device="cpu")
    job = wait(queue, queue.transcribe(kept, altered))
    assert job.state == JobState.FAILED and "Copy the folder" in job.message


def test_bad_input_is_a_sentence_not_a_trace(queue, jfk):
    shelf = RecordingStore(queue.store.root)
    (kept,) = shelf.add([("a.wav", jfk.audio.read_bytes())])
    shelf.delete(kept.id)
    job = wait(queue, queue.transcribe(kept, TranscriptionConfig("tiny.en", recipe("bf16"), "en")))
    assert job.state == JobState.FAILED
    assert job.message == "jfk.flac was deleted before its turn. Upload it again."


def test_a_running_job_stops_after_its_piece_and_a_waiting_one_never_starts(queue):
    items = planned(queue, "torch-int8-channel", "bf16", eval_set="test-other-excerpt")
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


def test_a_lost_worker_is_explained(queue, jfk):
    def die():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    work = history.WorkItem(kind="evaluation", model="tiny.en", recipe="fp32")
    job = wait(queue, queue._submit(job_queue.Job("dies", queue.store, work=work, who="ada"), die))
    assert job.state == JobState.FAILED and "worker process" in job.message
    entry = history.read(queue.store.root).entries[0]
    assert (entry.who, entry.work, entry.outcome) == ("ada", work, history.FAILED)
    (kept,) = RecordingStore(queue.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    listener = TranscriptionConfig("tiny.en", recipe("torch-int8"), "en")
    after = wait(queue, queue.transcribe(kept, listener))
    assert after.state == JobState.DONE


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


def a_job(owner: str, label: str, store: Store) -> job_queue.Job:
    return job_queue.Job(label, store, owner)


def test_users_take_turns(store):
    """Whoever queues a hundred does not keep the next one waiting for all of them."""
    queue = job_queue.JobQueue(store)
    many = [a_job("ada", f"ada {i}", store) for i in range(4)]
    few = [a_job("bob", "bob 0", store), a_job("", "a session's", store)]
    queue._jobs = [*many, *few]
    order, waiting = [], [*many, *few]
    for at in range(len(waiting)):
        job = queue._next(waiting, [])
        waiting.remove(job)
        job.started_at = float(at + 1)
        order.append(job.label)
    assert order == ["ada 0", "bob 0", "a session's", "ada 1", "ada 2", "ada 3"]
    # Where several run at once, nobody has two while another has none.
    assert queue._next([many[1], few[0]], [many[0]]) is few[0]


def test_nobody_fills_the_queue(store, monkeypatch):
    monkeypatch.setattr(job_queue, "MAX_JOBS_PER_USER", 1)
    queue = job_queue.JobQueue(store, start_client=lambda: pytest.fail("nothing is to be started"))
    monkeypatch.setattr(queue, "_workers_of", lambda job: SimpleNamespace(connected=lambda: None))
    items = planned(queue, "fp32", "torch-int8")
    with pytest.raises(InputError, match="at most 1 jobs"):
        queue.evaluate(items, owner="ada")
    assert queue.all() == []


def test_a_worker_that_nothing_starts_again_does_not_keep_a_job_for_ever(store, jfk):
    queue = job_queue.JobQueue(store)
    (kept,) = RecordingStore(store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    job = queue.transcribe(kept, TranscriptionConfig("tiny.en", recipe("fp32"), "en"))
    (nanny,) = queue._here.client.cluster.workers.values()
    nanny.process.kill()
    assert wait(queue, job, timeout_s=20).state == JobState.FAILED
    assert "Run it again" in job.message
    again = queue.transcribe(kept, TranscriptionConfig("tiny.en", recipe("fp32"), "en"))
    assert wait(queue, again).state == JobState.DONE
    queue.close()
