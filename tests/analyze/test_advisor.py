import math

import pytest

from tests.support.advisor_runs import (
    BROKEN,
    FP32,
    INCONCLUSIVE,
    MARGIN_POINTS,
    RUNS,
    SAME,
    SPEEDS,
    by_recipe,
    requirements,
)
from tests.support.sample_runs import renamed, speed_run, tiny_english
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.analyze.advisor import (
    Conclusion,
    Reason,
    advise,
    answers,
    default_requirements,
)
from whisperq_core.analyze.configurations import Configuration, configurations
from whisperq_core.analyze.user_requirements import (
    Candidate,
    Requirement,
    RequirementCheck,
    Status,
)
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.whisper.protocols import CORRECTED, FITTED


def check(candidate: Candidate, requirement: Requirement) -> RequirementCheck:
    return next(check for check in candidate.checks if check.requirement == requirement)


def test_what_is_conclusive_comes_first_and_is_recommended():
    advice = advise(requirements(), RUNS)
    assert [(c.configuration.recipe, c.status) for c in advice.candidates] == [
        ("quanto-int8", Status.MET),
        ("fp32", Status.MET),
        ("bnb-nf4", Status.INCONCLUSIVE),
        ("quanto-int2", Status.NOT_MET),
    ]
    assert advice.conclusion is Conclusion.USE
    assert advice.best.configuration.recipe == "quanto-int8" and advice.closest is None


def test_a_configuration_names_the_records_it_comes_from():
    best = advise(requirements(), RUNS).best
    best = best.configuration
    assert best.keys == (SAME.key, FP32.key, SPEEDS[1].key)
    assert best.rate_pct == best.reference_rate_pct == pytest.approx(SAME.words.rate)
    assert best.comparison.margin == MARGIN_POINTS and best.comparison.family == 3


def test_nothing_inconclusive_is_recommended():
    # The smallest of all that may fit is inconclusive.
    advice = advise(requirements(max_weights_bytes=100_000_000), [FP32, INCONCLUSIVE])
    assert advice.best is None
    assert advice.conclusion is Conclusion.INCONCLUSIVE
    assert advice.closest.configuration.recipe == "bnb-nf4"
    increase = check(advice.closest, Requirement.WER_INCREASE)
    assert increase.status is Status.INCONCLUSIVE and increase.more_minutes > 0
    assert increase.low < increase.value < increase.high
    assert increase.limit == MARGIN_POINTS


def test_fp32_is_kept_where_no_quantized_configuration_is_shown_to_fit():
    advice = advise(requirements(), [FP32, INCONCLUSIVE])
    assert advice.conclusion is Conclusion.KEEP_REFERENCE
    assert advice.closest.configuration.recipe == "bnb-nf4"
    alone = advise(requirements(), [FP32])
    assert alone.conclusion is Conclusion.KEEP_REFERENCE and alone.closest is None


def test_a_significantly_lower_wer_meets_the_limit():
    good = run_with("quanto-int8", [0] * 20, weights_bytes=90_000_000)
    best = advise(requirements(), [FP32, good]).best.configuration
    assert best.recipe == "quanto-int8" and best.comparison.verdict is Verdict.BETTER


@pytest.mark.parametrize(
    ("changes", "recipe", "requirement", "status"),
    [
        ({"max_weights_bytes": 120_000_000}, "quanto-int8", Requirement.SIZE, Status.MET),
        ({"max_weights_bytes": 119_999_999}, "quanto-int8", Requirement.SIZE, Status.NOT_MET),
        ({"max_rtf_ratio": 1.4}, "quanto-int8", Requirement.RELATIVE_LATENCY, Status.MET),
        ({"max_rtf_ratio": 1.32}, "quanto-int8", Requirement.RELATIVE_LATENCY, Status.INCONCLUSIVE),
        ({"max_rtf_ratio": 1.2}, "quanto-int8", Requirement.RELATIVE_LATENCY, Status.NOT_MET),
        ({"max_rtf_ratio": 1.0}, "bnb-nf4", Requirement.RELATIVE_LATENCY, Status.NOT_MEASURED),
        ({"max_rtf": 0.43}, "quanto-int8", Requirement.RTF, Status.MET),
        ({"max_rtf": 0.1}, "quanto-int8", Requirement.RTF, Status.NOT_MET),
        ({}, "quanto-int8", Requirement.WER_INCREASE, Status.MET),
        ({}, "bnb-nf4", Requirement.WER_INCREASE, Status.INCONCLUSIVE),
        ({}, "quanto-int2", Requirement.WER_INCREASE, Status.NOT_MET),
        ({}, "fp32", Requirement.WER_INCREASE, Status.MET),
    ],
)
def test_each_requirement_has_a_status_of_its_own(changes, recipe, requirement, status):
    configuration = by_recipe(advise(requirements(**changes), RUNS))[recipe]
    assert check(configuration, requirement).status is status


