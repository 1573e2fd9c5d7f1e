"""The ways into a page."""

import gc
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import pandas as pd
import streamlit as st

from pages._login import user_id, user_name
from whisperq_core.analyze import results_table
from whisperq_core.evaluate.history import WorkItem
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store, UserStore
from whisperq_core.serve import job_queue
from whisperq_core.serve.user_session import UserSession
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY


def through_app(page: str) -> None:
    """Makes sure that the page (its file name) is drawn by app.py, inside its navigation.

    Streamlit runs a page alone, under a menu of file names, when the link to it is the first thing
    opened after the server's start. The page then hands over to app.py, which comes back to it.
    """
    if "entered" not in st.session_state:
        given = {name: st.query_params.get_all(name) for name in st.query_params}
        st.session_state["wanted"] = f"pages/{page}", given
        st.switch_page("app.py")


def utterances_url(run: AccuracyRun) -> str:
    """The page that shows its utterances."""
    return f"./utterances?{urlencode({'run': run.key})}"


def compare_url(first: AccuracyRun, second: AccuracyRun) -> str:
    """The page that compares the two."""
    return f"./compare?{urlencode({'first': first.key, 'second': second.key})}"


def open_point(event) -> None:
    """To the utterances of a clicked point, if its customdata begins with a run's key."""
    points = event.selection.points if event else []
    if points and points[0].get("customdata"):
        st.switch_page("pages/utterances.py", query_params={"run": points[0]["customdata"][0]})


def all_runs() -> list:
    """All results, oldest first; read anew where files changed."""
    with st.spinner("Reading the results", show_time=True):
        runs = my_store().runs()
        _settle(shared_store().state)
        return runs


@st.cache_resource(max_entries=1, show_spinner=False)
def _settle(state: tuple) -> None:
    """Takes what was read out of Python's collections of garbage.

    Streamlit makes one after each run of a page, and thousands of results are a million objects:
    nearly a second, in which nobody is served. Results that are replaced still go, for they are
    in no cycle.
    """
    gc.collect()
    gc.freeze()


def all_rows(runs: list, machine: str | None = None) -> pd.DataFrame:
    """`all_runs` as a table, with the times of a kind of machine: see `table.rows`.

    Not to be changed, for sessions share it.
    """
    return _rows(my_store().state, machine, runs)


@st.cache_resource(max_entries=8, show_spinner=False)
def _rows(state: tuple, machine: str | None, _runs: list) -> pd.DataFrame:
    return results_table.rows(_runs, machine)


def run_url(work: WorkItem) -> str:
    """The Run evaluations page with all choices of that work that are known."""
    speech = UserSets(my_store().root).name_of(work.eval_set or "")
    where = {"models": work.model, "recipes": work.recipe, "sets": speech}
    if work.protocol != STUDY.name:
        where["run_protocol"] = work.protocol
    if work.device != "cpu":
        where["run_device"] = work.device
    if work.threads is not None:
        where["run_threads"] = work.threads
    if work.measures is not None:
        where["run_speed"] = str(work.measures == "speed").lower()
    return f"./run_evaluations?{urlencode({k: v for k, v in where.items() if v})}"


def desk() -> UserSession:
    """The queue, as the user of this session has it."""
    owner = user_id() or st.session_state.setdefault("queues_as", uuid4().hex)
    return UserSession(job_queue.shared_queue(Store().root), my_store(), owner, user_name())


def my_store() -> Store:
    """What the user sees: all results, and where users log in their own besides."""
    user = user_id()
    return _user_store(Store().root, user) if user else shared_store()


def shared_store() -> Store:
    """The results that all see, read once for all sessions; changed files are read again."""
    return _store_at(Store().root)


@st.cache_resource
def _store_at(root: Path) -> Store:
    return Store(root)


@st.cache_resource(max_entries=50)
def _user_store(root: Path, user: str) -> UserStore:
    return UserStore(_store_at(root), user, evaluation_sets.is_public)
