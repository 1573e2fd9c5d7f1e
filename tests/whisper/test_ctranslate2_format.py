import struct

import numpy as np
import pytest

from whisperq_core.errors import ModelError
from whisperq_core.whisper import model_sources, model_weights
from whisperq_core.whisper.ctranslate2_format import read_variables, to_transformers

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}


def text(value: str) -> bytes:
    raw = value.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def header(count: int, version: int = 6, spec: str = "WhisperSpec") -> bytes:
    return struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, count)


def variable(name: str, kind: str, shape: tuple[int, ...], raw: bytes) -> bytes:
    dimensions = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<BI", TYPES[kind], len(raw)) + raw


def array(name: str, values: np.ndarray) -> bytes:
    return variable(name, values.dtype.name, values.shape, values.tobytes())


WEIGHT = np.arange(6, dtype=np.float16).reshape(2, 3)
BIAS = np.array([0.5, -0.25], np.float32)
SMALL = header(4) + b"".join(
    [
        array("decoder/layer_0/ffn/linear_0/weight", WEIGHT),
        array("decoder/layer_0/ffn/linear_0/bias", BIAS),
        variable("decoder/num_heads", "int16", (), struct.pack("<h", 6)),
        variable("decoder/scale_embeddings", "int8", (), b"\1"),
    ]
)


def test_variables_keep_their_names_types_and_shapes():
    found = read_variables(SMALL)
    assert set(found) == {
        "decoder/layer_0/ffn/linear_0/weight",
        "decoder/layer_0/ffn/linear_0/bias",
        "decoder/num_heads",
        "decoder/scale_embeddings",
    }
    weight, bias = (found[f"decoder/layer_0/ffn/linear_0/{leaf}"] for leaf in ("weight", "bias"))
    assert (weight.dtype, bias.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(weight, WEIGHT)
    np.testing.assert_array_equal(bias, BIAS)
    assert (found["decoder/num_heads"], found["decoder/scale_embeddings"]) == (6, 1)


def test_tensors_are_float32_under_transformers_names():
    found = to_transformers(read_variables(SMALL))
    assert set(found) == {"model.decoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.bias"}
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["model.decoder.layers.0.fc1.weight"], WEIGHT)


@pytest.mark.parametrize("version", [0, 5, 7, 2**32 - 1])
def test_another_layout_is_refused(version):
    with pytest.raises(ModelError, match=f"layout {version}; .*layout 6.*Convert it again"):
        read_variables(header(0, version=version))


@pytest.mark.parametrize("spec", ["TransformerSpec", "Whisper", ""])
def test_another_kind_of_model_is_refused(spec):
    with pytest.raises(ModelError, match=f"kind '{spec}'"):
        read_variables(header(0, spec=spec))


@pytest.mark.parametrize("end", range(len(SMALL)))
def test_a_file_cut_anywhere_is_refused(end):
    with pytest.raises(ModelError, match="truncated"):
        read_variables(SMALL[:end])


def test_more_variables_announced_than_there_are_is_refused():
    with pytest.raises(ModelError, match="truncated"):
        read_variables(header(5) + SMALL[len(header(4)) :])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32"])
@pytest.mark.parametrize("leaf", ["linear_0/weight", "linear_0/bias", "layer_norm/gamma"])
def test_quantized_weights_are_refused(kind, leaf):
    values = np.ones(4, kind)
    with pytest.raises(ModelError, match=f"{kind} weights: .*already quantized.*float16"):
        read_variables(header(1) + array(f"encoder/layer_0/ffn/{leaf}", values))


def test_bfloat16_is_read():
    # 1.0 and -2.5: the upper halves of their float32.
    raw = struct.pack("<HH", 0x3F80, 0xC020)
    found = read_variables(header(1) + variable("encoder/conv1/bias", "bfloat16", (2,), raw))
    assert found["encoder/conv1/bias"].tolist() == [1.0, -2.5]


ALIEN = {
    "a pickle in a zip": b"PK\x03\x04\x14\x00" + bytes(range(256)),
    "text that is not UTF-8": struct.pack("<IH", 6, 3) + b"\xff\xfe\x00",
    "a name that is not UTF-8": header(1) + struct.pack("<H", 3) + b"\xff\xfe\x00" + bytes(99),
    "fewer bytes than the shape": header(1) + variable("a/weight", "float32", (2, 3), bytes(4)),
    "half a number": header(1) + variable("a/weight", "float32", (1,), bytes(3)),
    "a shape of zeros": header(1) + variable("a/weight", "float32", (0,), bytes(4)),
    "a type of tomorrow": header(1) + text("num_heads") + struct.pack("<BBI", 0, 9, 2) + bytes(2),
    "a pointer to Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
    "nothing": b"",
}


