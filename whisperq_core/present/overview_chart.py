"""The Overview's plot: the speed that each configuration gains, the WER it costs, and its size.

Background and text colour are left to the page.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.present import advisor_text
from whisperq_core.present.label_placement import Label, LabelPlacer, label_annotation
from whisperq_core.present.labels import protocol_label

# Above this WER increase in points a configuration counts as broken and is left off.
BROKEN_POINTS = 5.0

RECOMMENDED, IN_THE_STUDY, REFERENCE = "recommended", "as in the study", "reference"
_COLOURS = {RECOMMENDED: "#0072B2", IN_THE_STUDY: "#E69F00", REFERENCE: "#6b7280"}
_FRONT_COLOUR = "#009E73"
_GREY = "rgba(128,128,128,0.75)"
_FAINT = "rgba(128,128,128,0.32)"
_BAND = "rgba(0,158,115,0.10)"

_HEIGHT_PX = 285
_NAMED_WEIGHT = 4.0
_LARGEST_PX, _SMALLEST_PX = 34.0, 7.0
# Inner width and height on a desktop and on a phone, and the weight of each.
Screens = Sequence[tuple[float, float, float]]
_SCREENS: Screens = ((450.0, 230.0, 1.0), (600.0, 230.0, 0.5), (310.0, 230.0, 0.7))
_TIMES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """The configurations that can be drawn, and what cannot.

    broken: how many have a WER increase above BROKEN_POINTS. not_compared: how many were evaluated
    on no speech that fp32 was evaluated on. untimed: those without a speed relative to fp32.
    """

    configurations: tuple[Configuration, ...]
    broken: int
    not_compared: int
    untimed: tuple[Configuration, ...]


def drawable(configurations: Iterable[Configuration]) -> Shown:
    """What the plot shows, and what it leaves off."""
    shown, untimed, broken, not_compared = [], [], 0, 0
    for configuration in configurations:
        change = wer_change(configuration)
        if change is None:
            not_compared += 1
        elif change > BROKEN_POINTS:
            broken += 1
        elif configuration.latency is None:
            untimed.append(configuration)
        else:
            shown.append(configuration)
    return Shown(tuple(shown), broken, not_compared, tuple(untimed))


def wer_change(configuration: Configuration) -> float | None:
    """WER minus fp32's in points; None where they were not compared."""
    if configuration.is_reference:
        return 0.0
    comparison = configuration.comparison
    return None if comparison is None else comparison.difference.value


