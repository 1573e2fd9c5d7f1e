"""Two metrics of every result against each other, with the Pareto front.

Background and text colour are left to the page.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from whisperq_core.analyze.pareto_front import BASELINE, pareto_optimal
from whisperq_core.analyze.results_table import (
    BACKEND_NAMES,
    METRICS,
    Metric,
    compared_rate,
    rate_column,
    values,
)
from whisperq_core.present.label_placement import LabelPlacer, label_annotation

# Okabe and Ito's colours, which colour-blind readers can tell apart, and a symbol each.
_LOOKS = (
    ("#0072B2", "circle"),
    ("#E69F00", "diamond"),
    ("#009E73", "square"),
    ("#CC79A7", "triangle-up"),
    ("#56B4E9", "pentagon"),
    ("#D55E00", "x"),
    ("#8A8A8A", "star"),
    ("#B8A800", "hexagram"),
    ("#7E57C2", "cross"),
    ("#8D6E63", "triangle-down"),
    ("#C2185B", "hourglass"),
    ("#00796B", "star-diamond"),
)
_BACKENDS = (
    *("torch", "hqq", "quanto", "bitsandbytes", "torchao", "faster-whisper", "none", "whisperq"),
    *("whisper.cpp", "onnxruntime", "openvino", "mixed"),
)
_GREY = "rgba(128,128,128,0.75)"
# With more rows than this, only the Pareto front has bars and names.
MAX_LABELLED_POINTS = 80
# Opacity of the inside of a significantly dominated marker.
_FADED = 0.15
_HEIGHT_PX = 520
# Columns with the ends of a metric's bars: extremes of passes, or the 95% interval of a rate.
_ENDS = {
    "rtf": ("rtf_low", "rtf_high"),
    "rtf_ratio": ("rtf_ratio_low", "rtf_ratio_high"),
    "wer_pct": ("wer_low_pct", "wer_high_pct"),
    "cer_pct": ("cer_low_pct", "cer_high_pct"),
    "divergence_mnat": ("divergence_mnat_low", "divergence_mnat_high"),
    "difference_points": ("difference_low", "difference_high"),
}
# The difference from the baseline: a column of `pareto_front.with_verdicts`.
DIFFERENCE = "difference_points"
# The columns that the hover text needs.
_HOVER_COLUMNS = (
    *("recipe", "model", "rtf_source", "in_words", "front", "verdict_rate", *METRICS),
    *(end for ends in _ENDS.values() for end in ends),
)
# How far bars may widen an axis beyond its points, in times the points' range.
_BARS_ROOM = 0.6
# An error rate is beyond the axis above 100 %, or above this many times the median.
_OFF_CHART_MEDIANS = 2.5
# A difference is, above this many points and times the median distance from the baseline.
_OFF_CHART_POINTS, _OFF_CHART_DISTANCES = 2.0, 4.0


def metric(frame: pd.DataFrame, column: str) -> Metric:
    """The metric of a column that can be an axis; differences are of the rate that is compared."""
    if column == DIFFERENCE:
        return Metric(DIFFERENCE, f"{compared_rate(frame)} difference", "points", 2)
    return METRICS[column]


def with_difference_of_baseline(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the baseline's difference from itself, 0, so that it can be drawn."""
    own = frame[DIFFERENCE].where(frame["verdict"] != BASELINE, 0.0)
    return frame.assign(**{DIFFERENCE: own})


