"""Draws a figure, with a button to save it as PNG, SVG or HTML."""

import plotly.graph_objects as go
import streamlit as st

from whisperq_core.present import figure_export

_QUIET = {"displayModeBar": False}
_AROUND_PX = 90
INK = {"light": "#31333f", "dark": "#d5d6dc"}


def draw(
    figure: go.Figure,
    title: str,
    alt: str,
    *,
    key: str,
    config: dict | None = None,
    savable: bool = True,
    **how,
):
    """Draws the figure and, where it is savable, a button that opens it for saving.

    title heads the saved file; alt is for screen readers; further arguments go to
    st.plotly_chart (on_select). Returns what st.plotly_chart does.
    """
    # Streamlit's own grey is too faint for what has to be read.
    ink = INK.get(st.context.theme.type)
    if ink:
        figure_export.set_ink(figure, ink)
    selection = st.plotly_chart(figure, key=key, config=config or _QUIET, alt=alt, **how)
    if savable:
        _offer(figure, title, key)
    return selection


@st.fragment
def _offer(figure: go.Figure, title: str, key: str) -> None:
    # A fragment, so that saving does not compute the page anew.
    if st.button(
        "Save figure",
        key=f"save-{key}",
        icon=":material/download:",
        type="tertiary",
        help="As PNG, SVG or HTML, on a white background.",
    ):
        _save(figure, title)


@st.dialog("Save figure", width="large")
def _save(figure: go.Figure, title: str) -> None:
    page = figure_export.to_html(figure, title)
    height = figure_export.print_version(figure, title).layout.height + _AROUND_PX
    st.iframe(page, height=int(height))
    st.download_button(
        "Save as HTML (works offline)",
        page,
        f"{figure_export.file_name(title)}.html",
        "text/html",
        icon=":material/download:",
        on_click="ignore",
    )
