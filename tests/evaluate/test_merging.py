"""Results of other machines come in checked, and nothing that was here changes."""

import functools
import hashlib
import http.server
import json
import re
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest

import whisperq_core as wq
from tests.support.sample_runs import (
    MACHINE,
    accuracy_run,
    divergence_run,
    size_run,
    spec,
    speed_run,
)
from tests.support.small_sets import recordings_folder, write_jsonl
from whisperq_core import file_storage
from whisperq_core.analyze import results_table
from whisperq_core.cli.main import main
from whisperq_core.derived_values import FILE_NAME
from whisperq_core.errors import InputError, StoreError
from whisperq_core.evaluate import merging, records
from whisperq_core.evaluate.merging import merge
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, SpeedRun
from whisperq_core.evaluate.store import Store
from whisperq_core.scoring import error_rates
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.speech import evaluation_sets

ELSEWHERE = MACHINE.model_copy(update={"cpu": "Another CPU", "cores": 64})
# A set that no machine here has.
SPEECH = {"eval_set": "their calls", "eval_set_digest": "dd" * 32}
RUN = accuracy_run("bf16", **SPEECH).model_copy(update={"machine": ELSEWHERE})


@pytest.fixture
def theirs(tmp_path) -> Store:
    return Store(tmp_path / "theirs")


def file_of(store: Store, run) -> Path:
    return store.results / f"{run.slug}.json"


def resealed(path: Path, change) -> None:
    """Alters a record, and its checksum with it."""
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    change(content)
    body = json.dumps(content, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(body.removesuffix("\n}") + f',\n "sha256": "{digest}"\n}}')


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, without what is only derived from results."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != FILE_NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Store:
    """The shipped results, fewer of those with many transcripts."""
    store = Store(tmp_path_factory.mktemp("shipped"))
    store.results.mkdir()
    for path in (SHIPPED_CACHE / "results").iterdir():
        if "_accuracy_" not in path.name or "_test-clean" in path.name or "_fp32_" in path.name:
            (store.results / path.name).symlink_to(path)
    return store


@pytest.fixture(scope="module")
def all_merged(shipped, tmp_path_factory):
    """Real results of several machines, taken into an empty store."""
    store = Store(tmp_path_factory.mktemp("merged") / "cache")
    return store, merge(str(shipped.root), store)


def test_shipped_results_travel_as_they_are(all_merged, shipped):
    store, report = all_merged
    shipped = {run.key: run for run in shipped.runs()}
    assert len(shipped) > 200
    assert {type(run) for run in report.added} >= {AccuracyRun, DivergenceRun, SpeedRun}
    assert len(report.added) + len(report.refused) == len(shipped)
    # Only what other code of a recipe measured stays out.
    assert all("other code" in reason for reason in report.refused.values()), report.refused
    keys = store.keys()
    assert store.runs() == [r for r in shipped.values() if r.key in keys]
    assert {run.machine_kind for run in store.runs()} == {
        run.machine_kind for run in shipped.values()
    }


def test_a_second_merge_changes_nothing(all_merged, shipped):
    store, first = all_merged
    before = contents(store.root)
    again = merge(f"{shipped.root}/results", store)
    assert (again.added, again.known) == ([], len(first.added))
    assert again.refused == first.refused and again.other_transcripts == []
    assert contents(store.root) == before


def test_times_of_other_machines_stand_beside_ours(store, theirs):
    ours = speed_run("bf16", [1.0, 1.0], [2.0, 2.0])
    slower = speed_run("bf16", [9.0, 9.0], [9.0, 9.0], cpu="Another CPU")
    slower = slower.model_copy(update={"machine": ELSEWHERE})
    for one in (ours, accuracy_run("bf16")):
        store.put(one)
    of_other_speech = speed_run("fp32", [1.0], cpu="Another CPU", eval_set_digest="ff" * 32)
    for one in (slower, of_other_speech):
        theirs.put(one)
    report = merge(str(theirs.root), store)
    assert report.added == [slower]
    assert list(report.refused) == [f"{of_other_speech.slug}.json"]
    runs = store.runs()
    assert sorted(results_table.machines(runs)) == sorted([MACHINE.kind, ELSEWHERE.kind])
    for kind, ratio in ((MACHINE.kind, 0.5), (ELSEWHERE.kind, 1.0)):
        assert results_table.rows(runs, kind)["rtf_ratio"].tolist() == [ratio]


@pytest.mark.model
def test_a_run_of_another_cache_is_reused_here(store, tmp_path, monkeypatch, capsys):
    there = ["--cache", str(tmp_path / "there"), "run", "--models", "tiny.en", "--recipes"]
    wanted = ["fp32,torch-int8", "--sets", "jfk", "--only", "accuracy", "--threads", "1"]
    assert main([*there, *wanted]) == 0
    here = ["--cache", str(store.root)]
    assert main([*here, "merge", str(tmp_path / "there")]) == 0
    printed = capsys.readouterr().out
    assert "2 results merged" in printed and "2 from " in printed
    assert main([*here, "run", "--models", "tiny.en", "--recipes", *wanted, "--plan"]) == 0
    assert capsys.readouterr().out.count("cached") == 2
    assert main([*here, "merge", str(tmp_path / "there")]) == 0
    assert "0 results merged\n2 results here before" in capsys.readouterr().out


def schema_of_tomorrow(content):
    content["schema_version"] = records.SCHEMA_VERSION + 1


def fewer_errors(content):
    words = content["utterances"][0]["score"]["words"]
    words["hits"], words["substitutions"] = words["hits"] + 1, words["substitutions"] - 1


def another_transcript(content):
    content["utterances"][0]["hypothesis"] = "a dog"


def twice(content):
    content["utterances"] *= 2


def tomorrow(content):
    content["created_at"] = (records.utc_now() + timedelta(days=2)).isoformat()


def without_zone(content):
    content["created_at"] = "2026-01-01T00:00:00"


def without_weights(content):
    content["weights_bytes"] = 0


def endless(content):
    content["utterances"][0]["hypothesis"] = "a cat " * merging._MAX_CHARACTERS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (schema_of_tomorrow, "written in schema [0-9]+;.*Update WhisperQ"),
        (fewer_errors, "errors of utterance-0 are not those of its transcript: it was altered"),
        (another_transcript, "errors of utterance-0 are not those of its transcript"),
        (twice, "an utterance twice"),
        (tomorrow, "measured in the future"),
        (without_zone, "cut or altered"),
        (without_weights, "cut or altered"),
        (endless, "more than 300000 characters"),
    ],
)
def test_a_record_that_was_altered_with_its_checksum_is_refused(store, theirs, change, reason):
    theirs.put(RUN)
    resealed(file_of(theirs, RUN), change)
    report = merge(str(theirs.root), store)
    assert (report.added, store.runs()) == ([], [])
    (refusal,) = report.refused.values()
    assert re.search(reason, refusal), refusal


