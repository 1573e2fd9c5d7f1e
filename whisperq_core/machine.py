"""What this machine is: the part of a speed measurement's identity that is not ours to choose."""

import os
import platform
import shutil
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel


class Machine(BaseModel, frozen=True):
    """The kind of machine a measurement was made on."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str

    @property
    def kind(self) -> str:
        """What has to be the same for times to be compared: CPU, cores and system."""
        return f"{self.cpu}, {self.cores} cores, {self.system}"


@lru_cache
def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_flags() -> set[str]:
    """The CPU's instruction sets by Linux's names; empty where the system does not tell."""
    info = _cpuinfo()
    return set((info.get("flags") or info.get("Features") or "").split())


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> list[str]:
    """Devices this machine seems to have, found without importing torch; cpu first."""
    found = ["cpu"]
    if Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi"):
        found.append("cuda")
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.append("mps")
    return found


@lru_cache
def this_machine() -> Machine:
    """Describes the machine this process runs on."""
    import psutil

    info = _cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    family = "/".join(info[k] for k in ("cpu family", "model") if k in info)
    return Machine(
        cpu=f"{name} ({family})" if family else name,
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )
