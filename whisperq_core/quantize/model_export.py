"""Quantized models as folders: `export` writes one, and `load` needs nothing but the folder.

    model.safetensors   every tensor, shared ones once
    recipe.json         what the model is, and how its quantized layers are rebuilt (`Manifest`)
    config.json, generation_config.json, tokenizer.json
                        what transcribing needs beside weights, as Transformers writes it
    SHA256SUMS          a digest of each of them, as `sha256sum --check` reads it

Loading unpickles and evaluates nothing. The digests tell a folder that was cut or altered by
accident; whoever alters it on purpose can write new ones, so compare `digest` with the exporter's.
"""

import hashlib
import json
import re
import shutil
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from whisperq_core.errors import ExportError, RecipeUnsupported
from whisperq_core.file_storage import check_json, clean_path, read_file
from whisperq_core.quantize import backends, pipeline
from whisperq_core.quantize.model_parts import ModelParts, assemble, disassemble
from whisperq_core.quantize.recipes import Device, Recipe
from whisperq_core.whisper import model_sources, models
from whisperq_core.whisper.features import LogMel
from whisperq_core.whisper.protocols import STUDY, Protocol

# The layout of the folder. Raise it when it changes, and teach `load` to read the older one.
SCHEMA = 1
# Where the app puts exported models and looks for them, below the folder of results.
FOLDER = "artefacts"

_TENSORS, _MANIFEST, _SUMS = "model.safetensors", model_sources.EXPORTED, "SHA256SUMS"
_CONFIG, _GENERATION, _TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
# Of recipe.json and SHA256SUMS.
_MAX_TEXT_BYTES = 5_000_000
_FILES = (_TENSORS, _MANIFEST, _CONFIG, _GENERATION, _TOKENIZER)


class Manifest(BaseModel):
    """What recipe.json holds.

    model, weights_digest: the fp32 model it was made from. weights_bytes, fp32_bytes: serialized
    bytes of the quantized and of the fp32 model, as results count them. modules: names of what was
    quantized. layers, shared: see `Parts`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    model: str
    weights_digest: str
    recipe: Recipe
    device: Device
    versions: dict[str, str]
    weights_bytes: int
    fp32_bytes: int
    modules: tuple[str, ...]
    layers: dict[str, dict[str, Any]]
    shared: dict[str, str]

    @property
    def label(self) -> str:
        """Model and recipe in a few words."""
        return f"{self.model} · {self.recipe.name}"

    def other_versions(self) -> list[str]:
        """Libraries that are here in another version than the model was made with.

        Raises LibraryMissing where the recipe's library is not installed.
        """
        backends.library_version(self.recipe)
        here = backends.versions(self.recipe, self.model, self.device)
        return [
            f"{package} {version} (installed: {here.get(package, 'none')})"
            for package, version in self.versions.items()
            if version != here.get(package)
        ]


@dataclass(frozen=True)
class ExportedModel:
    """A loaded model. model.torch_model is the quantized one too, as there are no fp32 weights.

    `quantized_model.load` gives one that transcribes.
    """

    manifest: Manifest
    model: models.Model
    quantized: backends.Quantized


def unexportable_reason(recipe: Recipe) -> str | None:
    """Why the recipe's model cannot be exported, in a sentence; None where it can. Cheap."""
    if recipe.calibration == "evaluation-10%":
        return (
            f"{recipe.name} is calibrated on part of an evaluation set, so it cannot be exported."
            " Export the variant calibrated on the dev-clean excerpt."
        )
    if not hasattr(backends.module_of(recipe), "state_of"):
        return f"{recipe.name} cannot be exported: its runtime keeps the model in files of its own."
    return None


def export(
    model: str, recipe: Recipe, folder: Path | str, device: str = "cpu", protocol: Protocol = STUDY
) -> Manifest:
    """Quantizes the model of that name as the protocol has it, and writes it to the folder.

    An exported model that is there is replaced. Raises RecipeUnsupported or LibraryMissing for a
    recipe that cannot be made or exported here, ExportError where the folder holds something else
    or cannot be written, and what loading the model raises.
    """
    if reason := unexportable_reason(recipe):
        raise RecipeUnsupported(reason)
    backends.require(recipe, device)
    recipe = pipeline.recipe_for_protocol(recipe, protocol)
    folder = clean_path(folder).resolve()
    _require_replaceable(folder)
    loaded = pipeline.load_model(model)
    return export_quantized(
        loaded, pipeline.quantize_model(loaded, recipe, None, device, protocol), folder
    )