def test_without_fp32_the_wer_increase_is_not_measured():
    advice = advise(requirements(), [SAME])
    increase = check(advice.candidates[0], Requirement.WER_INCREASE)
    assert increase.status is Status.NOT_MEASURED
    assert advice.best is None
    assert advice.next_measurement.reason is Reason.REFERENCE_NOT_RUN
    assert "--recipes fp32,quanto-int8" in advice.next_measurement.commands[0]


def test_the_priority_ranks_what_meets_the_requirements():
    fast = run_with("torchao-int8", SOME, weights_bytes=150_000_000)
    runs = [*RUNS, fast, speed_run("torchao-int8", [2.0, 2.0], [3.0, 3.0])]
    assert advise(requirements(), runs).best.configuration.recipe == "quanto-int8"
    assert (
        advise(requirements(priority="fastest"), runs).best.configuration.recipe == "torchao-int8"
    )


def test_where_nothing_fits_the_closest_and_the_most_limiting_requirement_are_named():
    advice = advise(requirements(max_weights_bytes=30_000_000), RUNS)
    assert advice.best is None
    assert {c.status for c in advice.candidates} == {Status.NOT_MET}
    assert (
        advice.conclusion is Conclusion.NONE_MEETS
        and advice.closest.configuration.recipe == "bnb-nf4"
    )
    assert advice.most_limiting == (Requirement.SIZE, 4)
    (fp32,) = advice.references
    assert [failed.requirement for failed in fp32.failed()] == [Requirement.SIZE]
    assert advice.next_measurement is None


def test_what_was_calibrated_on_the_evaluation_set_never_meets_the_requirements():
    leaky = run_with("quanto-int8-int8-eval10", SOME, weights_bytes=10_000_000)
    advice = advise(requirements(), [FP32, SAME, leaky])
    configuration = by_recipe(advice)["quanto-int8-int8-eval10"]
    assert configuration.status is Status.NOT_MET
    held_out = check(configuration, Requirement.HELD_OUT_CALIBRATION)
    assert held_out.status is Status.NOT_MET


def test_only_the_required_speech_device_model_and_protocol_count():
    others = [
        run_with("bf16", SOME, eval_set="test-clean-excerpt"),
        run_with("bf16", SOME, eval_set="quick-look"),
        run_with("bf16", SOME, device="cuda"),
        run_with("bf16", SOME, protocol=renamed("another")),
        tiny_english(run_with("bf16", SOME)),
    ]

    def first(*runs, **changes) -> Configuration:
        return advise(requirements(**changes), runs).candidates[0].configuration

    of_base = advise(requirements(models=("base",)), [FP32, *others])
    assert [c.configuration.recipe for c in of_base.candidates] == ["bf16", "fp32"]
    assert first(*others, speech="clean").run.eval_set == "test-clean-excerpt"
    assert first(*others, device="cuda").recipe == "bf16"


def test_commands_name_the_protocol_and_the_device():
    limits = requirements(protocols=("corrected",), device="cuda", max_rtf_ratio=1.0)
    fp32 = run_with("fp32", SOME, device="cuda")
    runs = [fp32, run_with("bnb-nf4", SOME, protocol=CORRECTED, device="cuda")]
    first, second = advise(limits, runs).next_measurement.commands
    assert first.endswith("--recipes fp32 --only speed --device cuda")
    assert second.endswith("--recipes bnb-nf4 --only speed --protocol corrected --device cuda")


def test_several_models_are_told_apart():
    tiny = [tiny_english(run_with("fp32", MANY)), tiny_english(run_with("quanto-int8", MANY))]
    advice = advise(requirements(), [FP32, SAME, *tiny])
    assert set(advice.models) == {"base", "tiny.en"}
    assert {r.configuration.model for r in advice.references} == {"base", "tiny.en"}
    assert advise(requirements(models=("tiny.en",)), [FP32, SAME, *tiny]).models == ("tiny.en",)


def test_the_larger_set_is_taken():
    whole = [
        run_with(name, SOME * 2, eval_set="test-other", eval_set_digest="ee" * 32)
        for name in ("fp32", "quanto-int8")
    ]
    advice = advise(requirements(), [FP32, SAME, *whole])
    assert {c.configuration.run.eval_set for c in advice.candidates} == {"test-other"}


def test_recipes_that_were_not_run_are_named():
    not_run = advise(requirements(), RUNS).not_run
    assert list(not_run) == ["base"]
    assert "hqq-int4-g64" in not_run["base"] and "bnb-nf4" not in not_run["base"]
    assert not any("eval10" in name for name in not_run["base"])


