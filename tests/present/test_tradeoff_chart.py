import numpy as np
import pandas as pd
import pytest

from tests.support.sample_runs import accuracy_run, speed_run, tiny_english
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze import pareto_front, results_table
from whisperq_core.present import tradeoff_chart
from whisperq_core.present.label_placement import LabelPlacer

REFERENCE = "a cat sat down by our door and looked in"
# Errors in ten words.
TEXTS = {
    n: [(REFERENCE, " ".join(REFERENCE.split()[n:]))] if n < 10 else [(REFERENCE, "no " * 60)]
    for n in (1, 2, 3, 10)
}


@pytest.fixture
def frame() -> pd.DataFrame:
    return results_table.rows(
        [
            accuracy_run("fp32", TEXTS[1], weights_bytes=200_000_000),
            accuracy_run("torch-int8", TEXTS[2], weights_bytes=100_000_000),
            accuracy_run("hqq-int2-g64", TEXTS[10], weights_bytes=50_000_000),
            accuracy_run("quanto-int4", TEXTS[3], kernels="dequantized"),
            speed_run("fp32", [3.0, 3.2, 3.1]),
            speed_run("torch-int8", [1.0, 1.6, 1.3], [3.0, 3.0, 3.0]),
            speed_run("hqq-int2-g64", [9.0, 9.0, 9.0], [3.0, 3.0, 3.0]),
        ]
    )


def markers(figure) -> dict[str, object]:
    return {t.name: t for t in figure.data if t.mode == "markers"}


