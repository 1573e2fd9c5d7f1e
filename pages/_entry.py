"""The way into a page."""

import streamlit as st


def through_app() -> None:
    """Makes sure that the page is drawn by app.py, inside its navigation.

    Streamlit runs a page alone, under a menu of file names, when the link to it is the first thing
    opened after the server's start; the run after that one goes through app.py.
    """
    if "entered" not in st.session_state:
        st.session_state["entered"] = True
        st.rerun()
