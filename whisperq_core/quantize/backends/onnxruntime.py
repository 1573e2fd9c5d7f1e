"""ONNX Runtime: PyTorch's own export of the model, quantized by ONNX Runtime's own tool.

Quantized are the products with a weight, and the table that tokens are read from; convolutions and
positions stay in fp32. The table they are written with is another one there.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize.backends.backend import Backend, OpenedRuntime
from whisperq_core.quantize.recipe import Recipe
from whisperq_core.whisper.graph_export import Graph, GraphRuntime, Run, export_graphs
from whisperq_core.whisper.torch_types import Array

if TYPE_CHECKING:
    from whisperq_core.whisper.models import Model

BACKEND = Backend(
    "onnxruntime",
    "ONNX Runtime",
    ("onnxruntime", "onnx", "onnxscript"),
    imports=("onnxruntime",),
    is_runtime=True,
    greedy_only=True,
)

RECIPES = (
    Recipe(
        "onnxruntime-int8",
        BACKEND.name,
        "ONNX Runtime's dynamic int8 of PyTorch's export: per-channel weight scales, one"
        " activation range per batch; convolutions in fp32; token embeddings stored twice, as"
        " embedding and as output projection. Greedy; audio over 30 s is cut every 30 s.",
        "int8",
        "dynamic",
        activations="int8",
        activation_granularity="tensor",
        embeddings="int8",
        devices=("cpu",),
    ),
)


# An ONNX file is a protocol buffer, which ends there, and is read whole to be quantized.
_LARGEST_FILE = 2**31


def open_runtime(model: "Model", recipe: Recipe, threads: int, device: str) -> OpenedRuntime:
    """The model in ONNX Runtime, its quantized layers, and the bytes of its two files."""
    import onnxruntime
    from torch import nn

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    runs, size = [], 0
    with tempfile.TemporaryDirectory() as name:
        for graph in export_graphs(model.torch_model):
            if sum(tensor.nbytes for tensor in graph.program.state_dict.values()) >= _LARGEST_FILE:
                raise RecipeUnsupported(
                    f"{model.name} is too large for {recipe.name}: an ONNX file holds 2 GB."
                )
            path = _quantized(graph, Path(name))
            size += path.stat().st_size
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            runs.append(_running(session, graph.inputs))
    modules = tuple(
        layer
        for layer, module in model.torch_model.named_modules()
        if isinstance(module, nn.Linear) or layer.endswith("embed_tokens")
    )
    return GraphRuntime(model, *runs), modules, size


def _quantized(graph: Graph, folder: Path) -> Path:
    """The graph's int8 file."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # It tells which operators of torchvision there are not.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    plain, prepared, small = (
        folder / f"{graph.name}{stage}.onnx" for stage in ("", "-prepared", "-int8")
    )
    torch.onnx.export(
        graph.program,
        f=plain,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=graph.inputs,
        output_names=graph.outputs,
    )
    quant_pre_process(plain, prepared, skip_symbolic_shape=True)
    quantize_dynamic(
        prepared,
        small,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return small


def _running(session: Any, names: Sequence[str]) -> Run:
    def run(*arrays: Array) -> Sequence[Array]:
        outputs: Sequence[Array] = session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return run
