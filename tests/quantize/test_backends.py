import math
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from tests.support.quick_rounding import leave_out_search
from whisperq_core import machine
from whisperq_core.errors import LibraryMissing, RecipeUnsupported
from whisperq_core.quantize import backends, sensitivity_results
from whisperq_core.quantize.backends import linear_layers
from whisperq_core.quantize.calibration import calibrate_on
from whisperq_core.quantize.recipes import CATALOGUE, recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_weights, models
from whisperq_core.whisper.protocols import FITTED, STUDY
from whisperq_core.whisper.transcription import transcribe, warm_up

# Most of these tests load real weights.
pytestmark = pytest.mark.model


ON_CPU = [
    r
    for r in CATALOGUE.values()
    if backends.unavailable_reason(r, "cpu") is None and not r.has_own_runtime
]


@pytest.fixture(scope="module", autouse=True)
def whatever_was_derived_from_them_the_weights_are_untouched(tiny):
    """Quantized models share memory with the fp32 one: after all tests here no bit has changed."""
    yield
    state = {n: tensor.numpy() for n, tensor in tiny.torch_model.state_dict().items()}
    del state["proj_out.weight"]
    assert model_weights.digest_of(state) == tiny.digest


def quantize(model, name, kernels="library", tied=False):
    """Recipes are calibrated on one short utterance here, to be quick."""
    chosen = recipe(name).with_tied_projection() if tied else recipe(name)
    chosen = sensitivity_results.with_measured_layers(chosen, model.digest)
    speech = evaluation_sets.by_name("dev-clean-excerpt").utterances[: chosen.calibration != "none"]
    calibrate = calibrate_on(model, speech, STUDY)
    return backends.quantize(model.torch_model, chosen, "cpu", calibrate, kernels)


def words(model, torch_model, utterances, protocol=FITTED):
    """The window is fitted unless another protocol is given: it is faster."""
    audio = [evaluation_sets.read_audio(u) for u in utterances]
    return transcribe(model, torch_model, audio, ["en"] * len(audio), protocol).texts


def test_every_family_of_the_issue_runs_on_this_cpu():
    assert {r.backend for r in ON_CPU} == {
        name for name, backend in backends.BACKENDS.items() if not backend.is_runtime
    }
    assert len(ON_CPU) >= 22


# One recipe of each backend whose weights can be dequantized.
TWINS = ("torchao-int8", "quanto-int4", "quanto-float8", "hqq-int3-g64", "whole-int8", "mixed-80")
# One size of the mixed recipes is enough, which is a twin; twins hear more than this, below.
TRANSCRIBING = [r.name for r in ON_CPU if (r.bits or 0) >= 4 and r.name not in TWINS]


def is_jfk(heard):
    return "ask not what your country can do for you" in heard.lower().replace(",", "")


@pytest.mark.parametrize("name", TRANSCRIBING)
def test_each_recipe_hears_jfk(name, tiny, jfk):
    quantized = quantize(tiny, name)
    assert is_jfk(words(tiny, quantized.torch_model, [jfk])[0])
    untouched = {n for n, _ in tiny.torch_model.named_modules()}
    assert set(quantized.modules) <= untouched
    assert quantized.quantize_s > 0 or quantized.recipe.is_baseline


# Linear layers of tiny: 6 a layer of the encoder, 10 of the decoder, 4 layers each; and proj_out.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("fp32", 0), ("torch-int8", 65), ("quanto-int8", 65), ("bnb-nf4", 64)),
        *(("hqq-int3-g64", 64), ("whole-int8-dynamic", 65)),
    ],
)
def test_the_exact_modules_are_recorded(name, count, tiny, monkeypatch):
    leave_out_search(monkeypatch)
    modules = quantize(tiny, name).modules
    assert len(modules) == count
    assert ("proj_out" in modules) == (count == 65)


def test_the_given_model_stays_fp32_and_tied(tiny):
    before = {name: p.data_ptr() for name, p in tiny.torch_model.named_parameters()}
    quantize(tiny, "quanto-int4")
    assert {n: p.data_ptr() for n, p in tiny.torch_model.named_parameters()} == before
    assert tiny.torch_model.proj_out.weight is tiny.torch_model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("name", ["fp32", "hqq-int4-g64"])
def test_what_a_recipe_leaves_alone_is_not_copied(name, tiny, monkeypatch):
    leave_out_search(monkeypatch)
    given = {p.data_ptr() for p in tiny.torch_model.parameters()}
    quantized = quantize(tiny, name)
    every = quantized.torch_model.named_parameters()
    kept = {n: p for n, p in every if n.rpartition(".")[0] not in quantized.modules}
    assert "model.decoder.embed_tokens.weight" in kept
    assert {n for n, p in kept.items() if p.data_ptr() not in given} == set()
    own = {id(p) for p in tiny.torch_model.parameters()}
    assert own.isdisjoint(id(p) for p in kept.values())


