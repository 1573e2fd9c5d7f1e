"""Aligned transcripts side by side with the recording's waveform, for Compare recordings."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import streamlit as st

from whisperq_core.scoring.transcript_alignment import Slot, as_written, phrases
from whisperq_core.speech.isolated_decoder import AudioSummary

_HERE = Path(__file__).parent
# Of more consecutive lines of only inserted words, the first and the last are drawn.
_MOST_INSERTED_LINES = 4
_KINDS = {"equal": "", "substitute": "sub", "delete": "del", "insert": "ins"}


@dataclass(frozen=True)
class Heading:
    """The head of a column: its name, lines of facts, and warnings."""

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
    key: str,
    headings: list[Heading],
    slots: list[Slot],
    recording: AudioSummary,
    player: str,
    joint: str = " ",
) -> None:
    """Draws the aligned words below their headings.

    headings: one for each word of a slot. player: key of the container with the audio player.
    joint: what is between two words; empty in languages written without spaces.
    """
    shown = as_written(slots)
    lines = [
        {"hidden": line} if isinstance(line, int) else {"slots": [_slot(slot) for slot in line]}
        for line in _shortened(phrases(shown))
    ]
    columns = [
        {"name": h.name, "facts": list(h.facts), "warnings": list(h.warnings)} for h in headings
    ]
    data = {
        "columns": columns,
        "phrases": lines,
        "differing": sum(slot.differs for slot in shown),
        "outline": list(recording.outline),
        "duration": recording.duration_s,
        "audio": f".st-key-{player} audio",
        "joint": joint,
        "stamp": f"{hash(str((columns, lines))):x}",
    }
    _component()(data=data, key=key)


def _shortened(lines: list[list[Slot]]) -> Iterator[list[Slot] | int]:
    """The lines, where long runs of only inserted words (decoding loops) are shortened.

    Of such a run the first and the last line stay, and between them how many are hidden.
    """
    for inserted, group in groupby(lines, lambda line: all(s.words[0] is None for s in line)):
        run: list[list[Slot] | int] = list(group)
        if inserted and len(run) > _MOST_INSERTED_LINES:
            run = [run[0], len(run) - 2, run[-1]]
        yield from run


def _slot(slot: Slot) -> dict:
    """A slot as the component draws it; a deleted word is drawn as that of the first column."""
    first = slot.words[0]
    words = []
    for column, word in enumerate(slot.words):
        kind = slot.kind(column)
        shown = first if kind == "delete" else word
        chance = word.probability if word and word.is_unlikely else None
        words.append([shown.written, _KINDS[kind], chance] if shown else None)
    return {"at": slot.start_s, "differs": slot.differs, "words": words}