def texts(figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def test_axes_carry_units(frame):
    figure = tradeoff_chart.tradeoff_figure(frame, "weights_bytes", "wer_pct")
    assert figure.layout.xaxis.title.text == "Size (MB)"
    assert figure.layout.yaxis.title.text == "WER (%)"


@pytest.mark.parametrize("column", results_table.METRICS)
def test_every_metric_can_be_an_axis_and_a_size(frame, column):
    drawn = frame[column].notna().any()
    assert bool(tradeoff_chart.tradeoff_figure(frame, column, "wer_pct", column).data) == drawn
    assert (
        bool(tradeoff_chart.tradeoff_figure(frame, "wer_pct", column, None, log_x=True).data)
        == drawn
    )


def test_points_carry_their_keys(frame):
    keys = {
        key
        for trace in markers(tradeoff_chart.tradeoff_figure(frame)).values()
        for (key,) in trace.customdata
    }
    drawn = frame[frame["rtf"].notna()]
    assert keys == set(drawn["key"])


def test_libraries_differ_in_colour_and_in_symbol():
    looks = [
        tradeoff_chart._look("backend", name, pd.Series([name]))
        for name in results_table.BACKEND_NAMES
    ]
    assert len({colour for colour, _, _ in looks}) == len(looks)
    assert len({symbol for _, symbol, _ in looks}) == len(looks)


def test_areas_are_proportional_to_size(frame):
    traces = markers(tradeoff_chart.tradeoff_figure(frame, show_all=True))
    ratio = traces["not quantized"].marker.size[0] / traces["PyTorch"].marker.size[0]
    assert ratio**2 == pytest.approx(2.0)


def test_bars_span_the_passes(frame):
    bars = markers(tradeoff_chart.tradeoff_figure(frame))["PyTorch"].error_x
    assert bars.array[0] == pytest.approx(0.03)
    assert bars.arrayminus[0] == pytest.approx(0.03)


@pytest.fixture
def judged() -> pd.DataFrame:
    runs = [run_with("fp32", SOME), run_with("torch-int8", MANY), run_with("hqq-int8-g64", ALIKE)]
    times = [speed_run(run.spec.recipe.name, [1.0, 1.1], [1.0, 1.2]) for run in runs]
    frame = pareto_front.with_verdicts(results_table.rows([*runs, *times]), runs)
    return pareto_front.pareto_status(frame, runs, "rtf", "wer_pct")


@pytest.mark.parametrize("column", ["wer", "cer"])
def test_bars_span_the_intervals_of_error_rates(judged, column):
    rate, low, high = f"{column}_pct", f"{column}_low_pct", f"{column}_high_pct"
    trace = markers(tradeoff_chart.tradeoff_figure(judged, "rtf", rate))["HQQ"]
    row = judged.set_index("recipe").loc["hqq-int8-g64"]
    assert trace.error_y.array[0] == pytest.approx(row[high] - row[rate])
    assert trace.error_y.arrayminus[0] == pytest.approx(row[rate] - row[low])


def test_times_beside_fp32_have_bars_too(judged):
    bars = markers(tradeoff_chart.tradeoff_figure(judged, "rtf_ratio", "wer_pct"))["HQQ"].error_x
    assert bars.array[0] + bars.arrayminus[0] == pytest.approx(1.0 - 1.1 / 1.2)


def test_hover_says_how_sure_a_point_is(judged):
    traces = markers(tradeoff_chart.tradeoff_figure(judged))
    broken, alike = (traces[name].hovertext[0] for name in ("PyTorch", "HQQ"))
    assert "significantly higher WER than fp32" in broken
    assert "no statistically conclusive difference from fp32" in alike
    assert "significantly" not in alike
    assert " to " in broken.split("WER ")[1].split("<br>")[0]
    assert "Pareto front: dominated by" in broken


def test_what_is_decidedly_dominated_is_hollow(judged):
    traces = markers(tradeoff_chart.tradeoff_figure(judged))
    assert traces["PyTorch"].marker.color.startswith("rgba")
    assert traces["not quantized"].marker.color.startswith("#")


def test_the_legend_shows_what_is_solid_and_on_the_chart(judged):
    runs = [run_with("quanto-int2", MANY), run_with("quanto-int8", ALIKE)]
    frame = results_table.rows([*runs, *(speed_run(r.spec.recipe.name, [1.0]) for r in runs)])
    frame = frame.assign(dominated=frame["recipe"] == "quanto-int2")
    trace = markers(tradeoff_chart.tradeoff_figure(frame))["Quanto"]
    assert trace.marker.color[0].startswith("#") and trace.marker.color[1].startswith("rgba")


def test_catastrophic_rows_do_not_squash_the_plot(frame):
    figure = tradeoff_chart.tradeoff_figure(frame)
    assert figure.layout.yaxis.range[1] < 40
    trace = markers(figure)["HQQ"]
    assert trace.marker.symbol == "arrow-up"
    assert trace.y[0] < figure.layout.yaxis.range[1]
    assert "hqq-int2-g64 (WER 600.00 %)" in texts(figure)


def test_the_whole_range_can_be_asked_for(frame):
    figure = tradeoff_chart.tradeoff_figure(frame, show_all=True)
    assert figure.layout.yaxis.range[1] > 600
    assert markers(figure)["HQQ"].y[0] == pytest.approx(600.0)


def test_nothing_is_off_the_chart_alone():
    frame = results_table.rows([accuracy_run("hqq-int2-g64", TEXTS[10])])
    assert not tradeoff_chart.beyond_axis(frame, "wer_pct").any()
    assert tradeoff_chart.tradeoff_figure(frame).data


def test_front_is_drawn_and_named(frame):
    figure = tradeoff_chart.tradeoff_figure(frame)
    front = next(trace for trace in figure.data if trace.name == "Pareto front")
    assert list(front.x) == sorted(front.x)
    assert len(front.x) == 2
    assert {"fp32", "torch-int8"} <= set(texts(figure))


def test_models_are_named_where_there_are_several(frame):
    other = results_table.rows([tiny_english(accuracy_run("torch-int8", TEXTS[1], wall_s=0.5))])
    figure = tradeoff_chart.tradeoff_figure(pd.concat([frame, other], ignore_index=True))
    assert "torch-int8 · tiny.en" in texts(figure)


def test_the_chosen_point_gets_a_ring(frame):
    key = frame["key"][0]
    assert "selected" in markers(tradeoff_chart.tradeoff_figure(frame, chosen=key))
    assert "selected" not in markers(tradeoff_chart.tradeoff_figure(frame))


def test_logarithmic_labels_stand_at_their_points(frame):
    figure = tradeoff_chart.tradeoff_figure(frame, log_x=True)
    label = next(a for a in figure.layout.annotations if a.text == "fp32")
    assert 10**label.x == pytest.approx(0.31)
    assert figure.layout.xaxis.type == "log"


def test_nothing_to_draw_is_an_empty_figure(frame):
    assert not tradeoff_chart.tradeoff_figure(frame[frame["rtf"].isna()]).data
    assert not tradeoff_chart.tradeoff_figure(results_table.rows([])).data


def test_texts_are_escaped():
    frame = results_table.rows([accuracy_run("fp32", model="<a href='x'>m</a>")])
    figure = tradeoff_chart.tradeoff_figure(frame)
    assert "<a" not in markers(figure)["not quantized"].hovertext[0]


def test_background_is_left_to_the_page(frame):
    layout = tradeoff_chart.tradeoff_figure(frame).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_labels_at_one_spot_are_spread():
    placer = LabelPlacer([(0.5, 0.5)], [20.0])
    shifts = [placer.place((0.5, 0.5), 20.0, 10) for _ in range(4)]
    for i, (x, y) in enumerate(shifts):
        for other_x, other_y in shifts[:i]:
            assert abs(x - other_x) >= 65 or abs(y - other_y) >= 17


def test_labels_stay_inside_the_plot():
    dx, dy = LabelPlacer([(0.0, 1.0)], [10.0]).place((0.0, 1.0), 10.0, 12)
    assert dx > 0
    assert dy < 0
    assert np.isfinite([dx, dy]).all()


def test_of_too_many_rows_only_the_front_has_bars_and_names(frame, monkeypatch):
    many = pd.concat([frame] * tradeoff_chart.MAX_LABELLED_POINTS, ignore_index=True)
    many["key"] = [f"{i:016x}" for i in range(len(many))]
    many["wer_pct"] += np.arange(len(many)) / 10

    def bars() -> int:
        drawn = [trace.error_x.array for trace in tradeoff_chart.tradeoff_figure(many).data]
        return sum(int((np.array(array) > 0).sum()) for array in drawn if array is not None)

    front = tradeoff_chart.pareto_optimal(many, "rtf", "wer_pct").sum()
    assert len(texts(tradeoff_chart.tradeoff_figure(many))) == front
    assert 0 < bars() <= front
    monkeypatch.setattr(tradeoff_chart, "MAX_LABELLED_POINTS", len(many))
    assert bars() > front


def test_differences_are_drawn_with_their_simultaneous_intervals(judged):
    frame = tradeoff_chart.with_difference_of_baseline(judged)
    figure = tradeoff_chart.tradeoff_figure(frame, "rtf", tradeoff_chart.DIFFERENCE)
    assert figure.layout.yaxis.title.text == "WER difference (points)"
    trace, row = markers(figure)["HQQ"], judged.set_index("recipe").loc["hqq-int8-g64"]
    assert trace.y[0] == pytest.approx(row["difference_points"])
    assert trace.error_y.array[0] == pytest.approx(row["difference_high"] - trace.y[0])
    assert markers(figure)["not quantized"].y[0] == 0


def test_without_intervals_only_the_front_and_the_chosen_have_bars(judged):
    worse = judged.set_index("recipe").loc["torch-int8", "key"]

    def bars(**how) -> float:
        trace = markers(
            tradeoff_chart.tradeoff_figure(judged, intervals=False, show_all=True, **how)
        )["PyTorch"]
        return 0.0 if trace.error_y.array is None else trace.error_y.array[0]

    assert bars() == 0 and bars(chosen=worse) > 0


def test_labels_that_would_cover_another_are_left_out():
    placer = LabelPlacer([(0.5, 0.5)], [20.0])
    shifts = [placer.place_free((0.5, 0.5), 20.0, 40) for _ in range(60)]
    assert shifts[0] is not None and shifts[-1] is None
    assert LabelPlacer([(0.5, 0.5)], [20.0]).place_free((0.5, 0.5), 20.0, 400) is None