def test_a_record_that_was_altered_is_refused_by_checksum_and_by_name(store, theirs):
    theirs.put(RUN)
    path = file_of(theirs, RUN)
    path.write_text(path.read_text().replace("Another CPU", "A better CPU"))
    path.with_name(f"bf16_{'0' * 16}.json").write_text(RUN.model_dump_json(indent=1))
    report = merge(str(theirs.root), store)
    assert report.added == [] and len(report.refused) == 2
    assert "checksum" in report.refused[path.name]
    assert "do not match its name" in report.refused[f"bf16_{'0' * 16}.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pipeline": 99}, "other code of bf16: version 99.1 where this WhisperQ has version"),
        ({"code_version": 7}, "other code of bf16"),
        ({"recipe": records.Recipe("bf16", "none", "", "int4", "none")}, "bf16 is another one"),
        ({"recipe": records.Recipe("x", "a new library", "", "int4", "none")}, "no library"),
    ],
    ids=["pipeline", "backend", "recipe", "library"],
)
def test_results_of_other_code_are_refused(store, theirs, changes, reason):
    theirs.put(accuracy_run("bf16", **SPEECH | changes))
    (refusal,) = merge(str(theirs.root), store).refused.values()
    assert reason in refusal and "measure it again" in refusal
    assert store.runs() == []


def another_reference(content):
    content["utterances"][0]["reference"] += " indeed"


