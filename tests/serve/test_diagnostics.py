"""What this machine has and lacks, told without loading what it tells of."""

import subprocess
import sys
from importlib.metadata import version

import psutil
import pytest

from whisperq_core.cli.main import main
from whisperq_core.quantize.backends import BACKENDS, unavailable_reason
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.serve import diagnostics
from whisperq_core.settings import PROJECT


def test_every_backends_package_is_listed_with_its_use():
    found = {library.package: library for library in diagnostics.libraries()}
    assert {package for backend in BACKENDS.values() for package in backend.packages} <= set(found)
    assert all(library.use for library in found.values())
    assert found["hqq"].use == "Quantization libraries"
    assert found["openvino"].use == "Other runtimes, to compare with"
    assert found["torch"].version == version("torch")
    assert found["streamlit"].is_as_tested and found["streamlit"].command == ""


def test_what_is_missing_or_of_another_version_has_its_command(tmp_path):
    (tmp_path / "requirements.txt").write_text("# things\nno-such-thing==1.0\n")
    extras = '[project.optional-dependencies]\npeers = ["psutil==0.1"]\ndev = ["pytest==1"]\n'
    (tmp_path / "pyproject.toml").write_text(extras)
    missing, older = diagnostics.libraries(tmp_path)
    assert (missing.use, missing.version, older.use) == ("", None, "Worker processes")
    assert missing.command == "pip install no-such-thing==1.0"
    assert (older.version, older.command) == (psutil.__version__, "pip install psutil==0.1")
    found = diagnostics.MachineReport((), (), (missing, older), (), ())
    assert found.command == "pip install no-such-thing==1.0"
    text = diagnostics.as_text(found)
    assert "no-such-thing is missing: pip install no-such-thing==1.0" in text
    assert "tested with 0.1" in text


@pytest.mark.parametrize(
    ("flags", "architecture", "there"),
    [
        ({"avx2", "avx512f", "avx_vnni"}, "x86_64", {"AVX2", "AVX-512", "VNNI"}),
        ({"asimd", "asimddp"}, "aarch64", {"NEON", "dotprod"}),
        ({"avx2"}, "arm64", set()),
    ],
)
def test_instruction_sets_are_those_of_the_flags(flags, architecture, there):
    found = diagnostics.instruction_sets(flags, architecture)
    assert {one.name for one in found if one.available} == there
    assert all(one.available is None for one in diagnostics.instruction_sets(set(), architecture))


def test_recipes_that_cannot_run_are_listed_with_their_reasons(store):
    refused = {
        (r.recipe, r.device): r.reason
        for r in diagnostics.machine_report(store.root).unsupported_recipes
    }
    for name, recipe in CATALOGUE.items():
        assert refused.get((name, "cpu")) == unavailable_reason(recipe, "cpu")


def test_the_folder_of_results_is_measured_before_it_is_made(store):
    facts = dict(diagnostics.machine_report(store.root).facts)
    assert str(store.root) in facts["Results and work in progress"]
    assert "0.0 MB" in facts["Results and work in progress"] and "free" in facts["Disk space"]
    (store.root / "a").mkdir(parents=True)
    (store.root / "a" / "b").write_bytes(b"x" * 300)
    assert diagnostics.folder_bytes(store.root) == 300


def test_a_driver_that_does_not_answer_is_said(monkeypatch):
    monkeypatch.setattr(diagnostics, "devices", lambda: ["cpu", "cuda"])
    monkeypatch.setattr(diagnostics, "_GPU_QUERY", ("no-such-program",))
    assert "does not answer" in diagnostics.gpu_description()
    monkeypatch.setattr(diagnostics, "_GPU_QUERY", ("echo", "NVIDIA A100, 40960 MiB, 550.1"))
    assert diagnostics.gpu_description() == "NVIDIA A100, 40960 MiB, 550.1"


def test_the_command_line_tells_it_without_torch(store):
    code = (
        "import sys; from whisperq_core.serve.diagnostics import *;"
        " print(as_text(machine_report(Path('x'))));"
        " assert not {'torch', 'streamlit', 'openvino', 'transformers'} & set(sys.modules)"
    )
    run = [sys.executable, "-W", "error", "-c", code]
    told = subprocess.run(run, check=True, capture_output=True, text=True, cwd=PROJECT).stdout
    assert "CPU: " in told and "tiny.en" in told


def test_the_command_line_has_it(store, capsys):
    assert main(["machine"]) == 0
    assert "Instruction sets" in capsys.readouterr().out