def export_quantized(
    model: models.Model,
    quantized: backends.Quantized,
    folder: Path,
    fp32_bytes: int | None = None,
) -> Manifest:
    """Writes a model that was quantized already, on the library's kernels.

    fp32_bytes: serialized size of the fp32 model; None measures it on the model. bitsandbytes 4-bit
    on a CPU must not have transcribed before. Raises as `export` does.
    """
    import safetensors.torch

    if quantized.kernels != "library":
        raise RecipeUnsupported(
            "Dequantized weights are as large as fp32's. Export with the library's kernels."
        )
    parts = disassemble(quantized)
    # A folder is named without its path; a loaded model, which has no source, is named so already.
    from_folder = model.source is not None and model.source.kind == "folder"
    device = next(quantized.torch_model.parameters()).device.type
    manifest = Manifest(
        model=Path(model.name).name if from_folder else model.name,
        weights_digest=model.digest,
        recipe=quantized.recipe,
        device=device,
        versions=backends.versions(quantized.recipe, model.name, device),
        weights_bytes=quantized.weights_bytes,
        fp32_bytes=fp32_bytes or backends.serialized_bytes(model.torch_model),
        modules=quantized.modules,
        layers=parts.layers,
        shared=parts.shared,
    )
    torch_model = quantized.torch_model
    texts = {
        _MANIFEST: manifest.model_dump_json(indent=1),
        _CONFIG: torch_model.config.to_json_string(),
        _GENERATION: torch_model.generation_config.to_json_string(),
        _TOKENIZER: model.tokenizer.backend_tokenizer.to_str(),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files[_TENSORS] = safetensors.torch.save(parts.tensors, metadata={"format": "pt"})
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in _FILES]
    _write_all(folder, files | {_SUMS: "".join(lines).encode()})
    return manifest


def _is_exported(folder: Path) -> bool:
    try:
        return (folder / _MANIFEST).is_file() and (folder / _SUMS).is_file()
    except (OSError, ValueError):  # too long a name, a loop of links
        return False


def _require_replaceable(folder: Path) -> None:
    """Raises ExportError unless nothing is lost when the folder is written."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if names and not (_is_exported(folder) and names <= {*_FILES, _SUMS}):
        raise ExportError(
            f"{folder} contains something other than an exported model and was not changed."
            " Choose another folder."
        )


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Writes beside the folder and renames, so that it is never there in part."""
    _require_replaceable(folder)
    beside = f".{folder.name}-{uuid.uuid4().hex[:8]}"
    new, old = folder.with_name(f"{beside}.new"), folder.with_name(f"{beside}.old")
    try:
        new.mkdir(parents=True)
        for name, content in files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        size = sum(map(len, files.values())) / 1e6
        raise ExportError(
            f"{folder} cannot be written ({error.strerror}). It needs {size:.0f} MB in a place"
            " where you may write."
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def folder_name(model: str, recipe: Recipe, protocol: Protocol = STUDY) -> str:
    """What the app calls the folder of an exported model."""
    words = [Path(model).name, recipe.name]
    words += [] if protocol == STUDY else [protocol.name]
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", word) for word in words)


def exported_models(root: Path) -> dict[Path, Manifest]:
    """The app's exported models below the folder of results; what is no such is left out."""
    here = {}
    for path in sorted((root / FOLDER).glob(f"*/{_MANIFEST}")):
        try:
            here[path.parent] = read(path.parent)
        except ExportError:
            continue
    return here


def read(folder: Path | str) -> Manifest:
    """What the folder says it is; its files are not looked at. Imports nothing heavy.

    Raises ExportError for a folder that is no exported model, or is a newer WhisperQ's.
    """
    folder = clean_path(folder)
    if not _is_exported(folder):
        raise ExportError(
            f"{folder} is not an exported model: it has no {_MANIFEST} with {_SUMS}. Name a"
            " folder that “python -m whisperq_core export” wrote."
        )
    try:
        text = read_file(folder / _MANIFEST, _MAX_TEXT_BYTES)
        check_json(text)
        version = json.loads(text)["schema_version"]
        if version > SCHEMA:
            raise ExportError(
                f"{folder} was exported in schema {version}; this WhisperQ reads up to {SCHEMA}."
                " Update WhisperQ to load it."
            )
        manifest = Manifest.model_validate_json(text)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise _damaged(folder, _MANIFEST, "cannot be read") from error
    if manifest.recipe.backend not in backends.BACKENDS:
        raise ExportError(f"{folder} uses a recipe that this version of WhisperQ does not have.")
    return manifest


def digest(folder: Path | str) -> str:
    """sha256 (hex) of SHA256SUMS: one number for the whole folder. Raises ExportError."""
    try:
        return hashlib.sha256(read_file(clean_path(folder) / _SUMS, _MAX_TEXT_BYTES)).hexdigest()
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder} is not an exported model: it has no {_SUMS}.") from error


