"""What one user sees of the queue and of the results where several log in."""

import pickle

import pytest

from tests.support.fake_workers import FakeClient
from tests.support.sample_runs import accuracy_run
from whisperq_core.errors import ExportError, InputError
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.store import Store, UserStore
from whisperq_core.quantize import model_export
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import job_queue
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_session import UserSession
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech.evaluation_sets import is_public
from whisperq_core.whisper.protocols import STUDY

PUBLIC = accuracy_run("quanto-int8", eval_set="test-clean-excerpt")
ANNS = accuracy_run("quanto-int8", eval_set="calls", minutes=2)


@pytest.fixture
def queue(store) -> job_queue.JobQueue:
    """With a worker that is given work and never does it."""
    return job_queue.JobQueue(store, start_client=FakeClient)


def session_of(queue: job_queue.JobQueue, user: str) -> UserSession:
    return UserSession(queue, UserStore(queue.store, user, is_public), user, f"{user}@example.org")


def transcribed_by(user: UserSession, jfk) -> job_queue.Job:
    (kept,) = RecordingStore(user.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    (job,) = user.transcribe([(kept, TranscriptionConfig("tiny.en", recipe("fp32"), "en"))])
    return job


def test_results_on_public_speech_are_shared_and_others_are_not(store):
    ann, bob = UserStore(store, "ann", is_public), UserStore(store, "bob", is_public)
    bob.runs()
    before = bob.state
    ann.put(PUBLIC)
    ann.put_piece(ANNS.key, "batch-0000", {})
    ann.put(ANNS)
    assert ann.runs() == [PUBLIC, ANNS] and ann.keys() == {PUBLIC.key, ANNS.key}
    assert ann.count_pieces(ANNS.key, "batch-") == 0
    assert bob.runs() == store.runs() == [PUBLIC]
    assert ann.get(ANNS.key) == ANNS and bob.get(ANNS.key) is None
    assert bob.state != before and ann.state != bob.state
    # Who has nothing of their own is in the state of all.
    assert bob.state == store.state
    (path,) = UserStore(store, "ann", is_public).results.glob("*.json")
    path.write_text("{}")
    ann.runs()
    assert list(ann.unreadable) == [path.name] and bob.unreadable == {}


def test_a_store_that_is_made_anew_is_in_no_state_of_the_one_before(store):
    ann = UserStore(store, "ann", is_public)
    ann.put(ANNS)
    before = ann.runs()
    again = UserStore(store, "ann", is_public)
    again.put(accuracy_run("fp32", eval_set="calls", minutes=3))
    assert again.runs() != before and again.state != ann.state


def test_another_process_has_the_users_store(store):
    ann = UserStore(store, "ann", is_public)
    ann.put(ANNS)
    again = pickle.loads(pickle.dumps(ann))
    assert again.runs() == [ANNS] and again.root == ann.root.absolute()


def test_a_users_results_lie_at_the_shared_place(tmp_path):
    shared = Store(tmp_path / "cache", str(tmp_path / "elsewhere"))
    UserStore(shared, "ann", is_public).put(ANNS)
    assert len(list((tmp_path / "elsewhere/users/ann/results").iterdir())) == 1


def test_work_of_others_is_counted_and_not_seen(queue, jfk):
    ann, bob = session_of(queue, "ann"), session_of(queue, "bob")
    job = transcribed_by(ann, jfk)
    assert transcribed_by(ann, jfk) is job
    assert ann.all() == [job] and ann.unfinished_jobs_of_others() == 0
    assert bob.all() == [] and bob.unfinished_jobs_of_others() == 1
    # Of the same recording, each hears their own.
    assert transcribed_by(bob, jfk) is not job
    assert bob.transcription_job(job.task.recording.id, job.task.config.key) is bob.all()[0]


def test_where_nobody_logs_in_all_see_all_but_transcriptions(queue, store, jfk):
    one, other = UserSession(queue, store, "a browser"), UserSession(queue, store, "another")
    job = transcribed_by(one, jfk)
    assert one.all() == [job] and other.all() == []
    assert other.unfinished_jobs_of_others() == 1
    # Who has a recording's link sees how its transcription goes.
    task = job.task
    assert other.transcription_job(task.recording.id, task.config_key) is job
    assert other.recording_jobs([task.recording]) == [job]
    exported = one.export("tiny.en", recipe("torchao-int8"), "cpu", STUDY)
    assert other.all() == [exported]


def test_divergence_is_measured_after_both_transcripts_where_it_can_be(queue, store, jfk):
    session = UserSession(queue, store, "a browser")
    (kept,) = RecordingStore(store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    configs = [
        TranscriptionConfig("tiny.en", recipe(name), "en")
        for name in ("torch-int8", "fp32", "faster-whisper-int8")
    ]
    jobs = session.transcribe([(kept, config) for config in configs], configs[1])
    assert [job.label for job in jobs] == [
        "jfk.flac · torch-int8",
        "jfk.flac · fp32",
        "jfk.flac · faster-whisper-int8",
        "jfk.flac · torch-int8, divergence from fp32",
    ]
    other = UserSession(queue, store, "another")
    assert other.all() == [] and other.recording_jobs([kept]) == jobs


def test_a_finished_evaluation_of_ones_own_speech_lies_with_the_user(queue, jfk):
    ann = session_of(queue, "ann")
    sets = UserSets(ann.store.root)
    (kept,) = RecordingStore(ann.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    sets.add(
        "calls",
        RecordingStore(ann.store.root).set_reference(kept.id, jfk.reference),
        jfk.audio,
        "en",
    )
    (planned,) = ann.plan([request("tiny.en", sets.path_of("calls"))])
    (job,) = ann.evaluate([planned])
    assert (job.task.user_name, job.owner, job.task.store.root) == (
        "ann@example.org",
        "ann",
        ann.store.root,
    )


def request(model: str, eval_set: str) -> Request:
    return Request(model, recipe("fp32"), eval_set)


@pytest.mark.parametrize("user", ["bob", ""])
def test_nobody_evaluates_in_anothers_folder(queue, tmp_path, user, jfk):
    ann = session_of(queue, "ann")
    root = UserStore(queue.store, user, is_public).root if user else tmp_path
    (kept,) = RecordingStore(root).add([("jfk.flac", jfk.audio.read_bytes())])
    UserSets(root).add(
        "calls", RecordingStore(root).set_reference(kept.id, "ask not"), jfk.audio, "en"
    )
    path = str(UserSets(root).root / "calls")
    for way in (path, f"{ann.store.root}/sets/..", f"{ann.store.root}/sets/../../../sets/calls"):
        with pytest.raises(InputError, match="is not one of your sets"):
            ann.plan([request("tiny.en", way)])
    assert UserSession(queue, queue.store, "all").plan([request("tiny.en", path)])


def test_nobody_reads_a_model_from_a_folder_of_the_machine(queue, tmp_path, jfk):
    ann = session_of(queue, "ann")
    with pytest.raises(InputError, match="is a folder"):
        ann.plan([request(str(tmp_path), "jfk")])
    with pytest.raises(InputError, match="not one of your exported models"):
        ann.exported_model(str(tmp_path))
    (kept,) = RecordingStore(ann.store.root).add([("jfk.flac", jfk.audio.read_bytes())])
    for listener in (
        TranscriptionConfig(str(tmp_path), None),
        TranscriptionConfig(str(tmp_path), recipe("fp32")),
    ):
        with pytest.raises(InputError, match=r"of your exported models|is a folder"):
            ann.transcribe([(kept, listener)])
    with pytest.raises(ExportError):
        UserSession(queue, queue.store, "all").exported_model(str(tmp_path))


def test_an_export_lies_with_the_user(queue):
    ann = session_of(queue, "ann")
    job = ann.export("tiny.en", recipe("torch-int8"), "cpu", STUDY)
    assert job.task.folder.parent == ann.store.root / model_export.FOLDER
    assert session_of(queue, "bob").exported_models() == {}
