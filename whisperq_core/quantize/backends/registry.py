"""The backends by name. To add one, write its file and add its name to `_FILES`."""

import importlib
from types import ModuleType

from whisperq_core.quantize.backends.backend import Backend
from whisperq_core.quantize.recipe import Recipe

# Files of this folder, in the order in which recipes are listed.
_FILES = (
    "unquantized",
    "torch_dynamic",
    "torchao",
    "quanto",
    "hqq",
    "bitsandbytes",
    "whole_int8",
    "faster_whisper",
    "whisper_cpp",
    "onnxruntime",
    "openvino",
    "mixed_precision",
)

_LOADED = [importlib.import_module(f"{__package__}.{file}") for file in _FILES]
MODULES: dict[str, ModuleType] = {module.BACKEND.name: module for module in _LOADED}
BACKENDS: dict[str, Backend] = {name: module.BACKEND for name, module in MODULES.items()}


def module_of(recipe: Recipe) -> ModuleType:
    """The recipe's backend module; the library itself is not imported yet."""
    return MODULES[recipe.backend]


def backend_of(recipe: Recipe) -> Backend:
    """What the recipe's backend declares of itself."""
    return BACKENDS[recipe.backend]