def beyond_axis(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Rows whose error rate is too high to plot with the others, as booleans, shape (rows,).

    Only WER and CER (in percent) and their differences are capped; other columns never are.
    """
    if column == DIFFERENCE:
        differences = frame[DIFFERENCE].to_numpy(dtype=float)
        if np.isnan(differences).all():
            return np.zeros(len(frame), dtype=bool)
        usual = _OFF_CHART_DISTANCES * float(np.nanmedian(np.abs(differences)))
        return differences > max(_OFF_CHART_POINTS, usual, float(np.nanmin(differences)))
    shown = values(frame, column)
    if column not in ("wer_pct", "cer_pct") or np.isnan(shown).all():
        return np.zeros(len(frame), dtype=bool)
    limit = min(100.0, _OFF_CHART_MEDIANS * float(np.nanmedian(shown)))
    return shown > max(limit, float(np.nanmin(shown)))


@dataclass(frozen=True)
class _Axis:
    """One axis: position of each row, in the axis's units, and the axis's range.

    metric: what it shows. ends: low and high ends of the rows' bars, where they have any. off: rows
    beyond the axis.
    """

    metric: Metric
    at: np.ndarray
    ends: tuple[np.ndarray, np.ndarray] | None
    off: np.ndarray
    low: float
    high: float
    log: bool

    @property
    def fractions(self) -> np.ndarray:
        """Position of each row along the axis, from 0 to 1."""
        at = np.log10(self.at) if self.log else self.at
        return (at - self.low) / (self.high - self.low)

    def layout(self) -> dict[str, Any]:
        return {
            "title": {"text": self.metric.title},
            "type": "log" if self.log else "linear",
            "range": [self.low, self.high],
            "zeroline": self.metric.column == DIFFERENCE,
            "zerolinecolor": _GREY,
            **self._ticks(),
        }

    def _ticks(self) -> dict[str, Any]:
        """On a logarithmic axis 1, 2 and 5 of each power of ten; else Plotly's own."""
        if not self.log:
            return {}
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _axis(frame: pd.DataFrame, column: str, log: bool, show_all: bool, barred: np.ndarray) -> _Axis:
    """barred: rows whose bars are drawn, and get room."""
    at = values(frame, column)
    off = np.zeros(len(frame), dtype=bool) if show_all else beyond_axis(frame, column)
    inside = at[~off]
    spread = _ends(frame, column)
    if spread:
        bars = np.concatenate([end[~off & barred] for end in spread])
        if column in ("wer_pct", "cer_pct", DIFFERENCE) and len(inside) and len(bars):
            least = -math.inf if column == DIFFERENCE else 0.0
            room = _BARS_ROOM * (np.ptp(inside) or np.nanmax(bars, initial=1.0))
            bars = np.clip(bars, max(least, inside.min() - room), inside.max() + room)
        inside = np.concatenate([inside, bars[~np.isnan(bars)]])
    log = log and bool((inside > 0).all())
    ends = np.log10(inside) if log else inside
    pad = 0.09 * (np.ptp(ends) or abs(ends[0]) or 1.0)
    low, high = float(ends.min() - pad), float(ends.max() + pad)
    if off.any():
        high += pad / 2
    if not log and inside.min() >= 0:
        low = max(low, -pad / 2)
    edge = high - pad / 3
    drawn = np.where(off, 10**edge if log else edge, at)
    return _Axis(metric(frame, column), drawn, spread, off, low, high, log)


def tradeoff_figure(
    frame: pd.DataFrame,
    x: str = "rtf",
    y: str = "wer_pct",
    size: str | None = "weights_bytes",
    color: str = "backend",
    *,
    log_x: bool = False,
    log_y: bool = False,
    show_all: bool = False,
    chosen: str | None = None,
    intervals: bool = True,
) -> go.Figure:
    """Two metrics of every row against each other, with the Pareto front drawn and named.

    frame has the columns of `results_table.rows`, and may have those of `pareto_front`; x, y and
    size are columns of METRICS, or DIFFERENCE; color is any text column. Rows without x or y are
    left out; rows that are `dominated` are hollow. Marker areas are proportional to `size`. Error
    rates beyond the axis are arrows at its edge, unless show_all. Each point's customdata is [key];
    the row of the key `chosen` gets a ring. Names are left out where they would cover
    something. Without intervals, or with more than MAX_LABELLED_POINTS rows, only the front and the
    chosen row have bars, which keeps the plot readable and fast to draw.
    """
    has_both = ~np.isnan(values(frame, x)) & ~np.isnan(values(frame, y))
    frame = frame[has_both].reset_index(drop=True)
    if frame.empty:
        return go.Figure()
    front = _front(frame, x, y)
    is_chosen = (frame["key"] == chosen).to_numpy(dtype=bool)
    barred = front | is_chosen | (intervals and len(frame) <= MAX_LABELLED_POINTS)
    x_axis = _axis(frame, x, log_x, show_all, barred)
    y_axis = _axis(frame, y, log_y, show_all, barred)
    areas = _diameters(frame, size)
    traces = [_front_line(x_axis, y_axis, front & ~x_axis.off & ~y_axis.off)]
    columns = [column for column in _HOVER_COLUMNS if column in frame]
    hover = [_hover(row) for row in frame[columns].to_dict("records")]
    groups = frame[color].fillna("–").astype(str)
    for group in sorted(groups.unique(), key=lambda g: (g == "none", g)):
        rows = np.flatnonzero(groups == group)
        # The legend takes the look of the first.
        off = (x_axis.off | y_axis.off)[rows]
        rows = rows[np.lexsort((_dominated(frame)[rows], off))]
        look = _look(color, group, groups)
        traces.append(_group(frame, rows, x_axis, y_axis, areas, look, hover, barred))
    if chosen is not None:
        traces.append(_ring(np.flatnonzero(frame["key"] == chosen), x_axis, y_axis, areas))
    layout = {
        "height": _HEIGHT_PX,
        "xaxis": x_axis.layout(),
        "yaxis": y_axis.layout(),
        "annotations": _labels(frame, x_axis, y_axis, _to_name(frame, front, is_chosen), areas),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        # Room for ticks and titles; where Plotly has to find it, it draws everything twice.
        "margin": {"l": 64, "r": 8, "t": 8, "b": 56},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _GREY},
        "clickmode": "event+select",
        "dragmode": False,
    }
    # At once: Plotly checks everything of a trace again when it is added to a figure.
    return go.Figure(traces, layout)


