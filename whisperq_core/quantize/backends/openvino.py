"""OpenVINO: PyTorch's own export of the model, its weights quantized by NNCF, OpenVINO's own tool.

Quantized are all matrices, convolutions and the decoder's positions included, and one table for
reading and writing tokens; their inputs by OpenVINO, where its kernels take int8.
"""

import io
import logging
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperq_core.quantize.backends.backend import Backend, OpenedRuntime
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.graph_export import GraphRuntime, Run, export_graphs
from whisperq_core.whisper.torch_types import Array

if TYPE_CHECKING:
    from whisperq_core.whisper.models import Model

BACKEND = Backend(
    "openvino",
    "OpenVINO",
    ("openvino", "nncf"),
    imports=("openvino", "nncf"),
    is_runtime=True,
    greedy_only=True,
)

RECIPES = (
    Recipe(
        "openvino-int8",
        BACKEND.name,
        "OpenVINO's dynamic int8 of PyTorch's export: every matrix, including convolutions and"
        " token embeddings; per-channel weight scales, activations in groups of 32. Greedy; audio"
        " over 30 s is cut every 30 s.",
        "int8",
        "dynamic",
        method="asymmetric",
        activations="int8",
        activation_granularity="group",
        modules="whole-model",
        embeddings="int8",
        devices=("cpu",),
    ),
)


# How many inputs share one scale: OpenVINO's own choice, which might change with its version.
_GROUP = 32


def open_runtime(model: "Model", recipe: Recipe, threads: int, device: str) -> OpenedRuntime:
    """The model in OpenVINO, its quantized layers, and the bytes of its two graphs."""
    # OpenVINO and NNCF report their use to their maker, unless this package is missing.
    modules: dict[str, Any] = sys.modules
    modules["openvino_telemetry"] = None
    import nncf
    import openvino
    from torch import nn

    nncf.set_log_level(logging.ERROR)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP),
        # Threads that stay on their core would be in the way of others that are timed beside them.
        "ENABLE_CPU_PINNING": False,
    }
    runs, size = [], 0
    with tempfile.TemporaryDirectory() as name:
        for graph in export_graphs(model.torch_model):
            whole = openvino.convert_model(graph.program)
            with redirect_stdout(io.StringIO()):  # it draws its progress
                small = nncf.compress_weights(whole)
            path = Path(name) / f"{graph.name}.xml"
            openvino.save_model(small, path, compress_to_fp16=False)
            size += sum(file.stat().st_size for file in path.parent.glob(f"{graph.name}.*"))
            runs.append(_running(openvino.compile_model(small, "CPU", settings)))
    kinds = nn.Linear, nn.Conv1d, nn.Embedding
    quantized = tuple(
        layer
        for layer, module in model.torch_model.named_modules()
        if isinstance(module, kinds) and layer != "model.encoder.embed_positions"
    )
    return GraphRuntime(model, *runs), quantized, size


def _running(compiled: Any) -> Run:
    def run(*arrays: Array) -> list[Array]:
        # Read where they are; what comes out is a copy, since the next step reads it.
        return list(compiled(arrays, share_inputs=True).values())

    return run
