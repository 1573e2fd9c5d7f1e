"""Worker processes and the Dask client that reaches them: start, connect, recover, close.

By default one worker process on this machine, with a certificate that lives as long as the app's
process; with a cluster, a second pool reaches its scheduler (see `cluster.connect`).
"""

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from whisperq_core import settings
from whisperq_core.errors import ClusterError
from whisperq_core.serve import end_with_app
from whisperq_core.serve.cluster_certificate import (
    create_certificate,
    tls_environment,
    tls_security,
)
from whisperq_core.settings import PROJECT

# An unused worker process ends, and its models leave memory, after this time.
_IDLE_TIMEOUT = "30 minutes"
# How long closing waits for a client or for worker processes to end.
_CLOSE_TIMEOUT_S = 10
_HTTP_ROUTES = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")
# Scheduler and worker are processes of their own, which outlive an app that is killed.
_PRELOADS = ("distributed.scheduler.preload", "distributed.nanny.preload")
_TEMPORARY = "whisperq-tls-"
# What a user is told where there are no workers.
RESULTS_ONLY = (
    "This app shows results only: it measures and transcribes nothing. Install WhisperQ on your own"
    " machine to do that."
)


class WorkerPool:
    """A Dask client that is connected when it is needed, and again after it was lost.

    is_cluster: the workers are a cluster's, which close() leaves running. Thread-safe only where a
    method says so.
    """

    def __init__(self, start_client: Callable[[], Any], is_cluster: bool = False):
        self.is_cluster = is_cluster
        self._start_client = start_client
        self._client: Any = None
        self._starting = threading.Lock()
        self._in_background: Any = None

    def client(self) -> Any:
        """The connected client. Raises ClusterError or OSError where workers cannot be reached.

        Unlike the other methods it may be called from several threads at once.
        """
        with self._starting:
            if self._client is None or self._client.status != "running":
                self._client = self._start_client()
            return self._client

    def run_in_background(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a worker call a function whose result nobody waits for; only the last call counts.

        Dask drops what is waiting once its future is gone, as it is when this process ends.
        """
        self._in_background = self.client().submit(function, *arguments, pure=False)

    def slots(self) -> int:
        """How many jobs may be handed to the workers at a time.

        On a cluster one more than it has workers: its slices fill the gap while others end.
        """
        return len(self.client().nthreads()) + 1 if self.is_cluster else 1

    def one_worker(self) -> str:
        """The address of a worker. Raises ClusterError where there is none."""
        workers = list(self.client().nthreads())
        if not workers:
            raise ClusterError("The scheduler has no workers yet. Start some, and try again.")
        return str(workers[0])

    def set_event(self, name: str) -> None:
        """Set an event that tasks watch; nothing where no worker was ever started."""
        import distributed

        if self._client is not None:
            event: Any = distributed.Event
            event(name, client=self._client).set()

    def discard_if_process_died(self) -> bool:
        """Whether the local scheduler or worker process ended; if so, start anew at the next use.

        Dask's SubprocessCluster does not restart them, and would wait for ever. Those that are left
        are closed in the background.
        """
        local = getattr(self._client, "cluster", None)
        if local is None or not any(map(_has_ended, [local.scheduler, *local.workers.values()])):
            return False
        threading.Thread(target=_close, args=(self._client,), daemon=True).start()
        self._client = self._in_background = None
        return True

    def close(self) -> None:
        """Disconnect, and end the worker processes that this pool started."""
        if self._client is not None:
            _close(self._client)
            self._client = self._in_background = None


def _has_ended(subprocess: Any) -> bool:
    process = getattr(subprocess, "process", None)
    return process is not None and process.returncode is not None


def _close(client: Any) -> None:
    local = client.cluster
    # If some of it has ended already, the rest is closed all the same.
    with suppress(Exception):
        client.close(timeout=_CLOSE_TIMEOUT_S)
    with suppress(Exception):
        if local is not None:
            local.close(timeout=_CLOSE_TIMEOUT_S)


def start_local_client() -> Any:
    """A Dask client of one new worker process on this machine.

    Only processes of this machine can reach it, and of its users only who has its certificate.
    Raises ClusterError where WHISPERQ_RESULTS_ONLY says that there is to be none.
    """
    if settings.current().results_only:
        raise ClusterError(RESULTS_ONLY)
    import dask
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    # The worker imports this package, wherever the app was started.
    project = str(PROJECT)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if project not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([project, *filter(None, paths)])
    # Dask opens HTTP servers even without a dashboard; without routes they tell nothing.
    dask.config.set({"distributed.worker.daemon": False, **{name: [] for name in _HTTP_ROUTES}})
    os.environ |= {_variable(name): "[]" for name in _HTTP_ROUTES}
    os.environ |= {_variable(name): repr([end_with_app.__name__]) for name in _PRELOADS}
    os.environ[end_with_app.APP_VARIABLE] = str(os.getpid())
    security = tls_security(_process_certificate())
    os.environ |= tls_environment(_process_certificate())
    no_dashboard: Any = None  # Dask's own annotation lacks None
    workers = SubprocessCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=no_dashboard,
        scheduler_kwargs={
            "dashboard": False,
            "idle_timeout": _IDLE_TIMEOUT,
            "protocol": "tls://",
        },
        worker_kwargs={"dashboard": False},
        security=security,
    )
    connect: Any = Client
    return connect(workers, security=security, set_as_default=False)


@lru_cache
def _process_certificate() -> Path:
    """A folder with a certificate for this process, deleted when it ends."""
    _remove_left_behind(Path(tempfile.gettempdir()))
    folder = tempfile.TemporaryDirectory(prefix=f"{_TEMPORARY}{os.getpid()}-")
    atexit.register(folder.cleanup)
    create_certificate(Path(folder.name))
    return Path(folder.name)


def _variable(setting: str) -> str:
    """The environment variable of one of Dask's settings, for the processes that it starts."""
    return f"DASK_{setting.replace('.', '__').upper()}"


def _remove_left_behind(folder: Path) -> None:
    """Removes the certificates of processes of this user that were killed."""
    for path in folder.glob(f"{_TEMPORARY}*-*"):
        process_id = path.name.removeprefix(_TEMPORARY).partition("-")[0]
        with suppress(OSError):
            is_own = path.lstat().st_uid == os.geteuid() and path.is_dir()
            if is_own and process_id.isdigit() and not _is_running(int(process_id)):
                shutil.rmtree(path, ignore_errors=True)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
