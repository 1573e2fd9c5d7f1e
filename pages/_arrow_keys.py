"""Arrow keys as steps: an invisible component that leaves keys alone where one types or chooses."""

import streamlit as st

_JS = """
const TYPING = "input, textarea, select, [contenteditable], [role=combobox], [role=listbox],"
  + " [role=slider], [role=grid], [role=tablist], [role=dialog]";
const STEPS = {ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1};
export default function ({ setTriggerValue }) {
  const pressed = (event) => {
    const step = STEPS[event.key];
    const held = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
    const at = event.composedPath()[0];
    if (!step || held || event.repeat || (at.closest && at.closest(TYPING))) return;
    event.preventDefault();
    setTriggerValue("step", step);
  };
  window.addEventListener("keydown", pressed);
  return () => window.removeEventListener("keydown", pressed);
}
"""


def on_arrow(step) -> None:
    """Calls step(1) for the right arrow or Page Down, step(-1) for the left one or Page Up."""
    keys = st.components.v2.component("whisperq_arrow_keys", html="<span></span>", js=_JS)

    def pressed() -> None:
        if change := st.session_state["arrow_keys"].get("step"):
            step(int(change))

    keys(key="arrow_keys", on_step_change=pressed, height=1)
