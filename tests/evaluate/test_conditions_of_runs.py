"""Speech under a condition is another population: no pool and no recommendation counts it."""

import pytest

from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze import advisor
from whisperq_core.analyze.configurations import configurations
from whisperq_core.analyze.pooled_comparisons import pooled_comparisons
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE

NOISY = "first+noise:rain@0dB"


def run(recipe: str, wrong: list[int], name: str = "first", **how) -> AccuracyRun:
    return run_with(recipe, wrong, eval_set=name, eval_set_digest=name * 8, **how)


def test_a_run_knows_its_condition_and_is_compared_with_its_like():
    quiet, noisy = run("fp32", SOME), run("fp32", SOME, NOISY)
    assert (quiet.condition, noisy.condition) == ("", "+noise:rain@0dB")
    assert quiet.columns.speech_digest == noisy.columns.speech_digest == quiet.speech_digest
    assert noisy.speech_digest not in (quiet.speech_digest, run("fp32", SOME, "b+telephone"))


def test_pools_do_not_mix_conditions():
    quiet = [run("fp32", SOME), run("bf16", ALIKE)]
    noisy = [run("fp32", SOME, NOISY), run("bf16", MANY, NOISY)]
    [alone] = pooled_comparisons(quiet)
    pools = {pool.sets: pool for pool in pooled_comparisons(quiet + noisy)}
    assert pools.keys() == {("first",), (NOISY,)}
    assert pools["first",].comparison == alone.comparison and not pools["first",].left_out
    assert pools[(NOISY,)].comparison.difference.value > 10


def test_long_recordings_are_a_population_of_their_own():
    """The same words in one recording a speaker are other speech than one by one."""
    quiet = [run("fp32", SOME), run("bf16", ALIKE)]
    name = "first+joined:5min"
    long = [run("fp32", SOME, name), run("bf16", MANY, name)]
    assert [c.comparison for c in configurations(quiet + long)] == [
        c.comparison for c in configurations(quiet)
    ]
    assert {pool.sets for pool in pooled_comparisons(quiet + long)} == {("first",), (name,)}


def test_configurations_count_a_condition_only_where_it_is_named():
    quiet = [run("fp32", SOME), run("bf16", ALIKE)]
    noisy = [run("fp32", SOME, NOISY), run("bf16", MANY, NOISY), run("quanto-int8", SOME, NOISY)]
    counted = configurations(quiet + noisy)
    assert [(c.recipe, c.sets) for c in counted] == [("bf16", ("first",)), ("fp32", ("first",))]
    assert [c.comparison for c in counted] == [c.comparison for c in configurations(quiet)]
    named = configurations(quiet + noisy, sets=(NOISY,))
    assert {(c.recipe, c.sets) for c in named} == {
        (recipe, (NOISY,)) for recipe in ("fp32", "bf16", "quanto-int8")
    }


@pytest.fixture(scope="module")
def shipped() -> list:
    return Store(SHIPPED_CACHE).runs()


def test_the_recommendation_is_the_same_with_results_in_noise(shipped):
    """Every shipped result once more, as if noise had destroyed the speech of all but fp32's."""
    noisy = [
        one.model_copy(
            update={
                "eval_set": f"{one.eval_set}+babble@0dB",
                "spec": one.spec.model_copy(update={"eval_set_digest": "f" * 64}),
                "utterances": tuple(one.utterances)
                if one.spec.recipe.name == "fp32"
                else tuple(u.model_copy(update={"hypothesis": ""}) for u in one.utterances),
            }
        )
        for one in shipped
        if isinstance(one, AccuracyRun) and one.model == "base"
    ]
    assert len(noisy) > 50
    before, after = (configurations(runs) for runs in (shipped, [*shipped, *noisy]))
    assert [(c.recipe, c.keys, c.comparison) for c in before] == [
        (c.recipe, c.keys, c.comparison) for c in after
    ]
    answers = [
        advisor.advise_on(advisor.default_requirements(found), found) for found in (before, after)
    ]
    assert answers[0].proposed.configuration.keys == answers[1].proposed.configuration.keys
