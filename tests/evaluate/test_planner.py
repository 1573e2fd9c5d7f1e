"""What would become of requests, without running any."""

from dataclasses import replace

import pytest

from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.requests import Request, requests_for
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe

# Most of these tests load real weights.
pytestmark = pytest.mark.model


QUICK = Request("tiny.en", recipe("torch-int8"), "quick-look", threads=2)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The result of QUICK, run once."""
    return run(QUICK, Store(tmp_path_factory.mktemp("quick")))


def test_a_plan_says_what_is_cached_what_will_run_and_what_cannot(store, quick):
    requests = requests_for(
        ["tiny.en", "small"],
        [recipe("torch-int8"), recipe("fp32")],
        ["quick-look"],
        speed=False,
        threads=2,
    )
    store.put(quick)
    planned = plan(requests, store)
    assert [(p.request.model, p.request.recipe.name, p.status) for p in planned] == [
        ("tiny.en", "fp32", "to run"),
        ("tiny.en", "torch-int8", "cached"),
        ("small", "fp32", "to run"),
        ("small", "torch-int8", "to run"),
    ]
    assert planned[0].estimate_s > 1 and planned[0].pieces == 1
    assert planned[2].key is None  # its weights are not here to be identified
    on_cuda = plan([replace(QUICK, device="cuda")], store)[0]
    assert on_cuda.status == "refused" and "runs on cpu" in on_cuda.reason
