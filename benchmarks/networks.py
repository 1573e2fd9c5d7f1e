"""Machines of a cluster on one machine: network namespaces with an address each, on a bridge.

Needs root and iproute2 on Linux. Where they are not to be had, each process gets another address of
the loopback instead, which the kernel routes like any other; `kind` says which it was.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from whisperq_core.serve import cluster_certificate
from whisperq_core.settings import PROJECT

_BRIDGE, _NET = "whisperq0", "10.77.0"


class Network:
    """Addresses for processes that talk to each other: `with network() as net: net.start(…)`."""

    def __init__(self, kind: str):
        self.kind = kind
        self._spaces: list[str] = []

    def add(self) -> str:
        """One more machine; returns its address."""
        number = len(self._spaces) + 2
        space, address = f"whisperq-{number}", f"{_NET}.{number}"
        self._spaces.append(space)
        if self.kind == "loopback":
            return f"127.77.0.{number}"
        inside, outside = f"wqi{number}", f"wqo{number}"
        _ip("netns", "add", space)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", space)
        _ip("link", "set", outside, "master", _BRIDGE, "up")
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", inside)
        for device in (inside, "lo"):
            _ip("-n", space, "link", "set", device, "up")
        return address

    def start(
        self, address: str, arguments: Sequence[str], cpu: int, tls: Path, log: Path
    ) -> subprocess.Popen:
        """A process of Dask on that machine, on one core (docs/many-machines.md)."""
        command = ["taskset", "-c", str(cpu), sys.executable, "-m", "dask", *arguments]
        command += ["--host", address, "--no-dashboard"]
        if self.kind == "namespaces":
            command = ["ip", "netns", "exec", f"whisperq-{address.rpartition('.')[2]}", *command]
        environment = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        # In a session of its own, so that it is killed with all that it started.
        return subprocess.Popen(
            command,
            env=os.environ | cluster_certificate.tls_environment(tls) | environment,
            stdout=log.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def close(self) -> None:
        """Takes the namespaces and the bridge away."""
        if self.kind == "namespaces":
            for space in self._spaces:
                with suppress(subprocess.CalledProcessError):
                    _ip("netns", "del", space)
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", _BRIDGE)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def network() -> Iterator[Network]:
    """A network of machines, taken down afterwards."""
    kind = "loopback"
    if shutil.which("ip") and hasattr(os, "geteuid") and os.geteuid() == 0:
        with suppress(subprocess.CalledProcessError):
            _ip("link", "add", _BRIDGE, "type", "bridge")
            _ip("addr", "add", f"{_NET}.1/24", "dev", _BRIDGE)
            _ip("link", "set", _BRIDGE, "up")
            kind = "namespaces"
    net = Network(kind)
    try:
        yield net
    finally:
        net.close()
