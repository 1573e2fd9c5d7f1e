"""Transcripts side by side, tied to the recording: a part of the Compare recordings page."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from whisperq_core.side_by_side import Slot, phrases
from whisperq_core.sounds import Sound

_HERE = Path(__file__).parent
_KINDS = {"equal": "", "substitute": "sub", "delete": "del", "insert": "ins"}


@dataclass(frozen=True)
class Heading:
    """What stands above a column."""

    name: str
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@st.cache_resource
def _component(css: str, js: str):
    return st.components.v2.component(
        "side_by_side", html='<div class="view"></div>', css=css, js=js
    )


def side_by_side(
    key: str, headings: list[Heading], slots: list[Slot], sound: Sound, audio: str
) -> None:
    """Draws slots below their headings. audio: the key of the container with the player."""
    lines = [[_slot(slot) for slot in line] for line in phrases(slots)]
    columns = [
        {"name": h.name, "facts": list(h.facts), "warnings": list(h.warnings)} for h in headings
    ]
    data = {
        "columns": columns,
        "phrases": lines,
        "outline": list(sound.outline),
        "duration": sound.duration_s,
        "audio": f".st-key-{audio} audio",
        "stamp": f"{hash(str((columns, lines))):x}",
    }
    css, js = ((_HERE / f"_side_by_side.{kind}").read_text("utf-8") for kind in ("css", "js"))
    _component(css, js)(data=data, key=key)


def _slot(slot: Slot) -> dict:
    """A slot as the component draws it; a word left out is shown where it was left out."""
    pivot = slot.words[0]
    words = []
    for column, word in enumerate(slot.words):
        kind = slot.kind(column)
        shown = pivot if kind == "delete" else word
        words.append([shown.written, _KINDS[kind]] if shown else None)
    return {"at": slot.start_s, "disputed": slot.disputed, "words": words}