@pytest.mark.parametrize("data", ALIEN.values(), ids=ALIEN)
def test_an_alien_file_is_a_model_error(data):
    with pytest.raises(ModelError):
        read_variables(data)


def test_a_model_without_whispers_tensors_is_a_model_error(tmp_path):
    (tmp_path / "model.bin").write_bytes(SMALL)
    with pytest.raises(ModelError):
        model_weights.read_weights(model_sources.find(str(tmp_path)))


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return model_weights.read_weights(model_sources.find("tiny.en"))


# tiny.en: Radford et al. 2022, table 1; the English vocabulary has 51,864 tokens.
LAYERS, WIDTH, MELS, VOCABULARY, POSITIONS = 4, 384, 80, 51_864, {"encoder": 1500, "decoder": 448}


def test_parameters_are_those_of_the_architecture(weights):
    norm = 2 * WIDTH
    attention = 4 * WIDTH**2 + 3 * WIDTH  # q, k, v and out; k has no bias
    mlp = 2 * WIDTH * 4 * WIDTH + 4 * WIDTH + WIDTH
    convolutions = 3 * MELS * WIDTH + WIDTH + 3 * WIDTH**2 + WIDTH
    encoder = LAYERS * (attention + mlp + 2 * norm) + norm + convolutions
    decoder = LAYERS * (2 * attention + mlp + 3 * norm) + norm + VOCABULARY * WIDTH
    expected = encoder + decoder + sum(POSITIONS.values()) * WIDTH
    assert expected == 37_760_256
    assert sum(value.size for value in weights.values()) == expected


def test_tensors_are_those_of_the_architecture(weights):
    attention = {f"{p}.weight" for p in ("q_proj", "k_proj", "v_proj", "out_proj")}
    attention |= {f"{p}.bias" for p in ("q_proj", "v_proj", "out_proj")}
    own = {f"{part}.{leaf}" for part in ("fc1", "fc2") for leaf in ("weight", "bias")}
    expected = {f"model.encoder.conv{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias")}
    expected.add("model.decoder.embed_tokens.weight")
    for half, kinds in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        norms = [f"{kind}_layer_norm" for kind in [*kinds, "final"]]
        layer = own | {f"{kind}.{name}" for kind in kinds for name in attention}
        layer |= {f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")}
        expected |= {f"model.{half}.layers.{i}.{name}" for i in range(LAYERS) for name in layer}
        expected |= {f"model.{half}.layer_norm.{leaf}" for leaf in ("weight", "bias")}
        expected.add(f"model.{half}.embed_positions.weight")
    assert set(weights) == expected
    assert len(weights) == 167


def test_tensors_have_their_shapes(weights):
    assert weights["model.decoder.embed_tokens.weight"].shape == (VOCABULARY, WIDTH)
    assert weights["model.encoder.conv1.weight"].shape == (WIDTH, MELS, 3)
    for half, positions in POSITIONS.items():
        assert weights[f"model.{half}.embed_positions.weight"].shape == (positions, WIDTH)
    for name, value in weights.items():
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
        if name.endswith("_proj.weight"):
            assert value.shape == (WIDTH, WIDTH)


def test_no_k_proj_has_a_bias_and_every_one_of_the_file_is_zero(weights):
    assert not [name for name in weights if name.endswith("k_proj.bias")]
    # What is left out has to be nothing: the second third of q, k, v and the first half of k, v.
    [file] = model_sources.embedded_files("tiny.en")
    stored = read_variables(file.read_bytes())
    thirds, halves = slice(WIDTH, 2 * WIDTH), slice(0, WIDTH)
    left_out = {name: thirds for name in stored if name.endswith("/self_attention/linear_0/bias")}
    left_out |= {name: halves for name in stored if name.endswith("/attention/linear_1/bias")}
    assert len(left_out) == 3 * LAYERS
    for name, part in left_out.items():
        assert not stored[name][part].any()
        assert stored[name].any()


def test_every_stored_number_arrives(weights):
    [file] = model_sources.embedded_files("tiny.en")
    stored = read_variables(file.read_bytes())
    floats = sum(value.size for value in stored.values() if value.dtype.kind == "f" and value.ndim)
    zero_biases = 3 * LAYERS * WIDTH
    assert floats - zero_biases == sum(value.size for value in weights.values())


def test_the_digest_is_the_pinned_one(weights):
    assert model_weights.digest_of(weights) == model_sources.EMBEDDED["tiny.en"].digest
    one_less = {name: value for name, value in weights.items() if "conv1.bias" not in name}
    assert model_weights.digest_of(one_less) != model_sources.EMBEDDED["tiny.en"].digest
