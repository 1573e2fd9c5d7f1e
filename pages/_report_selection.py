"""The results that a report or a presentation is about, as both pages have them in their URLs."""

import math
from urllib.parse import urlencode

import streamlit as st

from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.whisper.protocols import STUDY


def query(chosen: dict, margin: float) -> str:
    """The URL's parameters for the arguments of `report_sections.select_runs`."""
    pairs = [
        *(("report_model", name) for name in chosen["models"] or [""]),
        *(("report_set", name) for name in chosen["sets"] or [""]),
        *(("report_protocol", name) for name in chosen.get("protocols", ())),
        *(("report_recipes", name) for name in chosen["recipes"]),
        ("report_baseline", chosen["baseline"]),
        ("report_margin", f"{margin:g}"),
    ]
    return urlencode(pairs)


def from_url(runs: list[AccuracyRun]) -> tuple[dict, float]:
    """The URL's selection and margin, or the Report page's defaults.

    Raises InputError for a bad margin.
    """
    chosen = {"models": several("report_model", {run.model for run in runs}, "base")}
    chosen["sets"] = several("report_set", {run.eval_set for run in runs}, "test-other-excerpt")
    names = {run.spec.protocol.name for run in runs}
    if len(names) > 1:
        chosen["protocols"] = several("report_protocol", names, STUDY.name)
    chosen["recipes"] = several("report_recipes", set(), None)
    chosen["baseline"] = st.query_params.get("report_baseline") or "fp32"
    text = st.query_params.get("report_margin") or f"{MARGIN:g}"
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0.1 <= margin <= 20:
        raise InputError(f"“{text}” is not a margin. Use a number of WER points from 0.1 to 20.")
    return chosen, margin


def several(name: str, options: set[str], default: str | None) -> list[str]:
    """The parameter's values; the default where it is absent, none (all) where it is empty."""
    if name not in st.query_params:
        return [default] if default in options else []
    return [value for value in st.query_params.get_all(name) if value]
