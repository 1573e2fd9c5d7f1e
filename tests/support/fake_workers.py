"""A Dask client without processes: futures stay pending until a test says how they ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeFuture:
    """status and value are a test's to set."""

    status: str = "pending"
    value: Any = None

    def result(self) -> Any:
        return self.value

    def cancel(self) -> None:
        self.status = "cancelled"

    def add_done_callback(self, callback: Callable[..., None]) -> None:
        pass


@dataclass
class FakeClient:
    """Keeps what is submitted to it, in order."""

    status: str = "running"
    futures: list[FakeFuture] = field(default_factory=list)

    def submit(self, *_: Any, **__: Any) -> FakeFuture:
        self.futures.append(FakeFuture())
        return self.futures[-1]
