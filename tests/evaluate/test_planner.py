"""What would become of requests, without running any."""

from dataclasses import replace

from tests.support.sample_runs import accuracy_run
from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.requests import Request, requests_for
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.quantize.recipes import recipe

QUICK = Request("tiny.en", recipe("torch-int8"), "quick-look", threads=2)


def test_a_plan_says_what_is_cached_what_will_run_and_what_cannot(store):
    requests = requests_for(
        ["tiny.en", "small"],
        [recipe("torch-int8"), recipe("fp32")],
        ["quick-look"],
        speed=False,
        threads=2,
    )
    store.put(accuracy_run("torch-int8").model_copy(update={"spec": resolve(QUICK).spec}))
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
