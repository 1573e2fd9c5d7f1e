"""What a configuration is made of: runs on several sets, with any number of threads, and times."""

from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import SOME, run_with
from whisperq_core.analyze.configurations import configurations

FIRST, SECOND = [f"a-{i:02}" for i in range(20)], [f"b-{i:02}" for i in range(20)]


def run(recipe, ids, name, **how):
    return run_with(recipe, SOME, ids=ids, eval_set=name, eval_set_digest=name * 8, **how)


def on_two_sets(recipe, threads):
    """The first set, which counts as the longer one, with other threads than the second."""
    return [run(recipe, FIRST, "first", threads=threads), run(recipe, SECOND, "second")]


def test_runs_with_other_threads_are_one_configuration_with_the_times_that_there_are():
    runs = [*on_two_sets("fp32", 8), *on_two_sets("bf16", 8)]
    runs += [speed_run("fp32", [2.0, 2.0]), speed_run("bf16", [1.0, 1.0], [2.0, 2.0])]
    by_recipe = {c.recipe: c for c in configurations(runs)}
    assert len(configurations(runs)) == 2
    assert set(by_recipe["bf16"].sets) == {"first", "second"} and by_recipe["bf16"].comparison
    assert by_recipe["bf16"].latency.value == 0.5 and by_recipe["bf16"].timed.spec.threads == 2


def test_times_with_the_threads_of_the_longest_set_come_first():
    runs = [*on_two_sets("fp32", 8), *on_two_sets("bf16", 8)]
    runs += [
        speed_run("bf16", [1.0, 1.0], [2.0, 2.0]),
        speed_run("bf16", [1.0, 1.0], [4.0, 4.0], threads=8),
    ]
    [bf16] = [c for c in configurations(runs) if c.recipe == "bf16"]
    assert (bf16.latency.value, bf16.timed.spec.threads) == (0.25, 8)
