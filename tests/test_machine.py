import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from whisperq_core.machine import Machine, cpu_flags, devices, this_machine


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
