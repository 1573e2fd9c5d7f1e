"""Rounding, on real weights and what their layer really hears."""

import pytest
import torch

from whisperq_core.quantize import gptq
from whisperq_core.quantize.calibration import calibrate_on
from whisperq_core.whisper.protocols import STUDY

FC2 = "model.decoder.layers.1.fc2"


@pytest.fixture(scope="module")
def layer(tiny):
    return tiny.torch_model.get_submodule(FC2)


@pytest.fixture(scope="module")
def moments(tiny, layer, jfk):
    show = calibrate_on(tiny, [jfk], STUDY)
    return gptq.input_second_moments(tiny.torch_model, {FC2: layer}, show)[FC2]


def decoded(weight, moments, bits, group_size=64):
    found = gptq.quantize_weight(weight, moments, bits, group_size)
    return gptq.dequantize(found.codes, found.steps, found.zeros, found.units, bits)


def lost(weight, found, moments):
    """Mean square of the change of the layer's outputs, over that of the outputs."""
    apart = found - weight
    return (((apart @ moments) * apart).sum() / ((weight @ moments) * weight).sum()).item()


def test_second_moments_are_of_what_the_layer_hears(tiny, layer, jfk, moments):
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    calibrate_on(tiny, [jfk], STUDY)(tiny.torch_model)
    hook.remove()
    rows = torch.cat(seen)
    assert torch.allclose(moments, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_each_bit_makes_the_error_smaller(layer, moments, bits):
    coarse, fine = (decoded(layer.weight, moments, b) for b in (bits, bits + 1))
    assert lost(layer.weight, fine, moments) < 0.45 * lost(layer.weight, coarse, moments)
    assert lost(layer.weight, coarse, moments) < 0.6 * 4.0**-bits


def test_it_loses_less_than_rounding_to_the_nearest(layer, moments):
    """Nearest is what is left of it where inputs do not correlate."""
    nearest = decoded(layer.weight, torch.eye(len(moments)), 4)
    good = decoded(layer.weight, moments, 4)
    assert lost(layer.weight, good, moments) < 0.7 * lost(layer.weight, nearest, moments)
    step = gptq.quantize_weight(layer.weight, torch.eye(len(moments)), 4, 64)
    largest = (step.steps.float() * step.units.float()[:, None]).max()
    assert (nearest - layer.weight).abs().max() <= 0.54 * largest


def test_codes_and_scales_are_small_numbers(layer, moments):
    found = gptq.quantize_weight(layer.weight, moments, 3, 32)
    rows, columns = layer.weight.shape
    assert found.codes.shape == (rows, columns) and found.codes.max() == 7
    assert found.steps.shape == found.zeros.shape == (rows, columns // 32)
    assert found.units.shape == (rows,) and found.units.dtype == torch.float16
    assert {t.dtype for t in (found.codes, found.steps, found.zeros)} == {torch.uint8}


def test_rows_of_zeros_and_silent_inputs_stay_numbers():
    weight = torch.zeros(4, 64)
    weight[1, 3] = 1.0
    found = decoded(weight, torch.zeros(64, 64), 4)
    assert torch.isfinite(found).all()
    assert torch.allclose(found, weight, atol=0.05)
