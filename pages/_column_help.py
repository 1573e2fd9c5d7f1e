"""The sentence of help beside a term: columns of a table, widgets and figures."""

from collections.abc import Mapping

import streamlit as st

from whisperq_core.present import glossary


def with_help(columns: Mapping[str, object]) -> dict:
    """A table's column_config with each column's sentence.

    Keys are names that `terms` knows, or headings of such a name and its unit. Values are labels or
    st.column_config's own; what has help already keeps it.
    """
    config = {}
    for name, column in columns.items():
        if isinstance(column, str):
            column = st.column_config.Column(column)
        term = glossary.find_definition(name) or glossary.find_definition(name.partition(" (")[0])
        config[name] = {**column, "help": column.get("help") or term}
    return config
