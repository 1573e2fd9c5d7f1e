"""Writes a folder with all that `python -m benchmarks.gpu` needs on a machine without network.

    python -m benchmarks.gpu.bundle FOLDER [--model base] [--python 3.12] [--part-mb 60]

The machine brings Python, PyTorch with CUDA and Transformers. The folder has WhisperQ, the speech,
and wheels of the packages that the machine may lack, the model's weights among them. Wheels are
made from the packages that are installed here; for another version of Python, those with compiled
code are downloaded by pip, in the same version.

--part-mb splits it into folders 1, 2, … of at most so many MB, for machines to which no more can be
copied at a time. Copied over each other, in any order, they are the whole.

Unpacking, below, needs Python's own modules only.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
WHEELS = "wheels"
# Has a file for each part that was copied, such as 1of3.
PARTS = "parts"
_UNPACKED = "unpacked"
_PART = re.compile(r"(.+)\.part(\d+)of(\d+)")
# What the machine brings, and what is carried without being any recipe's library.
_THERE = {"torch", "transformers", "numpy", "huggingface-hub", "safetensors", "tokenizers"}
_NEEDED = (
    *("pydantic", "pydantic-settings", "jiwer", "whisper-normalizer", "soundfile", "soxr"),
    *("pooch", "requests", "psutil"),
)
# Wheels for these suit the machines that WhisperQ was tried on: pip matches them exactly.
_PLATFORMS = (*(f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)), "manylinux2014_x86_64")


def unpack(folder: Path) -> Path | None:
    """Makes the carried packages that this Python lacks importable; returns where they are.

    Packages that are installed stay in use. None where nothing is carried. Raises SystemExit where
    a part is missing.
    """
    _require_parts(folder)
    wheels = folder / WHEELS
    if not wheels.is_dir():
        return None
    _join(wheels)
    unpacked = wheels / _UNPACKED
    unpacked.mkdir(exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        if not _is_installed(name) and not (unpacked / f"{name}-{version}.dist-info").is_dir():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
    return unpacked


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _require_parts(folder: Path) -> None:
    """Raises SystemExit unless all folders that `split` wrote were copied here."""
    copied = {path.name for path in (folder / PARTS).glob("*of*")}
    for count in {int(name.partition("of")[2]) for name in copied}:
        if missing := [n for n in range(1, count + 1) if f"{n}of{count}" not in copied]:
            listed = ", ".join(map(str, missing))
            raise SystemExit(f"Of the {count} parts these are missing: {listed}. Copy them here.")


def _join(folder: Path) -> None:
    """Puts files together that were copied in parts."""
    parts: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        if named := _PART.fullmatch(path.name):
            parts.setdefault(named[1], []).append((int(named[2]), path))
    for name, pieces in parts.items():
        whole = folder / name
        if not whole.is_file():
            joined = whole.with_suffix(".joining")
            with joined.open("wb") as file:
                for _, path in sorted(pieces):
                    file.write(path.read_bytes())
            joined.rename(whole)


def packages(model: str, recipe_names: Iterable[str]) -> list[str]:
    """Installed packages that a machine with PyTorch and Transformers may lack, sorted."""
    from whisperq_core.quantize import backends
    from whisperq_core.quantize.recipes import recipe
    from whisperq_core.whisper.model_sources import EMBEDDED

    wanted = {*_NEEDED, *(package for package, _ in EMBEDDED[model].parts)}
    for name in recipe_names:
        wanted |= set(backends.backend_of(recipe(name)).packages)
    return sorted(_with_requirements(wanted))


def _with_requirements(names: Iterable[str]) -> set[str]:
    """The packages and what they require that is installed here, but for what the machine brings.

    By normalized names.
    """
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name in _THERE or not _is_installed(name):
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                waiting.append(required.name)
    return found


def write_wheels(names: Iterable[str], folder: Path, python: str) -> None:
    """A wheel of each package for that version of Python, such as "3.12", on Linux x86-64."""
    here = "{}.{}".format(*sys.version_info)
    folder.mkdir(parents=True, exist_ok=True)
    to_download = []
    for name in names:
        package = metadata.distribution(name)
        tags = re.findall(r"^Tag: (\S+)", package.read_text("WHEEL") or "", re.MULTILINE)
        if python == here or any(tag.startswith("py3-none-") or "-abi3-" in tag for tag in tags):
            _write_wheel(package, tags, folder)
        else:
            to_download.append(f"{name}=={package.version}")
    if to_download:
        platforms = [option for name in _PLATFORMS for option in ("--platform", name)]
        target = ["--python-version", python, "--implementation", "cp", *platforms]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", *target, "--dest", str(folder), *to_download]
        subprocess.run(command, check=True)


def _write_wheel(package: metadata.Distribution, tags: list[str], folder: Path) -> None:
    """The wheel that an installed package came from, as far as its files are in one folder."""
    name = re.sub(r"[-_.]+", "_", package.metadata["Name"])
    wheel = folder / f"{name}-{package.version}-{tags[0]}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in package.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                # Names of folders may be spelled otherwise than the package's.
                archive.write(str(file.locate()), _renamed(file, f"{name}-{package.version}"))


def _renamed(file: metadata.PackagePath, stem: str) -> str:
    first, *rest = file.parts
    if first.endswith(".dist-info"):
        first = f"{stem}.dist-info"
    return "/".join((first, *rest))


def write(folder: Path, model: str, recipe_names: Iterable[str], python: str) -> None:
    """The whole folder, in one piece."""
    from benchmarks.gpu.measure import SETS
    from whisperq_core.speech import evaluation_sets

    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "whisperq_core", folder / "whisperq_core", ignore=ignored)
    shutil.copytree(PROJECT / "benchmarks" / "gpu", folder / "benchmarks" / "gpu", ignore=ignored)
    shutil.copy(PROJECT / "benchmarks" / "__init__.py", folder / "benchmarks")
    (folder / "speech").mkdir()
    shutil.copy(evaluation_sets.SPEECH / "manifest.jsonl", folder / "speech")
    for name in SETS:
        for utterance in evaluation_sets.by_name(name).utterances:
            copied = folder / utterance.audio.relative_to(PROJECT)
            copied.parent.mkdir(exist_ok=True)
            shutil.copy(utterance.audio, copied)
    write_wheels(packages(model, recipe_names), folder / WHEELS, python)


def split(whole: Path, folder: Path, part_bytes: int) -> int:
    """The same files in folders 1, 2, … of at most so many bytes each; returns how many.

    A file that does not fit into the rest of a folder begins there and goes on in the next one.
    """
    number, left = 1, part_bytes
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        name, size = path.relative_to(whole), path.stat().st_size
        if size > left and size <= part_bytes:
            number, left = number + 1, part_bytes
        for part_name, content in _parts(path, name, part_bytes):
            if len(content) > left:
                number, left = number + 1, part_bytes
            target = folder / str(number) / part_name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            left -= len(content)
    for part in range(1, number + 1):
        (folder / str(part) / PARTS).mkdir()
        (folder / str(part) / PARTS / f"{part}of{number}").touch()
    return number


def _parts(path: Path, name: Path, part_bytes: int) -> Iterator[tuple[Path, bytes]]:
    content = path.read_bytes()
    count = -(-len(content) // part_bytes)
    if count <= 1:
        yield name, content
        return
    for index in range(count):
        piece = content[index * part_bytes : (index + 1) * part_bytes]
        yield name.with_name(f"{name.name}.part{index + 1}of{count}"), piece


def main() -> None:
    """Writes the folder and says how large it is."""
    from benchmarks.gpu.measure import RECIPES

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="base")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--part-mb", type=int, help="at most so many MB at a time")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} is there already. Name a new folder.")
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "bundle"
        whole.mkdir()
        write(whole, arguments.model, arguments.recipes.split(","), arguments.python)
        size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        if arguments.part_mb:
            count = split(whole, arguments.folder, arguments.part_mb * 10**6)
            print(f"{arguments.folder}: {size / 1e6:.0f} MB in {count} folders.")
        else:
            shutil.copytree(whole, arguments.folder)
            print(f"{arguments.folder}: {size / 1e6:.0f} MB.")


if __name__ == "__main__":
    main()
