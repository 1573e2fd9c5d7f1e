"""Interval plots: a line for each result, its value and its 95% interval, coloured by its verdict.

Like `charts`, they leave background and text colour to the page.
"""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.present.tradeoff_chart import beyond_axis

# Okabe and Ito's colours, and a symbol each for whom colours say little.
_LOOKS = {
    BASELINE: ("#0072B2", "diamond"),
    Verdict.BETTER: ("#009E73", "triangle-left"),
    Verdict.NO_WORSE: ("#009E73", "circle"),
    Verdict.INCONCLUSIVE: ("#8A8A8A", "circle-open"),
    Verdict.WORSE: ("#D55E00", "square"),
    NOT_COMPARED: ("#8A8A8A", "circle"),
}
_GREY = "rgba(128,128,128,0.9)"
_ROW_PX, _AROUND_PX = 24, 96
_NAME_CHARACTERS = 30
# How far beyond the largest value drawn an interval may widen the axis, in parts of the range.
_ROOM = 0.35


def wer_figure(frame: pd.DataFrame, baseline: str) -> go.Figure:
    """WER with its interval, in the frame's order, and a line at the baseline's.

    frame has the columns of `standing.judged`. Rates off the chart are drawn at its edge as arrows
    with their value.
    """
    figure = _forest(frame, "wer_pct", "wer_low_pct", "wer_high_pct", "WER (%)", "%")
    own = frame.loc[frame["recipe"] == baseline, "wer_pct"]
    if len(own):
        _line(figure, own.iloc[0], len(frame), f"WER of {escape(_short(baseline))}", "dot")
    return figure


def difference_figure(frame: pd.DataFrame, margin: float) -> go.Figure:
    """WER minus the baseline's with its interval; lines at zero and at the margin.

    Each point's customdata is [key].
    """
    compared = frame[frame["difference_points"].notna()]
    columns = ("difference_points", "difference_low", "difference_high")
    figure = _forest(compared, *columns, "Difference in WER (points)", "points", (0.0, margin))
    if len(compared):
        figure.add_vline(0, line={"color": _GREY, "width": 1})
        _line(figure, margin, len(compared), f"margin of {margin:g} points", "dash")
    return figure


def _line(figure: go.Figure, at: float, rows: int, name: str, dash: str) -> None:
    """A vertical line, named in the legend."""
    figure.add_scatter(
        x=[at, at],
        y=[-0.7, rows - 0.3],
        mode="lines",
        name=name,
        line={"color": _GREY, "width": 1.5, "dash": dash},
        hoverinfo="skip",
    )


def _forest(frame, column: str, low: str, high: str, title: str, unit: str, shown=()) -> go.Figure:
    at, lows, highs = (frame[c].to_numpy(dtype=float) for c in (column, low, high))
    off = beyond_axis(frame, "wer_pct")
    figure = go.Figure()
    if frame.empty:
        return figure
    left, right = _range(at[~off], lows[~off], highs[~off], shown)
    height = np.arange(len(frame))[::-1]
    names = [_short(name) for name in frame["recipe"]]
    for verdict, (colour, symbol) in _LOOKS.items():
        mine = (frame["verdict"] == verdict).to_numpy()
        if not mine.any():
            continue
        inside = mine & ~off
        edge = right - 0.02 * (right - left)
        figure.add_scatter(
            x=np.where(off, edge, at)[mine],
            y=height[mine],
            mode="markers",
            name=verdict,
            marker={
                "color": colour,
                "symbol": np.where(off, "triangle-right", symbol)[mine],
                "size": 10,
                "line": {"width": 2, "color": colour},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(highs - at)[mine] * inside[mine],
                "arrayminus": np.nan_to_num(at - lows)[mine] * inside[mine],
                "color": colour,
                "thickness": 2,
                "width": 4,
            },
            customdata=frame.loc[mine, ["key"]].to_numpy(dtype=object) if "key" in frame else None,
            hovertext=[_hover(names[i], at[i], lows[i], highs[i], unit) for i in mine.nonzero()[0]],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    for i in np.flatnonzero(off):
        figure.add_annotation(
            x=right - 0.05 * (right - left),
            y=height[i],
            text=f"{at[i]:.0f}",
            showarrow=False,
            xanchor="right",
            font={"size": 12},
        )
    figure.update_layout(
        height=_ROW_PX * len(frame) + _AROUND_PX,
        xaxis={"title": {"text": title}, "range": [left, right], "zeroline": False},
        yaxis={
            "tickvals": height,
            "ticktext": [escape(name) for name in names],
            "range": [-0.7, len(frame) - 0.3],
            "automargin": True,
            "zeroline": False,
            "showgrid": False,
        },
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "yref": "paper"},
        showlegend=True,
        margin={"l": 8, "r": 12, "t": 44, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left"},
        clickmode="event+select",
        dragmode=False,
    )
    return figure


def _range(at: np.ndarray, lows: np.ndarray, highs: np.ndarray, shown) -> tuple[float, float]:
    """Ends of the axis: all values, and their intervals as far as these leave room for values."""
    values = np.concatenate([at, shown])
    room = _ROOM * (np.ptp(values) or abs(values[0]) or 1.0)
    bars = np.concatenate([lows, highs])
    bars = np.clip(bars[~np.isnan(bars)], values.min() - 2 * room, values.max() + 2 * room)
    ends = np.concatenate([values, bars])
    pad = 0.05 * (np.ptp(ends) or 1.0)
    left = ends.min() - pad
    return float(left if ends.min() < 0 else max(left, -pad)), float(ends.max() + pad)


def _hover(name: str, at: float, low: float, high: float, unit: str) -> str:
    ends = "no interval" if np.isnan(low) else f"95% interval {low:.2f} to {high:.2f}"
    numbers = f"{at:.2f} {unit}<br>{ends}".replace("-", "−")
    return f"<b>{escape(name)}</b><br>{numbers}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
