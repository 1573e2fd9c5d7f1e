"""Exported models: what is written, that it loads without the weights, and what is refused."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.quick_rounding import leave_out_search, round_to_nearest
from whisperq_core.cli.main import main
from whisperq_core.errors import ExportError, ModelError, RecipeUnsupported
from whisperq_core.evaluate import history
from whisperq_core.quantize import backends, model_export, sensitivity_results
from whisperq_core.quantize.calibration import calibrate_on
from whisperq_core.quantize.recipes import recipe
from whisperq_core.settings import PROJECT
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import CORRECTED, FITTED, STUDY
from whisperq_core.whisper.transcription import transcribe

# Most of these tests load real weights.
pytestmark = pytest.mark.model


# Each way of storing a layer once.
RECIPES = (
    *("bf16", "torch-int8", "torch-int8-channel", "torchao-int8-dynamic", "quanto-int4"),
    *("quanto-int8-int8", "hqq-int4-g64", "bnb-int8", "bnb-nf4-dq", "whole-int8-dynamic"),
    "mixed-84-dynamic",
)

# In a batch of two; the others, whose rows do not meet, hear one utterance alone.
BATCHED = ("torch-int8", "bf16")
# From a file by the public class; the others in a window that is fitted, which is faster.
BY_FILE = "whole-int8-dynamic"

# What a fresh process does with the folders: load and transcribe, in a batch or from a file. The
# fp32 weights cannot be found by name there, and to open them would be an error.
FRESH = """
import json, sys
from pathlib import Path
from whisperq_core import machine
from whisperq_core.quantize import model_export, quantized_model
from whisperq_core.speech import decode
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import FITTED
from whisperq_core.whisper.transcription import transcribe

def guard(event, arguments):
    if event == "open" and "model.bin" in str(arguments[0]):
        raise AssertionError("the fp32 weights were opened")

sys.addaudithook(guard)
flags = machine.cpu_flags() | {"avx512_bf16"}  # as the fixture emulated_bf16
machine.cpu_flags = lambda: flags
model_sources.EMBEDDED.clear()
assert model_sources.offline_names() == []
import torch
torch.set_num_threads(1)
root, batched, by_file, *files = sys.argv[1:]
speech, heard = [decode.load(Path(file)) for file in files], {}
for folder in sorted(Path(root).iterdir()):
    if folder.name == by_file:
        heard[folder.name] = [quantized_model.load(folder).transcribe(files[0]).text]
        continue
    made, some = model_export.load(folder), speech if folder.name in batched.split() else speech[:1]
    found = transcribe(made.model, made.quantized.torch_model, some, ["en"] * len(some), FITTED)
    heard[folder.name] = found.texts
