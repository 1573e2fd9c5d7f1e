"""Tables as all pages show them: without row numbers, with a dash where there is no value."""

from typing import Any

import pandas as pd
import streamlit as st

from whisperq_core.analyze.results_table import without_formulas


def draw_table(frame: pd.DataFrame, **how: Any) -> Any:
    """st.dataframe, safe to download for a spreadsheet."""
    return st.dataframe(without_formulas(frame), hide_index=True, placeholder="–", **how)