def _front(frame: pd.DataFrame, x: str, y: str) -> np.ndarray:
    """Pareto-optimal rows; in differences from one baseline as in the rates themselves."""
    rate = rate_column(compared_rate(frame))
    x, y = (rate if column == DIFFERENCE else column for column in (x, y))
    return pareto_optimal(frame, x, y)


def _to_name(frame: pd.DataFrame, front: np.ndarray, is_chosen: np.ndarray) -> np.ndarray:
    """Rows to name, the most important first; those off the chart are added where they are few."""
    baseline = np.zeros(len(frame), dtype=bool)
    if "verdict" in frame:
        baseline = (frame["verdict"] == BASELINE).to_numpy(dtype=bool)
    named = front | is_chosen | baseline
    rank = np.where(is_chosen, 0, np.where(baseline, 1, 2))
    rows = np.flatnonzero(named)
    return rows[np.argsort(rank[rows], kind="stable")]


def _look(color: str, group: str, groups: pd.Series) -> tuple[str, str, str]:
    """Colour, symbol and name of a group; a library keeps its look whatever else is shown."""
    order = _BACKENDS if color == "backend" else tuple(sorted(groups.unique()))
    place = order.index(group) if group in order else len(order)
    name = BACKEND_NAMES.get(group, group) if color == "backend" else group
    return (*_LOOKS[place % len(_LOOKS)], escape(name))


def _diameters(frame: pd.DataFrame, size: str | None) -> np.ndarray:
    """Marker diameters in pixels, areas proportional to the column; 12 where there is no value."""
    if size is None:
        return np.full(len(frame), 12.0)
    shown = values(frame, size)
    largest = np.nanmax(shown, initial=0.0)
    if largest <= 0:
        return np.full(len(frame), 12.0)
    return np.where(np.isnan(shown), 12.0, np.maximum(8.0, 22.0 * np.sqrt(shown / largest)))


