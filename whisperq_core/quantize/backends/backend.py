"""What a backend declares of itself: one `Backend`, in the file that imports its library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from whisperq_core.whisper.runtime import Runtime

# Runs a model on calibration speech.
Calibrate = Callable[[Any], None]
# A layer's dequantized weight, shape (out, in) in fp32; None for another library's layer.
Weight: TypeAlias = Any
# What a layer is rebuilt from: tensors by name, and settings that JSON can hold.
Tensors = dict[str, Any]
Settings = dict[str, Any]
LayerState = tuple[Tensors, Settings]
# A runtime with the model, names of the quantized modules, and bytes on disk.
OpenedRuntime: TypeAlias = "tuple[Runtime, tuple[str, ...], int]"


@dataclass(frozen=True)
class Backend:
    """A quantization library or a runtime.

    name: what recipes and stored results call it. label: what charts and tables call it.
    packages: on PyPI, the library first; PyTorch and Transformers are implied. Their versions are
        part of a result's identity.
    imports: top-level modules that only this backend's file may import.
    is_runtime: it runs the model itself, outside PyTorch.
    greedy_only: it decodes greedily, without beams and without fallback to other temperatures.
    same_dequantized: on a CPU its kernels dequantize to fp32 and multiply there, so that fp32
        layers with the dequantized weights give the same transcripts, faster
        (tests/quantize/test_backends.py compares them on real speech). Not so where the library
        computes in lower precision, as bitsandbytes' 4-bit CPU kernels do.
    reduced_range: its int8 activations use 7 of the 8 bits unless the recipe says `full_range`.
    code_version: of our code for it, gptq.py included. Raise it when a change can change a
        transcript: it is part of a result's identity where it is above 1.
    """

    name: str
    label: str
    packages: tuple[str, ...]
    imports: tuple[str, ...] = ()
    is_runtime: bool = False
    greedy_only: bool = False
    same_dequantized: bool = False
    reduced_range: bool = False
    code_version: int = 1
