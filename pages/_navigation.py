"""Addresses of pages, and how a page that is opened directly gets its navigation."""

from urllib.parse import urlencode

import streamlit as st

from pages._session import user_store
from whisperq_core.analyze.configurations import REFERENCE_RECIPE, Configuration
from whisperq_core.evaluate.history import WorkItem
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.requests import SPEED_SET
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.whisper.protocols import STUDY


def open_in_app(page: str) -> None:
    """Makes sure that the page (its file name) is drawn by app.py, inside its navigation.

    Streamlit runs a page alone, under a menu of file names, when the link to it is the first thing
    opened after the server's start. The page then hands over to app.py, which comes back to it.
    """
    if "in_app" not in st.session_state:
        query = {name: st.query_params.get_all(name) for name in st.query_params}
        st.session_state["page_to_open"] = f"pages/{page}", query
        st.switch_page("app.py")


def utterances_url(run: AccuracyRun) -> str:
    """The page that shows its utterances."""
    return f"./utterances?{urlencode({'run': run.key})}"


def compare_url(first: AccuracyRun, second: AccuracyRun) -> str:
    """The page that compares the two."""
    return f"./compare?{urlencode({'first': first.key, 'second': second.key})}"


def recordings_url(configuration: Configuration) -> str:
    """The page that compares recordings, with the configuration beside fp32, decoding alike."""
    where = {
        "model": configuration.model,
        "recipes": configuration.recipe,
        "protocol": configuration.protocol.name,
    }
    return f"./recordings?{urlencode(where)}"


def fp32_comparison_url(configuration: Configuration) -> str:
    """The page that compares it with fp32 on its longest set; its utterances without a pool."""
    if configuration.pool is None:
        return utterances_url(configuration.run)
    part = configuration.pool.parts[0]
    return f"./compare?{urlencode({'first': part.baseline_key, 'second': part.key})}"


def speed_url(first: Configuration, *others: Configuration) -> str:
    """Run evaluations, ready to measure their speed and fp32's on this machine.

    others: of the first one's model, protocol and device.
    """
    recipes = (REFERENCE_RECIPE, *(one.recipe for one in (first, *others)))
    query = {
        "models": first.model,
        "recipes": list(dict.fromkeys(recipes)),
        "sets": SPEED_SET,
        "run_protocol": first.protocol.name,
        "run_device": first.run.spec.device,
        "run_speed": "true",
        "run_divergence": "false",
    }
    return f"./run_evaluations?{urlencode(query, doseq=True)}"


def run_url(work: WorkItem) -> str:
    """The Run evaluations page with the choices of that work."""
    speech = UserSets(user_store().root).name_of(work.eval_set or "")
    where = {"models": work.model, "recipes": work.recipe, "sets": speech}
    if work.protocol != STUDY.name:
        where["run_protocol"] = work.protocol
    if work.device != "cpu":
        where["run_device"] = work.device
    if work.threads is not None:
        where["run_threads"] = work.threads
    if work.measures is not None:
        where["run_speed"] = str(work.measures == "speed").lower()
        where["run_divergence"] = str(work.measures == "divergence").lower()
    return f"./run_evaluations?{urlencode({k: v for k, v in where.items() if v})}"


def open_point(event) -> None:
    """To the utterances of a clicked point, if its customdata begins with a run's key."""
    points = event.selection.points if event else []
    if points and points[0].get("customdata"):
        st.switch_page("pages/utterances.py", query_params={"run": points[0]["customdata"][0]})
