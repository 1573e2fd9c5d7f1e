"""A real scheduler and worker over TLS, started as in docs/many-machines.md."""

import json
import os
import subprocess
import sys
import time

import pytest
from cryptography import x509

from whisperq_core.cli.main import main
from whisperq_core.errors import ClusterError
from whisperq_core.evaluate import history
from whisperq_core.evaluate.requests import requests_for
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve import cluster, cluster_certificate
from whisperq_core.serve.cluster import Cluster
from whisperq_core.serve.job_queue import JobQueue

# Most of these tests load real weights.
pytestmark = pytest.mark.model


ONE_DEVICE = ("--nthreads", "1", "--resources", f"{cluster.DEVICE}=1")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cluster_certificate.create_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def dask(tls, tmp_path_factory):
    """Starts a Dask process of the cluster; all end with the tests."""
    started, folder = [], tmp_path_factory.mktemp("dask")

    def start(*arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
        command += ["--scheduler-file", str(folder / "cluster.json"), "--host", "127.0.0.1"]
        environment = os.environ | cluster_certificate.tls_environment(tls)
        with (folder / "log").open("a") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    start("scheduler", "--protocol", "tls", "--port", "0")
    deadline = time.monotonic() + 60
    while not (folder / "cluster.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield start, Cluster(str(folder / "cluster.json"), tls)
    for process in started:
        process.kill()
        process.wait()


def has_workers(where: Cluster, count: int) -> bool:
    """Whether so many workers are there within a minute."""
    deadline = time.monotonic() + 60
    with _client(where) as client:
        while len(client.nthreads()) != count and time.monotonic() < deadline:
            time.sleep(0.2)
        return len(client.nthreads()) == count


def _client(where: Cluster):
    from distributed import Client

    return Client(
        where.address, security=cluster_certificate.tls_security(where.tls), set_as_default=False
    )


def test_a_grid_runs_on_a_cluster_as_it_does_alone(dask, tls, store, monkeypatch, capsys):
    start, where = dask
    queue = JobQueue(store, elsewhere=where)
    requests = requests_for(["tiny.en"], [recipe("torch-int8")], ["jfk"], speed=False, threads=1)
    with pytest.raises(ClusterError, match="no workers yet"):
        queue.plan(requests)
    queue.close()
    start("worker", *ONE_DEVICE, "--no-nanny")
    assert has_workers(where, 1)
    command = ["run", "--models", "tiny.en", "--recipes", "torch-int8", "--sets", "jfk"]
    command += ["--only", "accuracy", "--threads", "1"]
    monkeypatch.setenv("WHISPERQ_SCHEDULER", where.scheduler)
    monkeypatch.setenv("WHISPERQ_TLS", str(tls))
    assert main(command) == 0
    (found,) = store.runs()
    assert found.words.errors == 0 and found.kinds_of_machine == 1
    assert "WER 0.00%" in capsys.readouterr().out
    (entry,) = history.read(store.root).entries
    assert (entry.outcome, entry.key) == (history.DONE, found.key) and entry.took_s > 0
    assert not list((store.root / "pieces").glob("*"))
    monkeypatch.delenv("WHISPERQ_SCHEDULER")
    alone = Store(store.root.with_name("alone"))
    assert main(["--cache", str(alone.root), *command]) == 0
    times = {"created_at", "machine", "load_average", "quantize_s", "batches", "peak_memory_bytes"}
    (expected,) = alone.runs()
    assert found.model_dump(exclude=times) == expected.model_dump(exclude=times)
    # One that would run several tasks on its cores is found out.
    bad = start("worker", "--nthreads", "2", "--no-nanny")
    assert has_workers(where, 2)
    with pytest.raises(ClusterError, match=f"{cluster.DEVICE}=1"):
        cluster.connect(where)
    bad.kill()


def test_without_the_certificate_nobody_gets_in(dask, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_TIMEOUT_S", 3)
    _, where = dask
    with pytest.raises(ClusterError, match="Name the folder"):
        cluster.connect(Cluster(where.scheduler))
    cluster_certificate.create_certificate(tmp_path / "other")
    with pytest.raises(ClusterError, match="does not answer, or not with this certificate"):
        cluster.connect(Cluster(where.scheduler, tmp_path / "other"))
    plain = where.address.replace("tls://", "tcp://")
    with pytest.raises(ClusterError, match="does not answer"):
        cluster.connect(Cluster(plain))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://192.0.2.1:8786", "open to everybody"),
        ("tcp://0.0.0.0:8786", "open to everybody"),
        ("http://localhost:8786", "not a scheduler's address"),
        ("tls://", "not a scheduler's address"),
        ("/no/such/file.json", "Start the scheduler first"),
    ],
)
def test_what_is_no_scheduler_or_an_open_one_is_refused(address, said):
    with pytest.raises(ClusterError, match=said):
        cluster.connect(Cluster(address))


def test_a_file_that_names_none_is_refused(tmp_path):
    for text in ("", "[]", '{"address": 1}', json.dumps({"id": "x"})):
        (tmp_path / "cluster.json").write_text(text)
        with pytest.raises(ClusterError):
            cluster.connect(Cluster(str(tmp_path / "cluster.json")))


def test_a_certificate_is_made_once_and_its_key_is_the_owner_s(tmp_path, capsys):
    folder = tmp_path / "tls"
    assert main(["certificate", str(folder)]) == 0
    assert (folder / cluster_certificate.KEY_FILE).stat().st_mode & 0o077 == 0
    before = (folder / cluster_certificate.KEY_FILE).read_bytes()
    assert main(["certificate", str(folder)]) == 1
    assert "already has a key" in capsys.readouterr().err
    assert (folder / cluster_certificate.KEY_FILE).read_bytes() == before
    with pytest.raises(ClusterError, match="once for all machines"):
        cluster_certificate.tls_security(tmp_path)
    # A worker whose clock is wrong, or was set back, is let in all the same.
    made = x509.load_pem_x509_certificate(
        (folder / cluster_certificate.CERTIFICATE_FILE).read_bytes()
    )
    assert (made.not_valid_before_utc.year, made.not_valid_after_utc.year) == (1970, 9999)
