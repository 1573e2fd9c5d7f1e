"""What the processes of the local cluster leave open, and leave behind."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from whisperq_core.serve import worker_pool

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


def test_certificates_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left_behind, own = (
        Path(tempfile.mkdtemp(prefix=f"{worker_pool._TEMPORARY}{pid}-", dir=tmp_path))
        for pid in (ended.pid, os.getpid())
    )
    worker_pool._remove_left_behind(tmp_path)
    assert own.exists() and not left_behind.exists()