def overview_figure(
    shown: Sequence[Configuration],
    roles: Mapping[str, str],
    margin: float = MARGIN,
    screens: Screens = _SCREENS,
) -> go.Figure:
    """How many times as fast as fp32 against the change in WER; area is size.

    shown: see `drawable`. roles: RECOMMENDED, IN_THE_STUDY or REFERENCE by the key of a
    configuration's run; these and the Pareto front of the two axes have labels, the rest is grey.
    Points' customdata is [key]. margin: points of WER up to which the plot is shaded. screens: for
    which labels are placed, in pixels where a letter is 12 high.
    """
    if not shown:
        return go.Figure()
    times = np.array([1 / c.latency.value for c in shown if c.latency])
    changes = np.array([wer_change(c) for c in shown], dtype=float)
    diameters = _diameters([c.weights_bytes for c in shown])
    front = _front(times, changes, np.array([_is_usable(c) for c in shown]))
    x_range, y_range = _range(np.log10(times)), _range(changes)
    looks = [_colour(c, roles, on_front) for c, on_front in zip(shown, front, strict=True)]
    named = np.array(
        [on_front or c.run.key in roles for c, on_front in zip(shown, front, strict=True)]
    )
    spots = np.column_stack(
        (
            (np.log10(times) - x_range[0]) / np.ptp(x_range),
            (y_range[1] - changes) / np.ptp(y_range),
        )
    )
    # What has a name is drawn last, over the grey.
    order = np.argsort(named, kind="stable")
    points = {
        "x": times[order],
        "y": changes[order],
        "mode": "markers",
        "marker": {
            "size": diameters[order],
            "color": [looks[i] for i in order],
            "opacity": 0.9,
            "line": {"width": 1, "color": _GREY},
        },
        "customdata": [[shown[i].run.key] for i in order],
        "hovertext": [hover_text(shown[i]) for i in order],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    along = np.flatnonzero(front)
    along = along[np.argsort(times[along])]
    line = {
        "x": times[along],
        "y": changes[along],
        "mode": "lines",
        "line": {"color": _GREY, "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }
    labels = _labels(shown, roles, named, spots, diameters, times, changes, screens)
    return go.Figure([line, points], _layout(x_range, y_range, margin, labels))


def hover_text(configuration: Configuration) -> str:
    """Name, size, speed, change in WER with its interval, and the verdict in words, as HTML."""
    lines = [
        f"<b>{escape(configuration.recipe)}</b>",
        escape(f"{configuration.model}, {protocol_label(configuration.protocol.name)}"),
        escape(advisor_text.figures(configuration)),
        escape(advisor_text.cost(configuration)),
        escape(advisor_text.certainty(configuration)),
    ]
    return "<br>".join(filter(None, lines))


def _is_usable(configuration: Configuration) -> bool:
    """Whether it could be used with one's own audio."""
    return configuration.run.spec.recipe.calibration != "evaluation-10%"


def _front(
    times: Numbers, changes: Numbers, usable: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Whether no usable configuration is as fast with as low a WER and better on one of the two."""
    no_worse = (times[:, None] >= times) & (changes[:, None] <= changes)
    better = (times[:, None] > times) | (changes[:, None] < changes)
    dominated = (no_worse & better & usable[:, None]).any(axis=0)
    front: npt.NDArray[np.bool_] = usable & ~dominated
    return front


def _diameters(sizes: Sequence[int]) -> Numbers:
    """Marker diameters in pixels, areas proportional to the sizes."""
    values = np.array(sizes, dtype=float)
    diameters: Numbers = np.maximum(_SMALLEST_PX, _LARGEST_PX * np.sqrt(values / values.max()))
    return diameters


def _range(values: Numbers) -> tuple[float, float]:
    """The axis around the values, with room for labels and markers."""
    room = 0.12 * (np.ptp(values) or 1.0)
    return float(values.min() - room), float(values.max() + room)


def _colour(configuration: Configuration, roles: Mapping[str, str], on_front: bool) -> str:
    role = roles.get(configuration.run.key)
    return _COLOURS[role] if role else _FRONT_COLOUR if on_front else _FAINT


def _labels(
    shown: Sequence[Configuration],
    roles: Mapping[str, str],
    named: npt.NDArray[np.bool_],
    spots: Numbers,
    diameters: Numbers,
    times: Numbers,
    changes: Numbers,
    screens: Screens,
) -> list[dict[str, Any]]:
    """Names and sizes of the points with a role and of the front."""
    texts, labels = [], []
    times_named = Counter(shown[int(i)].recipe for i in np.flatnonzero(named))
    for i in map(int, np.flatnonzero(named)):
        configuration = shown[i]
        role = roles.get(configuration.run.key)
        lines = [configuration.recipe]
        if role in (RECOMMENDED, IN_THE_STUDY):
            lines.append(f"{configuration.megabytes} MB, {role}")
        elif times_named[configuration.recipe] > 1:
            lines.append(protocol_label(configuration.protocol.name))
        texts.append((i, "<br>".join([f"<b>{escape(lines[0])}</b>", *map(escape, lines[1:])])))
        labels.append(Label(spots[i], diameters[i], max(map(len, lines)), len(lines)))
    # Grey markers matter less than those with names.
    weights = np.where(named, _NAMED_WEIGHT, 1.0)
    shifts = LabelPlacer(spots, diameters, screens, weights).place_together(labels)
    return [
        label_annotation(float(np.log10(times[i])), float(changes[i]), text, shift, diameters[i])
        for (i, text), shift in zip(texts, shifts, strict=True)
    ]


def _layout(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    margin: float,
    labels: list[dict[str, Any]],
) -> dict[str, Any]:
    step = 1.0 if np.ptp(y_range) > 3 else 0.5
    changes = np.arange(np.ceil(y_range[0] / step), np.floor(y_range[1] / step) + 1) * step
    ticks = [time for time in _TIMES if x_range[0] <= np.log10(time) <= x_range[1]]
    return {
        "height": _HEIGHT_PX,
        "xaxis": {
            "title": {"text": "Times as fast as fp32", "standoff": 8},
            "type": "log",
            "range": list(x_range),
            "tickvals": ticks,
            "ticktext": [f"{time:g}×" for time in ticks],
            "zeroline": False,
        },
        "yaxis": {
            "title": {"text": "WER change (points)"},
            "range": list(y_range),
            "tickvals": list(changes),
            "ticktext": [f"{c:+g}".replace("-", "−") if c else "0" for c in changes],
            "zeroline": True,
            "zerolinecolor": _GREY,
            "zerolinewidth": 1,
        },
        "shapes": [
            {
                "type": "rect",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": y_range[0],
                "y1": min(margin, y_range[1]),
                "fillcolor": _BAND,
                "line": {"width": 0},
                "layer": "below",
            }
        ],
        "annotations": labels,
        "showlegend": False,
        "margin": {"l": 48, "r": 8, "t": 8, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "clickmode": "event+select",
        "dragmode": False,
    }
