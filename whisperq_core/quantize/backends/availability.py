"""Whether a recipe can run here, and the library versions that decide what it computes."""

import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from whisperq_core import machine
from whisperq_core.errors import LibraryMissing, RecipeUnsupported
from whisperq_core.quantize.backends.registry import backend_of, module_of
from whisperq_core.quantize.recipe import Recipe


def version(package: str) -> str:
    """The installed version; raises PackageNotFoundError.

    A page asks for that of every recipe, so it is read again only after something was installed.
    """
    installed = _version(package, tuple((folder, _modified_ns(folder)) for folder in sys.path))
    if installed is None:
        raise PackageNotFoundError(package)
    return installed


@lru_cache(maxsize=1000)
def _version(package: str, folders: tuple[tuple[str, int], ...]) -> str | None:
    """None where it is not installed in the folders; each with when its entries changed last."""
    try:
        return metadata.version(package)
    except PackageNotFoundError:
        return None


def _modified_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def library_version(recipe: Recipe) -> str:
    """Name and version of the recipe's library, such as hqq 0.2.8; raises LibraryMissing."""
    installed = {}
    for package in backend_of(recipe).packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            raise LibraryMissing(
                f"{recipe.name} needs the package {package}. Install it: pip install {package}"
            ) from None
    return " ".join(next(iter(installed.items())))


def versions(
    recipe: Recipe, model: str, device: str = "cpu", also: Sequence[str] = ()
) -> dict[str, str]:
    """Versions of the libraries, and of a user's own file, that decide what the recipe computes.

    also: further packages that count. Raises RecipeUnsupported where there is no such file for the
    model of that name, LibraryMissing where one of `also` is not installed.
    Without a build's label: 2.13.0+cpu and 2.13.0+cu130 compute the same on a CPU. On a GPU, CUDA's
    version counts too.
    """
    packages = sorted({"torch", "transformers", *backend_of(recipe).packages})
    installed = {package: version(package).partition("+")[0] for package in packages}
    for package in also:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            raise LibraryMissing(
                f"Recordings over 30 s need the package {package}. Install it: pip install"
                f" {package}"
            ) from None
    if device == "cuda" and (cuda := machine.cuda_version()):
        installed["cuda"] = cuda
    identity = getattr(module_of(recipe), "identity", None)
    return installed | (identity(model, recipe) if identity else {})


def unavailable_reason(recipe: Recipe, device: str) -> str | None:
    """Why the recipe cannot run on the device, in a sentence; None where it can.

    Cheap: imports no library, so that a page can ask it of every recipe.
    """
    if device not in recipe.devices:
        return f"{recipe.name} {_device_reason(recipe, device)}"
    try:
        library_version(recipe)
    except LibraryMissing as missing:
        return str(missing)
    missing_file_reason = getattr(module_of(recipe), "missing_file_reason", None)
    if missing_file_reason and (reason := missing_file_reason(recipe)):
        return str(reason)
    if device == "cuda":
        return _gpu_reason(recipe)
    return _half_precision_reason(recipe, device) or _full_range_reason(recipe, device)


def _device_reason(recipe: Recipe, device: str) -> str:
    """The end of the sentence that says why the recipe does not run on the device."""
    places = ", ".join(recipe.devices)
    if recipe.has_own_runtime:
        return f"is compared on {places} only."
    if recipe.compiled:
        return f"runs on {places}: CUDA graphs save the time that a GPU waits for each kernel."
    if recipe.compute != "fp32":
        usual = recipe.name.removesuffix(f"-{recipe.compute}")
        return f"runs on {places}, for half precision beside {recipe.weights}; choose {usual} here."
    return f"runs on {places}; {recipe.backend} has no kernels for {device}."


# From which compute capability on a GPU computes in a format, and what such GPUs are called.
_CAPABILITIES = {"float8": ((8, 9), "Ada or Hopper"), "bf16": ((8, 0), "Ampere")}


def _gpu_reason(recipe: Recipe) -> str | None:
    """Formats that a GPU would emulate, or that its kernels refuse."""
    capability = machine.gpu_capability()
    if capability is None:
        return None
    formats = [recipe.weights, recipe.compute]
    formats += [recipe.activations] if recipe.scheme == "dynamic" else []
    for number_format in formats:
        needed, generation = _CAPABILITIES.get(number_format, ((0, 0), ""))
        stored_only = number_format == "float8" and recipe.scheme != "dynamic"
        if capability < needed and not stored_only:
            return (
                f"This GPU has compute capability {capability[0]}.{capability[1]} and no"
                f" {number_format} products; {generation} and later GPUs have them."
            )
    return None


def _half_precision_reason(recipe: Recipe, device: str) -> str | None:
    """Half precision on a CPU is only worth the name where the CPU computes in it."""
    formats = {recipe.weights, recipe.attention} & {"bf16", "fp16"}
    if device != "cpu" or not formats or recipe.has_own_runtime:
        return None
    needed = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "asimdhp")}
    missing = [f for f in formats if machine.cpu_flags().isdisjoint(needed[f])]
    if missing:
        return f"This CPU has no {missing[0]} instructions; PyTorch would emulate them."
    return None


def _full_range_reason(recipe: Recipe, device: str) -> str | None:
    """x86 CPUs before VNNI add pairs of int8 products in 16 bits, where 8-bit activations overflow.

    That is why PyTorch has 7 of them by default.
    """
    flags = machine.cpu_flags()
    adds_in_16_bits = "avx2" in flags and flags.isdisjoint({"avx512_vnni", "avx_vnni"})
    if recipe.full_range and device == "cpu" and adds_in_16_bits:
        return "This CPU has no VNNI instructions: products of 8-bit activations would overflow."
    return None


def require(recipe: Recipe, device: str) -> None:
    """Raises RecipeUnsupported or LibraryMissing with the reason where the recipe cannot run.

    Unlike `unavailable_reason` it asks PyTorch whether the device exists on this machine.
    """
    import torch

    library_version(recipe)
    if reason := unavailable_reason(recipe, device):
        raise RecipeUnsupported(reason)
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available[device]:
        raise RecipeUnsupported(
            f"PyTorch finds no {device} device here. Install a torch that has it, or choose cpu."
        )
    if device == "cuda":
        _require_named_gpu(torch.cuda.get_device_name(0))


def _require_named_gpu(used: str) -> None:
    """Raises RecipeUnsupported where results would name another GPU than PyTorch uses."""
    named = machine.this_machine().gpu
    if named is not None and named != used:
        raise RecipeUnsupported(
            f"PyTorch uses {used} first, and nvidia-smi lists {named} first. Set"
            " CUDA_DEVICE_ORDER=PCI_BUS_ID, or choose one with CUDA_VISIBLE_DEVICES."
        )
