"""WhisperQ's dashboard: `streamlit run app.py`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Plotly looks for pandas, and fails on one that another session's thread has imported in part.
import pandas  # noqa: F401
import streamlit as st
from starlette.middleware import Middleware
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from pages import _authentication, _session
from pages._progress import show_progress
from whisperq_core import settings
from whisperq_core.evaluate.store import Store
from whisperq_core.serve import retention, worker_pool
from whisperq_core.serve.http_guard import HttpGuard
from whisperq_core.serve.login_return import LoginReturn

# Pages for what is run on this machine.
_NEED_WORKERS = ("recordings", "my_speech", "run_evaluations", "machine")


def main() -> None:
    """The script that draws the page which a user opened."""
    # Without an icon of its own Streamlit would fetch one from Google for every page.
    st.set_page_config(page_title="WhisperQ", page_icon="docs/icon.svg", layout="wide")
    allowed = _authentication.is_allowed()

    retention.start_hourly_deletion(Store().root)

    page = st.navigation(
        # One list: Streamlit gives the items of sections no list around them, which axe objects to.
        [
            # Decide
            st.Page(
                "pages/overview.py", title="Overview", icon=":material/lightbulb:", default=True
            ),
            st.Page("pages/advisor.py", title="Advisor", icon=":material/assistant:"),
            st.Page("pages/tradeoffs.py", title="Trade-offs", icon=":material/scatter_plot:"),
            # Listen
            st.Page(
                "pages/recordings.py", title="Compare recordings", icon=":material/graphic_eq:"
            ),
            st.Page("pages/my_speech.py", title="My speech", icon=":material/library_music:"),
            # Measure
            st.Page(
                "pages/run_evaluations.py", title="Run evaluations", icon=":material/play_circle:"
            ),
            st.Page("pages/history.py", title="History", icon=":material/history:"),
            st.Page("pages/machine.py", title="This machine", icon=":material/memory:"),
            # Understand
            st.Page("pages/utterances.py", title="Utterances", icon=":material/hearing:"),
            st.Page("pages/compare.py", title="Compare runs", icon=":material/compare_arrows:"),
            st.Page("pages/divergence.py", title="Divergence", icon=":material/call_split:"),
            st.Page("pages/noise.py", title="Noise", icon=":material/noise_aware:"),
            st.Page("pages/layers.py", title="Layers", icon=":material/layers:"),
            st.Page("pages/study.py", title="Study", icon=":material/menu_book:"),
            # Share
            st.Page("pages/report.py", title="Report", icon=":material/description:"),
            st.Page("pages/presentation.py", title="Presentation", icon=":material/slideshow:"),
            # Help
            st.Page("pages/terms.py", title="Terms", icon=":material/dictionary:"),
        ],
        # Streamlit would fold all but ten of them away.
        expanded=True,
        position="sidebar" if allowed else "hidden",
    )
    # See pages/_navigation.py.
    st.session_state["in_app"] = True
    if "page_to_open" in st.session_state:
        wanted, query = st.session_state.pop("page_to_open")
        st.switch_page(wanted, query_params=query)
    if not allowed:
        _authentication.sign_in()
        st.stop()
    is_shown = not (settings.current().results_only and page.url_path in _NEED_WORKERS)
    # Drawn last because the page may start jobs; placed above the page's own part of the sidebar.
    work = st.sidebar.container()
    if is_shown:
        page.run()
    else:
        st.title(page.title)
        st.info(worker_pool.RESULTS_ONLY)
    with work:
        show_progress()
    with st.sidebar:
        _authentication.show_user()


@asynccontextmanager
async def _while_serving(_: st.App) -> AsyncIterator[None]:
    """The server's life, from before its first answer."""
    _session.start_reading_ahead()
    yield


# `streamlit run` imports this file to find the server, and runs it as a script for each page.
if __name__ == "__main__":
    main()
else:
    app = st.App(
        __file__,
        lifespan=_while_serving,
        middleware=[
            Middleware(HttpGuard, is_host_allowed=is_host_allowed),
            Middleware(LoginReturn),
        ],
    )
