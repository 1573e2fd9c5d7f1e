"""What drives the difference between two runs, as bars. Background and text are the page's."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from whisperq_core.analyze.confusions import ErrorContribution

# Okabe and Ito's colours, and hatching for readers who do not tell colours apart.
_MORE, _FEWER = ("#D55E00", "/"), ("#0072B2", "")
_ROW_PX, _AROUND_PX = 22, 110
_NAME_CHARACTERS = 26


def contribution_figure(
    changes: Sequence[ErrorContribution], first: str, second: str, rate: str = "WER"
) -> go.Figure:
    """A bar for each change in points of a rate, the largest on top; customdata is [name].

    first, second: names of the two runs. Right is more errors in the second. rate: WER or CER.
    """
    figure = go.Figure()
    sides = (
        (f"more errors in {second}", _MORE, [c for c in changes if c.errors > 0]),
        (f"fewer errors in {second}", _FEWER, [c for c in changes if c.errors < 0]),
    )
    place = {change.name: at for at, change in enumerate(changes)}
    for name, (colour, hatch), side in sides:
        figure.add_bar(
            x=[change.points for change in side],
            y=[place[change.name] for change in side],
            orientation="h",
            name=escape(name),
            marker={
                "color": colour,
                "pattern": {"shape": hatch, "fillmode": "overlay", "fgcolor": "white"},
            },
            customdata=[[change.name] for change in side],
            hovertext=[_hover(change) for change in side],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_layout(
        height=_ROW_PX * len(changes) + _AROUND_PX,
        xaxis={
            "title": {"text": f"Points of {rate}: {escape(second)} minus {escape(first)}"},
            "zeroline": True,
        },
        yaxis={
            "tickvals": list(place.values()),
            "ticktext": [escape(_short(name)) for name in place],
            "range": [len(changes) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
        bargap=0.25,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        margin={"l": 8, "r": 8, "t": 40, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left"},
        clickmode="event+select",
        dragmode=False,
    )
    return figure


def _hover(change: ErrorContribution) -> str:
    points = f"{change.points:+.2f} points, {change.errors:+d} errors".replace("-", "−")
    inside = f"<br>{len(change.ids)} utterances differ" if len(change.ids) > 1 else ""
    return f"<b>{escape(change.name)}</b><br>{points}{inside}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
