"""Packages that can be called: a verb of the public API and the package of its code share a name.

`whisperq_core.quantize` is the package with recipes and backends, and `wq.quantize("base", "bf16")`
is the function of the public API. Python binds a package's name to the package as soon as anything
in it is imported, so the package itself passes the call on.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that is also the function of that name in `whisperq_core.api`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls the function; see there for its arguments."""
        # By name: a package knows nothing of what is above it.
        package, _, function = self.__name__.rpartition(".")
        return getattr(import_module(f"{package}.api"), function)(*arguments, **options)


def make_callable(name: str) -> None:
    """Lets the package of that name be called. For its own `__init__`."""
    sys.modules[name].__class__ = CallablePackage
