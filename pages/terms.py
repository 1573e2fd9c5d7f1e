"""What the terms mean, in a sentence each."""

import streamlit as st

from pages._navigation import open_in_app
from pages._view import View
from whisperq_core.present import glossary, markup
from whisperq_core.study import published


def main() -> None:
    open_in_app("terms.py")
    st.title("Terms")
    st.markdown("What the words on these pages mean, in a sentence each.")
    with View("terms") as view:
        hint, icon = "WER, nf4, group size …", ":material/search:"
        wanted = view.text("Search", "term", placeholder=hint, icon=icon)
    found = glossary.search(wanted)
    if not found:
        st.info(
            f"No term has “{markup.escape_markdown(wanted)}” in it. Try one word of it, or empty"
            " the field to see them all."
        )
    for group in glossary.GROUPS:
        mine = [term for term in found if term.group == group]
        if mine:
            st.header(group)
            st.table(
                {
                    "Term": [f"**{markup.escape_markdown(term.name)}**" for term in mine],
                    "Meaning": [markup.escape_markdown(term.definition) for term in mine],
                },
                border="horizontal",
                hide_index=True,
                width="stretch",
            )
    st.caption(
        f"The study's own words for these are in its section 3: {published.CITATION} The **Study**"
        " page has its tables and claims, and how its words map to recipes here."
    )


main()
