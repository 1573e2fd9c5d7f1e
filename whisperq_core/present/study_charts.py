"""The study's Figure 1: published robustness gaps, and those measured here with intervals."""

from collections.abc import Iterable

import plotly.graph_objects as go

from whisperq_core.study.published import TABLE_2, TABLE_3, PublishedResult
from whisperq_core.study.robustness_gaps import RobustnessGap

_COLOURS = {"base": "#0072B2", "tiny.en": "#E69F00", "tiny": "#E69F00", "small": "#009E73"}
_SYMBOLS = {"base": "circle", "tiny.en": "square", "tiny": "square", "small": "triangle-up"}
# Published values: hollow diamonds of three shapes, to differ without colour, too.
_PUBLISHED = {"small": "diamond-tall-open", "base": "diamond-open", "tiny": "diamond-wide-open"}
_ROW_PX = 38
# Vertical offset of each model within a recipe's row, in rows.
_OFFSETS = {"small": -0.22, "base": 0.0, "tiny": 0.22, "tiny.en": 0.22}
# Larger gaps, caused by loops, are drawn at the edge with their value.
_EDGE_POINTS = 40.0


def increase_figure(bars: Iterable[RobustnessGap]) -> go.Figure:
    """Robustness gap (WER on test-other minus test-clean), a row for each recipe.

    Published values are hollow diamonds without an interval; measured ones are filled, with their
    95% intervals, a colour and symbol for each model. Values beyond the edge become arrows. The
    customdata of a measured point begins with the key of its run on test-other.
    """
    bars = list(bars)
    published = [*TABLE_2, *TABLE_3]
    order = _order(bars, published)
    figure = go.Figure()
    for model in ("small", "base", "tiny"):
        rows = {row.recipe: row for row in published if row.model == model}
        figure.add_scatter(
            x=[row.robustness_gap for row in rows.values()],
            y=_places(order, model, rows),
            text=list(rows),
            mode="markers",
            name=f"{model}, published",
            marker={
                "symbol": _PUBLISHED[model],
                "size": 11,
                "color": _COLOURS[model],
                "line": {"width": 2},
            },
            hovertemplate="%{text}, " + model + ", published: %{x:.2f} points<extra></extra>",
        )
    for model in dict.fromkeys(bar.model for bar in bars):
        _draw(figure, order, model, [bar for bar in bars if bar.model == model])
    figure.update_layout(
        height=120 + _ROW_PX * len(order),
        xaxis={
            "title": {"text": "Robustness gap (points)"},
            "range": [-5, _EDGE_POINTS * 1.06],
            "zeroline": True,
        },
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": order,
            "range": [len(order) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        clickmode="event+select",
        dragmode=False,
    )
    return figure


def _order(bars: list[RobustnessGap], published: list[PublishedResult]) -> list[str]:
    """fp32, then the measured recipes in their order, then those only published."""
    measured = [bar.recipe for bar in bars]
    return list(dict.fromkeys(["fp32", *measured, *(row.recipe for row in published)]))


def _places(order: list[str], model: str, recipes: Iterable[str]) -> list[float]:
    return [order.index(recipe) + _OFFSETS.get(model, 0.0) for recipe in recipes]


def _draw(figure: go.Figure, order: list[str], model: str, bars: list[RobustnessGap]) -> None:
    off = [bar.points.value > _EDGE_POINTS for bar in bars]
    at = [min(bar.points.value, _EDGE_POINTS) for bar in bars]
    colour = _COLOURS.get(model, "#56B4E9")
    figure.add_scatter(
        x=at,
        y=_places(order, model, (bar.recipe for bar in bars)),
        mode="markers+text",
        name=f"{model}, measured",
        text=[f"{b.points.value:.0f}  " if o else "" for b, o in zip(bars, off, strict=True)],
        textposition="middle left",
        marker={
            "symbol": ["arrow-right" if o else _SYMBOLS.get(model, "pentagon") for o in off],
            "size": [14 if o else 10 for o in off],
            "color": colour,
            "opacity": 1,
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [
                0 if o else b.points.high - b.points.value for b, o in zip(bars, off, strict=True)
            ],
            "arrayminus": [
                0 if o else b.points.value - b.points.low for b, o in zip(bars, off, strict=True)
            ],
            "color": colour,
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[
            [bar.keys[0], bar.recipe, bar.points.value, bar.points.low, bar.points.high]
            + [key[:6] for key in bar.keys]
            for bar in bars
        ],
        hovertemplate=(
            "%{customdata[1]}, " + model + ": %{customdata[2]:.2f} points"
            " (%{customdata[3]:.2f} to %{customdata[4]:.2f})<br>"
            "records %{customdata[5]} and %{customdata[6]}<extra></extra>"
        ),
    )