def _front_line(x_axis: _Axis, y_axis: _Axis, on_front: np.ndarray) -> dict[str, Any]:
    order = np.flatnonzero(on_front)
    order = order[np.lexsort((y_axis.at[order], x_axis.at[order]))]
    return {
        "x": x_axis.at[order],
        "y": y_axis.at[order],
        "mode": "lines",
        "name": "Pareto front",
        "line": {"color": _GREY, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _group(
    frame: pd.DataFrame,
    rows: np.ndarray,
    x_axis: _Axis,
    y_axis: _Axis,
    areas: np.ndarray,
    look: tuple[str, str, str],
    hover: list[str],
    barred: np.ndarray,
) -> dict[str, Any]:
    colour, symbol, name = look
    beyond_y, beyond_x = y_axis.off[rows], x_axis.off[rows]
    symbols = np.where(beyond_y, "arrow-up", np.where(beyond_x, "arrow-right", symbol))
    dominated = _dominated(frame)[rows]
    drawn = ~(beyond_y | beyond_x) & barred[rows]
    spreads = {
        f"error_{letter}": _spread(axis, rows, drawn, colour)
        for letter, axis in (("x", x_axis), ("y", y_axis))
        if axis.ends and drawn.any()
    }
    return {
        "x": x_axis.at[rows],
        "y": y_axis.at[rows],
        "mode": "markers",
        "name": name,
        "marker": {
            "color": _one_or_each(np.where(dominated, _translucent(colour, _FADED), colour)),
            "symbol": _one_or_each(symbols),
            "size": np.where(beyond_y | beyond_x, 16.0, areas[rows]),
            "opacity": 0.88,
            "line": {"width": 1, "color": _one_or_each(np.where(dominated, colour, _GREY))},
        },
        "customdata": frame["key"].to_numpy()[rows, None].astype(object),
        "hovertext": [hover[i] for i in rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 0.6}},
        **spreads,
    }


def _one_or_each(looks: np.ndarray) -> str | np.ndarray:
    """The look that all points share, or each one's: checked and drawn faster if one."""
    return str(looks[0]) if (looks == looks[0]).all() else looks


def _ends(frame: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Both ends of a metric's bars; None where the frame has none."""
    if column not in _ENDS or _ENDS[column][0] not in frame:
        return None
    low, high = _ENDS[column]
    return values(frame, low), values(frame, high)


def _spread(axis: _Axis, rows: np.ndarray, drawn: np.ndarray, colour: str) -> dict[str, Any]:
    assert axis.ends is not None
    low, high = (end[rows] for end in axis.ends)
    at = axis.at[rows]
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(high - at) * drawn,
        "arrayminus": np.nan_to_num(at - low) * drawn,
        "color": _translucent(colour, 0.4),
        "thickness": 1.2,
        "width": 0,
    }


def _dominated(frame: pd.DataFrame) -> np.ndarray:
    return frame["dominated"].to_numpy(bool) if "dominated" in frame else np.zeros(len(frame), bool)


def _translucent(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _hover(row: Mapping[Hashable, Any]) -> str:
    lines = [f"<b>{escape(row['recipe'])}</b> · {escape(row['model'])}"]
    for shown in METRICS.values():
        if pd.isna(row[shown.column]):
            continue
        value = shown.show(row[shown.column])
        ends = [row.get(end) for end in _ENDS.get(shown.column, ())]
        if ends and not any(pd.isna(end) for end in ends):
            value += f" ({' to '.join(f'{end:.{shown.decimals}f}' for end in ends)})"
        lines.append(f"{shown.label} {value}")
    lines.append(f"Source of RTF: {escape(row['rtf_source'])}")
    if "in_words" in row:
        lines.append(f"{_rate(row)}: {escape(row['in_words'])}")
    if "front" in row:
        lines.append(f"Pareto front: {escape(row['front'])}")
    return "<br>".join(lines)


def _rate(row: Mapping[Hashable, Any]) -> str:
    """What the row's verdict compares; WER where there is none."""
    rate = row.get("verdict_rate")
    return "WER" if pd.isna(rate) else str(rate)


def _ring(where: np.ndarray, x_axis: _Axis, y_axis: _Axis, areas: np.ndarray) -> dict[str, Any]:
    return {
        "x": x_axis.at[where],
        "y": y_axis.at[where],
        "mode": "markers",
        "name": "selected",
        "marker": {
            "symbol": "circle-open",
            "size": areas[where] + 12,
            "color": "#D55E00",
            "line": {"width": 3},
        },
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _labels(
    frame: pd.DataFrame, x_axis: _Axis, y_axis: _Axis, wanted: np.ndarray, areas: np.ndarray
) -> list[dict[str, Any]]:
    """Names of the rows `wanted`, then of those off the chart, where they cover nothing."""
    spots = np.column_stack((x_axis.fractions, 1 - y_axis.fractions))
    placer = LabelPlacer(spots, areas)
    labels = []
    told_apart = [c for c in ("model", "device", "set") if frame[c].nunique() > 1]
    few = len(frame) <= MAX_LABELLED_POINTS
    off = np.flatnonzero((x_axis.off | y_axis.off) & few)
    for i in dict.fromkeys([*wanted, *off]):
        text = _label(frame.iloc[i], int(i), told_apart, x_axis, y_axis)
        shift = placer.place_free(spots[i], areas[i], len(text))
        if shift is None:
            continue
        x = np.log10(x_axis.at[i]) if x_axis.log else x_axis.at[i]
        labels.append(label_annotation(x, y_axis.at[i], escape(text), shift, areas[i]))
    return labels


def _label(row: pd.Series, i: int, told_apart: list[str], x_axis: _Axis, y_axis: _Axis) -> str:
    text = " · ".join(str(row[column]) for column in ("recipe", *told_apart))
    for axis in (x_axis, y_axis):
        if axis.off[i]:
            shown = axis.metric
            text += f" ({shown.label} {shown.show(row[shown.column])})"
    return text
