"""Code and commands to copy."""

import streamlit as st

_CSS = """
.code { position: relative; background: var(--st-secondary-background-color);
  border-radius: var(--st-base-radius); }
pre { margin: 0; padding: 0.75rem 4.5rem 0.75rem 1rem; white-space: pre-wrap;
  color: var(--st-text-color); font: 0.875rem/1.6 var(--st-code-font); }
/* A line is broken between words, and within one only where it is longer than the line. */
span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
button { position: absolute; top: 0.5rem; right: 0.5rem; padding: 0.125rem 0.5rem;
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); cursor: pointer;
  background: var(--st-background-color); color: var(--st-text-color);
  font: 0.75rem/1.5 var(--st-font); }
"""
_JS = """
// Browsers have a clipboard for pages over HTTPS and on localhost only.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = document.createElement("textarea");
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}
export default function ({ data, parentElement }) {
  const word = (part) => Object.assign(document.createElement("span"), { textContent: part });
  const parts = data.split(/(\\s+)/).map((part) => (part.trim() ? word(part) : part));
  parentElement.querySelector("code").replaceChildren(...parts);
  const button = parentElement.querySelector("button");
  button.onclick = async () => {
    await copy(data);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
}
"""
_HTML = '<div class="code"><pre><code></code></pre><button type="button">Copy</button></div>'


@st.cache_resource
def _component():
    return st.components.v2.component("whisperq_code", html=_HTML, css=_CSS, js=_JS)


def draw_code(text: str, key: str) -> None:
    """Text in a monospaced font with a button to copy it.

    Not st.code, which loads 1.5 MB of script for its colours, even where it has none: nearly as
    much of the first page's time as the plot.
    """
    _component()(data=text, key=key)
