"""What a presentation is about, as the Report page links to it."""

import math
from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun


def query(models: Sequence[str], margin: float) -> str:
    """The URL's parameters for the answer for these models and this margin."""
    pairs = [("report_model", name) for name in models or [""]]
    return urlencode([*pairs, ("report_margin", f"{margin:g}")])


def from_url(runs: list[AccuracyRun]) -> tuple[tuple[str, ...], float]:
    """The URL's models, none for the Advisor's default, and margin.

    Raises InputError for a model without results and a bad margin.
    """
    models = tuple(name for name in st.query_params.get_all("report_model") if name)
    available = {run.model for run in runs}
    if unknown := [name for name in models if name not in available]:
        raise InputError(f"There is no result of {', '.join(unknown)}.")
    text = st.query_params.get("report_margin") or f"{MARGIN:g}"
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0.1 <= margin <= 20:
        raise InputError(f"“{text}” is not a margin. Use a number of points from 0.1 to 20.")
    return models, margin
