"""What this machine is: the part of a speed measurement's identity that is not ours to choose."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Machine(BaseModel, frozen=True):
    """The machine a measurement was made on.

    gpu, gpu_count, gpu_memory_bytes, gpu_driver, gpu_cuda: model of the first CUDA GPU, how many
    GPUs there are, memory of the first, version of the driver, and of CUDA in the installed
    PyTorch. Records of older versions do not have them.
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
    gpu_cuda: str | None = None

    @property
    def gpu_kind(self) -> str | None:
        """What has to be the same of a GPU for its times to be compared; None without one.

        Model, memory, driver and CUDA, but not the number of GPUs, since one is used.
        """
        if self.gpu is None:
            return None
        parts = [self.gpu]
        if self.gpu_memory_bytes:
            parts.append(f"{self.gpu_memory_bytes / 2**30:.0f} GiB")
        parts += [f"driver {self.gpu_driver}"] if self.gpu_driver else []
        parts += [f"CUDA {self.gpu_cuda}"] if self.gpu_cuda else []
        return ", ".join(parts)

    @property
    def kind(self) -> str:
        """What has to be the same for times on the CPU to be compared: CPU, cores and system."""
        return f"{self.cpu}, {self.cores} cores, {self.system}"

    def kind_for(self, device: str) -> str:
        """What has to be the same for times on that device to be compared: see `gpu_kind`."""
        on_gpu = device == "cuda" and self.gpu_kind
        return f"{self.kind}, {self.gpu_kind}" if on_gpu else self.kind


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


def cuda_version() -> str | None:
    """CUDA's version that the installed PyTorch was built with, such as "13.0"; None without CUDA.

    Read from its files, since the app never imports torch.
    """
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    text = Path(torch.origin).with_name("version.py").read_text("utf-8")
    named = re.search(r"^cuda\b.*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return named[1] if named else None


def _nvidia_smi(fields: str) -> list[list[str]]:
    """The fields of each GPU as nvidia-smi tells them; none where it is missing or fails.

    Where CUDA_VISIBLE_DEVICES chooses among the GPUs, of these only.
    """
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command.append(f"--id={visible}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in done.stdout.strip().splitlines()]
    return [row for row in rows if len(row) == fields.count(",") + 1]


def _gpu_fields() -> dict[str, Any]:
    """The GPU fields of `Machine`; none where there is no GPU."""
    gpus = _nvidia_smi("name,memory.total,driver_version")
    if not gpus:
        return {}
    name, memory_mib, driver = gpus[0]
    return {
        "gpu": name,
        "gpu_count": len(gpus),
        "gpu_memory_bytes": int(memory_mib) * 2**20 if memory_mib.isdigit() else None,
        "gpu_driver": driver,
        "gpu_cuda": cuda_version(),
    }


@lru_cache
def gpu_capability() -> tuple[int, int] | None:
    """CUDA's compute capability of the first GPU, such as (9, 0); None where nothing tells it."""
    answers = _nvidia_smi("compute_cap")
    named = re.fullmatch(r"(\d+)\.(\d+)", answers[0][0]) if answers else None
    return (int(named[1]), int(named[2])) if named else None


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