def other_code(run):
    return run.model_copy(update={"spec": run.spec.model_copy(update={"pipeline": 99})})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "other code"),
        (schema_of_tomorrow, "Update WhisperQ"),
        (another_transcript, "it was altered"),
        (another_reference, "other references"),
    ],
)
def test_a_measured_result_is_refused_for_what_was_changed_in_it(
    store, theirs, shipped, change, reason
):
    measured = next(run for run in shipped.runs() if run.eval_set == "test-clean-34-speakers")
    assert isinstance(measured, AccuracyRun)
    run = measured if change else other_code(measured)
    theirs.put(run)
    if change:
        resealed(file_of(theirs, run), change)
    report = merge(str(theirs.root), store)
    (refusal,) = report.refused.values()
    assert reason in refusal and store.runs() == []
    theirs.put(measured)
    if change:
        assert merge(str(theirs.root), store).added == [measured]


def test_a_set_with_other_references_under_the_same_name_is_refused(store, theirs):
    """Of a set that is here, of one that only results are here of, and of a shipped one."""
    shutil.copytree(recordings_folder(store.root.parent), store.root / "sets" / "calls")
    write_jsonl(store.root / "sets" / "calls", {"audio": "a.flac", "text": "ours", "id": "a"})
    store.put(accuracy_run("fp32", eval_set="measured", eval_set_digest="dd" * 32))
    for name in ("calls", "measured", "test-other-excerpt"):
        theirs.put(accuracy_run("bf16", [("theirs", "theirs")], ids=["a"], eval_set=name))
    report = merge(str(theirs.root), store)
    assert report.added == [] and len(report.refused) == 3
    assert all("other references" in reason for reason in report.refused.values())
    same = accuracy_run("fp32", [("ours", "our")], ids=["a"], eval_set="calls")
    theirs.put(same)
    assert merge(str(theirs.root), store).added == [same]


def test_joined_recordings_of_a_shipped_set_are_known(store, theirs):
    name = "test-other-25-speakers+joined:5min"
    of_set = evaluation_sets.by_name(name).utterances
    texts = {"ids": [u.id for u in of_set], "eval_set": name}
    right = accuracy_run("fp32", [(u.reference, "so") for u in of_set], **texts)
    wrong = accuracy_run("bf16", [("theirs", "so") for _ in of_set], **texts)
    for one in (right, wrong):
        theirs.put(one)
    report = merge(str(theirs.root), store)
    assert report.added == [right] and "other references" in report.refused[f"{wrong.slug}.json"]


def test_of_two_sets_of_one_name_in_a_folder_the_first_comes_in(store, theirs):
    theirs.put(accuracy_run("bf16", [("one", "one")], **SPEECH))
    theirs.put(accuracy_run("fp32", [("another", "one")], **SPEECH))
    report = merge(str(theirs.root), store)
    assert len(report.added) == len(report.refused) == 1


def test_what_is_here_stays_and_other_transcripts_are_named(store, theirs):
    ours = accuracy_run("bf16", [("a cat", "a cat")], **SPEECH)
    other = accuracy_run("bf16", [("a cat", "a bat")], minutes=9, **SPEECH)
    assert ours.key == other.key
    store.put(ours)
    before = contents(store.root)
    theirs.put(other)
    report = merge(str(theirs.root), store)
    assert (report.added, report.known, report.other_transcripts) == ([], 1, [ours.key])
    assert contents(store.root) == before


def test_results_of_other_normalizers_are_scored_anew(store, theirs):
    score = error_rates.Score(error_rates.Counts(9), error_rates.Counts(9), False, "older@0")
    utterance = RUN.utterances[0].model_copy(update={"score": score})
    theirs.put(RUN.model_copy(update={"utterances": (utterance,)}))
    report = merge(str(theirs.root), store)
    assert (report.rescored, report.added) == (1, [RUN])
    assert store.runs() == [RUN]


def test_divergence_needs_the_transcripts_that_it_was_measured_along(store, theirs):
    fp32 = accuracy_run("fp32", speakers=["1"], eval_set="their calls")
    run = divergence_run("bf16", [0.1], ["1"], eval_set="their calls")
    lost = run.model_copy(update={"spec": spec("hqq-int3-g64", "divergence")})
    run = run.model_copy(update={"baseline_key": fp32.key})
    for one in (run, lost, size_run("bf16", 10)):
        theirs.put(one)
    assert len(merge(str(theirs.root), store).refused) == 2
    theirs.put(fp32)  # listed after the divergence runs
    report = merge(str(theirs.root), store)
    assert set(report.added) == {fp32, run}
    (refusal,) = report.refused.values()
    assert lost.baseline_key in refusal and "Merge that result, too" in refusal


