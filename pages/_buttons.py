"""Buttons and fields whose effect is not lost when the user leaves the page at once.

What follows `if st.button(...)` is done when the script gets to it. Whoever goes to another page
before that ends the script, and what they pressed is forgotten. A callback is done first, and to
its end: Streamlit interrupts a script only where it draws, so callbacks here draw nothing.
"""

from collections.abc import Callable

import streamlit as st

from whisperq_core.errors import WhisperQError
from whisperq_core.present import markup


def button(label: str, key: str, do: Callable, *arguments, **how) -> None:
    """Does `do` when pressed; the sentence that it returns, or fails with, is shown below."""
    st.button(label, key=key, on_click=carry_out, args=(key, do, *arguments), **how)
    show_outcome(key)


def carry_out(key: str, do: Callable, *arguments) -> None:
    """A callback; `show_outcome` has the rest, the next time that it is drawn."""
    try:
        st.session_state[_outcome_key(key)] = True, do(*arguments)
    except WhisperQError as error:
        st.session_state[_outcome_key(key)] = False, str(error)


def show_outcome(key: str) -> None:
    succeeded, sentence = st.session_state.pop(_outcome_key(key), (True, None))
    if isinstance(sentence, str):
        (st.success if succeeded else st.error)(markup.escape_markdown(sentence))


def _outcome_key(key: str) -> str:
    return f"outcome of {key}"