def test_the_next_measurement_would_settle_what_the_user_would_prefer():
    # NOISY makes a few more errors than SOME: within the limit as measured, but inconclusive.
    limits = requirements(max_wer_rise_points=3.0)
    measurement = advise(limits, [FP32, SAME, INCONCLUSIVE]).next_measurement
    assert measurement.commands == (
        "python -m whisperq_core run --models base --recipes fp32,bnb-nf4"
        " --sets test-clean-34-speakers,test-other-25-speakers",
    )
    assert measurement.reason is Reason.MORE_AUDIO
    assert measurement.candidate.configuration.recipe == "bnb-nf4"
    assert measurement.instead_of.configuration.recipe == "quanto-int8"


def renamed_sets(*runs, speech="test-other", digest="ab" * 32) -> list:
    """The runs as if on another set."""
    return [
        run.model_copy(
            update={
                "eval_set": speech,
                "spec": run.spec.model_copy(update={"eval_set_digest": digest}),
                "utterances": tuple(
                    u.model_copy(update={"id": f"{speech}-{u.id}"}) for u in run.utterances
                ),
            }
        )
        for run in runs
    ]


def on_shipped_sets(*runs) -> list:
    names = {"test-clean-34-speakers": "cd" * 32, "test-other-25-speakers": "ef" * 32}
    return [
        run
        for name, digest in names.items()
        for run in renamed_sets(*runs, speech=name, digest=digest)
    ]


def test_after_the_shipped_sets_the_whole_ones_are_downloaded():
    runs = on_shipped_sets(FP32, SAME, INCONCLUSIVE)
    measurement = advise(requirements(max_wer_rise_points=2.5), runs).next_measurement
    assert measurement.sets == ("test-clean", "test-other")
    assert measurement.commands[:2] == (
        "python -m whisperq_core download test-clean",
        "python -m whisperq_core download test-other",
    )


def test_after_the_whole_sets_there_is_no_more_audio():
    runs = on_shipped_sets(FP32, SAME, INCONCLUSIVE)
    for name, digest in (("test-clean", "12" * 32), ("test-other", "34" * 32)):
        runs += renamed_sets(FP32, SAME, INCONCLUSIVE, speech=name, digest=digest)
    measurement = advise(requirements(max_wer_rise_points=2.4), runs).next_measurement
    assert (measurement.reason, measurement.commands) == (Reason.NO_MORE_AUDIO, ())


def test_nothing_is_to_be_measured_where_nothing_preferable_is_open():
    assert advise(requirements(), [FP32, SAME, BROKEN]).next_measurement is None


def test_a_missing_time_is_the_first_to_be_measured():
    measurement = advise(requirements(max_rtf_ratio=1.0), [FP32, INCONCLUSIVE]).next_measurement
    assert measurement.reason is Reason.TIME_NOT_MEASURED
    assert measurement.commands[0].endswith("--only speed")


def test_passes_on_both_sides_of_the_limit_have_no_command():
    limits = requirements(max_rtf_ratio=1.32, max_weights_bytes=130_000_000)
    measurement = advise(limits, RUNS[:2] + SPEEDS).next_measurement
    assert (measurement.reason, measurement.commands) == (Reason.TIME_STRADDLES_LIMIT, ())
    assert measurement.check.requirement is Requirement.RELATIVE_LATENCY


def test_without_results_the_first_evaluation_is_named():
    advice = advise(requirements(device="cuda"), [])
    assert advice.conclusion is Conclusion.NO_RESULTS
    assert advice.next_measurement.reason is Reason.NO_RESULTS
    (command,) = advice.next_measurement.commands
    assert command.endswith("--sets test-clean-34-speakers,test-other-25-speakers --device cuda")


def test_the_audio_for_a_margin_grows_as_the_difference_nears_it():
    comparisons = [
        by_recipe(advise(requirements(max_wer_rise_points=limit), [FP32, INCONCLUSIVE]))[
            "bnb-nf4"
        ].configuration.comparison
        for limit in (1.0, 2.0, 3.0)
    ]
    nearest = min(comparisons, key=lambda c: abs(c.difference.value - c.margin))
    minutes = [comparison.minutes_for_margin(10.0) for comparison in comparisons]
    assert max(minutes) == nearest.minutes_for_margin(10.0) and min(minutes) > 10.0


def test_one_speaker_is_inconclusive():
    advice = advise(requirements(), [run_with("fp32", [1]), run_with("quanto-int8", [0])])
    assert advice.best.configuration.recipe == "fp32"
    configuration = by_recipe(advice)["quanto-int8"]
    assert math.isinf(configuration.configuration.comparison.minutes_for_margin(1.0))
    increase = check(configuration, Requirement.WER_INCREASE)
    assert (increase.status, increase.low) == (Status.INCONCLUSIVE, None)