def test_hostile_files_are_refused_and_the_rest_comes_in(store, theirs):
    theirs.put(RUN)
    bomb = b"[" + b"{}," * 3_000_000 + b"{}]"
    (theirs.results / "a_bomb_0123456789abcdef.json").write_bytes(bomb)
    with (theirs.results / "a_huge_0123456789abcdef.json").open("wb") as file:
        file.truncate(file_storage.MAX_BYTES + 1)
    (theirs.results / "package.json").write_text("{}")
    (theirs.results / "link.json").symlink_to("/dev/zero")
    hostile = accuracy_run("bf16", model="../../etc/<b>x</b>", weights_digest="ee" * 32, **SPEECH)
    theirs.put(hostile)
    report = merge(str(theirs.root), store)
    assert set(report.added) == {RUN, hostile} and len(report.refused) == 4
    assert [p.parent for p in store.root.rglob("*.json")] == [store.results] * 2


def test_too_many_files_and_no_results_are_sentences(store, theirs, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"There is no folder .*nowhere"):
        merge(str(tmp_path / "nowhere"), store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"There are no results in .*empty"):
        merge(str(tmp_path / "empty"), store)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "empty")
    with pytest.raises(InputError, match=r"packed.zip is a file.*unpack an archive first"):
        merge(archive, store)
    with pytest.raises(StoreError, match="cannot be opened"):
        merge("gopher://nowhere", store)
    theirs.put(RUN)
    theirs.put(accuracy_run("fp32", **SPEECH))
    monkeypatch.setattr(merging, "MAX_FILES", 1)
    with pytest.raises(InputError, match="more than 1 files"):
        merge(str(theirs.root), store)


def test_an_interrupted_merge_goes_on(store, theirs, monkeypatch):
    runs = [accuracy_run(name, **SPEECH) for name in ("bf16", "fp32", "torch-int8")]
    for run in runs:
        theirs.put(run)
    put, written = Store.put, []

    def killed(self, run):
        if written:
            raise KeyboardInterrupt
        written.append(run)
        put(self, run)

    monkeypatch.setattr(Store, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        merge(str(theirs.root), store)
    monkeypatch.undo()
    assert len(Store(store.root).runs()) == 1
    assert len(merge(str(theirs.root), store).added) == 2
    assert set(store.runs()) == set(runs)


@pytest.fixture
def web_server(theirs):
    """Their folder on a web server that lists files and not their sizes."""
    theirs.put(RUN)
    handler = functools.partial(QuietHandler, directory=str(theirs.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_results_come_from_a_web_server(store, theirs, web_server, monkeypatch):
    assert merge(web_server, store).added == [RUN]
    assert merge(f"{web_server}/results", store).known == 1
    monkeypatch.setattr(file_storage, "MAX_BYTES", 100)
    (refusal,) = merge(web_server, store).refused.values()
    assert "more than" in refusal
    with pytest.raises(InputError, match="There are no results"):
        merge(f"{web_server}/nothing", store)


def test_results_come_from_object_storage_in_python(store, theirs):
    theirs.put(RUN)
    files = fsspec.filesystem("memory")
    files.pipe_file(f"/shared/results/{RUN.slug}.json", file_of(theirs, RUN).read_bytes())
    try:
        assert wq.merge("memory://shared").added == [RUN]
    finally:
        files.rm("/shared", recursive=True)
    assert store.runs() == [RUN]


def test_the_command_says_what_was_refused(store, theirs, capsys):
    theirs.put(RUN)
    (theirs.results / "package.json").write_text("{}")
    assert main(["--cache", str(store.root), "merge", str(theirs.root)]) == 1
    printed = capsys.readouterr()
    assert "1 result merged\n  1 from Another CPU, 64 cores" in printed.out
    assert "1 file refused" in printed.out
    assert "package.json: refused. The file is not a WhisperQ result" in printed.err