print(json.dumps(heard))
"""


@pytest.fixture(scope="module")
def spoken():
    """The two shortest utterances of the held-out set."""
    utterances = evaluation_sets.by_name("dev-clean-excerpt").utterances
    return sorted(utterances, key=lambda u: u.duration_s)[:2]


@pytest.fixture(scope="module")
def made(tiny, spoken, tmp_path_factory, emulated_bf16):
    """Folders by recipe, and what each model heard before a fresh process loaded it."""
    root = tmp_path_factory.mktemp("artefacts")
    speech = [evaluation_sets.read_audio(u) for u in spoken]
    folders, heard = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        leave_out_search(patch)
        round_to_nearest(patch)
        for name in RECIPES:
            chosen = sensitivity_results.with_measured_layers(recipe(name), tiny.digest)
            calibrate = calibrate_on(tiny, spoken[: chosen.calibration != "none"], STUDY)
            quantized = backends.quantize(tiny.torch_model, chosen, "cpu", calibrate)
            folders[name] = root / name
            model_export.export_quantized(tiny, quantized, folders[name])
            some = speech if name in BATCHED else speech[:1]
            protocol = STUDY if name == BY_FILE else FITTED
            found = transcribe(tiny, quantized.torch_model, some, ["en"] * len(some), protocol)
            heard[name] = list(found.texts)
    return folders, heard


def test_a_fresh_process_without_the_weights_hears_the_same(made, spoken, tmp_path):
    folders, heard = made
    root = folders["bf16"].parent
    command = [sys.executable, "-c", FRESH, root, " ".join(BATCHED), BY_FILE]
    command += [u.audio for u in spoken]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == heard
    assert all(len(text) > 10 for texts in heard.values() for text in texts)


def test_the_size_on_disk_is_the_promised_one(made):
    for name, folder in made[0].items():
        promised = model_export.read(folder).weights_bytes
        assert model_export.size_on_disk(folder) == pytest.approx(promised, rel=0.005), name


def test_a_tied_table_is_stored_once_and_tied_again(made, tiny):
    folder = made[0]["bnb-nf4-dq"]
    name, other = "proj_out.weight", "model.decoder.embed_tokens.weight"
    assert model_export.read(folder).shared == {name: other}
    loaded = model_export.load(folder)
    again = loaded.quantized.torch_model
    assert again.proj_out.weight is again.model.decoder.embed_tokens.weight
    assert loaded.model.digest == tiny.digest and loaded.manifest.recipe == recipe("bnb-nf4-dq")
    assert backends.serialized_bytes(again) == loaded.manifest.weights_bytes
    # In training mode bitsandbytes computes with other kernels.
    assert not any(module.training for module in again.modules())


def test_nothing_of_a_folder_is_pickled_and_common_tools_check_it(made):
    folder = made[0]["quanto-int4"]
    names = {path.name for path in folder.iterdir()}
    assert names == {*model_export._FILES, "SHA256SUMS"}
    assert {Path(name).suffix for name in names} == {".json", ".safetensors", ""}
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def copied(folder: Path, to: Path) -> Path:
    """The same files under another folder, to be replaced but not written into."""
    return Path(shutil.copytree(folder, to / "copy", copy_function=os.link))


def replaced(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def sealed(folder: Path) -> None:
    """Writes digests that agree, as whoever alters a folder on purpose would."""
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in model_export._FILES
    ]
    replaced(folder / "SHA256SUMS", "".join(lines).encode())


@pytest.mark.parametrize("name", model_export._FILES)
def test_a_cut_or_altered_file_is_named(name, made, tmp_path):
    folder = copied(made[0]["bf16"], tmp_path)
    content = (folder / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (content[:-1], flipped, b""):
        replaced(folder / name, damaged)
        with pytest.raises(ExportError, match=rf"{name} .*(Copy the folder|export)"):
            model_export.load(folder)
    (folder / name).unlink()
    with pytest.raises(ExportError, match=name):
        model_export.load(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"0" * 64 + b"  model.safetensors\n"])
def test_digests_that_were_altered_are_refused(content, made, tmp_path):
    folder = copied(made[0]["bf16"], tmp_path)
    replaced(folder / "SHA256SUMS", content)
    with pytest.raises(ExportError, match="its sha256 is not that in SHA256SUMS"):
        model_export.load(folder)


def test_what_is_no_exported_model_is_said(tmp_path, made):
    with pytest.raises(ExportError, match="not an exported model"):
        model_export.load(tmp_path)
    folder = copied(made[0]["torch-int8"], tmp_path)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ExportError, match="not an exported model"):
        model_export.load(folder)
    assert model_export.exported_models(tmp_path / "nowhere") == {}


def altered(folder: Path, change) -> None:
    content = json.loads((folder / "recipe.json").read_text())
    change(content)
    replaced(folder / "recipe.json", json.dumps(content).encode())
    sealed(folder)


FC1 = "model.decoder.layers.0.fc1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(schema_version=2), "Update WhisperQ"),
        (lambda c: c.update(schema_version="x"), "recipe.json cannot be read"),
        (lambda c: c.update(extra=1), "recipe.json cannot be read"),
        (lambda c: c["recipe"].update(backend="os"), "does not have"),
        (lambda c: c["layers"].pop(FC1), f"do not fit the model: .*{FC1}"),
        (lambda c: c["layers"].update({"model.gone": {}}), "gone cannot be rebuilt"),
        (lambda c: c["layers"][FC1].clear(), f"{FC1} cannot be rebuilt"),
        (lambda c: c["shared"].update(x="y"), r"share are missing: \['y'\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, words, made, tmp_path):
    folder = copied(made[0]["bnb-nf4-dq"], tmp_path)
    altered(folder, change)
    with pytest.raises(ExportError, match=words):
        model_export.load(folder)


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("bf16", {"d_model": 192}, "do not fit the model"),
        (
            "bnb-nf4-dq",
            {"decoder_ffn_dim": 8},
            r"fc1 cannot be rebuilt: its shape is \(1536, 384\)",
        ),
        ("bf16", {"d_model": -8}, "config.json cannot be used"),
        ("bf16", {"vocab_size": "a name"}, "do not fit the model"),
    ],
)
def test_weights_of_another_shape_are_refused(name, changed, words, made, tmp_path):
    folder = copied(made[0][name], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    replaced(folder / "config.json", json.dumps(config | changed).encode())
    sealed(folder)
    with pytest.raises(ExportError, match=words):
        model_export.load(folder)


def test_another_version_of_a_library_is_said(made, tmp_path):
    folder = copied(made[0]["bf16"], tmp_path)
    altered(folder, lambda content: content["versions"].update(torch="1.0"))
    with pytest.warns(UserWarning, match=r"torch 1\.0 \(installed: 2"):
        model_export.load(folder)


def test_an_exported_model_is_replaced_and_nothing_else_is(made, tiny, tmp_path):
    quantized = backends.quantize(tiny.torch_model, recipe("bf16"))
    folder = copied(made[0]["torch-int8"], tmp_path)
    before = model_export.digest(folder)
    model_export.export_quantized(tiny, quantized, folder)
    assert model_export.read(folder).recipe.name == "bf16" and model_export.digest(folder) != before
    (folder / "notes.txt").write_text("mine")
    for taken in (folder, tmp_path):
        with pytest.raises(ExportError, match="contains something other"):
            model_export.export_quantized(tiny, quantized, taken)
        with pytest.raises(ExportError, match="contains something other"):
            model_export.export("no-such-model", recipe("bf16"), taken)  # before any work
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_disk_that_is_full_leaves_nothing_behind(made, tiny, tmp_path):
    """The system refuses to write files beyond a size, as it does beyond a disk's."""
    quantized = backends.quantize(tiny.torch_model, recipe("bf16"))
    folder = copied(made[0]["torch-int8"], tmp_path)
    before = model_export.digest(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ExportError, match=r"cannot be written .* needs 7\d MB"):
            model_export.export_quantized(tiny, quantized, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert model_export.digest(folder) == before


def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path):
    for name, words in (
        ("quanto-int8-int8-eval10", "calibrated on part of an evaluation set"),
        ("faster-whisper-int8", "files of its own"),
        ("whisper.cpp-q8_0", "files of its own"),
    ):
        with pytest.raises(RecipeUnsupported, match=words):
            model_export.export("tiny.en", recipe(name), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_dequantized_weights_are_not_exported(tiny, tmp_path):
    dequantized = backends.quantize(tiny.torch_model, recipe("whole-int8"), kernels="dequantized")
    with pytest.raises(RecipeUnsupported, match="as large as fp32's"):
        model_export.export_quantized(tiny, dequantized, tmp_path / "x")


def test_an_exported_model_is_no_fp32_model(made):
    with pytest.raises(ModelError, match="exported model, already quantized"):
        model_sources.find(str(made[0]["bf16"]))


def test_the_command_line_exports(store, tmp_path, capsys):
    folder = tmp_path / "small enough"
    command = ["export", "--model", "tiny.en", "--recipe", "torchao-int8", "--out", str(folder)]
    assert main([*command, "--protocol", "corrected"]) == 0
    printed = capsys.readouterr().out
    manifest = model_export.read(folder)
    assert "proj_out" not in manifest.modules and manifest.shared
    assert f"{model_export.size_on_disk(folder) / 1e6:.1f} MB of weights on disk" in printed
    assert f"{manifest.weights_bytes / 1e6:.1f} MB in results" in printed
    assert model_export.digest(folder) in printed
    assert main(["export", "--recipe", "torch-int8", "--out", str(tmp_path)]) == 1
    assert "contains something other" in capsys.readouterr().err
    failed, done = history.read(store.root).entries
    assert (failed.outcome, done.outcome) == (history.FAILED, history.DONE)


def test_the_app_s_folder_names_are_plain():
    assert model_export.folder_name("base", recipe("hqq-int4-g64")) == "base_hqq-int4-g64"
    name = model_export.folder_name("owner/some model@1", recipe("bf16"), CORRECTED)
    assert name == "some-model-1_bf16_corrected"
