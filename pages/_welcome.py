"""Where to begin, for whoever opens WhisperQ for the first time: above the first page."""

from pathlib import Path

import streamlit as st

from whisperq_core.serve import dismissed_hints

NAME = "first-run"
STEPS = (
    (
        ":material/assistant: **Choose a recipe.** Say how large, how slow and how wrong it may be;"
        " the [Advisor](./advisor) names what is decided to keep to that."
    ),
    (
        ":material/graphic_eq: **Try your own recordings.** Upload some or speak, and read what"
        " each recipe hears: [Compare recordings](./recordings)."
    ),
    (
        ":material/slideshow: **Show others.** One message a screen, in large type:"
        " [Presentation](./presentation). The [Report](./report) is one file to send."
    ),
)


def show_first_run(root: Path) -> None:
    """Three ways in, until somebody puts them away."""
    if st.session_state.get(NAME) or dismissed_hints.is_dismissed(root, NAME):
        return
    with st.container(border=True):
        for column, step in zip(st.columns(len(STEPS)), STEPS, strict=True):
            column.markdown(step)
        st.button(
            "Got it, do not show this again",
            icon=":material/close:",
            type="tertiary",
            on_click=dismiss,
            args=(root,),
        )


def dismiss(root: Path) -> None:
    # Where it cannot be kept on disk, it is away for this session at least.
    st.session_state[NAME] = True
    dismissed_hints.dismiss(root, NAME)
