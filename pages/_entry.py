"""The ways into a page."""

from urllib.parse import urlencode

import streamlit as st

from whisperq_core.protocols import STUDY
from whisperq_core.records import AccuracyRun
from whisperq_core.store import Store


def through_app(page: str) -> None:
    """Makes sure that the page (its file name) is drawn by app.py, inside its navigation.

    Streamlit runs a page alone, under a menu of file names, when the link to it is the first thing
    opened after the server's start. The page then hands over to app.py, which comes back to it.
    """
    if "entered" not in st.session_state:
        st.session_state["wanted"] = f"pages/{page}", st.query_params.to_dict()
        st.switch_page("app.py")


def utterances_url(run: AccuracyRun) -> str:
    """The Trade-offs page with that result chosen, at its utterances."""
    where = {"model": run.model, "set": run.eval_set, "run": run.key}
    if run.spec.protocol.name != STUDY.name:
        where["protocol"] = run.spec.protocol.name
    return f"./?{urlencode(where)}#utterances"


def shared_store() -> Store:
    """The results, read once for all pages and sessions; changed files are read again."""
    return _store_at(Store().root)


@st.cache_resource
def _store_at(root) -> Store:
    return Store(root)
