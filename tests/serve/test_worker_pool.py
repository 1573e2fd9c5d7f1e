"""What the processes of the local cluster leave open, and leave behind."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from whisperq_core.serve import end_with_app, worker_pool

PATHS = ("/", "/health", "/metrics", "/info/main/workers.html", "/json/counts.json")


def test_dasks_http_servers_tell_nothing():
    client = worker_pool.start_local_client()
    try:
        client.wait_for_workers(1, timeout=60)
        info = client.scheduler_info()
        hosts = [info, *info["workers"].values()]
        ports = {port for host in hosts for port in host["services"].values()}
        for port in ports:
            for path in PATHS:
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
                assert refused.value.code == 404
                refused.value.close()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/sitemap.json") as listed:
                assert json.load(listed) == {"paths": ["/sitemap.json"]}
    finally:
        worker_pool._close(client)
    assert ports


APP = """
import sys, time
from whisperq_core.serve import end_with_app, worker_pool
client = worker_pool.start_local_client()
client.wait_for_workers(1, timeout=60)
print("up", flush=True)
time.sleep(600)
"""


def test_scheduler_and_worker_end_with_an_app_that_is_killed():
    app = subprocess.Popen([sys.executable, "-c", APP], stdout=subprocess.PIPE)
    assert app.stdout.readline() == b"up\n"
    started = psutil.Process(app.pid).children(recursive=True)
    assert len(started) >= 3  # the scheduler, the nanny and its worker
    app.kill()
    app.wait()
    app.stdout.close()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []


def test_a_process_that_starts_after_its_app_has_ended_ends_too():
    waits = f"import time; {end_with_app.__name__}.dask_setup(None); time.sleep(60)"
    ended = subprocess.run(
        [sys.executable, "-c", f"import {end_with_app.__name__}; {waits}"],
        env=os.environ | {end_with_app.APP_VARIABLE: str(os.getppid())},  # not its parent
        timeout=40,
    )
    assert ended.returncode == 1


def test_certificates_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left_behind, own = (
        Path(tempfile.mkdtemp(prefix=f"{worker_pool._TEMPORARY}{pid}-", dir=tmp_path))
        for pid in (ended.pid, os.getpid())
    )
    worker_pool._remove_left_behind(tmp_path)
    assert own.exists() and not left_behind.exists()
