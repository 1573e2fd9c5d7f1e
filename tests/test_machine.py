import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from whisperq_core import machine as machine_module
from whisperq_core.machine import Machine, cpu_flags, devices, this_machine

CPU_ONLY = Machine(cpu="A CPU", cores=2, memory_bytes=8 << 30, system="Linux", python="3.11")


def test_this_machine_is_described_as_the_system_describes_it():
    machine = this_machine()
    assert machine.cores == os.cpu_count()
    assert machine.memory_bytes == psutil.virtual_memory().total
    assert machine.python == "{}.{}.{}".format(*sys.version_info[:3])
    assert machine.system.split()[0].lower().startswith(sys.platform[:3])
    assert machine.cpu.strip() == machine.cpu != ""
    assert "\n" not in machine.cpu


def test_it_is_the_same_each_time_and_after_json():
    assert this_machine() is this_machine()
    assert Machine.model_validate_json(this_machine().model_dump_json()) == this_machine()


def test_a_machine_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        this_machine().cores = 64


def test_flags_are_words_of_the_first_processor():
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split("\n\n")[0].split()) if cpuinfo.is_file() else set()
    assert cpu_flags() <= words
    assert bool(cpu_flags()) == bool(words)
    assert not any(":" in flag for flag in cpu_flags())


def test_devices_are_found_without_torch():
    code = (
        "import sys; from whisperq_core.machine import devices, this_machine; this_machine();"
        " print(*devices()); assert 'torch' not in sys.modules"
    )
    run = [sys.executable, "-W", "error", "-c", code]
    found = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    assert found == devices()
    assert found[0] == "cpu"
    assert set(found) <= {"cpu", "cuda", "mps"}
    assert len(found) == len(set(found))


def test_the_kind_of_machine_has_the_cores_and_on_a_gpu_the_gpu():
    gpu = {"gpu": "A GPU", "gpu_memory_bytes": 80 << 30, "gpu_driver": "550.1", "gpu_cuda": "13.0"}
    with_gpu = CPU_ONLY.model_copy(update=gpu)
    assert CPU_ONLY.kind == with_gpu.kind == "A CPU, 2 cores, Linux"
    assert CPU_ONLY.model_copy(update={"cores": 4}).kind != CPU_ONLY.kind
    # Times on the CPU are comparable with those that were stored before GPUs were described.
    assert with_gpu.kind_for("cpu") == CPU_ONLY.kind_for("cpu") == CPU_ONLY.kind_for("cuda")
    assert with_gpu.kind_for("cuda") == f"A CPU, 2 cores, Linux, {with_gpu.gpu_kind}"
    assert with_gpu.gpu_kind == "A GPU, 80 GiB, driver 550.1, CUDA 13.0"
    assert with_gpu.model_copy(update={"gpu_count": 8}).gpu_kind == with_gpu.gpu_kind
    for field in gpu:
        other = with_gpu.model_copy(update={field: 1 << 30 if "bytes" in field else "other"})
        assert other.kind_for("cuda") != with_gpu.kind_for("cuda")


def test_a_machine_of_an_older_record_is_read():
    stored = '{"cpu": "A CPU", "cores": 2, "memory_bytes": 1, "system": "Linux", "python": "3.11"}'
    machine = Machine.model_validate_json(stored)
    assert (machine.gpu, machine.gpu_count, machine.gpu_memory_bytes) == (None, 0, None)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a shell script in the program's place."""
    if os.name != "posix":
        pytest.skip("a shell script in the program's place")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answers(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    machine_module.gpu_capability.cache_clear()
    yield answers
    machine_module.gpu_capability.cache_clear()


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (
            "echo 'NVIDIA H100 80GB HBM3, 81559, 550.90.07'; echo 'Another, 1, 550.90.07'",
            ("NVIDIA H100 80GB HBM3", 2, 81559 * 2**20, "550.90.07"),
        ),
        ("echo 'A GPU, [N/A], 1.2'", ("A GPU", 1, None, "1.2")),
        ("echo No devices were found", (None, 0, None, None)),
        ("exit 9", (None, 0, None, None)),
    ],
)
def test_gpus_are_read_from_nvidia_smi(nvidia_smi, answer, fields):
    nvidia_smi(answer)
    machine = Machine(**CPU_ONLY.model_dump() | machine_module._gpu_fields())
    found = machine.gpu, machine.gpu_count, machine.gpu_memory_bytes, machine.gpu_driver
    assert found == fields


def test_of_several_gpus_the_visible_ones_are_described(nvidia_smi, monkeypatch):
    nvidia_smi('echo "asked with $3, 1, 2"')
    assert machine_module._gpu_fields()["gpu"] == "asked with "
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine_module._gpu_fields()["gpu"] == "asked with --id=1"


@pytest.mark.parametrize(
    ("answer", "capability"),
    [("echo 8.9; echo 7.5", (8, 9)), ("echo [N/A]", None), ("echo Field is not valid", None)],
)
def test_the_compute_capability_is_that_of_the_first_gpu(nvidia_smi, answer, capability):
    nvidia_smi(answer)
    assert machine_module.gpu_capability() == capability


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("cuda: Optional[str] = '13.0'", "13.0"),
        ("cuda = '12.6'", "12.6"),
        ("cuda: Optional[str] = None", None),
    ],
)
def test_cudas_version_is_read_from_pytorchs_files(tmp_path, monkeypatch, line, version):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('it was imported')")
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '1'\n{line}\nhip = '6.0'\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert machine_module.cuda_version() == version


def test_cudas_version_is_the_one_that_pytorch_names():
    import torch

    assert machine_module.cuda_version() == torch.version.cuda
