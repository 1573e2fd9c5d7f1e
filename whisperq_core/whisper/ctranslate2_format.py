"""Reads CTranslate2's `model.bin` of a Whisper model into Transformers' tensor names.

CTranslate2 stacks q, k and v (self-attention) or k and v (cross-attention) in one matrix, and keeps
a bias of zeros for k, which Transformers does not have. OpenAI published Whisper in fp16, so fp16
files lose nothing. Pure NumPy: the weights' digest is computed where there is no torch.
"""

import math
import re
import struct

import numpy as np

from whisperq_core.errors import ModelError

_TYPES = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16", 5: "bfloat16"}
_WIDTHS = {"float32": 4, "int8": 1, "int16": 2, "int32": 4, "float16": 2, "bfloat16": 2}
_FLOATS = ("float32", "float16", "bfloat16")


class _Reader:
    """A cursor over little-endian binary data."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        if self.at + size > len(self.data):
            raise ModelError(
                "The CTranslate2 file model.bin ends in the middle: it is truncated. Copy it again."
            )
        view = memoryview(self.data)[self.at : self.at + size]
        self.at += size
        return view

    def number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]
        return value

    def text(self) -> str:
        return bytes(self.take(self.number("H")))[:-1].decode(errors="replace")


def read_variables(data: bytes) -> dict[str, np.ndarray]:
    """All variables of a `model.bin`, by CTranslate2's names; floats stay in their stored type.

    Raises ModelError for another file, another layout, or weights that are already quantized.
    """
    reader = _Reader(data)
    version, spec = reader.number("I"), reader.text()
    if version != 6 or spec != "WhisperSpec":
        raise ModelError(
            f"model.bin is a CTranslate2 file of kind {spec!r} in layout {version}; WhisperQ reads"
            " Whisper in layout 6. Convert it again with a current ct2-transformers-converter."
        )
    reader.number("I")  # revision of the spec: the names below hold for all of them
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = tuple(reader.number("I") for _ in range(reader.number("B")))
        kind = _TYPES.get(reader.number("B"))
        raw = reader.take(reader.number("I"))
        if kind is None or len(raw) != math.prod(shape) * _WIDTHS[kind]:
            raise ModelError(
                f"model.bin holds {len(raw)} bytes for {name}, which do not fit its type and shape"
                f" {shape}: the file is damaged or of another version. Copy or convert it again."
            )
        if name.endswith(("weight", "bias", "gamma", "beta", "encodings")) and kind not in _FLOATS:
            raise ModelError(
                f"The CTranslate2 model holds {kind} weights: it is already quantized."
                " Convert the original with --quantization float16 or float32."
            )
        if kind in _FLOATS:
            variables[name] = _floats(raw, kind).reshape(shape)
        elif not shape:
            variables[name] = np.frombuffer(raw, kind)[0]
    return variables


def _floats(raw: memoryview, kind: str) -> np.ndarray:
    return widened_bfloat16(raw) if kind == "bfloat16" else np.frombuffer(raw, kind)


def widened_bfloat16(raw: bytes | memoryview) -> np.ndarray:
    """bfloat16 data as float32: NumPy has no bfloat16, which is the upper half of a float32."""
    return (np.frombuffer(raw, "uint16").astype("uint32") << 16).view("float32")


_PLAIN = {
    "encoder/conv1": "model.encoder.conv1",
    "encoder/conv2": "model.encoder.conv2",
    "encoder/layer_norm": "model.encoder.layer_norm",
    "decoder/layer_norm": "model.decoder.layer_norm",
    "encoder/position_encodings": "model.encoder.embed_positions",
    "decoder/position_encodings": "model.decoder.embed_positions",
    "decoder/embeddings": "model.decoder.embed_tokens",
}
_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_LAYER = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_STACKED = {
    "self_attention/linear_0": ("self_attn", ("q_proj", "k_proj", "v_proj")),
    "attention/linear_1": ("encoder_attn", ("k_proj", "v_proj")),
}


def to_transformers(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors as float32 under Transformers' names; the tied proj_out is left out."""
    tensors = {}
    for name, value in variables.items():
        stem, _, leaf = name.rpartition("/")
        layer = re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)", stem)
        if stem in _PLAIN:
            tensors[f"{_PLAIN[stem]}.{_LEAVES.get(leaf, 'weight')}"] = value
        elif layer and layer[3] in _LAYER:
            prefix = f"model.{layer[1]}.layers.{layer[2]}"
            tensors[f"{prefix}.{_LAYER[layer[3]]}.{_LEAVES[leaf]}"] = value
        elif layer and layer[3] in _STACKED:
            attention, parts = _STACKED[layer[3]]
            prefix = f"model.{layer[1]}.layers.{layer[2]}.{attention}"
            for part, piece in zip(parts, np.split(value, len(parts)), strict=True):
                if not (part == "k_proj" and leaf == "bias"):
                    tensors[f"{prefix}.{part}.{leaf}"] = piece
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