def test_a_lower_confidence_is_enough_for_some():
    limits = {"max_wer_rise_points": 3.0}
    sure = advise(requirements(**limits), [FP32, SAME, INCONCLUSIVE])
    assert sure.best.configuration.recipe == "quanto-int8"
    within = by_recipe(sure)["bnb-nf4"].configuration.comparison.p_within_margin
    assert 0.5 < within < 0.95
    less = advise(requirements(**limits, confidence=within - 0.01), [FP32, SAME, INCONCLUSIVE])
    assert less.best.configuration.recipe == "bnb-nf4"


def test_a_probable_alternative_is_named_beside_what_is_shown():
    for limit in (2.4, 2.6, 2.8, 3.0, 3.2, 3.4, 3.6, 3.8):
        advice = advise(requirements(max_wer_rise_points=limit), [FP32, SAME, INCONCLUSIVE])
        within = by_recipe(advice)["bnb-nf4"].configuration.comparison.p_within_margin
        if advice.best.configuration.recipe == "quanto-int8":
            assert (advice.probable is not None) == (within >= 0.8), limit
    assert within >= 0.8


def test_other_protocols_are_compared_with_fp32_under_the_study_protocol():
    fitted = [run_with(name, SOME, protocol=FITTED) for name in ("fp32", "bf16")]
    speeds = [
        speed_run("fp32", [3.0, 3.2]),
        *(speed_run(name, [1.5, 1.5], [1.5, 1.5], protocol=FITTED) for name in ("fp32", "bf16")),
    ]
    found = by_recipe(advise(requirements(), [FP32, *fitted, *speeds]))
    bf16 = found["bf16"].configuration
    assert bf16.comparison.difference.value == 0.0 and bf16.pool.parts[0].baseline_key == FP32.key
    # Timed apart from the reference: the extremes of both.
    latency = bf16.latency
    assert (latency.value, latency.low, latency.high) == pytest.approx(
        (1.5 / 3.1, 1.5 / 3.2, 1.5 / 3.0)
    )
    both = [c.configuration for c in advise(requirements(), [FP32, *fitted]).candidates]
    assert [c.is_reference for c in both if c.recipe == "fp32"].count(True) == 1


def test_the_default_model_is_base_or_the_only_one():
    assert default_requirements([]).models == ("base",)
    tiny = configurations([tiny_english(FP32), tiny_english(SAME)])
    assert default_requirements(tiny).models == ("tiny.en",)
    assert default_requirements(tiny, max_rtf=0.5).max_rtf == 0.5


def test_each_priority_has_its_answer():
    fast = run_with("torchao-int8", SOME, weights_bytes=150_000_000)
    runs = [*RUNS, fast, speed_run("torchao-int8", [2.0, 2.0], [3.0, 3.0])]
    asked = requirements()
    measured = configurations(runs, margin=asked.max_wer_rise_points)
    best = {p: a.best.configuration.recipe for p, a in answers(asked, measured).items()}
    assert best["smallest"] == "quanto-int8" and best["fastest"] == "torchao-int8"
    assert set(best) == {"smallest", "fastest", "most accurate"}


def test_the_latency_on_other_machines_is_beside_that_of_the_one_shown():
    there = [
        run.model_copy(update={"machine": run.machine.model_copy(update={"cpu": "B CPU"})})
        for run in (
            speed_run("quanto-int8", [1.0, 1.2], [4.0, 4.0], cpu="B CPU"),
            speed_run("fp32", [4.0, 4.0], cpu="B CPU"),
        )
    ]
    best = advise(requirements(), [*RUNS, *there]).best.configuration
    ((kind, latency),) = best.latency_elsewhere
    assert kind.startswith("B CPU") and latency.value == pytest.approx(1.1 / 4)
    assert best.latency.value == pytest.approx(4.1 / 3.1)
    elsewhere = advise(requirements(machine=kind), [*RUNS, *there]).best.configuration
    assert elsewhere.latency == latency
    assert [name for name, _ in elsewhere.latency_elsewhere] == [SPEEDS[0].machine_kind]


def test_a_machine_that_cannot_run_the_recommended_one_is_told_what_to_use_instead(monkeypatch):
    bf16 = run_with("bf16", SOME, weights_bytes=100_000_000)
    runs = [*RUNS, bf16, speed_run("bf16", [2.0, 2.1, 2.2], [3.0, 3.1, 3.2])]
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx2"}))
    advice = advise(requirements(), runs)
    assert advice.best.configuration.recipe == "bf16"
    assert "no bf16 instructions" in advice.best.configuration.unavailable_reason
    assert advice.usable.configuration.recipe == "quanto-int8"
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert advice.usable is advice.best


def test_where_nothing_else_fits_the_recommended_one_is_still_named(monkeypatch):
    bf16 = run_with("bf16", SOME, weights_bytes=100_000_000)
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx2"}))
    advice = advise(requirements(), [FP32, bf16, speed_run("fp32", [3.0, 3.1, 3.2])])
    assert advice.usable is advice.named
