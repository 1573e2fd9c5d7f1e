"""Forest plots: value and 95% interval of each result, coloured by verdict.

Backgrounds are transparent and text has no colour, so that the page's theme applies.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.results_table import compared_rate
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.present.labels import protocol_label, verdict_label
from whisperq_core.present.tradeoff_chart import beyond_axis

# Colour (Okabe and Ito) and symbol; symbols tell verdicts apart without colour.
_MARKERS = {
    BASELINE: ("#0072B2", "diamond"),
    Verdict.BETTER: ("#009E73", "triangle-left"),
    Verdict.NO_WORSE: ("#009E73", "circle"),
    Verdict.INCONCLUSIVE: ("#8A8A8A", "circle-open"),
    Verdict.WORSE: ("#D55E00", "square"),
    NOT_COMPARED: ("#8A8A8A", "circle"),
}
_GREY = "rgba(128,128,128,0.9)"
_ROW_PX, _AROUND_PX = 24, 96
# A row with its name above the interval.
_NAMED_ROW_PX = 52
_NAME_CHARACTERS = 30
# By how much intervals may extend the axis on each side, relative to the range of the values.
_INTERVAL_ROOM = 0.7


def rate_figure(frame: pd.DataFrame, baseline: str) -> go.Figure:
    """WER in percent with 95% intervals, in the frame's order, and a line at the baseline's WER.

    CER instead, where verdicts compare it.

    frame has the columns of `pareto_front.with_verdicts`. Rates beyond the axis are arrows at its
    edge, with their values.
    """
    rate = compared_rate(frame)
    name = rate.lower()
    columns = (f"{name}_pct", f"{name}_low_pct", f"{name}_high_pct")
    figure = _forest(frame, *columns, f"{rate} (%)", "%", baseline)
    of_baseline = frame.loc[frame["recipe"] == baseline, columns[0]]
    if len(of_baseline):
        name = f"{rate} of {escape(_short(baseline))}"
        _line(figure, of_baseline.iloc[0], len(frame), name, "dot")
    return figure


def difference_figure(frame: pd.DataFrame, margin: float, baseline: str = "fp32") -> go.Figure:
    """WER (or CER) minus the baseline's in points with 95% intervals; lines at 0 and the margin.

    Each point's customdata is [key].
    """
    compared = frame[frame["difference_points"].notna()]
    columns = ("difference_points", "difference_low", "difference_high")
    figure = _forest(
        compared,
        *columns,
        f"{compared_rate(frame)} difference from {escape(_short(baseline))} (points)",
        "points",
        baseline,
        (0.0, margin),
    )
    if len(compared):
        figure.add_vline(0, line={"color": _GREY, "width": 1})
        _line(figure, margin, len(compared), f"margin: {margin:g} points", "dash")
    return figure


def configurations_figure(
    configurations: Sequence[Configuration], margin: float, chosen: Configuration | None = None
) -> go.Figure:
    """WER of each minus the reference's in points with 95% intervals, the first on top.

    Names are above the intervals, so that they need no width of their own; chosen is in bold.
    Configurations without a comparison are left out; an empty figure where none is left.
    """
    compared = [c for c in configurations if c.comparison is not None]
    frame = pd.DataFrame([_configuration_row(c) for c in compared])
    rate = compared[0].comparison.rate_name if compared and compared[0].comparison else "WER"
    figure = _forest(
        frame,
        *("difference_points", "difference_low", "difference_high"),
        f"{rate} difference from fp32 (points)",
        "points",
        "fp32",
        (0.0, margin),
    )
    if frame.empty:
        return figure
    names = [f"{escape(c.recipe)}, {escape(protocol_label(c.protocol.name))}" for c in compared]
    figure.add_scatter(
        x=[figure.layout.xaxis.range[0]] * len(names),
        y=[len(names) - 1 - place + 0.34 for place in range(len(names))],
        mode="text",
        text=[
            f"<b>{name}</b>" if c is chosen else name
            for name, c in zip(names, compared, strict=True)
        ],
        textposition="middle right",
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
    figure.add_vline(0, line={"color": _GREY, "width": 1})
    _line(figure, margin, len(compared), f"allowed: +{margin:g}", "dash")
    figure.update_yaxes(showticklabels=False, range=[-0.5, len(compared) - 0.4])
    figure.update_layout(height=_NAMED_ROW_PX * len(compared) + _AROUND_PX)
    return figure


def _configuration_row(configuration: Configuration) -> dict[str, object]:
    comparison = configuration.comparison
    assert comparison is not None
    return {
        "recipe": configuration.recipe,
        "wer_pct": configuration.rate_pct,
        "difference_points": comparison.difference.value,
        "difference_low": comparison.difference.low,
        "difference_high": comparison.difference.high,
        "verdict": comparison.verdict,
        "key": configuration.run.key,
    }


def _line(figure: go.Figure, x: float, rows: int, name: str, dash: str) -> None:
    """A vertical line over all rows, with an entry in the legend."""
    figure.add_scatter(
        x=[x, x],
        y=[-0.7, rows - 0.3],
        mode="lines",
        name=name,
        line={"color": _GREY, "width": 1.5, "dash": dash},
        hoverinfo="skip",
    )


def _forest(
    frame: pd.DataFrame,
    column: str,
    low: str,
    high: str,
    title: str,
    unit: str,
    baseline: str,
    always_shown: Sequence[float] = (),
) -> go.Figure:
    """A row for each result, the first on top; an empty figure for an empty frame.

    column, low, high: names of the columns of the value and its interval. always_shown: values that
    the axis includes.
    """
    if frame.empty:
        return go.Figure()
    value, lows, highs = (frame[c].to_numpy(dtype=float) for c in (column, low, high))
    beyond = beyond_axis(frame, "wer_pct")
    left, right = _range(value[~beyond], lows[~beyond], highs[~beyond], always_shown)
    names = [_short(name) for name in frame["recipe"]]
    drawn = pd.DataFrame(
        {
            "x": np.where(beyond, right - 0.02 * (right - left), value),
            "y": np.arange(len(frame))[::-1],
            "above": np.where(beyond, 0.0, np.nan_to_num(highs - value)),
            "below": np.where(beyond, 0.0, np.nan_to_num(value - lows)),
            "beyond": beyond,
            "hover": [_hover(*row, unit) for row in zip(names, value, lows, highs, strict=True)],
            "verdict": frame["verdict"].to_numpy(),
            "key": frame["key"].to_numpy() if "key" in frame else None,
        }
    )
    figure = go.Figure(layout=_layout(title, (left, right), names))
    for verdict in _MARKERS:
        rows = drawn[drawn["verdict"] == verdict]
        if len(rows):
            figure.add_scatter(**_verdict_trace(rows, verdict, baseline))
    for i in np.flatnonzero(beyond):
        figure.add_annotation(
            x=right - 0.05 * (right - left),
            y=drawn.at[i, "y"],
            text=f"{value[i]:.0f}",
            showarrow=False,
            xanchor="right",
            font={"size": 12},
        )
    return figure


def _verdict_trace(rows: pd.DataFrame, verdict: str, baseline: str) -> dict[str, Any]:
    """Trace of the points of one verdict, with their intervals."""
    colour, symbol = _MARKERS[verdict]
    return {
        "x": rows["x"].to_numpy(),
        "y": rows["y"].to_numpy(),
        "mode": "markers",
        "name": escape(verdict_label(verdict, baseline)),
        "marker": {
            "color": colour,
            "symbol": np.where(rows["beyond"], "triangle-right", symbol),
            "size": 10,
            "line": {"width": 2, "color": colour},
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": rows["above"].to_numpy(),
            "arrayminus": rows["below"].to_numpy(),
            "color": colour,
            "thickness": 2,
            "width": 4,
        },
        "customdata": rows[["key"]].to_numpy(dtype=object),
        "hovertext": rows["hover"].tolist(),
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _layout(title: str, axis_range: tuple[float, float], names: list[str]) -> dict[str, Any]:
    return {
        "height": _ROW_PX * len(names) + _AROUND_PX,
        "xaxis": {"title": {"text": title}, "range": axis_range, "zeroline": False},
        "yaxis": {
            "tickvals": np.arange(len(names))[::-1],
            "ticktext": [escape(name) for name in names],
            "range": [-0.7, len(names) - 0.3],
            "automargin": True,
            "zeroline": False,
            "showgrid": False,
        },
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "yref": "paper"},
        "showlegend": True,
        "margin": {"l": 8, "r": 12, "t": 44, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "clickmode": "event+select",
        "dragmode": False,
    }


def _range(
    values: np.ndarray, lows: np.ndarray, highs: np.ndarray, always_shown: Sequence[float]
) -> tuple[float, float]:
    """Range of the axis: all values, and of their intervals what _INTERVAL_ROOM allows."""
    values = np.concatenate([values, always_shown])
    room = _INTERVAL_ROOM * (np.ptp(values) or abs(values[0]) or 1.0)
    bars = np.concatenate([lows, highs])
    bars = np.clip(bars[~np.isnan(bars)], values.min() - room, values.max() + room)
    drawn = np.concatenate([values, bars])
    pad = 0.05 * (np.ptp(drawn) or 1.0)
    left = drawn.min() - pad
    return float(left if drawn.min() < 0 else max(left, -pad)), float(drawn.max() + pad)


def _hover(name: str, value: float, low: float, high: float, unit: str) -> str:
    interval = "no interval" if np.isnan(low) else f"95% interval {low:.2f} to {high:.2f}"
    numbers = f"{value:.2f} {unit}<br>{interval}".replace("-", "−")
    return f"<b>{escape(name)}</b><br>{numbers}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
