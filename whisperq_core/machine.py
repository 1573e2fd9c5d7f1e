"""What this machine is: the part of a speed measurement's identity that is not ours to choose."""

import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Machine(BaseModel, frozen=True):
    """The machine a measurement was made on.

    gpu, gpu_count, gpu_memory_bytes, gpu_driver: model of the first CUDA GPU, how many GPUs there
    are, memory of the first, version of the driver. Records of older versions do not have them.
    """

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    gpu: str | None = None
    gpu_count: int = 0
    gpu_memory_bytes: int | None = None
    gpu_driver: str | None = None

    @property
    def kind(self) -> str:
        """What has to be the same for times on the CPU to be compared: CPU, cores and system."""
        return f"{self.cpu}, {self.cores} cores, {self.system}"

    def kind_for(self, device: str) -> str:
        """What has to be the same for times on that device to be compared.

        On a GPU also its model, memory and driver; but not their number, since one is used.
        """
        if device != "cuda" or self.gpu is None:
            return self.kind
        memory = f", {self.gpu_memory_bytes / 2**30:.0f} GiB" if self.gpu_memory_bytes else ""
        driver = f", driver {self.gpu_driver}" if self.gpu_driver else ""
        return f"{self.kind}, {self.gpu}{memory}{driver}"


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
    available = ["cpu"]
    if Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi"):
        available.append("cuda")
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        available.append("mps")
    return available


_NVIDIA_QUERY = "--query-gpu=name,memory.total,driver_version"


def _gpu_fields() -> dict[str, Any]:
    """The GPU fields of `Machine` from nvidia-smi; none where it is missing or fails.

    nvidia-smi rather than PyTorch: the app never imports torch.
    """
    if not shutil.which("nvidia-smi"):
        return {}
    command = ["nvidia-smi", _NVIDIA_QUERY, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        gpus = [line.split(", ") for line in done.stdout.strip().splitlines()]
        name, memory_mib, driver = gpus[0]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    memory = int(memory_mib) * 2**20 if memory_mib.isdigit() else None
    return {
        "gpu": name,
        "gpu_count": len(gpus),
        "gpu_memory_bytes": memory,
        "gpu_driver": driver,
    }


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
        **_gpu_fields(),
    )
