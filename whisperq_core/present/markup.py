"""Aligned transcripts as HTML: errors differ by colour and by a second sign; text is escaped."""

import re
from collections.abc import Iterable
from html import escape

from whisperq_core.scoring.error_rates import Edit

# Translucent, so that the page's own text colour stays legible on them, light or dark.
_STYLES = {
    "substitute": "background:rgba(230,159,0,0.30)",
    "delete": "background:rgba(213,94,0,0.28);text-decoration:line-through",
    "insert": "background:rgba(0,114,178,0.30);text-decoration:underline",
}
# What an address begins with: of the web, and of mail up to its domain.
_ADDRESS = re.compile(r"\w+:(?=//)|www(?=\.)|@(?=\w)|mailto:|xmpp:", re.IGNORECASE)
_TAGS = {"substitute": "span", "delete": "del", "insert": "ins"}
_SHAPE = "color:inherit;border-radius:3px;padding:0 3px"


def alignment_html(edits: Iterable[Edit]) -> str:
    """The words of an alignment in reading order, as HTML for any background.

    Deletions are struck through, insertions underlined; a substitution is hypothesis→reference.
    """
    words = " ".join(_word(edit) for edit in edits)
    return f'<div style="line-height:1.9">{words or "<em>no words</em>"}</div>'


def alignment_legend_html() -> str:
    """The legend of `alignment_html`."""
    samples = (
        (Edit("substitute", "reference", "transcript"), "substitution: transcript → reference"),
        (Edit("delete", "word", ""), "deletion: missing from the transcript"),
        (Edit("insert", "", "word"), "insertion: not in the reference"),
    )
    parts = "".join(
        f'<span style="white-space:nowrap">{_word(edit)} {escape(text)}</span>'
        for edit, text in samples
    )
    style = "display:flex;flex-wrap:wrap;gap:0.2rem 1.4rem;font-size:0.875rem"
    return f'<div style="{style}">{parts}</div>'


def _word(edit: Edit) -> str:
    reference, hypothesis = escape(edit.reference), escape(edit.hypothesis)
    if edit.kind == "equal":
        return reference
    text = f"{hypothesis}→{reference}" if edit.kind == "substitute" else reference or hypothesis
    tag = _TAGS[edit.kind]
    return f'<{tag} title="{edit.kind}" style="{_STYLES[edit.kind]};{_SHAPE}">{text}</{tag}>'


def labelled_html(lines: Iterable[tuple[str, str]]) -> str:
    """A line for each label and text, such as a reference before normalization."""
    parts = "".join(
        f'<div><span style="opacity:0.65">{escape(label)}</span> {escape(text) or "–"}</div>'
        for label, text in lines
    )
    return f'<div style="font-size:0.875rem;overflow-wrap:anywhere">{parts}</div>'


def escape_markdown(text: str) -> str:
    """Text of users, files or models as Markdown that shows it as it is.

    All syntax is escaped. Addresses get an invisible word joiner, so that Streamlit makes no links
    of them: it looks for addresses after escapes are resolved.
    """
    text = _ADDRESS.sub("\\g<0>\u2060", text)
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>$~:-])", r"\\\1", text)