def size_on_disk(folder: Path | str) -> int:
    """Bytes of model.safetensors."""
    return (clean_path(folder) / _TENSORS).stat().st_size


def load(folder: Path | str) -> ExportedModel:
    """The exported model in the folder, verified, on the device that it was exported for.

    Warns where a library has another version than the model was made with. Raises ExportError for
    a folder that is no exported model, or was cut or altered; RecipeUnsupported or LibraryMissing
    where its recipe cannot run here.
    """
    models.quieten_libraries()
    import safetensors.torch

    folder = clean_path(folder)
    manifest = read(folder)
    content = _verified(folder)
    recipe = manifest.recipe
    if unexportable_reason(recipe):
        raise ExportError(f"{folder} uses a recipe that this version of WhisperQ does not have.")
    if others := manifest.other_versions():
        warnings.warn(
            f"{folder} was exported with {'; '.join(others)}. Its transcripts may differ.",
            stacklevel=2,
        )
    backends.require(recipe, manifest.device)
    try:
        model = _without_weights(manifest, folder)
    except Exception as error:  # whatever Transformers says of settings that are not its own
        raise _damaged(folder, _CONFIG, f"cannot be used ({error})") from error
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise _damaged(folder, _TENSORS, f"cannot be read ({error})") from error
    parts = ModelParts(tensors, manifest.shared, manifest.layers)
    try:
        assemble(parts, recipe, model.torch_model, manifest.device)
    except ExportError as error:
        raise ExportError(f"{folder} cannot be loaded. {error}") from error
    quantized = backends.Quantized(
        torch_model=model.torch_model,
        recipe=recipe,
        kernels="library",
        modules=manifest.modules,
        quantize_s=0.0,
        weights_bytes=manifest.weights_bytes,
    )
    return ExportedModel(manifest, model, quantized)


def _without_weights(manifest: Manifest, folder: Path) -> models.Model:
    """The model with its tokenizer and settings; its weights are on the meta device."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    settings = json.loads((folder / _CONFIG).read_text("utf-8"))
    # Numbers only: for some names, such as that of another attention, Transformers fetches code.
    numbers: dict[str, Any] = {k: v for k, v in settings.items() if isinstance(v, int | float)}
    config = WhisperConfig(**numbers)
    with torch.device("meta"):
        torch_model = WhisperForConditionalGeneration(config)
    torch_model.generation_config = GenerationConfig.from_pretrained(folder)
    return models.Model(
        manifest.model,
        manifest.weights_digest,
        torch_model,
        LogMel(config.num_mel_bins),
        models.read_tokenizer(folder),
    )


def _verified(folder: Path) -> bytes:
    """The content of model.safetensors, after every file was found to be what was written.

    Raises ExportError naming the file that is not.
    """
    lines = (folder / _SUMS).read_text("utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    content = b""
    for name in reversed(_FILES):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise _damaged(folder, name, "is missing") from error
        if hashlib.sha256(content).hexdigest() != sums.get(name):
            raise _damaged(folder, name, f"was cut or altered: its sha256 is not that in {_SUMS}")
    return content


def _damaged(folder: Path, name: str, what: str) -> ExportError:
    return ExportError(f"{folder}: {name} {what}. Copy the folder or export the model again.")
