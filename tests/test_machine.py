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
    gpu = {"gpu": "A GPU", "gpu_memory_bytes": 80 << 30, "gpu_driver": "550.1"}
    with_gpu = CPU_ONLY.model_copy(update=gpu)
    assert CPU_ONLY.kind == with_gpu.kind == "A CPU, 2 cores, Linux"
    assert CPU_ONLY.model_copy(update={"cores": 4}).kind != CPU_ONLY.kind
    # Times on the CPU are comparable with those that were stored before GPUs were described.
    assert with_gpu.kind_for("cpu") == CPU_ONLY.kind_for("cpu") == CPU_ONLY.kind_for("cuda")
    assert with_gpu.kind_for("cuda") == "A CPU, 2 cores, Linux, A GPU, 80 GiB, driver 550.1"


def test_a_machine_of_an_older_record_is_read():
    stored = '{"cpu": "A CPU", "cores": 2, "memory_bytes": 1, "system": "Linux", "python": "3.11"}'
    machine = Machine.model_validate_json(stored)
    assert (machine.gpu, machine.gpu_count, machine.gpu_memory_bytes) == (None, 0, None)


@pytest.mark.skipif(os.name != "posix", reason="a shell script in the program's place")
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
def test_gpus_are_read_from_nvidia_smi(tmp_path, monkeypatch, answer, fields):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    machine = Machine(**CPU_ONLY.model_dump() | machine_module._gpu_fields())
    found = machine.gpu, machine.gpu_count, machine.gpu_memory_bytes, machine.gpu_driver
    assert found == fields
