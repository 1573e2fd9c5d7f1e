"""The pages of single runs in a published site: every utterance, with its errors marked.

A reference is in one file for all runs of a set; a page has only where its transcripts differ.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from whisperq_core.analyze import confusions
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, UtteranceResult
from whisperq_core.plurals import counted
from whisperq_core.present import labels, templating
from whisperq_core.present.provenance import provenance_rows
from whisperq_core.present.shown_notes import shown_note
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.languages import unit_of
from whisperq_core.scoring.normalizers import normalizer

_KINDS = {"substitute": "s", "delete": "d", "insert": "i"}


def speech_file(run: AccuracyRun) -> str:
    """Where the references of the run's speech are, from the site's folder."""
    return f"speech/{run.speech_digest[:16]}.js"


def speech_script(run: AccuracyRun, audio: Mapping[str, str]) -> bytes:
    """The references of the run's speech as a script, in the order of their ids.

    A script, since pages that are opened from a folder may not fetch anything else. audio: where
    the recording of an utterance is, from the site's folder, by id.
    """
    in_characters = all(unit_of(u.language) == "characters" for u in run.utterances)
    content = {
        "joint": "" if in_characters else " ",
        "ids": [u.id for u in run.by_id],
        "speakers": [u.speaker or "" for u in run.by_id],
        "seconds": [round(u.duration_s, 1) for u in run.by_id],
        "words": [" ".join(_reference_words(u)) for u in run.by_id],
        "audio": [audio.get(u.id, "") for u in run.by_id],
    }
    # ASCII only, so that no character of a text ends a line of the script.
    return f"const speech = {json.dumps(content, separators=(',', ':'))};\n".encode()


def _reference_words(utterance: UtteranceResult) -> list[str]:
    normalized = normalizer(utterance.language).apply(utterance.reference)
    return error_rates.tokens_of(normalized, utterance.language)


def run_values(
    run: AccuracyRun, row: "pd.Series[Any]", notes: Iterable[Note], attribution: str
) -> dict[str, object]:
    """What the template shows of a run. row: of the section's frame."""
    own = [note for note in notes if note.run == run.key]
    by_id = {u.id for u in run.utterances}
    return {
        "description": run.spec.recipe.description,
        "rates": _rates(run, row),
        "notes": [shown_note(note) for note in own if note.utterance not in by_id],
        "run": templating.json_script(json.dumps(_run_data(run, own), separators=(",", ":"))),
        "provenance": [
            (label.rstrip(":"), text) for label, text in provenance_rows(run, row["speed_key"])
        ],
        "speech_file": speech_file(run),
        "footer": attribution,
    }


def _rates(run: AccuracyRun, row: "pd.Series[Any]") -> list[tuple[str, str]]:
    words, counts = run.words, labels.error_counts(run.words)
    facts = [
        (
            "WER",
            f"{_percent(row['wer_pct'], row['wer_low_pct'], row['wer_high_pct'])}; {counts} in"
            f" {counted(words.reference_length, 'word')}",
        ),
        ("CER", _percent(row["cer_pct"], row["cer_low_pct"], row["cer_high_pct"])),
        ("Size", f"{run.weights_bytes / 1e6:.1f} MB"),
        ("Loops", str(run.loops)),
    ]
    compared = str(row["in_words"]) if pd.notna(row["in_words"]) else ""
    return [*facts, ("Compared", compared)] if compared else facts


def _percent(value: float, low: float, high: float) -> str:
    interval = "" if pd.isna(low) else f" (95 % interval {low:.2f} to {high:.2f})"
    return "no words" if pd.isna(value) else f"{value:.2f} %{interval}"


def _run_data(run: AccuracyRun, notes: Sequence[Note]) -> dict[str, Any]:
    """What run.js needs: positions are those of the ids, which are sorted."""
    places = {u.id: place for place, u in enumerate(run.by_id)}
    edits = {places[u.id]: _edits(u) for u in run.utterances if not u.score.exact}
    on_utterances: dict[str, list[dict[str, Any]]] = {}
    for note in notes:
        if note.utterance is not None:
            shown = shown_note(note)
            on_utterances.setdefault(note.utterance, []).append(
                {
                    "starred": shown.starred,
                    "comment": shown.comment,
                    "signature": shown.signature,
                }
            )
    worst_first = confusions.worst_first(run.utterances)
    return {
        "order": [places[u.id] for u in worst_first],
        "edits": edits,
        "loops": [places[u.id] for u in run.utterances if u.score.looped],
        "notes": on_utterances,
    }


def _edits(utterance: UtteranceResult) -> list[list[object]]:
    """[index of the reference's word, kind, transcript's word, number of words] of each error.

    Words inserted in a row are one.
    """
    edits: list[list[object]] = []
    place, inserted = 0, []
    joint = "" if unit_of(utterance.language) == "characters" else " "
    for edit in (*confusions.aligned(utterance), None):
        if edit is not None and edit.kind == "insert":
            inserted.append(edit.hypothesis)
            continue
        if inserted:
            edits.append([place, "i", joint.join(inserted), len(inserted)])
            inserted = []
        if edit is None:
            break
        if edit.kind != "equal":
            edits.append([place, _KINDS[edit.kind], edit.hypothesis])
        place += 1
    return edits
