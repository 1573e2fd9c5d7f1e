import re
from dataclasses import fields
from pathlib import Path

import pytest

from whisperq_core.errors import RecipeError
from whisperq_core.quantize import backends
from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.quantize.backends.registry import MODULES
from whisperq_core.quantize.recipes import (
    BITS,
    CATALOGUE,
    HQQ_GROUP_SIZES,
    recipe,
    with_group_size,
)
from whisperq_core.settings import PROJECT

ALL = list(CATALOGUE.values())
ALL += [recipe(f"hqq-int4-g{size}") for size in HQQ_GROUP_SIZES if size != 64]
each_recipe = pytest.mark.parametrize("chosen", ALL, ids=lambda chosen: chosen.name)


def test_names_are_unique():
    assert len(CATALOGUE) == sum(len(module.RECIPES) for module in MODULES.values())
    assert all(name == chosen.name for name, chosen in CATALOGUE.items())


def test_no_two_recipes_compute_the_same():
    seen = {}
    for chosen in ALL:
        axes = tuple(chosen.axes().items())
        assert seen.setdefault(axes, chosen.name) == chosen.name


SHARED_BY_BACKENDS = {
    *("__init__", "availability", "backend", "linear_layers", "quantization", "registry"),
}


def test_every_backend_has_a_file_and_a_recipe_and_the_other_way_round():
    files = {f.stem for f in Path(backends.__file__).parent.glob("*.py")} - SHARED_BY_BACKENDS
    assert {module.__name__.rpartition(".")[2] for module in MODULES.values()} == files
    assert len(BACKENDS) == len(files)
    assert set(BACKENDS) == {chosen.backend for chosen in CATALOGUE.values()}
    for name, module in MODULES.items():
        assert {chosen.backend for chosen in module.RECIPES} == {name}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_a_row_in_the_docs(backend):
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("**/*.md"))]
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    rows = [line for line in lines if line.replace("`", "").startswith(f"| {backend} |")]
    assert rows, f"Add a row for {backend} to the table of backends in docs/recipes.md."


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda backend: backend.name)
def test_every_package_of_a_backend_is_pinned(backend):
    # requirements.txt, or an extra of pyproject.toml.
    text = (PROJECT / "requirements.txt").read_text() + (PROJECT / "pyproject.toml").read_text()
    pinned = {name.lower() for name in re.findall(r"([A-Za-z0-9_.-]+)==", text)}
    assert {package for package in backend.packages if package not in pinned} == set()


@each_recipe
def test_a_tied_projection_changes_the_modules_only(chosen):
    tied = chosen.with_tied_projection()
    untied = chosen.modules == "all-linear"
    assert tied.modules == ("linear-but-proj_out" if untied else chosen.modules)
    assert tied.name == chosen.name
    assert tied.axes() | {"modules": chosen.modules} == chosen.axes()


@each_recipe
def test_description_is_one_sentence_on_one_line(chosen):
    assert chosen.description.strip() == chosen.description
    assert chosen.description.splitlines() == [chosen.description]
    assert chosen.description.endswith(".")


@each_recipe
def test_axes_are_consistent(chosen):
    assert (chosen.granularity == "group") == (chosen.group_size is not None)
    assert (chosen.activations == "float") == (chosen.activation_granularity == "none")
    fitted = chosen.scheme == "static" or chosen.smaller_pct is not None
    assert fitted == (chosen.calibration != "none")
    assert chosen.double_quant <= (chosen.weights in ("nf4", "fp4"))
    assert ("cpu" in chosen.devices) != (chosen.devices == ("cuda",))
    assert chosen.compiled <= (chosen.devices == ("cuda",))
    assert chosen.compute == "fp32" or chosen.compute == chosen.embeddings or chosen.has_own_runtime
    match chosen.scheme:
        case "none":
            assert chosen.backend == "none" or chosen.has_own_runtime
            assert chosen.method == chosen.granularity == chosen.modules == "none"
            assert chosen.weights == chosen.embeddings
            assert chosen.name.removesuffix("-compiled").endswith(chosen.weights)
        case "weight-only":
            assert chosen.activations == "float"
        case "dynamic":
            assert chosen.activations == ("float8" if chosen.weights == "float8" else "int8")
        case "static":
            assert chosen.activations in ("int8", "float8")
        case other:
            pytest.fail(f"unknown scheme {other}")
    if chosen.scheme != "none":
        assert chosen.method in ("symmetric", "asymmetric")
        assert chosen.granularity in ("tensor", "channel", "group")
        assert chosen.modules in ("all-linear", "linear-but-proj_out", "whole-model")
        # ONNX Runtime quantizes the token embeddings twice, for reading and for writing.
        whole = chosen.modules == "whole-model" or chosen.backend == "onnxruntime"
        assert whole == (chosen.embeddings == chosen.weights)
        assert (chosen.bits or 8) <= 8
        assert (chosen.weights == "mixed") == (chosen.smaller_pct is not None)
    assert chosen.is_baseline == (chosen.scheme == "none")


