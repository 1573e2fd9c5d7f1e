"""The packages that carry weights, from publishers whom we do not know."""

import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from whisperq_core.settings import PROJECT
from whisperq_core.whisper.model_sources import EMBEDDED

PACKAGES = {package for model in EMBEDDED.values() for package, _ in model.parts}


def test_everything_but_pytorch_is_locked_by_hashes_in_the_version_that_is_required():
    lock = (PROJECT / "requirements-lock.txt").read_text(encoding="utf-8")
    required = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z])", lock, flags=re.M)[1:]
    locked = {block.split()[0].lower() for block in blocks}
    pins = {line.lower().replace("_", "-") for line in re.findall(r"^[\w.-]+==\S+", required, re.M)}
    assert pins - locked == {next(pin for pin in pins if pin.startswith("torch=="))}
    assert {line.partition("==")[0] for line in locked} >= PACKAGES
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)
    assert "--only-binary :all:" in lock


def test_all_that_locked_packages_need_is_locked_too():
    lock = (PROJECT / "requirements-lock.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z][\w-]*)==(\S+)", lock, re.M))
    here = {name: here for name, wanted in locked.items() if (here := installed(name)) == wanted}
    assert len(here) > len(locked) / 2
    needed = {
        canonicalize_name(requirement.name)
        for name in here
        for requirement in map(Requirement, requires(name) or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    assert needed - locked.keys() <= {"torch"}


def installed(name: str) -> str | None:
    """Its version here; None where it is for other systems."""
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def test_none_has_code_that_runs_by_itself_and_none_is_imported():
    for package in PACKAGES:
        assert not [file for file in files(package) if file.suffix == ".pth"]
    code = (
        "import sys; from whisperq_core.whisper import model_sources as m;"
        "print(all(map(m.embedded_files, m.EMBEDDED)), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    found, *modules = done.stdout.split()
    assert found == "True" and not {p.replace("-", "_") for p in PACKAGES} & set(modules)
