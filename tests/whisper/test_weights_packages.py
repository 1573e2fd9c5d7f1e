"""The packages that carry weights, from publishers whom we do not know."""

import re
import subprocess
import sys
from importlib.metadata import files

from whisperq_core.settings import PROJECT
from whisperq_core.whisper.model_sources import EMBEDDED

PACKAGES = {package for model in EMBEDDED.values() for package, _ in model.parts}


def test_each_is_pinned_by_its_hash_in_the_version_that_is_required():
    pinned = (PROJECT / "requirements-weights.txt").read_text(encoding="utf-8")
    required = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = dict(re.findall(r"^([\w-]+==[\w.]+) --hash=sha256:([0-9a-f]{64})$", pinned, re.M))
    assert {line.partition("==")[0] for line in found} == PACKAGES
    assert set(found) <= set(required) and len(set(found.values())) == len(PACKAGES)
    assert "--only-binary :all:" in pinned


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
