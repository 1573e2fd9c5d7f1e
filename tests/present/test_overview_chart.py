import numpy as np
import pytest

from tests.support.sample_runs import speed_run
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze.configurations import configurations
from whisperq_core.present import overview_chart
from whisperq_core.present.overview_chart import (
    IN_THE_STUDY,
    RECOMMENDED,
    REFERENCE,
    drawable,
    overview_figure,
)
from whisperq_core.whisper.protocols import FITTED

RUNS = [
    run_with("fp32", SOME, weights_bytes=200_000_000),
    run_with("quanto-int8", ALIKE, weights_bytes=50_000_000),
    run_with("torch-int8", ALIKE, weights_bytes=100_000_000),
    run_with("hqq-int8-g64", ALIKE, weights_bytes=100_000_000),
    run_with("quanto-int2", MANY, weights_bytes=40_000_000),
    run_with("bf16", SOME, weights_bytes=100_000_000),
    speed_run("fp32", [2.0, 2.0]),
    speed_run("quanto-int8", [0.5, 0.5], [2.0, 2.0]),
    speed_run("torch-int8", [1.0, 1.0], [2.0, 2.0]),
    speed_run("hqq-int8-g64", [4.0, 4.0], [2.0, 2.0]),
    speed_run("quanto-int2", [1.0, 1.0], [2.0, 2.0]),
]
ROLES = {"fp32": REFERENCE, "quanto-int8": RECOMMENDED, "torch-int8": IN_THE_STUDY}


@pytest.fixture(scope="module")
def measured():
    return configurations(RUNS)


@pytest.fixture(scope="module")
def figure(measured):
    roles = {c.run.key: ROLES[c.recipe] for c in measured if c.recipe in ROLES}
    return overview_figure(drawable(measured).configurations, roles, 0.5)


def points(figure):
    return next(trace for trace in figure.data if trace.mode == "markers")


def test_two_labels_of_one_recipe_say_their_protocols():
    runs = [
        *RUNS,
        run_with("quanto-int8", ALIKE, protocol=FITTED, weights_bytes=50_000_000),
        speed_run("quanto-int8", [0.2, 0.2], [2.0, 2.0], protocol=FITTED),
    ]
    shown = drawable(configurations(runs)).configurations
    # The fitted window's is on the front; the other has its label for its role.
    study = next(c for c in shown if c.recipe == "quanto-int8" and c.protocol != FITTED)
    figure = overview_figure(shown, {study.run.key: IN_THE_STUDY}, 0.5)
    assert {note.text for note in figure.layout.annotations} == {
        "<b>quanto-int8</b><br>Fitted window",
        "<b>quanto-int8</b><br>50 MB, as in the study",
    }


def test_what_broke_and_what_was_not_timed_is_left_off_and_counted(measured):
    shown = drawable(measured)
    assert {c.recipe for c in shown.configurations} == {
        *("fp32", "quanto-int8", "torch-int8", "hqq-int8-g64")
    }
    assert (shown.broken, shown.not_compared) == (1, 0)
    assert [c.recipe for c in shown.untimed] == ["bf16"]


def test_axes_are_speed_and_the_change_in_wer(figure):
    drawn = points(figure)
    keys = [key for (key,) in drawn.customdata]
    reference = next(run.key for run in RUNS if run.spec.recipe.name == "fp32")
    at = keys.index(reference)
    assert (drawn.x[at], drawn.y[at]) == (1.0, 0.0)
    assert sorted(drawn.x) == [0.5, 1.0, 2.0, 4.0]
    assert figure.layout.xaxis.type == "log"
    assert drawn.error_x.array is None and drawn.error_y.array is None


def test_only_the_front_and_the_references_are_labelled(figure):
    names = {a.text.split("<b>")[1].split("</b>")[0] for a in figure.layout.annotations}
    assert names == {"fp32", "quanto-int8", "torch-int8"}
    assert any("50 MB, recommended" in a.text for a in figure.layout.annotations)


def test_areas_are_proportional_to_size(figure):
    names = [key for (key,) in points(figure).customdata]
    size = dict(zip(names, points(figure).marker.size, strict=True))
    keys = {run.spec.recipe.name: run.key for run in RUNS if run.measures == "accuracy"}
    assert (size[keys["fp32"]] / size[keys["quanto-int8"]]) ** 2 == pytest.approx(4.0)


def test_hover_says_how_sure_a_point_is(figure):
    texts = points(figure).hovertext
    assert any("95 % interval" in text and "4 times as fast" in text for text in texts)
    assert all("<script" not in text for text in texts)


def test_labels_do_not_overlap(figure):
    """On the screens that they are placed for."""
    for width, height, _ in overview_chart._SCREENS:
        boxes = np.array([_box(figure, a, width, height) for a in figure.layout.annotations])
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                assert (sides <= 0).any()


def _box(figure, label, width, height):
    (x0, x1), (y0, y1) = figure.layout.xaxis.range, figure.layout.yaxis.range
    middle = np.array(
        [
            (label.x - x0) / (x1 - x0) * width + label.ax,
            (y1 - label.y) / (y1 - y0) * height + label.ay,
        ]
    )
    lines = label.text.replace("<b>", "").replace("</b>", "").split("<br>")
    size = np.array([7.2 * max(map(len, lines)), 17 * len(lines)])
    return np.concatenate([middle - size / 2, middle + size / 2])


def test_nothing_to_draw_is_an_empty_figure():
    assert not overview_figure([], {}).data
