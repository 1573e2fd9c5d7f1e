"""Transcripts side by side, tied to the recording: a part of the Compare recordings page."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import streamlit as st

from whisperq_core.scoring.transcript_alignment import Slot, phrases
from whisperq_core.speech.isolated_decoder import AudioSummary

_HERE = Path(__file__).parent
# More lines in a row than this that have only added words are not all drawn.
_ADDED_LINES = 4
_KINDS = {"equal": "", "substitute": "sub", "delete": "del", "insert": "ins"}


@dataclass(frozen=True)
class Heading:
    """What stands above a column."""

    name: str
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@st.cache_resource
def _component():
    css, js = ((_HERE / f"_transcript_view.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return st.components.v2.component(
        "transcript_view", html='<div class="view"></div>', css=css, js=js
    )


def transcript_view(
    key: str, headings: list[Heading], slots: list[Slot], sound: AudioSummary, audio: str
) -> None:
    """Draws slots below their headings. audio: the key of the container with the player."""
    lines = [
        {"left_out": line} if isinstance(line, int) else {"slots": [_slot(slot) for slot in line]}
        for line in _without_loops(phrases(slots))
    ]
    columns = [
        {"name": h.name, "facts": list(h.facts), "warnings": list(h.warnings)} for h in headings
    ]
    data = {
        "columns": columns,
        "phrases": lines,
        "disputed": sum(slot.differs for slot in slots),
        "outline": list(sound.outline),
        "duration": sound.duration_s,
        "audio": f".st-key-{audio} audio",
        "stamp": f"{hash(str((columns, lines))):x}",
    }
    _component()(data=data, key=key)


def _without_loops(lines: list[list[Slot]]) -> Iterator[list[Slot] | int]:
    """Long runs of lines that only have added words, as of a decoding loop, become their ends.

    Between these stands how many lines are left out.
    """
    for added, run in groupby(lines, lambda line: all(slot.words[0] is None for slot in line)):
        found = list(run)
        if added and len(found) > _ADDED_LINES:
            found = [found[0], len(found) - 2, found[-1]]
        yield from found


def _slot(slot: Slot) -> dict:
    """A slot as the component draws it; a word left out is shown where it was left out."""
    pivot = slot.words[0]
    words = []
    for column, word in enumerate(slot.words):
        kind = slot.kind(column)
        shown = pivot if kind == "delete" else word
        words.append([shown.written, _KINDS[kind]] if shown else None)
    return {"at": slot.start_s, "disputed": slot.differs, "words": words}
