"""How much memory this process takes at its peak, and one way of keeping that low."""

import ctypes
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any


class Latest:
    """Keeps the one large thing that was made last, and lets go of it before making the next."""

    def __init__(self):
        self._key: Hashable = None
        self._value: Any = None

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for this key, where it is the last; otherwise made now, and kept."""
        if key != self._key:
            self._key = self._value = None
            self._value = make()
            self._key = key
        return self._value


class MemoryGrowth:
    """The largest growth of memory while a block runs: `with MemoryGrowth("cpu") as growth`.

    `bytes` is resident memory's peak over what it was at the start on Linux, or CUDA's peak
    allocation over what was allocated; None where the system does not tell.
    """

    def __init__(self, device: str):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "MemoryGrowth":
        if self.device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
        elif self.device == "cpu" and sys.platform == "linux":
            # Memory that the allocator holds back would hide what the block needs.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
            self._start = _status_bytes("VmRSS")
        return self

    def __exit__(self, *exception) -> None:
        if self.device == "cuda":
            import torch

            self.bytes = torch.cuda.max_memory_allocated() - self._start
        elif self.device == "cpu" and sys.platform == "linux":
            self.bytes = max(0, _status_bytes("VmHWM") - self._start)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
