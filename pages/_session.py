"""What belongs to the user of this session: the results that they see, and their jobs."""

import gc
import re
import threading
from pathlib import Path
from uuid import uuid4

import pandas as pd
import streamlit as st

from pages._authentication import user_id, user_name
from whisperq_core import settings
from whisperq_core.analyze import advisor, results_table
from whisperq_core.analyze.configurations import Configuration, configurations
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.derived_values import DerivedValues
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate.store import Store, UserStore
from whisperq_core.serve import job_queue
from whisperq_core.serve.user_session import UserSession
from whisperq_core.speech import evaluation_sets

_COOKIE = "whisperq_browser"


def all_runs() -> list:
    """All results, oldest first; read anew where files changed."""
    with st.spinner("Reading the results", show_time=True):
        runs = user_store().runs()
        _freeze_garbage_collection(shared_store().state)
        return runs


def start_reading_ahead() -> threading.Thread:
    """Has the results read and compared before anybody asks for a page; ends with the process."""
    thread = threading.Thread(target=_read_ahead, name="read ahead", daemon=True)
    thread.start()
    return thread


def _read_ahead() -> None:
    """Whoever opens a page meanwhile waits for this, instead of doing it once more."""
    try:
        store = shared_store()
        runs = store.runs()
        _freeze_garbage_collection(store.state)
        _configurations(store.state, MARGIN, (), "en", None, runs, store.derived)
        _rows(store.state, _first_machine(runs), runs)
        import plotly.graph_objects  # noqa: F401  # slow to import, and every plot needs it
    except (WhisperQError, OSError) as error:
        # The pages say it, too.
        print(f"Results are not read ahead: {error}", flush=True)


@st.cache_resource(max_entries=1, show_spinner=False)
def _freeze_garbage_collection(state: tuple) -> None:
    """Takes what was read out of Python's collections of garbage.

    Thousands of results are a million objects: a collection of all of them takes nearly a second,
    in which nobody is served. Results that are replaced still go, for they are in no cycle.
    """
    gc.collect()
    gc.freeze()


def all_rows(runs: list, machine: str | None = None) -> pd.DataFrame:
    """`all_runs` as a table, with the times of a kind of machine: see `table.rows`.

    Not to be changed, for sessions share it.
    """
    return _rows(user_store().state, machine or _first_machine(runs), runs)


def _first_machine(runs: list) -> str | None:
    return next(iter(results_table.machines(runs)), None)


@st.cache_resource(max_entries=8, show_spinner=False)
def _rows(state: tuple, machine: str | None, _runs: list) -> pd.DataFrame:
    return results_table.rows(_runs, machine)


def all_configurations(
    margin: float = MARGIN,
    *,
    sets: tuple[str, ...] = (),
    language: str | None = "en",
    machine: str | None = None,
) -> list[Configuration]:
    """`configurations` of `all_runs`, computed once for all sessions until a result is added.

    Not to be changed, for sessions share it.
    """
    runs = all_runs()
    store = user_store()
    with st.spinner("Comparing all results with fp32"):
        return _configurations(store.state, margin, sets, language, machine, runs, store.derived)


@st.cache_resource(max_entries=16, show_spinner=False)
def _configurations(
    state: tuple,
    margin: float,
    sets: tuple[str, ...],
    language: str | None,
    machine: str | None,
    _runs: list,
    _derived: DerivedValues,
) -> list[Configuration]:
    return configurations(
        _runs, margin=margin, sets=sets, language=language, machine=machine, derived=_derived
    )


def example() -> Configuration | None:
    """What pages show without a link: the recommended configuration, or the best one compared."""
    configurations = all_configurations()
    return _example(user_store().state, configurations)


@st.cache_resource(max_entries=16, show_spinner=False)
def _example(state: tuple, _configurations: list[Configuration]) -> Configuration | None:
    requirements = advisor.default_requirements(_configurations)
    advice = advisor.advise_on(requirements, _configurations)
    candidates = (c.configuration for c in (advice.proposed, *advice.candidates) if c)
    return next((c for c in candidates if c.pool), None)


def user_session() -> UserSession:
    """The queue, as the user of this session has it."""
    owner = user_id() or browser_id()
    return UserSession(job_queue.shared_queue(Store().root), user_store(), owner, user_name())


def browser_id() -> str:
    """A random id of this browser, by which it lists its own recordings where nobody logs in.

    `remember_browser` makes it last; until then it is this session's.
    """
    cookie = str(st.context.cookies.get(_COOKIE, ""))
    known = cookie if re.fullmatch("[0-9a-f]{32}", cookie) else uuid4().hex
    return str(st.session_state.setdefault("browser", known))


def remember_browser() -> None:
    """Sets the cookie, on a page where recordings are uploaded; nothing where users log in."""
    if user_id() or st.context.cookies.get(_COOKIE) == browser_id():
        return
    # Another tab may have set one meanwhile: the first one stays.
    st.html(
        f"""<script>if (!document.cookie.includes("{_COOKIE}=")) document.cookie =
        "{_COOKIE}={browser_id()}; path=/; max-age=34560000; SameSite=Lax";</script>""",
        unsafe_allow_javascript=True,
    )


def recordings_owner() -> str:
    """Who lists the recordings of this session; empty where users log in and have folders."""
    return "" if user_id() else browser_id()


def user_store() -> Store:
    """What the user sees: all results, and where users log in their own besides."""
    user = user_id()
    return _store_of_user(settings.current().cache, user) if user else shared_store()


def shared_store() -> Store:
    """The results that all see, read once for all sessions; changed files are read again."""
    return _store_at(settings.current().cache)


@st.cache_resource
def _store_at(root: Path) -> Store:
    return Store(root)


@st.cache_resource(max_entries=50)
def _store_of_user(root: Path, user: str) -> UserStore:
    return UserStore(_store_at(root), user, evaluation_sets.is_public)