@pytest.mark.parametrize(
    "name",
    [
        *("torch-int8", "torch-int8-channel", "quanto-int8", "quanto-int4", "quanto-float8"),
        *("quanto-int8-int8", "torchao-int8", "torchao-int8-dynamic"),
    ],
)
def test_a_tied_projection_stays_fp32_and_is_stored_once(name, tiny, jfk):
    untied = backends.quantize(tiny.torch_model, recipe(name), calibrate=lambda model: None)
    tied = quantize(tiny, name, tied=True)
    assert set(untied.modules) - set(tied.modules) == {"proj_out"}
    projection = tied.torch_model.proj_out
    assert type(projection) is torch.nn.Linear
    assert projection.weight is tied.torch_model.model.decoder.embed_tokens.weight
    # What the untied model has beside the table is proj_out, shape (51864, 384), and its scales.
    extra = untied.weights_bytes - tied.weights_bytes
    assert extra == pytest.approx(51864 * 384 * recipe(name).bits / 8, rel=0.15)
    assert is_jfk(words(tiny, tied.torch_model, [jfk])[0])


def reduction_pct(model, name):
    quantized = backends.quantize(model, recipe(name))
    return 100 * (1 - quantized.weights_bytes / backends.serialized_bytes(model))


# Size reductions as the study publishes them, in percent (its Tables 2 and 3).
@pytest.mark.parametrize(
    ("size", "name", "published", "tolerance"),
    [
        ("small", "torch-int8", 57.0, 0.5),
        ("small", "bnb-nf4", 70.0, 0.7),
        ("small", "hqq-int3-g64", 71.0, 0.7),
        ("tiny", "quanto-int8", 19.3, 0.5),
        ("tiny", "bnb-nf4", 37.5, 0.5),
    ],
)
def test_sizes_of_the_study_on_the_same_shape(
    size, name, published, tolerance, shapes, monkeypatch
):
    leave_out_search(monkeypatch)
    assert reduction_pct(shapes(size), name) == pytest.approx(published, abs=tolerance)


@pytest.mark.parametrize(("name", "published"), [("quanto-int8", 36.2), ("bnb-nf4", 52.1)])
def test_sizes_of_the_study_on_base(name, published, base):
    assert reduction_pct(base.torch_model, name) == pytest.approx(published, abs=0.5)
    assert backends.serialized_bytes(base.torch_model) == pytest.approx(290.4e6, rel=0.005)


@pytest.fixture(scope="module")
def shapes():
    """Models of a shape with random weights, each made once."""
    made = {}

    def get(size):
        if size not in made:
            made.clear()
            made[size] = models.random_model(size)
        return made[size]

    return get


def test_each_backend_that_runs_dequantized_weights_is_compared_with_its_kernels():
    assert {recipe(name).backend for name in TWINS} == {
        name for name, backend in backends.BACKENDS.items() if backend.same_dequantized
    }


@pytest.mark.parametrize("name", TWINS)
def test_dequantized_weights_give_the_kernels_transcripts(name, tiny, jfk):
    """What allows accuracy from dequantized weights: the very same words on real speech."""
    utterances = [jfk, evaluation_sets.by_name("quick-look").utterances[0]]
    kernels = quantize(tiny, name)
    dequantized = quantize(tiny, name, "dequantized")
    assert dequantized.kernels == "dequantized" and kernels.kernels == "library"
    assert dequantized.modules == kernels.modules
    assert all(
        type(dequantized.torch_model.get_submodule(n)) is torch.nn.Linear for n in kernels.modules
    )
    heard = words(tiny, kernels.torch_model, utterances, STUDY)
    assert is_jfk(heard[0]) or recipe(name).bits == 3
    assert words(tiny, dequantized.torch_model, utterances, STUDY) == heard


@pytest.mark.parametrize(
    "name", ["torch-int8", "torchao-int8-dynamic", "bnb-int8", "quanto-int8-int8"]
)
def test_quantized_activations_have_no_dequantized_twin(name, tiny):
    with pytest.raises(RecipeUnsupported, match="activations too"):
        backends.quantize(tiny.torch_model, recipe(name), kernels="dequantized")


