"""What layers lose: the measurements that come with WhisperQ, and how one is made."""

import json
import shutil

import pytest

from whisperq_core import settings
from whisperq_core.errors import Cancelled, RecipeUnsupported
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.quantize import calibration, gptq, sensitivity_measurement, sensitivity_results
from whisperq_core.quantize.recipes import recipe
from whisperq_core.quantize.sensitivity_results import Sensitivity
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import STUDY

CROSS = "model.decoder.layers.0.encoder_attn.out_proj"
UPPER = "model.encoder.layers.3.fc1"


@pytest.fixture(scope="module")
def shipped() -> dict[str, Sensitivity]:
    return {one.model: one for one in sensitivity_results.stored_measurements()}


@pytest.fixture(scope="module")
def heard(tiny):
    """Two utterances inside the model."""
    return sensitivity_measurement.CachedActivations(
        tiny, sensitivity_measurement.conditions_of("tiny.en")[1][:2]
    )


@pytest.mark.parametrize("model", ["base", "tiny.en"])
def test_the_embedded_models_are_measured_as_they_would_be_today(model, shipped):
    conditions, utterances, fitted_to = sensitivity_measurement.conditions_of(model)
    one = shipped[model]
    assert one.conditions == conditions
    assert one.utterances == tuple(u.id for u in utterances)
    assert not set(one.utterances) & {u.id for u in fitted_to}
    assert len(one.layers) == {"base": 97, "tiny.en": 65}[model]


@pytest.mark.parametrize("model", ["base", "tiny.en"])
def test_losses_of_layers_nearly_add_up(model, shipped):
    for check in shipped[model].checks:
        assert 0.5 < check.measured.nats / check.predicted_nats < 2


@pytest.mark.parametrize("smaller_pct", [76, 80, 84])
def test_a_choice_of_formats_keeps_to_its_size(smaller_pct, shipped):
    one = shipped["base"]
    formats = one.formats_for(smaller_pct)
    assert list(formats) == [layer.module for layer in one.layers]
    assert smaller_pct <= one.smaller_pct(formats) < smaller_pct + 0.2


def test_a_smaller_model_loses_more(shipped):
    losses = [
        shipped["base"].predicted_nats(shipped["base"].formats_for(pct)) for pct in (76, 80, 84)
    ]
    assert losses == sorted(losses)


def test_mixed_recipes_get_their_map_with_the_model(shipped):
    mixed = resolve(Request("tiny.en", recipe("mixed-80"), "quick-look")).spec.recipe
    assert dict(mixed.layers) == shipped["tiny.en"].formats_for(80)
    base = resolve(Request("base", recipe("mixed-80"), "quick-look")).spec.recipe
    assert len(base.layers) == 97
    plain = recipe("hqq-int4-g64")
    assert sensitivity_results.with_measured_layers(plain, "no weights") is plain


def test_without_a_measurement_the_command_is_named():
    with pytest.raises(RecipeUnsupported, match="whisperq_core sensitivity --models"):
        sensitivity_results.with_measured_layers(recipe("mixed-84"), "0" * 64)
    with pytest.raises(RecipeUnsupported, match="Allow a larger size"):
        sensitivity_results.with_measured_layers(
            recipe("mixed-99"), model_sources.EMBEDDED["base"].digest
        )


@pytest.mark.parametrize("name", [UPPER, CROSS, "proj_out"])
def test_a_layer_s_loss_is_that_of_the_whole_model_with_it(name, tiny, heard, jfk):
    """What is computed from the layer on is what is computed from the start."""
    layer = tiny.torch_model.get_submodule(name)
    show = calibration.calibrate_on(tiny, [jfk], STUDY)
    moments = gptq.input_second_moments(tiny.torch_model, {name: layer}, show)[name]
    weight = layer.weight
    found = sensitivity_measurement.losses(heard, name, layer, moments, 64)
    assert layer.weight.data is weight.data or layer.weight.data_ptr() == weight.data_ptr()
    assert heard.loss(tiny.torch_model, 0).nats == pytest.approx(0, abs=1e-6)
    changed = sensitivity_measurement.mixed_precision.dequantized(weight.data, moments, "int3", 64)
    sensitivity_measurement.set_weight(tiny.torch_model, layer, changed)
    try:
        whole = heard.loss(tiny.torch_model, 0)
    finally:
        sensitivity_measurement.set_weight(tiny.torch_model, layer, weight.data)
    assert found.losses["int3"].nats == pytest.approx(whole.nats, rel=0.01)
    nats = [found.losses[name].nats for name in ("int8", "int5", "int3")]
    assert 0 <= nats[0] < nats[1] < nats[2]


def test_a_measurement_that_is_stopped_goes_on(store, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "SHIPPED_CACHE", store.root)  # none has come with WhisperQ
    # One utterance to be heard and one to round for: seconds instead of a minute.
    few = sorted(evaluation_sets.by_name("quick-look").utterances, key=lambda u: u.duration_s)[:2]
    folder = tmp_path / "few"
    folder.mkdir()
    for u in few:
        shutil.copy(u.audio, folder)
        (folder / u.audio.with_suffix(".txt").name).write_text(u.reference)
    monkeypatch.setattr(evaluation_sets, "CALIBRATION_SET", str(folder))
    monkeypatch.setattr(sensitivity_measurement, "UTTERANCES", 1)
    seen = []
    for _ in range(2):
        with pytest.raises(Cancelled, match="stopped"):
            sensitivity_measurement.measure(
                "tiny.en",
                store,
                progress=lambda done, total: seen.append((done, total)),
                stop=lambda: len(seen) % 2 == 1,
            )
    # The second time the first layer is there already.
    assert seen == [(1, 65), (1, 65), (2, 65)]


def test_a_damaged_file_is_left_out(store, shipped, monkeypatch):
    path = sensitivity_results.store_measurement(shipped["base"])
    monkeypatch.setattr(settings, "SHIPPED_CACHE", store.root)
    assert sensitivity_results.stored_measurements() == [shipped["base"]]
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"layers": 7}))
    assert sensitivity_results.stored_measurements() == []


def test_newer_code_has_a_key_of_its_own_and_stored_keys_stay(shipped):
    conditions = shipped["tiny.en"].conditions
    assert (conditions.code_version, conditions.key) == (1, "2e91d2a7091547b9")
    assert conditions.model_copy(update={"code_version": 2}).key != conditions.key
