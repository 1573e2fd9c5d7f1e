"""Figures of what recipes cost under conditions. Colours are Okabe and Ito's."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from whisperq_core.analyze.condition_effects import ConditionEffect
from whisperq_core.present.condition_text import change_text, condition_label
from whisperq_core.present.divergence_charts import LOG_AXIS

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8a8a")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x")
_QUIET = "quiet"
_CHANNELS = "Rooms, telephone and codecs"


def panels(effects: Sequence[ConditionEffect]) -> dict[str, list[ConditionEffect]]:
    """The effects of each panel by its title: one for each noise, one for what has no level."""
    found: dict[str, list[ConditionEffect]] = {}
    for effect in sorted(effects, key=lambda e: (e.level_db is None, e.kind)):
        title = _CHANNELS if effect.level_db is None else noise_label(effect)
        found.setdefault(title, []).append(effect)
    return found


def noise_label(effect: ConditionEffect) -> str:
    """The noise of a condition in words, without its level."""
    return condition_label(effect.condition).replace(f" at {effect.level_db:g} dB", "")


def curves(effects: Sequence[ConditionEffect]) -> go.Figure:
    """Cost by level, a line for each recipe and a panel for each condition.

    effects: of one measure, model, protocol and set. Divergence is on a logarithmic axis. A filled
    mark is a change from quiet that is shown, an open one is too close to call.
    """
    by_panel = panels(effects)
    if not by_panel:
        return go.Figure()
    titles = [escape(title) for title in by_panel]
    figure = make_subplots(1, len(by_panel), subplot_titles=titles, shared_yaxes=True)
    recipes = sorted({effect.recipe for effect in effects})
    for column, own in enumerate(by_panel.values(), 1):
        for number, recipe in enumerate(recipes):
            line = [effect for effect in own if effect.recipe == recipe]
            if line:
                figure.add_trace(_line(line, number, show_legend=column == 1), 1, column)
        figure.update_xaxes(categoryorder="array", categoryarray=_steps(own), col=column)
    is_divergence = effects[0].measure == "divergence"
    figure.update_yaxes(zeroline=False, automargin=True)
    if is_divergence:
        figure.update_yaxes(LOG_AXIS)
    title = "Divergence (mnat per token)" if is_divergence else "WER increase over fp32 (points)"
    figure.update_yaxes(title_text=title, col=1)
    figure.update_layout(
        height=460,
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": -0.15, "yanchor": "top", "x": 0},
    )
    return figure


def _steps(effects: Sequence[ConditionEffect]) -> list[str]:
    """The ticks of a panel from quiet to the worst."""
    ordered = sorted(effects, key=lambda e: (-(e.level_db or 0), e.condition))
    return list(dict.fromkeys([_QUIET, *map(_step, ordered)]))


def _step(effect: ConditionEffect) -> str:
    if effect.level_db is None:
        return escape(condition_label(effect.condition))
    return f"{effect.level_db:g} dB"


def _line(effects: Sequence[ConditionEffect], number: int, show_legend: bool) -> go.Scatter:
    """The costs of one recipe in one panel, from quiet on."""
    ordered = sorted(effects, key=lambda e: (-(e.level_db or 0), e.condition))
    shown = [True, *(effect.verdict != "too close to call" for effect in ordered)]
    colour, symbol = _COLOURS[number % len(_COLOURS)], _SYMBOLS[number % len(_SYMBOLS)]
    first = ordered[0]
    name = escape(first.recipe)
    hovers = [f"{name}, quiet: {first.in_quiet:.3g}"]
    hovers += [f"{name}, {_step(e)}: {change_text(e)}: {e.verdict}" for e in ordered]
    return go.Scatter(
        x=[_QUIET, *map(_step, ordered)],
        y=[first.in_quiet, *(effect.under_condition for effect in ordered)],
        mode="markers" if first.level_db is None else "lines+markers",
        name=name,
        legendgroup=name,
        showlegend=show_legend,
        line={"color": colour, "width": 2},
        marker={
            "color": colour,
            "size": 9,
            "symbol": [symbol if one else f"{symbol}-open" for one in shown],
        },
        hovertext=hovers,
        hoverinfo="text",
    )