@pytest.mark.parametrize(
    ("name", "device", "reason"),
    [
        ("torch-int8", "cuda", "runs on cpu"),
        ("torch-int8", "mps", "runs on cpu"),
        ("hqq-int4-g64", "mps", "runs on cpu, cuda"),
        ("bnb-nf4", "mps", "runs on cpu, cuda"),
    ],
)
def test_a_device_without_kernels_is_refused_with_the_reason(name, device, reason, tiny):
    assert reason in backends.unavailable_reason(recipe(name), device)
    with pytest.raises(RecipeUnsupported, match=reason):
        backends.quantize(tiny.torch_model, recipe(name), device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
def test_a_device_that_is_not_there_is_refused(tiny):
    with pytest.raises(RecipeUnsupported, match="finds no cuda device"):
        backends.quantize(tiny.torch_model, recipe("quanto-int8"), "cuda")


def test_a_gpu_that_results_would_not_name_is_refused(monkeypatch):
    named = machine.this_machine().model_copy(update={"gpu": "NVIDIA T4"})
    monkeypatch.setattr(machine, "this_machine", lambda: named)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H100")
    with pytest.raises(RecipeUnsupported, match=r"uses NVIDIA H100 first.*lists NVIDIA T4 first"):
        backends.require(recipe("fp32"), "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA T4")
    backends.require(recipe("fp32"), "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_hqq_computes_in_the_precision_that_the_model_feeds_it(dtype, tiny, monkeypatch):
    """On a GPU it would choose fp16 by itself, and a model in fp32 could not be run."""
    leave_out_search(monkeypatch)
    model = linear_layers.copy_sharing_tensors(tiny.torch_model).to(dtype)
    chosen = recipe("hqq-int4-g64")
    layer = backends.module_of(chosen).quantize(model, chosen, None).model.encoder.layers[0].fc1
    assert layer.compute_dtype == dtype == layer(torch.ones(2, 384, dtype=dtype)).dtype


def test_8_bit_activations_are_refused_where_pairs_of_products_overflow(monkeypatch):
    full_range = recipe("torch-int8-full-range")
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: {"avx2"})
    assert "no VNNI instructions" in backends.unavailable_reason(full_range, "cpu")
    assert backends.unavailable_reason(recipe("torch-int8"), "cpu") is None
    for flags in ({"avx2", "avx512_vnni"}, {"avx2", "avx_vnni"}, {"asimd"}):
        monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda flags=flags: flags)
        assert backends.unavailable_reason(full_range, "cpu") is None


def test_fp16_on_a_cpu_without_its_instructions_is_refused(monkeypatch):
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: {"avx2", "avx512_bf16"})
    assert "no fp16 instructions" in backends.unavailable_reason(recipe("fp16"), "cpu")
    assert backends.unavailable_reason(recipe("bf16"), "cpu") is None
    assert backends.unavailable_reason(recipe("fp16"), "cuda") is None


def test_a_missing_library_names_the_pip_command(monkeypatch, tiny):
    def not_installed(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(backends.availability, "version", not_installed)
    assert "pip install hqq" in backends.unavailable_reason(recipe("hqq-int4-g64"), "cpu")
    with pytest.raises(LibraryMissing, match="pip install optimum-quanto"):
        backends.quantize(tiny.torch_model, recipe("quanto-int8"))


def test_a_library_that_fails_when_it_is_loaded_is_a_sentence(monkeypatch, tiny):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # its import fails from now on
    with pytest.raises(
        LibraryMissing, match="bitsandbytes, which is installed but cannot be loaded"
    ):
        backends.quantize(tiny.torch_model, recipe("bnb-nf4"))


def test_values_that_are_not_numbers_are_reported_not_transcribed(tiny, jfk):
    broken = quantize(tiny, "fp32").torch_model
    broken.proj_out.weight = torch.nn.Parameter(broken.proj_out.weight.clone(), False)
    broken.proj_out.weight[7] = math.nan
    with pytest.raises(Exception, match="not numbers"):
        warm_up(tiny, broken, [evaluation_sets.read_audio(jfk)])


@pytest.mark.parametrize("name", ["torch-int8", "torch-int8-channel"])
def test_the_full_range_has_twice_as_many_steps(name, tiny):
    if reason := backends.unavailable_reason(recipe(f"{name}-full-range"), "cpu"):
        pytest.skip(reason)
    torch.manual_seed(0)
    x = torch.randn(64, 384)
    exact = tiny.torch_model.model.encoder.layers[0].fc1
    layers = [
        backends.quantize(tiny.torch_model, recipe(n), "cpu")
        .torch_model.model.encoder.layers[0]
        .fc1
        for n in (name, f"{name}-full-range")
    ]
    module = backends.module_of(recipe(name))
    assert torch.equal(module.weight_of(layers[0]), module.weight_of(layers[1]))
    # Against the same weights, so that what differs is how the input was rounded.
    expected = torch.nn.functional.linear(x, module.weight_of(layers[0]), exact.bias)
    reduced, full = (float((layer(x) - expected).square().mean().sqrt()) for layer in layers)
    assert 1.7 < reduced / full < 2.3
    again = module.layer_from(*module.state_of(layers[1]))
    assert torch.equal(again(x), layers[1](x))


def test_the_cpu_is_in_the_identity_where_bitsandbytes_depends_on_it(monkeypatch):
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: {"avx512f", "avx512_bf16"})
    usual = {name: backends.versions(recipe(name), "tiny.en") for name in ("bnb-nf4", "bnb-int8")}
    assert all(not {"bitsandbytes-cpu", "kernels"} & set(found) for found in usual.values())
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: {"avx512f"})
    assert backends.versions(recipe("bnb-nf4"), "tiny.en") == usual["bnb-nf4"] | {
        "bitsandbytes-cpu": "fp32"
    }
    assert backends.versions(recipe("bnb-int8"), "tiny.en") == usual["bnb-int8"]
