"""Figures of layer sensitivity and of loss by size. Colours are Okabe and Ito's."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from whisperq_core.quantize.recipes import BITS
from whisperq_core.quantize.sensitivity_results import LayerLosses, Sensitivity

# Columns of the sensitivity map: a layer's path within its block, and its label.
_KINDS = {
    "self_attn.q_proj": "self q",
    "self_attn.k_proj": "self k",
    "self_attn.v_proj": "self v",
    "self_attn.out_proj": "self out",
    "encoder_attn.q_proj": "cross q",
    "encoder_attn.k_proj": "cross k",
    "encoder_attn.v_proj": "cross v",
    "encoder_attn.out_proj": "cross out",
    "fc1": "fc1",
    "fc2": "fc2",
}
_PLACE = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)")
_EMBEDDINGS = "Token embeddings"
# Smaller losses are drawn as this: they are floating-point noise, not rounded weights.
_LEAST_NATS = 1e-6
_ROW_PX = 30


def _cell(layer: LayerLosses) -> tuple[str, str]:
    """Row and column of a layer in the map; the token embeddings have a row of their own."""
    match = _PLACE.fullmatch(layer.module)
    if not match:
        return _EMBEDDINGS, ""
    part, block, kind = match.groups()
    return f"{part.capitalize()} {int(block) + 1}", _KINDS[kind]


def sensitivity_map(
    sensitivity: Sensitivity, coloured_format: str, formats: Mapping[str, str]
) -> go.Figure:
    """A heat map of the layers: colour is sensitivity at one format, text the allocated bits.

    A row for each encoder and decoder block, and one for the token embeddings. The colour scale is
    logarithmic, in nats per token. coloured_format: whose sensitivity is the colour. formats: the
    allocated format of each module.
    """
    kinds = list(_KINDS.values())
    rows = list(dict.fromkeys(_cell(layer)[0] for layer in sensitivity.layers))
    nats: list[list[float | None]] = [[None] * len(kinds) for _ in rows]
    bits = [[""] * len(kinds) for _ in rows]
    hover = [[""] * len(kinds) for _ in rows]
    for layer in sensitivity.layers:
        row, kind = _cell(layer)
        row_index = rows.index(row)
        columns = range(len(kinds)) if row == _EMBEDDINGS else [kinds.index(kind)]
        for column in columns:
            nats[row_index][column] = math.log10(
                max(layer.losses[coloured_format].nats, _LEAST_NATS)
            )
            hover[row_index][column] = _hover(layer, row, kind, formats[layer.module])
        bits[row_index][columns[len(columns) // 2]] = str(BITS[formats[layer.module]])
    values = [value for row in nats for value in row if value is not None]
    ticks = range(math.floor(min(values)), math.ceil(max(values)) + 1)
    figure = go.Figure(
        go.Heatmap(
            x=kinds,
            y=rows,
            z=nats,
            text=bits,
            texttemplate="%{text}",
            textfont={"size": 13},
            hovertext=hover,
            hovertemplate="%{hovertext}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorscale="Cividis",
            colorbar={
                "title": {"text": f"nats per token at {coloured_format}", "side": "right"},
                "tickvals": list(ticks),
                "ticktext": [f"{10.0**tick:g}" for tick in ticks],
                "thickness": 12,
            },
        )
    )
    figure.update_layout(
        height=110 + _ROW_PX * len(rows),
        xaxis={"side": "top", "showgrid": False, "fixedrange": True, "tickangle": -60},
        yaxis={"autorange": "reversed", "showgrid": False, "fixedrange": True},
        **_COMMON,
    )
    return figure


_COMMON = {
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "dragmode": False,
}


def _hover(layer: LayerLosses, row: str, kind: str, allocated: str) -> str:
    lines = [
        f"<b>{row}</b> {kind}",
        f"{layer.rows} × {layer.columns} weights, allocated: {allocated}",
    ]
    lines += [
        f"{name}: {loss.nats:.2g} nats per token,"
        f" most likely token changed: {100 * loss.changed:.1f} %"
        for name, loss in layer.losses.items()
    ]
    return "<br>".join(lines)


@dataclass(frozen=True)
class Budget:
    """A size reduction from fp32 in percent, and the best allocation's predicted loss, in nats."""

    smaller_pct: float
    nats: float


def size_loss_figure(
    sensitivity: Sensitivity, budgets: Sequence[Budget], selected: Budget | None = None
) -> go.Figure:
    """Predicted loss of the best allocation by size, and measured losses of whole models.

    selected: a budget to mark.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[budget.smaller_pct for budget in budgets],
        y=[budget.nats for budget in budgets],
        mode="lines",
        name="best allocation, predicted",
        line={"color": "#0072B2", "width": 2},
        hovertemplate="−%{x:.1f} %: %{y:.3g} nats per token predicted<extra></extra>",
    )
    if selected:
        figure.add_scatter(
            x=[selected.smaller_pct],
            y=[selected.nats],
            mode="markers",
            name="selected size",
            marker={"color": "#D55E00", "size": 14, "symbol": "circle-open", "line": {"width": 3}},
            hovertemplate="−%{x:.1f} %: %{y:.3g} nats per token predicted<extra></extra>",
        )
    for name, symbol, values in (
        ("whole model, predicted", "circle-open", [c.predicted_nats for c in sensitivity.checks]),
        ("whole model, measured", "diamond", [c.measured.nats for c in sensitivity.checks]),
    ):
        figure.add_scatter(
            x=[check.smaller_pct for check in sensitivity.checks],
            y=values,
            text=[check.name for check in sensitivity.checks],
            mode="markers",
            name=name,
            marker={"color": "#009E73", "size": 10, "symbol": symbol},
            hovertemplate="%{text}, −%{x:.1f} %: %{y:.3g} nats per token<extra></extra>",
        )
    figure.update_layout(
        height=360,
        xaxis={"title": {"text": "Size reduction from fp32 (%)"}, "zeroline": False},
        yaxis={
            "title": {"text": "Loss (nats per token)"},
            "type": "log",
            "dtick": "D2",
            "exponentformat": "none",
            "zeroline": False,
            "automargin": True,
        },
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **_COMMON,
    )
    return figure
