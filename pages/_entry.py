"""The way into a page."""

import streamlit as st


def through_app(page: str) -> None:
    """Makes sure that the page (its file name) is drawn by app.py, inside its navigation.

    Streamlit runs a page alone, under a menu of file names, when the link to it is the first thing
    opened after the server's start. The page then hands over to app.py, which comes back to it.
    """
    if "entered" not in st.session_state:
        st.session_state["wanted"] = f"pages/{page}", st.query_params.to_dict()
        st.switch_page("app.py")
