"""Whether a recipe can run here, and the library versions that decide what it computes."""

from importlib.metadata import PackageNotFoundError, version

from whisperq_core.errors import LibraryMissing, RecipeUnsupported
from whisperq_core.quantize.backends.registry import backend_of, module_of
from whisperq_core.quantize.recipe import Recipe


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


def versions(recipe: Recipe, model: str) -> dict[str, str]:
    """Versions of the libraries, and of a user's own file, that decide what the recipe computes.

    Raises RecipeUnsupported where there is no such file for the model of that name.
    Without a build's label: 2.13.0+cpu and 2.13.0+cu130 compute the same on a CPU.
    """
    packages = sorted({"torch", "transformers", *backend_of(recipe).packages})
    installed = {package: version(package).partition("+")[0] for package in packages}
    identity = getattr(module_of(recipe), "identity", None)
    return installed | (identity(model, recipe) if identity else {})


def unavailable_reason(recipe: Recipe, device: str) -> str | None:
    """Why the recipe cannot run on the device, in a sentence; None where it can.

    Cheap: imports no library, so that a page can ask it of every recipe.
    """
    if device not in recipe.devices:
        places = ", ".join(recipe.devices)
        if recipe.has_own_runtime:
            return f"{recipe.name} is compared on {places} only."
        return f"{recipe.name} runs on {places}; {recipe.backend} has no kernels for {device}."
    try:
        library_version(recipe)
    except LibraryMissing as missing:
        return str(missing)
    missing_file_reason = getattr(module_of(recipe), "missing_file_reason", None)
    if missing_file_reason and (reason := missing_file_reason(recipe)):
        return str(reason)
    return _half_precision_reason(recipe, device)


def _half_precision_reason(recipe: Recipe, device: str) -> str | None:
    """Half precision on a CPU is only worth the name where the CPU computes in it."""
    formats = {recipe.weights, recipe.attention} & {"bf16", "fp16"}
    if device != "cpu" or not formats or recipe.has_own_runtime:
        return None
    from whisperq_core.machine import cpu_flags

    needed = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "asimdhp")}
    missing = [f for f in formats if cpu_flags().isdisjoint(needed[f])]
    if missing:
        return f"This CPU has no {missing[0]} instructions; PyTorch would emulate them."
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
