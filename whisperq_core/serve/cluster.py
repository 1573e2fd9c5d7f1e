"""Other machines: a Dask scheduler somewhere, how one gets in, and what its workers must be like.

Whoever reaches a scheduler runs code on its workers, so WhisperQ talks to one on another machine
only through TLS, with a certificate that all of the cluster share.
"""

import ipaddress
import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from whisperq_core import settings
from whisperq_core.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Security

# What each worker has one of: its GPU, or its set of cores. A task takes it as a whole, so that
# nothing else runs where times are measured.
DEVICE = "device"
CERTIFICATE, KEY = "cluster.pem", "cluster.key"
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


def make_certificate(folder: Path) -> None:
    """Writes a certificate for a cluster, and the key that lets one in: for its machines only.

    It holds at all times, for a clock may be wrong or be set back; the key is what is secret.
    Raises ClusterError where there is one: replacing it would lock the others out.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    if (folder / KEY).exists():
        raise ClusterError(f"{folder} has a key already. Delete it, or choose another folder.")
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whisperq")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
        (folder / CERTIFICATE).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ClusterError(f"{folder} cannot be written ({error.strerror}).") from error


def security(folder: Path) -> "Security":
    """What Dask needs to know of a cluster's certificate; nothing goes unencrypted."""
    from distributed import Security

    certificate, key = str(folder / CERTIFICATE), str(folder / KEY)
    if not all(os.access(path, os.R_OK) for path in (certificate, key)):
        raise ClusterError(
            f"{folder} does not hold {CERTIFICATE} and {KEY}, or they cannot be read. Make them"
            " with `python -m whisperq_core certificate FOLDER`, once for all machines."
        )
    # One certificate for all: who has its key is in.
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_cert": certificate for role in roles}
    files |= {f"tls_{role}_key": key for role in roles}
    return Security(tls_ca_file=certificate, require_encryption=True, **files)


def environment(folder: Path) -> dict[str, str]:
    """The same for a scheduler or worker that another process starts: variables that Dask reads."""
    start = "DASK_DISTRIBUTED__COMM__"
    found = {f"{start}REQUIRE_ENCRYPTION": "True"}
    found[f"{start}TLS__CA_FILE"] = str(folder / CERTIFICATE)
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        found[f"{start}TLS__{role}__CERT"] = str(folder / CERTIFICATE)
        found[f"{start}TLS__{role}__KEY"] = str(folder / KEY)
    return found


def connect(cluster: Cluster) -> "Client":
    """A client of a cluster whose workers are fit for the work.

    Raises ClusterError, with what to do, for a scheduler without TLS on another machine, one that
    does not answer, or workers that would share a device.
    """
    from distributed import Client

    address = cluster.address
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname:
        raise ClusterError(f"{address} is no scheduler's address. Write it like tls://host:8786.")
    if parts.scheme == "tcp" and not _is_here(parts.hostname):
        raise ClusterError(
            f"{address} is open to everybody who can reach it. Start the scheduler with TLS"
            " (README, “Many machines”), and name it as tls://…"
        )
    if parts.scheme == "tls" and cluster.tls is None:
        raise ClusterError("Name the folder with the cluster's certificate: --tls or WHISPERQ_TLS.")
    keys = security(cluster.tls) if cluster.tls else None
    try:
        client = Client(address, security=keys, timeout=_TIMEOUT_S, set_as_default=False)
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
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(one).is_loopback for one in found)
    except (OSError, ValueError):
        return False


def _check(client: "Client") -> None:
    """Raises ClusterError for workers that would run two tasks on one device, or none."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in workers.items():
        if worker["resources"].get(DEVICE) != 1 or worker["nthreads"] != 1:
            raise ClusterError(
                f"The worker at {address} does not say that it has one device for one task at a"
                f' time. Start it with `dask worker … --nthreads 1 --resources "{DEVICE}=1"`.'
            )
