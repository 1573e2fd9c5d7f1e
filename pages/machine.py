"""What this machine is, what is missing on it, and what therefore cannot run."""

import pandas as pd
import streamlit as st

from pages._code import draw_code
from pages._navigation import open_in_app
from pages._tables import draw_table
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
def machine_report(root) -> MachineReport:
    return diagnostics.machine_report(root)


def facts(report: MachineReport) -> None:
    st.table(
        {
            "What": [f"**{label}**" for label, _ in report.facts],
            "This machine": [markup.escape_markdown(text) for _, text in report.facts],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )
    st.header("Relevant CPU instruction sets")
    st.table(
        {
            "Name": [f"**{one.name}**" for one in report.instruction_sets],
            "Available": [THERE[one.available] for one in report.instruction_sets],
            "What it does": [one.meaning for one in report.instruction_sets],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )


def libraries(report: MachineReport) -> None:
    st.header("Libraries")
    if report.command:
        st.warning(
            "Some libraries are missing. Install them with this command, then restart WhisperQ."
        )
        draw_code(report.command, "command")
    else:
        st.markdown("Nothing is missing.")
    draw_table(
        pd.DataFrame(
            {
                "Package": [library.package for library in report.libraries],
                "For": [library.use for library in report.libraries],
                "Installed": [library.version or "missing" for library in report.libraries],
                "Tested with": [library.tested_version for library in report.libraries],
                "Fix": [library.command for library in report.libraries],
            }
        ),
        height="content",
    )


def show_unsupported_recipes(report: MachineReport) -> None:
    st.header("Recipes that cannot run here")
    if not report.unsupported_recipes:
        st.markdown("All recipes can run here.")
        return
    st.table(
        {
            "Recipe": [f"**{one.recipe}**" for one in report.unsupported_recipes],
            "Device": [one.device for one in report.unsupported_recipes],
            "Why": [markup.escape_markdown(one.reason) for one in report.unsupported_recipes],
        },
        border="horizontal",
        hide_index=True,
        width="stretch",
    )


def main() -> None:
    open_in_app("machine.py")
    st.title("This machine")
    st.markdown("Its hardware, its libraries, and the recipes that cannot run on it.")
    report = machine_report(Store().root)
    facts(report)
    libraries(report)
    show_unsupported_recipes(report)
    st.header("Models available offline")
    if report.offline_models:
        st.markdown(markup.escape_markdown(", ".join(report.offline_models)))
    else:
        st.info(
            "None. Install the packages with embedded weights listed above, or enter a hub model"
            " or a folder on **Run evaluations**."
        )
    st.header("For a bug report")
    st.caption("The same information as text; copy it with the button at its top right.")
    with st.expander("Show as text"):
        draw_code(diagnostics.as_text(report), "report")
    st.download_button(
        "Save as text",
        diagnostics.as_text(report),
        "whisperq-machine.txt",
        "text/plain",
        icon=":material/download:",
        on_click="ignore",
    )


main()