def test_only_fp32_bf16_and_fp16_are_baselines_in_pytorch():
    baselines = [c.name for c in ALL if c.is_baseline and not c.has_own_runtime]
    assert baselines == ["fp32", "bf16", "fp16", "bf16-compiled", "fp16-compiled"]


def test_every_recipe_has_a_family():
    families = {name: chosen.family for name, chosen in CATALOGUE.items()}
    assert families["bf16"] == "not quantized"
    assert families["torch-int8"] == families["quanto-int2"] == "quantized in PyTorch"
    assert families["faster-whisper-fp32"] == families["faster-whisper-int8"] == "other runtimes"


@each_recipe
def test_bits_are_those_of_the_format(chosen):
    digits = "".join(c for c in chosen.weights.removeprefix("b") if c.isdigit())
    assert chosen.bits == (int(digits) if digits else None) == BITS.get(chosen.weights)
    assert digits or chosen.weights == "mixed"


@each_recipe
def test_a_recipe_is_found_by_its_name(chosen):
    assert recipe(chosen.name) == chosen


@each_recipe
def test_axes_are_all_fields_but_the_labels(chosen):
    labels = {"name", "description", "devices"}
    # They came later, and count where they say something.
    silent = {
        field for field in ("rest", "attention", "compute") if getattr(chosen, field) == "fp32"
    }
    silent |= {
        field
        for field in ("smaller_pct", "layers", "full_range", "compiled")
        if not getattr(chosen, field)
    }
    assert set(chosen.axes()) == {f.name for f in fields(chosen)} - labels - silent
    assert all(value == getattr(chosen, axis) for axis, value in chosen.axes().items())


@pytest.mark.parametrize("weights", ["int8", "int4", "int3", "int2"])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_hqq_has_every_group_size_by_name(weights, size):
    found = recipe(f"hqq-{weights}-g{size}")
    assert (found.name, found.backend) == (f"hqq-{weights}-g{size}", "hqq")
    assert (found.weights, found.granularity, found.group_size) == (weights, "group", size)
    assert found == with_group_size(recipe(f"hqq-{weights}-g64"), size)
    assert found.axes() == recipe(f"hqq-{weights}-g64").axes() | {"group_size": size}


@pytest.mark.parametrize(
    "name",
    (
        *("", "int8", "FP32", "../fp32", "quanto-int4-g64", "bnb-nf4-g64", "hqq-fp4-g32"),
        *(
            "mixed-8",
            "mixed-084",
            "mixed-84-static",
            "hqq-int4",
            "hqq-int4-g",
            "hqq-int4-g48",
            "hqq-int4-g-64",
            "hqq-int4-g²",
        ),
    ),
)
def test_an_unknown_name_is_refused_with_where_the_names_are(name):
    with pytest.raises(RecipeError) as refusal:
        recipe(name)
    assert f"“{name}”" in str(refusal.value)
    assert "python -m whisperq_core recipes" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "size"), [("hqq-int4-g64", 48), ("bnb-nf4", 64), ("quanto-int4", 64), ("fp32", 64)]
)
def test_a_group_size_that_is_not_offered_is_refused(name, size):
    with pytest.raises(RecipeError, match=f"{size} is not offered for {name}.*16, 32, 64, 128"):
        with_group_size(recipe(name), size)


def test_a_mixed_recipe_is_found_for_any_percentage():
    found = recipe("mixed-82-dynamic")
    assert found.axes() == recipe("mixed-84-dynamic").axes() | {"smaller_pct": 82}
    assert (found.name, found.layers) == ("mixed-82-dynamic", ())
    assert found.with_layers({"proj_out": "int5"}).axes()["layers"] == (("proj_out", "int5"),)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hqq-int4-g96", ["16, 32, 64, 128", "hqq-int4-g64"]),
        ("torchao-int4", ["torchao-int8"]),
        ("awq", ["python -m whisperq_core recipes"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, parts):
    with pytest.raises(RecipeError, match="no recipe named") as refused:
        recipe(name)
    assert all(part in str(refused.value) for part in parts)
    assert len(str(refused.value)) < 300 and "whisper.cpp" not in str(refused.value)


def test_activation_bits_and_batch_dependence_are_data():
    bits = {name: chosen.activation_bits for name, chosen in CATALOGUE.items()}
    assert bits["torch-int8"] == bits["torch-int8-channel"] == 7
    assert bits["torch-int8-full-range"] == bits["onnxruntime-int8"] == bits["bnb-int8"] == 8
    assert bits["quanto-int8"] is None
    shared = {name for name, chosen in CATALOGUE.items() if chosen.depends_on_batch}
    assert shared == {
        *("torch-int8", "torch-int8-channel", "torch-int8-full-range"),
        *("torch-int8-channel-full-range", "onnxruntime-int8"),
    }
