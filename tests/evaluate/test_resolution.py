"""What a request is resolved to: its spec, its key and its kernels."""

from dataclasses import replace

import pytest

from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize.recipes import recipe
from whisperq_core.settings import PROJECT

# Most of these tests load real weights.
pytestmark = pytest.mark.model


SHIPPED = Store(PROJECT / "cache")
QUICK = Request("tiny.en", recipe("torch-int8"), "quick-look", threads=2)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The result of QUICK, run once."""
    return run(QUICK, Store(tmp_path_factory.mktemp("quick")))


def test_accuracy_does_not_depend_on_the_cpu_but_speed_does():
    accuracy, speed = resolve(QUICK), resolve(replace(QUICK, measures="speed"))
    assert accuracy.spec.cpu is None and speed.spec.cpu
    assert accuracy.key != speed.key


def test_on_a_gpu_speed_depends_on_the_gpu_and_every_result_on_cuda(monkeypatch):
    gpu = {"gpu": "A GPU", "gpu_driver": "550.1", "gpu_cuda": "13.0"}
    with_gpu = this_machine().model_copy(update=gpu)
    monkeypatch.setattr("whisperq_core.evaluate.resolution.this_machine", lambda: with_gpu)
    monkeypatch.setattr("whisperq_core.machine.cuda_version", lambda: "13.0")
    on_gpu = Request("tiny.en", recipe("bf16"), "quick-look", device="cuda")
    accuracy, speed = resolve(on_gpu).spec, resolve(replace(on_gpu, measures="speed")).spec
    assert (accuracy.gpu, speed.gpu) == (None, "A GPU, driver 550.1, CUDA 13.0")
    assert accuracy.versions["cuda"] == speed.versions["cuda"] == "13.0"
    on_cpu = resolve(replace(on_gpu, device="cpu", measures="speed")).spec
    assert on_cpu.gpu is None and "cuda" not in on_cpu.versions


@pytest.mark.parametrize(
    ("name", "eval_set", "kernels"),
    [
        ("quanto-int8", "quick-look", "library"),
        ("quanto-int8", "test-clean-excerpt", "dequantized"),
        ("bnb-nf4", "test-clean-excerpt", "library"),
        ("torch-int8", "test-clean-excerpt", "library"),
        ("fp32", "test-clean-excerpt", "library"),
    ],
)
def test_kernels_of_a_request_without_a_wish(name, eval_set, kernels):
    assert resolve(Request("tiny.en", recipe(name), eval_set)).spec.kernels == kernels
    speed = Request("tiny.en", recipe(name), eval_set, "speed")
    assert resolve(speed).spec.kernels == "library"


@pytest.mark.usefixtures("emulated_bf16")  # bitsandbytes' kernels, and so keys, depend on it
def test_the_key_of_a_shipped_result_is_what_a_request_resolves_to():
    found = [r for r in SHIPPED.runs() if r.model == "base" and r.spec.recipe.name == "bnb-nf4"]
    keys = {r.key for r in found if r.measures == "accuracy"}
    request = Request("base", recipe("bnb-nf4"), "test-clean-excerpt", threads=2)
    assert resolve(request).key in keys


def test_results_of_older_code_of_a_backend_are_not_reused():
    """GPTQ's codes changed after mixed results were stored, which were then measured again."""
    mixed, fp32 = (
        resolve(Request("tiny.en", recipe(name), "test-clean-excerpt", threads=2)).spec
        for name in ("mixed-84", "fp32")
    )
    assert (mixed.code_version, fp32.code_version) == (2, 1)
    before = mixed.model_copy(update={"code_version": 1})
    shipped = SHIPPED.keys()
    assert mixed.key in shipped and before.key not in shipped and mixed.key != before.key
