"""A figure as a file: one HTML page that opens offline, and saves itself as PNG or SVG.

In print colours (dark on white), whatever the theme of the page that shows it.
"""

import re
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from whisperq_core.present import templating

FONT = "Segoe UI, Roboto, Helvetica Neue, Arial, Liberation Sans, sans-serif"
# Width of the PNG and the SVG; the PNG has this many dots for each.
WIDTH_PX, SCALE = 960, 3
_TITLE_PX, _LEGEND_PX = 46, 70
_GRID = {"gridcolor": "#d9d9d9", "linecolor": "#444444", "zerolinecolor": "#888888"}
_INK = "#1a1a1a"


def print_version(figure: go.Figure, title: str) -> go.Figure:
    """A copy, dark on white and titled; line widths and text sizes stay."""
    figure = go.Figure(figure)
    figure.update_layout(
        template="none",
        title={"text": escape(title), "x": 0.01, "y": 1, "yref": "container", "yanchor": "top"},
        title_pad={"t": 12},
        font={"family": FONT, "color": _INK, "size": 13},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        height=(figure.layout.height or 450) + _TITLE_PX + _LEGEND_PX,
        margin_t=(figure.layout.margin.t or 0) + _TITLE_PX,
        legend={"y": 0, "yref": "container", "yanchor": "bottom"},
        clickmode="event",
        autosize=True,
    )
    axes = {**_GRID, "automargin": True}
    figure.update_xaxes(axes)
    figure.update_yaxes(axes)
    set_ink(figure, _INK)
    return figure


def set_ink(figure: go.Figure, colour: str) -> None:
    """Sets the colour of all titles and labels, but of annotations that have their own."""
    fonts = {"title": {"font": {"color": colour}}, "tickfont": {"color": colour}}
    figure.update_xaxes(fonts)
    figure.update_yaxes(fonts)
    figure.update_traces(colorbar=fonts, selector={"type": "heatmap"})
    for annotation in figure.layout.annotations:
        annotation.font.color = annotation.font.color or colour


def to_html(figure: go.Figure, title: str) -> str:
    """The page; its buttons save the figure as PNG and SVG without a network."""
    return templating.render_template(
        "figure_export.html.j2",
        title=title,
        font=FONT,
        figure=templating.json_script(print_version(figure, title).to_json()),
        plotly=templating.script(get_plotlyjs()),
        name=file_name(title),
        width=WIDTH_PX,
        scale=SCALE,
    )


def file_name(title: str) -> str:
    """The name of a file for that title, without a suffix."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"whisperq-{words[:60].strip('-')}" if words else "whisperq-figure"
