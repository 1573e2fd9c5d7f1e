"""WhisperQ's dashboard: `streamlit run app.py`."""

import streamlit as st

st.set_page_config(page_title="WhisperQ", layout="wide")

# See pages/_entry.py.
st.session_state["entered"] = True

st.navigation(
    [
        st.Page(
            "pages/tradeoffs.py", title="Trade-offs", icon=":material/scatter_plot:", default=True
        ),
        st.Page("pages/run_evaluations.py", title="Run evaluations", icon=":material/play_circle:"),
        st.Page("pages/recordings.py", title="Compare recordings", icon=":material/graphic_eq:"),
        st.Page("pages/study.py", title="Study", icon=":material/menu_book:"),
    ]
).run()
