import time
from dataclasses import replace

import pytest

from tests.support.made_runs import accuracy_run, size_run, speed_run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.study import claims, measures
from whisperq_core.study.claims import CLAIMS, Claim, evaluate_claims
from whisperq_core.study.evidence import (
    INCONCLUSIVE,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    VERDICTS,
    Evidence,
    commands,
)
from whisperq_core.study.measures import SizeReduction, WerDifference
from whisperq_core.whisper.protocols import STUDY

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"
SPEAKERS = [str(i) for i in range(12)]


def run(recipe: str, wrong_words: int, eval_set: str = "test-other", model: str = "small"):
    heard = " ".join(["x"] * wrong_words + WORDS.split()[wrong_words:])
    return accuracy_run(
        recipe,
        [(WORDS, heard)] * len(SPEAKERS),
        eval_set=eval_set,
        model=model,
        speakers=SPEAKERS,
    )


def everything(model: str) -> list:
    """Every recipe of the study measured in every way, on the CPU and the GPU."""
    names = ("fp32", "torch-int8-channel", *measures.STUDY_RECIPES)
    runs = [run(name, 1, place, model) for name in names for place in ("test-clean", "test-other")]
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
    runs = [r for model in (*claim.about, *claim.elsewhere) for r in everything(model)]
    (judgement,) = evaluate_claims(runs, [claim])
    for finding in judgement.under(STUDY.name):
        parts = [p for p in finding.parts if p.effect is not None]
        assert parts, f"{claim.id} asks nothing of {finding.model} that records could answer"
        assert all(p.keys and set(p.keys) <= {r.key for r in runs} for p in parts)
    assert judgement.verdict in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)


def test_claims_are_told_apart_and_speak_of_known_recipes():
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
    for judgement in evaluate_claims([]):
        assert judgement.verdict == NOT_MEASURABLE
        assert judgement.commands
        assert judgement.rests_on == ()


def test_small_is_asked_for_by_its_exact_command():
    found = of("quanto-int8-regularizes", [])
    assert found.why_not == "needs whisper-small"
    assert "python -m whisperq_core download test-other" in found.commands
    wanted = "run --models small --recipes fp32,quanto-int8 --sets test-other"
    assert f"python -m whisperq_core {wanted}" in found.commands


def test_the_verdict_updates_when_small_is_measured():
    of_base = [run("fp32", 3, model="base"), run("quanto-int8", 1, model="base")]
    found = of("quanto-int8-regularizes", of_base)
    assert (found.verdict, found.rests_on) == (REPRODUCED, ("base",))
    of_small = [run("fp32", 1), run("quanto-int8", 3)]
    found = of("quanto-int8-regularizes", [*of_base, *of_small])
    assert (found.verdict, found.rests_on) == (NOT_REPRODUCED, ("small",))


def test_another_protocol_is_judged_beside_the_study_s_not_instead():
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
    found = of("quanto-int8-regularizes", corrected)
    assert found.verdict == NOT_MEASURABLE
    assert [f.verdict for f in found.under("corrected")] == [REPRODUCED]


def test_tiny_en_stands_in_for_tiny_but_not_for_its_published_numbers():
    runs = [run("fp32", 1, model="tiny.en"), run("quanto-int8", 1, model="tiny.en")]
    models = {p.model for f in of("quanto-int8-regularizes", runs).findings for p in f.parts}
    assert "tiny.en" in models
    published = of("losses-as-published", runs)
    assert {p.model for f in published.findings for p in f.parts} == {"base", "tiny"}


def claim_of(*measures, may_fail: int = 0) -> Claim:
    return Claim("id", "wording", "place", ("base",), measures, may_fail=may_fail)


def verdict(runs, *measures, may_fail: int = 0) -> str:
    return evaluate_claims(runs, [claim_of(*measures, may_fail=may_fail)])[0].verdict


HOLDS, FAILS = (
    WerDifference("torch-int8", "other", "worse"),
    WerDifference("bnb-nf4", "other", "worse"),
)
RUNS = [run("fp32", 1, model="base"), run("torch-int8", 3, model="base")]
RUNS.append(run("bnb-nf4", 1, model="base"))


def test_a_claim_is_reproduced_when_each_of_its_measures_is():
    assert verdict(RUNS, HOLDS) == REPRODUCED
    assert verdict(RUNS, HOLDS, FAILS) in (NOT_REPRODUCED, INCONCLUSIVE)
    assert (
        verdict(RUNS, HOLDS, SizeReduction("torch-int8")) == REPRODUCED
    )  # no published size for it
    assert verdict(RUNS, HOLDS, SizeReduction("quanto-int8")) == NOT_MEASURABLE


@pytest.mark.parametrize(
    "verdicts, may_fail, expected",
    [
        ([REPRODUCED, REPRODUCED], 0, REPRODUCED),
        ([REPRODUCED, NOT_REPRODUCED], 0, NOT_REPRODUCED),
        ([REPRODUCED, NOT_REPRODUCED], 1, REPRODUCED),
        ([REPRODUCED, INCONCLUSIVE], 0, INCONCLUSIVE),
        ([REPRODUCED, REPRODUCED, INCONCLUSIVE], 1, REPRODUCED),
        ([INCONCLUSIVE, INCONCLUSIVE], 1, INCONCLUSIVE),
        ([INCONCLUSIVE, NOT_MEASURABLE], 0, NOT_MEASURABLE),
        ([NOT_REPRODUCED, NOT_MEASURABLE], 0, NOT_REPRODUCED),
        ([], 0, NOT_MEASURABLE),
    ],
)
def test_the_conjunction(verdicts, may_fail, expected):
    assert claims._all_of(verdicts, may_fail) == expected


@pytest.mark.parametrize(
    "verdicts, expected",
    [
        ([INCONCLUSIVE, REPRODUCED], REPRODUCED),
        ([NOT_REPRODUCED, REPRODUCED], INCONCLUSIVE),
        ([NOT_MEASURABLE], NOT_MEASURABLE),
        ([INCONCLUSIVE], INCONCLUSIVE),
    ],
)
def test_several_sets_are_weighed_together(verdicts, expected):
    assert claims._weighed(verdicts) == expected


def test_evidence_takes_the_newest_record():
    old, new = (
        run("fp32", 3),
        run("fp32", 1).model_copy(
            update={"created_at": run("fp32", 1).created_at.replace(year=2027)}
        ),
    )
    assert Evidence([new, old]).accuracy("small", "fp32", "test-other", STUDY.name) is new


def test_commands_merge_what_is_missing_of_one_model():
    parts = [
        p for measure in (HOLDS, FAILS) for p in measure.parts(Evidence([]), "tiny.en", STUDY.name)
    ]
    assert commands(parts) == [
        "python -m whisperq_core run --models tiny.en"
        " --recipes fp32,torch-int8,bnb-nf4 --sets test-other-excerpt"
    ]


def test_the_shipped_results_decide_claims_within_five_seconds():
    start = time.perf_counter()
    judgements = evaluate_claims(Store(SHIPPED_CACHE).runs())
    assert time.perf_counter() - start < 5.0
    assert {j.verdict for j in judgements} == set(VERDICTS)
    by_id = {j.claim.id: j for j in judgements}
    assert by_id["size-int8"].verdict == REPRODUCED
    assert by_id["size-low-bit"].verdict == REPRODUCED
    assert by_id["fastest-cpu"].verdict == REPRODUCED
    assert by_id["gpu-slower"].verdict == NOT_MEASURABLE
