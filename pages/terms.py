"""Definitions of terms, to search."""

import streamlit as st

from pages._navigation import open_in_app
from pages._view import View
from whisperq_core.present import glossary, markup
from whisperq_core.study import published


def main() -> None:
    open_in_app("terms.py")
    st.title("Terms")
    st.markdown("Definitions of the terms on these pages.")
    with View("terms") as view:
        hint, icon = "WER, nf4, group size …", ":material/search:"
        wanted = view.text("Search", "term", placeholder=hint, icon=icon)
    matching = glossary.search(wanted)
    if not matching:
        st.info(
            f"No term matches “{markup.escape_markdown(wanted)}”. Try a single word, or clear the"
            " search."
        )
    for group in glossary.GROUPS:
        terms = [term for term in matching if term.group == group]
        if terms:
            st.header(group)
            st.table(
                {
                    "Term": [f"**{markup.escape_markdown(term.name)}**" for term in terms],
                    "Meaning": [markup.escape_markdown(term.definition) for term in terms],
                },
                border="horizontal",
                hide_index=True,
                width="stretch",
            )
    st.caption(
        f"The study defines its terms in section 3: {published.CITATION} The **Study** page has its"
        " tables and claims, and maps its configurations to the recipes here."
    )


main()
