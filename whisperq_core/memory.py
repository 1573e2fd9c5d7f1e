"""How much memory this process takes at its peak, and ways to keep that low, or to keep it."""

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any


class SingleItemCache:
    """Keeps the one large thing that was made last, and lets go of it before making the next."""

    def __init__(self) -> None:
        self._key: Any = None
        self._value: Any = None

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for an equal key, where it is the last; otherwise made now, and kept."""
        if key != self._key:
            self._key = self._value = None
            self._value = make()
            self._key = key
        return self._value


# glibc's mallopt parameters, and the values that its defaults adapt to where large arrays come and
# go: 32 MiB for what is mapped by itself, twice that for what is left at the heap's end.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ADAPTED = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
_KEEPING = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**31 - 1}


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """While the block runs, memory that is freed stays with the process to be used again.

    Otherwise every large array is asked of the system anew, which clears it page by page. Only
    with glibc; elsewhere nothing happens.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        yield
        return
    for parameter, value in _KEEPING.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _ADAPTED.items():
            library.mallopt(parameter, value)


class _Collections:
    """How many blocks, of all threads, want no collections, and whether there were any before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks, self._were_on = 0, True

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            if not self._blocks:
                self._were_on = gc.isenabled()
                gc.disable()
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks and self._were_on:
                    gc.enable()


_COLLECTIONS = _Collections()


def without_garbage_collection() -> AbstractContextManager[None]:
    """A block in which Python does not look for garbage that is in cycles.

    Whoever makes a million objects that all stay would have them looked through again and again,
    which more than doubles the time. What is counted down to nothing is freed as ever.
    """
    return _COLLECTIONS.paused()


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

    def __exit__(self, *exception: object) -> None:
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
