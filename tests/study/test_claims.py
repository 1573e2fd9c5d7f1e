import time
from dataclasses import replace

import pytest

from tests.support.made_runs import accuracy_run, size_run, speed_run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.study import claims, measures
from whisperq_core.study.claims import CLAIMS, Claim, evaluate_claims
from whisperq_core.study.evidence import Evidence, Outcome, commands
from whisperq_core.study.measures import SizeReduction, WerDifference
from whisperq_core.whisper.protocols import STUDY

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"
SPEAKERS = [str(i) for i in range(12)]


def run(recipe: str, wrong_words: int, eval_set: str = "test-other", model: str = "small"):
    hypothesis = " ".join(["x"] * wrong_words + WORDS.split()[wrong_words:])
    return accuracy_run(
        recipe,
        [(WORDS, hypothesis)] * len(SPEAKERS),
        eval_set=eval_set,
        model=model,
        speakers=SPEAKERS,
    )


def everything(model: str) -> list:
    """Every recipe of the study measured in every way, on the CPU and the GPU."""
    names = ("fp32", "torch-int8-channel", *measures.STUDY_RECIPES)
    runs = [
        run(name, 1, eval_set, model) for name in names for eval_set in ("test-clean", "test-other")
    ]
    runs += [size_run(name, 50_000_000, model=model) for name in names]
    for device in ("cpu", "cuda"):
        runs += [
            speed_run(name, [1.0, 1.1], [2.0, 2.1], model=model, device=device) for name in names
        ]
    return runs


def of(id: str, runs) -> claims.ClaimResult:
    return next(j for j in evaluate_claims(runs) if j.claim.id == id)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_has_a_rule_that_the_records_can_answer(claim):
    assert claim.measures
    runs = [r for model in (*claim.models, *claim.substitutes) for r in everything(model)]
    (result,) = evaluate_claims(runs, [claim])
    for finding in result.under(STUDY.name):
        answers = [p for p in finding.answers if p.effect is not None]
        assert answers, f"{claim.id} asks nothing of {finding.model} that records could answer"
        assert all(p.keys and set(p.keys) <= {r.key for r in runs} for p in answers)
    assert result.outcome in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE)


def test_claims_have_unique_ids_and_recipes_of_the_catalogue():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    named = {
        getattr(measure, field)
        for claim in CLAIMS
        for measure in claim.measures
        for field in ("recipe", "against")
        if hasattr(measure, field)
    }
    assert named <= set(CATALOGUE)


def test_without_records_nothing_is_measurable_and_commands_say_what_to_run():
    for result in evaluate_claims([]):
        assert result.outcome == Outcome.NOT_MEASURABLE
        assert result.commands
        assert result.evaluated_models == ()


def test_the_exact_command_for_small_is_given():
    result = of("quanto-int8-regularizes", [])
    assert result.requirements == "needs whisper-small"
    assert "python -m whisperq_core download test-other" in result.commands
    wanted = "run --models small --recipes fp32,quanto-int8 --sets test-other"
    assert f"python -m whisperq_core {wanted}" in result.commands


def test_the_verdict_updates_when_small_is_measured():
    of_base = [run("fp32", 3, model="base"), run("quanto-int8", 1, model="base")]
    result = of("quanto-int8-regularizes", of_base)
    assert (result.outcome, result.evaluated_models) == (Outcome.REPRODUCED, ("base",))
    of_small = [run("fp32", 1), run("quanto-int8", 3)]
    result = of("quanto-int8-regularizes", [*of_base, *of_small])
    assert (result.outcome, result.evaluated_models) == (Outcome.NOT_REPRODUCED, ("small",))


def test_another_protocol_gets_findings_but_does_not_change_the_verdict():
    corrected = [
        r.model_copy(
            update={
                "spec": r.spec.model_copy(
                    update={"protocol": replace(r.spec.protocol, name="corrected")}
                )
            }
        )
        for r in (run("fp32", 3), run("quanto-int8", 1))
    ]
    result = of("quanto-int8-regularizes", corrected)
    assert result.outcome == Outcome.NOT_MEASURABLE
    assert [f.outcome for f in result.under("corrected")] == [Outcome.REPRODUCED]


def test_tiny_en_replaces_tiny_except_in_comparisons_with_published_numbers():
    runs = [run("fp32", 1, model="tiny.en"), run("quanto-int8", 1, model="tiny.en")]
    models = {p.model for f in of("quanto-int8-regularizes", runs).findings for p in f.answers}
    assert "tiny.en" in models
    published = of("losses-as-published", runs)
    assert {p.model for f in published.findings for p in f.answers} == {"base", "tiny"}


