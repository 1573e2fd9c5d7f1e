"""Figures as files, and what every figure owes its reader: units, and more than colour."""

import re

import plotly.graph_objects as go
import pytest

from tests.support.sample_runs import accuracy_run, speed_run
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze import confusions, results_table
from whisperq_core.analyze.configurations import configurations
from whisperq_core.present import (
    contribution_chart,
    figure_export,
    interval_charts,
    layer_charts,
    report_sections,
    slides,
    study_charts,
    tradeoff_chart,
)
from whisperq_core.present.answer import answer_of
from whisperq_core.quantize import sensitivity_results

UNITLESS = {"RTF", "Tokens per second", "Times as fast as fp32"}
UNIT = re.compile(r"\((%|MB|s|points|nats per token|× fp32)\)$|^Points of WER")


RUNS = [run_with("fp32", SOME), run_with("bf16", ALIKE), run_with("torch-int8", MANY)]
SPEEDS = [speed_run("fp32", [2.0], [2.0]), speed_run("bf16", [1.0, 1.1], [2.0, 2.2])]


def section() -> report_sections.Section:
    return report_sections.build_sections([*RUNS, *SPEEDS])[0]


def figures() -> dict[str, go.Figure]:
    found = section()
    one = sensitivity_results.stored_measurements()[0]
    formats = {layer.module: "int4" for layer in one.layers}
    every = {
        "rates": interval_charts.rate_figure(found.frame, "fp32"),
        "differences": interval_charts.difference_figure(found.frame, 0.5),
        "increase": study_charts.increase_figure([]),
        "layer map": layer_charts.sensitivity_map(one, "int4", formats),
        "changes": contribution_chart.contribution_figure(
            [
                confusions.ErrorContribution("ann", 2, 0.5, ("a",)),
                confusions.ErrorContribution("bob", -2, -0.5, ("b",)),
            ],
            *("fp32", "bf16"),
        ),
        "loss by size": layer_charts.size_loss_figure(one, [layer_charts.Budget(80, 0.1)]),
    }
    frame = results_table.rows([accuracy_run("fp32"), speed_run("fp32", [3.0, 3.2])])
    for column in results_table.METRICS:
        every[f"wer by {column}"] = tradeoff_chart.tradeoff_figure(frame, column, "wer_pct")
        every[f"{column} by wer"] = tradeoff_chart.tradeoff_figure(frame, "wer_pct", column)
    made = slides.build_slides(answer_of(configurations([*RUNS, *SPEEDS])))
    every |= {f"slide {s.topic}": s.figure for s in made if s.figure}
    return {name: figure for name, figure in every.items() if figure.data}


FIGURES = figures()


@pytest.mark.parametrize("name", FIGURES)
def test_axes_of_numbers_name_their_unit(name):
    figure = FIGURES[name]
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        names_things = bool(axis.ticktext) and not re.match(r"[\d.]", axis.ticktext[0])
        if names_things or isinstance(figure.data[0], go.Heatmap):
            continue
        title = axis.title.text
        assert title in UNITLESS or UNIT.search(title or ""), (name, title)


def test_the_map_of_layers_has_its_unit_on_the_scale_and_its_bits_as_text():
    scale = FIGURES["layer map"].data[0]
    assert scale.colorbar.title.text.startswith("nats per token")
    assert any("4" in row for row in scale.text)


@pytest.mark.parametrize("name", FIGURES)
def test_traces_that_a_legend_tells_apart_differ_by_more_than_colour(name):
    looks = []
    for trace in FIGURES[name].data:
        if isinstance(trace, go.Heatmap) or trace.showlegend is False:
            continue
        if isinstance(trace, go.Bar):
            looks.append(trace.marker.pattern.shape)
            continue
        symbols = trace.marker.symbol
        known = symbols if isinstance(symbols, str) or symbols is None else tuple(sorted(symbols))
        looks.append((trace.mode, known, trace.line.dash, trace.error_x.array is not None))
    assert len(looks) == len(set(map(str, looks))), looks


def test_a_page_holds_all_it_needs_and_nothing_it_could_run():
    title = "WER </script><script>alert(1)</script> & more"
    figure = go.Figure(go.Scatter(x=[1], y=[2], text=["</script><b>"]), {"height": 300})
    page = figure_export.to_html(figure, title)
    assert "<script>alert" not in page and "</script><b>" not in page
    assert "Plotly.newPlot" in page and not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert '"Save as PNG"' in page.replace(">Save as PNG<", '"Save as PNG"')


def test_print_is_dark_on_white_and_leaves_the_pages_figure_alone():
    figure = FIGURES["differences"]
    before = figure.to_json()
    found = figure_export.print_version(figure, "Differences")
    assert figure.to_json() == before
    assert found.layout.paper_bgcolor == found.layout.plot_bgcolor == "#ffffff"
    assert found.layout.font.color == found.layout.xaxis.tickfont.color == "#1a1a1a"
    assert found.layout.title.text == "Differences"
    assert found.layout.height > figure.layout.height


def test_the_colour_scale_is_readable_on_paper_and_keeps_its_title():
    figure = go.Figure(FIGURES["layer map"])
    figure_export.set_ink(figure, "#eeeeee")  # as a page does in the dark
    scale = figure_export.print_version(figure, "Layers").data[0].colorbar
    assert scale.title.font.color == scale.tickfont.color == "#1a1a1a"
    assert scale.title.text == FIGURES["layer map"].data[0].colorbar.title.text


@pytest.mark.parametrize(
    ("title", "name"),
    [("WER (%) against Size", "whisperq-wer-against-size"), ("…", "whisperq-figure")],
)
def test_files_are_named_for_what_they_show(title, name):
    assert figure_export.file_name(title) == name
