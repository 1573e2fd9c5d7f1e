"""Figures of divergence from fp32. Colours are Okabe and Ito's."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from whisperq_core.analyze.divergence_calibration import Calibration, Point

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8a8a8a"
_COMMON = {
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}
# 1, 2 and 5 of each power of ten that a divergence may be in.
_TICKS = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
LOG_AXIS = {"type": "log", "tickvals": _TICKS, "ticktext": [f"{tick:g}" for tick in _TICKS]}
_DIVERGENCE_AXIS = {
    "title": {"text": "Divergence (mnat per token)"},
    **LOG_AXIS,
    "zeroline": False,
    "automargin": True,
}
# How far beyond its points a logarithmic axis goes, as a factor.
_ROOM = 1.6
_ROW_PX = 24


def ranking_figure(points: Sequence[Point]) -> go.Figure:
    """Divergence of each recipe on one set with its 95 % interval, the smallest at the top."""
    ordered = sorted(points, key=lambda point: -point.mnat.value)
    values = [point.mnat.value for point in ordered]
    figure = go.Figure()
    figure.add_scatter(
        x=values,
        y=[point.recipe for point in ordered],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [point.mnat.high - point.mnat.value for point in ordered],
            "arrayminus": [point.mnat.value - point.mnat.low for point in ordered],
            "thickness": 1.5,
            "color": _BLUE,
        },
        mode="markers",
        marker={"color": _BLUE, "size": 8},
        customdata=[[p.mnat.low, p.mnat.high] for p in ordered],
        hovertemplate="%{y}: %{x:.3g} mnat per token (95 % interval %{customdata[0]:.3g} to"
        " %{customdata[1]:.3g})<extra></extra>",
    )
    figure.update_layout(
        height=90 + _ROW_PX * len(ordered),
        xaxis=_DIVERGENCE_AXIS,
        yaxis={"automargin": True, "dtick": 1},
        showlegend=False,
        **_COMMON,
    )
    return figure


def calibration_figure(calibration: Calibration, margin: float) -> go.Figure:
    """WER difference by divergence, the fitted mean, and the 95 % interval for one more recipe."""
    fit, points = calibration.fit, calibration.points
    values = [point.mnat.value for point in points]
    # A curve bends on a logarithmic axis: enough points for it to look smooth.
    grid = np.geomspace(min(values) / _ROOM, max(values) * _ROOM, 120)
    predictions = [fit.predict(float(mnat)) for mnat in grid]
    figure = go.Figure()
    figure.add_scatter(
        x=[*grid, *grid[::-1]],
        y=[*(p.high for p in predictions), *(p.low for p in reversed(predictions))],
        fill="toself",
        fillcolor="rgba(0,114,178,0.15)",
        line={"width": 0},
        name="95 % of recipes",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=grid,
        y=[p.value for p in predictions],
        mode="lines",
        line={"color": _BLUE, "width": 2},
        name="mean of recipes",
        hoverinfo="skip",
    )
    for name, color, chosen in (
        ("measured", _BLUE, [p for p in points if not p.loops]),
        ("measured, loops excluded", _ORANGE, [p for p in points if p.loops]),
    ):
        if chosen:
            figure.add_scatter(**_measured(chosen), marker={"color": color, "size": 8}, name=name)
    figure.add_hline(y=margin, line={"color": _GREY, "dash": "dash", "width": 1})
    threshold = fit.excluded_below(margin)
    if math.isfinite(threshold):
        figure.add_vline(x=threshold, line={"color": _GREY, "dash": "dash", "width": 1})
    low, high = _visible([p.difference.value for p in points], margin)
    figure.update_layout(
        height=440,
        xaxis=_DIVERGENCE_AXIS,
        yaxis={
            "title": {"text": "WER difference from fp32 (points)"},
            "range": [low, high],
            "automargin": True,
            "zeroline": False,
        },
        **_COMMON,
    )
    return figure


def _measured(points: Sequence[Point]) -> dict[str, object]:
    errors = [point.standard_error for point in points]
    return {
        "x": [point.mnat.value for point in points],
        "y": [point.difference.value for point in points],
        "error_y": {"type": "data", "array": errors, "thickness": 1, "width": 2},
        "mode": "markers",
        "customdata": [[p.recipe, p.model, p.eval_set] for p in points],
        "hovertemplate": "%{customdata[0]} · %{customdata[1]} · %{customdata[2]}<br>%{x:.3g} mnat"
        " per token, %{y:+.2f} points of WER<extra></extra>",
    }


def _visible(differences: Sequence[float], margin: float) -> tuple[float, float]:
    """The range of the Y axis: that of the points, the margin in it, with some room."""
    low, high = min(*differences, 0.0), max(*differences, margin)
    room = 0.08 * (high - low)
    return low - room, high + room