def claim_of(*measures, may_fail: int = 0) -> Claim:
    return Claim("id", "statement", "source", ("base",), measures, may_fail=may_fail)


def verdict(runs, *measures, may_fail: int = 0) -> str:
    return evaluate_claims(runs, [claim_of(*measures, may_fail=may_fail)])[0].outcome


HOLDS, FAILS = (
    WerDifference("torch-int8", "other", "worse"),
    WerDifference("bnb-nf4", "other", "worse"),
)
RUNS = [run("fp32", 1, model="base"), run("torch-int8", 3, model="base")]
RUNS.append(run("bnb-nf4", 1, model="base"))


def test_a_claim_is_reproduced_when_each_of_its_measures_is():
    assert verdict(RUNS, HOLDS) == Outcome.REPRODUCED
    assert verdict(RUNS, HOLDS, FAILS) in (Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE)
    assert (
        verdict(RUNS, HOLDS, SizeReduction("torch-int8")) == Outcome.REPRODUCED
    )  # no published size for it
    assert verdict(RUNS, HOLDS, SizeReduction("quanto-int8")) == Outcome.NOT_MEASURABLE


@pytest.mark.parametrize(
    "verdicts, may_fail, expected",
    [
        ([Outcome.REPRODUCED, Outcome.REPRODUCED], 0, Outcome.REPRODUCED),
        ([Outcome.REPRODUCED, Outcome.NOT_REPRODUCED], 0, Outcome.NOT_REPRODUCED),
        ([Outcome.REPRODUCED, Outcome.NOT_REPRODUCED], 1, Outcome.REPRODUCED),
        ([Outcome.REPRODUCED, Outcome.INCONCLUSIVE], 0, Outcome.INCONCLUSIVE),
        ([Outcome.REPRODUCED, Outcome.REPRODUCED, Outcome.INCONCLUSIVE], 1, Outcome.REPRODUCED),
        ([Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE], 1, Outcome.INCONCLUSIVE),
        ([Outcome.INCONCLUSIVE, Outcome.NOT_MEASURABLE], 0, Outcome.NOT_MEASURABLE),
        ([Outcome.NOT_REPRODUCED, Outcome.NOT_MEASURABLE], 0, Outcome.NOT_REPRODUCED),
        ([], 0, Outcome.NOT_MEASURABLE),
    ],
)
def test_the_conjunction(verdicts, may_fail, expected):
    assert claims.conjunction(verdicts, may_fail) == expected


@pytest.mark.parametrize(
    "verdicts, expected",
    [
        ([Outcome.INCONCLUSIVE, Outcome.REPRODUCED], Outcome.REPRODUCED),
        ([Outcome.NOT_REPRODUCED, Outcome.REPRODUCED], Outcome.INCONCLUSIVE),
        ([Outcome.NOT_MEASURABLE], Outcome.NOT_MEASURABLE),
        ([Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE),
    ],
)
def test_several_sets_are_weighed_together(verdicts, expected):
    assert claims.over_sets(verdicts) == expected


def test_evidence_takes_the_newest_record():
    old, new = (
        run("fp32", 3),
        run("fp32", 1).model_copy(
            update={"created_at": run("fp32", 1).created_at.replace(year=2027)}
        ),
    )
    assert Evidence([new, old]).accuracy("small", "fp32", "test-other", STUDY.name) is new


def test_commands_merge_what_is_missing_of_one_model():
    answers = [
        p
        for measure in (HOLDS, FAILS)
        for p in measure.answers(Evidence([]), "tiny.en", STUDY.name)
    ]
    assert commands(answers) == [
        "python -m whisperq_core run --models tiny.en"
        " --recipes fp32,torch-int8,bnb-nf4 --sets test-other-excerpt"
    ]


def test_the_shipped_results_decide_claims_within_five_seconds():
    start = time.process_time()  # of this process, however busy the machine is
    results = evaluate_claims(Store(SHIPPED_CACHE).runs())
    assert time.process_time() - start < 5.0
    assert {j.outcome for j in results} == set(Outcome)
    by_id = {j.claim.id: j for j in results}
    assert by_id["size-int8"].outcome == Outcome.REPRODUCED
    assert by_id["size-low-bit"].outcome == Outcome.REPRODUCED
    assert by_id["fastest-cpu"].outcome == Outcome.REPRODUCED
    assert by_id["gpu-slower"].outcome == Outcome.NOT_MEASURABLE
