"""Other machines: a Dask scheduler somewhere, how one gets in, and what its workers must be like.

Whoever reaches a scheduler runs code on its workers, so WhisperQ talks to one on another machine
only through TLS, with a certificate that all of the cluster share.
"""

import ipaddress
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from whisperq_core import settings
from whisperq_core.errors import ClusterError
from whisperq_core.serve.cluster_certificate import tls_security

if TYPE_CHECKING:
    from distributed import Client

# What each worker has one of: its GPU, or its set of cores. A task takes it as a whole, so that
# nothing else runs where times are measured.
DEVICE = "device"
_TIMEOUT_S = 20


@dataclass(frozen=True)
class Cluster:
    """Where a scheduler is: tcp://host:port, tls://host:port, or a file that Dask wrote of it.

    tls: the folder with the cluster's certificate and key (see `make_certificate`).
    """

    scheduler: str
    tls: Path | None = None

    @property
    def address(self) -> str:
        """The scheduler's address. Raises ClusterError for a file that names none."""
        if "://" in self.scheduler:
            return self.scheduler
        try:
            return str(json.loads(Path(self.scheduler).read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClusterError(
                f"{self.scheduler} is neither an address (tls://host:8786) nor the file that"
                " `dask scheduler --scheduler-file` writes. Start the scheduler first."
            ) from error


def from_environment() -> Cluster | None:
    """The cluster that WHISPERQ_SCHEDULER and WHISPERQ_TLS name; None for this machine alone."""
    chosen = settings.current()
    return Cluster(chosen.scheduler, chosen.tls) if chosen.scheduler else None


def connect(cluster: Cluster) -> "Client":
    """A client of a cluster whose workers are fit for the work.

    Raises ClusterError, with what to do, for a scheduler without TLS on another machine, one that
    does not answer, or workers that would share a device.
    """
    from distributed import Client

    address = cluster.address
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname:
        raise ClusterError(
            f"{address} is not a scheduler's address. Write it like tls://host:8786."
        )
    if parts.scheme == "tcp" and not _is_here(parts.hostname):
        raise ClusterError(
            f"{address} is open to everybody who can reach it. Start the scheduler with TLS"
            " (docs/many-machines.md), and name it as tls://…"
        )
    if parts.scheme == "tls" and cluster.tls is None:
        raise ClusterError("Name the folder with the cluster's certificate: --tls or WHISPERQ_TLS.")
    security = tls_security(cluster.tls) if cluster.tls else None
    try:
        client = Client(address, security=security, timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"The scheduler at {address} does not answer, or not with this certificate. Is it"
            " running, and can this machine reach it?"
        ) from error
    try:
        _check(client)
    except ClusterError:
        client.close()
        raise
    return client


def _is_here(host: str) -> bool:
    """Whether a host is this machine's loopback."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(one).is_loopback for one in addresses)
    except (OSError, ValueError):
        return False


def _check(client: "Client") -> None:
    """Raises ClusterError for workers that would run two tasks on one device, or none."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in workers.items():
        if worker["resources"].get(DEVICE) != 1 or worker["nthreads"] != 1:
            raise ClusterError(
                f"The worker at {address} does not declare one device and one task at a"
                f' time. Start it with `dask worker … --nthreads 1 --resources "{DEVICE}=1"`.'
            )
