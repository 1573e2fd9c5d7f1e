"""Bits by layer, on real weights and speech."""

import copy

import pytest
import torch

from tests.support.quick_rounding import round_to_nearest
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize import backends, sensitivity_results
from whisperq_core.quantize.backends import mixed_precision
from whisperq_core.quantize.calibration import calibrate_on
from whisperq_core.quantize.recipes import recipe
from whisperq_core.whisper.protocols import STUDY


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        round_to_nearest(patch)
        yield


@pytest.fixture(scope="module")
def calibrate(tiny, jfk):
    return calibrate_on(tiny, [jfk], STUDY)


@pytest.fixture(scope="module")
def mapped(tiny):
    return sensitivity_results.with_measured_layers(recipe("mixed-80"), tiny.digest)


@pytest.fixture(scope="module")
def made(tiny, mapped, calibrate):
    return backends.quantize(tiny.torch_model, mapped, "cpu", calibrate)


@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_planes_of_bits_give_the_codes_again(bits):
    torch.manual_seed(0)
    codes = torch.randint(0, 2**bits, (5, 128), dtype=torch.uint8)
    planes = mixed_precision.to_planes(codes, bits)
    assert planes.shape == (5, bits, 16) and planes.dtype == torch.uint8
    assert torch.equal(mixed_precision.from_planes(planes), codes)
    assert torch.equal(mixed_precision.from_planes(planes[[3, 1]]), codes[[3, 1]])


def test_every_layer_has_the_format_of_the_map(made, mapped):
    kinds = {"int8": mixed_precision.whole_int8.layers().Int8Linear}
    formats = dict(mapped.layers)
    assert set(made.modules) == set(formats) and len(set(formats.values())) > 1
    for name, chosen in formats.items():
        layer = made.torch_model.get_submodule(name)
        assert type(layer) is kinds.get(chosen, mixed_precision.layers().GroupedLinear)
        if chosen != "int8":
            assert layer.groups.planes.shape[1] == int(chosen.removeprefix("int"))


def test_the_size_is_the_one_asked_for(made, tiny):
    fp32_bytes = backends.serialized_bytes(tiny.torch_model)
    smaller = 100 * (1 - made.weights_bytes / fp32_bytes)
    assert 80 <= smaller < 80.2


def test_one_table_reads_and_writes_tokens(made):
    table, projection = made.torch_model.model.decoder.embed_tokens, made.torch_model.proj_out
    ids = torch.tensor([[0, 50256, 7]])
    assert torch.equal(table(ids)[0], mixed_precision.weight_of(projection)[ids[0]])


def test_a_layer_computes_with_its_dequantized_weight(made):
    name = next(n for n in made.modules if hasattr(made.torch_model.get_submodule(n), "groups"))
    layer = made.torch_model.get_submodule(name)
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, layer.groups.weight().shape[1]), mixed_precision.weight_of(layer)
    assert torch.allclose(layer(x), torch.nn.functional.linear(x, weight, layer.bias), atol=1e-5)


def test_what_is_not_quantized_is_stored_as_published(made, tiny):
    state, published = made.torch_model.state_dict(), tiny.torch_model.state_dict()
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    kept = {name for name in floats if name in published}
    assert {floats[name].dtype for name in kept} == {torch.float16}
    assert all(torch.equal(floats[name].float(), published[name]) for name in kept)


def test_the_encoder_s_positions_are_a_formula_s(made, tiny, base):
    published = tiny.torch_model.model.encoder.embed_positions.weight
    positions = made.torch_model.model.encoder.embed_positions
    assert positions.weight.equal(published) and not positions.state_dict()
    assert mixed_precision.sinusoids(
        *base.torch_model.model.encoder.embed_positions.weight.shape
    ).equal(base.torch_model.model.encoder.embed_positions.weight)


def test_positions_that_are_no_formula_s_are_stored(tiny, mapped):
    other = copy.deepcopy(tiny.torch_model)
    other.model.encoder.embed_positions.weight.data += 1
    all_int8 = mapped.with_layers(dict.fromkeys(dict(mapped.layers), "int8"))
    found = backends.quantize(other, all_int8).torch_model
    assert found.state_dict()["model.encoder.embed_positions.weight"].dtype == torch.float16


def test_with_activations_in_int8_grouped_weights_are_multiplied_as_int8(tiny, calibrate, made):
    dynamic = sensitivity_results.with_measured_layers(recipe("mixed-80-dynamic"), tiny.digest)
    found = backends.quantize(tiny.torch_model, dynamic, "cpu", calibrate)
    assert found.weights_bytes == made.weights_bytes
    name = next(n for n, chosen in dynamic.layers if chosen != "int8")
    layer, exact = (q.torch_model.get_submodule(name) for q in (found, made))
    torch.manual_seed(0)
    x = torch.randn(4, layer.groups.weight().shape[1])
    assert (layer(x) - exact(x)).abs().max() < 0.03 * exact(x).abs().max()
    assert layer.int8[0].rows is found.torch_model.proj_out.int8[0].rows


def test_a_model_whose_layers_were_not_measured_is_refused(tiny):
    with pytest.raises(RecipeUnsupported, match="python -m whisperq_core sensitivity"):
        backends.quantize(tiny.torch_model, recipe("mixed-84"))
