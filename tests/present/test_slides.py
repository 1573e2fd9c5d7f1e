"""Five messages, each with real figures; none claims what is inconclusive."""

from tests.support.made_runs import speed_run
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.present import report_sections, slides


def slides_of(*runs) -> list[slides.Slide]:
    return slides.build_slides(report_sections.build_sections(runs)[0])


CONCLUSIVE = (
    run_with("fp32", SOME * 4, weights_bytes=200_000_000),
    run_with("bf16", SOME * 4, weights_bytes=90_000_000),
    run_with("torch-int8", MANY * 4, weights_bytes=50_000_000),
    speed_run("bf16", [1.0, 1.1, 1.2], [2.0, 2.2, 2.4]),
)


def test_what_is_conclusive_is_recommended_with_its_cost():
    compared, front, advice, costs, sure = slides_of(*CONCLUSIVE)
    assert compared.message == "2 configurations of Whisper base, compared with fp32"
    assert compared.facts[0].value == "2"
    assert "bf16" in front.sentences[0] and front.figure.data
    assert advice.message == "Use bf16"
    assert advice.sentences == tuple(report_sections.build_sections(CONCLUSIVE)[0].answer[:2])
    assert [fact.value for fact in costs.facts] == ["90 MB", "0.50 × fp32", "0.00 points"]
    assert "0.50 to 0.50" in costs.facts[1].note and "95 % interval" in costs.facts[2].note
    assert sure.message == "Of 2 configurations: 1 no worse than fp32 (95 %), 1 worse"


def test_what_is_inconclusive_is_not_recommended():
    _, _, advice, costs, sure = slides_of(run_with("fp32", SOME), run_with("bf16", NOISY))
    assert advice.message == "Keep fp32 for now"
    assert "if confirmed" in costs.message or "no configuration" in costs.message
    assert "too close to call" in sure.message


def test_speed_that_was_not_measured_is_named_so():
    costs = slides_of(run_with("fp32", SOME * 4), run_with("bf16", SOME * 4))[3]
    assert costs.facts[1].value == "not measured"


def test_a_baseline_alone_compares_nothing():
    for slide in slides_of(run_with("fp32", ALIKE)):
        assert slide.message
    assert "nothing is compared" in slides_of(run_with("fp32", ALIKE))[2].message


def test_many_recipes_leave_what_fits_a_screen():
    names = ("bf16", "torch-int8", "quanto-int8", "quanto-int4", "hqq-int4-g64", "hqq-int8-g64")
    names += ("bnb-nf4", "bnb-fp4", "bnb-int8", "torchao-int8", "whole-int8", "openvino-int8")
    runs = [run_with(name, ALIKE) for name in (*names, "onnxruntime-int8")]
    sure = slides_of(run_with("fp32", SOME), *runs)[4]
    assert len(sure.figure.layout.yaxis.ticktext) == 12
    assert "the 12 with the lowest WER" in sure.sentences[0]
