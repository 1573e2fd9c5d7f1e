"""Introduction for first-time users, above the first page."""

from pathlib import Path

import streamlit as st

from whisperq_core.serve import dismissed_hints

NAME = "first-run"
STEPS = (
    (
        ":material/assistant: **Choose a recipe.** Set limits on size, latency and WER"
        " increase; the [Advisor](./advisor) lists configurations that meet them."
    ),
    (
        ":material/graphic_eq: **Try your own recordings.** Upload or record audio and compare"
        " the transcripts of several recipes: [Compare recordings](./recordings)."
    ),
    (
        ":material/slideshow: **Share the results.** As slides: [Presentation](./presentation)."
        " As one file: [Report](./report)."
    ),
)


def show_first_run(root: Path) -> None:
    """Three starting points, until somebody dismisses them."""
    if st.session_state.get(NAME) or dismissed_hints.is_dismissed(root, NAME):
        return
    with st.container(border=True):
        for column, step in zip(st.columns(len(STEPS)), STEPS, strict=True):
            column.markdown(step)
        st.button(
            "Do not show this again",
            icon=":material/close:",
            type="tertiary",
            on_click=dismiss,
            args=(root,),
        )


def dismiss(root: Path) -> None:
    # If this cannot be saved, it is dismissed for this session at least.
    st.session_state[NAME] = True
    dismissed_hints.dismiss(root, NAME)
