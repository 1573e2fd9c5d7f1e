"""Five messages, each with real figures; none claims what is inconclusive."""

import re
from datetime import UTC, datetime

import pytest

from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import ALIKE, MANY, NOISY, SOME, run_with
from whisperq_core.analyze.configurations import configurations
from whisperq_core.present import report, slides
from whisperq_core.present.answer import answer_of, front
from whisperq_core.whisper.protocols import FITTED

DATE = datetime(2026, 3, 1, tzinfo=UTC)


def slides_of(*runs, margin: float = 0.5) -> list[slides.Slide]:
    return slides.build_slides(answer_of(configurations(runs, margin=margin), margin=margin))


def words(slide: slides.Slide) -> str:
    facts = (f"{f.value} {f.label} {f.note}" for f in slide.facts)
    blocks = (f"{b.heading} {' '.join(b.sentences)}" for b in slide.blocks)
    rows = (" ".join(row) for row in slide.table.rows) if slide.table else ()
    header = slide.table.header if slide.table else ()
    return " ".join(
        (
            slide.topic,
            slide.message,
            *facts,
            *slide.sentences,
            *header,
            *rows,
            *blocks,
            *slide.notes,
        )
    )


CONCLUSIVE = (
    run_with("fp32", SOME * 4, weights_bytes=200_000_000),
    run_with("bf16", SOME * 4, weights_bytes=90_000_000),
    run_with("torch-int8", MANY * 4, weights_bytes=50_000_000),
    speed_run("fp32", [2.0, 2.2, 2.4], [2.0, 2.2, 2.4]),
    speed_run("bf16", [1.0, 1.1, 1.2], [2.0, 2.2, 2.4]),
)
OPEN = (
    run_with("fp32", SOME, weights_bytes=200_000_000),
    run_with("bf16", NOISY, weights_bytes=90_000_000),
    speed_run("fp32", [2.0, 2.2, 2.4], [2.0, 2.2, 2.4]),
    speed_run("bf16", [4.0, 4.1, 4.2], [2.0, 2.2, 2.4]),
)


def test_what_is_conclusive_is_recommended_with_its_numbers():
    answer, tradeoff, cost, sure, after = slides_of(*CONCLUSIVE)
    assert answer.message == "Use bf16 on base, Study protocol"
    assert [fact.value for fact in answer.facts] == ["90 MB", "2 ×", "+0.00", "95 %"]
    assert "an hour of audio in 6.6 min instead of 13 min" in answer.facts[1].note
    assert "rises by less than 0.5 points" in answer.facts[3].label
    assert tradeoff.message == "2 times as fast, WER +0.00 points" and tradeoff.figure.data
    assert cost.table.header == ("", "fp32, Study protocol", "bf16, Study protocol")
    assert cost.table.rows == (
        ("Size", "200 MB", "90 MB"),
        ("An hour of audio", "13 min", "6.6 min"),
        ("WER", "10.00 %", "10.00 %"),
    )
    assert sure.message.startswith("95 % confidence that WER rises by less than 0.5 points")
    assert "13 minutes, 80 speakers" in words(sure)
    assert "A CPU, 2 threads" in words(after)


def test_what_is_inconclusive_is_not_recommended():
    answer, _, cost, sure, after = slides_of(*OPEN)
    assert answer.message == "Keep base in fp32"
    assert answer.facts[0].value == "200 MB" and answer.facts[0].label == "size of fp32"
    # Never the price of what is slower and not recommended.
    assert cost.table.header == ("", "fp32, Study protocol")
    assert "bf16" not in words(cost)
    assert "is shown to be accurate enough yet" in sure.message and sure.figure.data
    assert "Nothing that was measured is left open." in words(after)


def test_what_is_probable_says_so():
    runs = (run_with("fp32", SOME), run_with("bf16", ALIKE, weights_bytes=90_000_000))
    timed = (speed_run("fp32", [2.0], [2.0]), speed_run("bf16", [1.0], [2.0]))
    answer, _, cost, sure, _ = slides_of(*runs, *timed, margin=1.5)
    assert answer.message == "Use bf16 on base, Study protocol, probably"
    assert answer.facts[3].label.startswith("sure: WER rises by less than 1.5 points")
    assert "That is probable, not shown" in words(sure)
    assert cost.table.header[-1] == "bf16, Study protocol"


def test_speed_that_was_not_measured_is_named_so():
    answer, _, cost, *_ = slides_of(run_with("fp32", SOME * 4), run_with("bf16", SOME * 4))
    assert "Speed was not measured." in cost.notes or "–" in words(cost)
    assert all("nan" not in words(slide).lower() for slide in (answer, cost))


def test_the_reference_alone_is_kept():
    for slide in slides_of(run_with("fp32", ALIKE), margin=0.5):
        assert slide.message and "nan" not in words(slide).lower()


def test_a_figure_has_as_many_as_can_be_read_and_always_the_recommended():
    names = ("torch-int8", "quanto-int8", "quanto-int4", "hqq-int4-g64", "hqq-int8-g64")
    names += ("bnb-nf4", "bnb-fp4", "bnb-int8", "torchao-int8", "whole-int8", "openvino-int8")
    runs = [
        run_with(name, [e + (i < place) for i, e in enumerate(SOME)], weights_bytes=10**8 - place)
        for place, name in enumerate(names)
    ]
    found = configurations([run_with("fp32", SOME), *runs])
    first = next(c for c in found if c.recipe == "torch-int8")
    shown = front(found, first)
    assert len(shown) <= 7 and first in shown
    assert not any(c.is_reference for c in shown)


def test_the_protocol_is_part_of_what_is_recommended():
    fitted = run_with("bf16", SOME * 4, weights_bytes=90_000_000, protocol=FITTED)
    timed = speed_run("bf16", [0.5, 0.5], [1.0, 1.0], protocol=FITTED)
    answer, *_ = slides_of(*CONCLUSIVE[:1], *CONCLUSIVE[3:4], fitted, timed)
    assert answer.message == "Use bf16 on base, Fitted window"


def test_the_download_has_five_slides_and_loads_nothing():
    page = report.slides_html(CONCLUSIVE, date=DATE)
    assert page.count('<section class="slide') == 5
    assert "Print or save as PDF" in page and "default-src" in page
    # Plotly's own code has addresses in its texts.
    assert not re.search(r'(src|href)="http', page[: page.index("plotly.js v")])


def test_slides_without_results_are_refused():
    with pytest.raises(report.InputError, match="There are no results with English speech yet"):
        report.slides_html([run_with("fp32", SOME, device="cuda")], date=DATE)
