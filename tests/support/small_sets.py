"""Small evaluation sets in every layout, of the shortest shipped recordings."""

import json
import shutil
from pathlib import Path

from whisperq_core.speech.evaluation_sets import Utterance, shipped_sets


def shortest(count: int = 3) -> list[Utterance]:
    utterances = shipped_sets()["test-clean-excerpt"].utterances
    return sorted(utterances, key=lambda u: u.duration_s)[:count]


def recordings_folder(parent: Path) -> Path:
    """`mine`: a.flac and b.flac, without their references."""
    folder = parent / "mine"
    folder.mkdir()
    for name, utterance in zip(("a.flac", "b.flac"), shortest(), strict=False):
        shutil.copyfile(utterance.audio, folder / name)
    return folder


def librispeech_split(parent: Path) -> Path:
    """LibriSpeech/test-clean in OpenSLR's layout."""
    root = parent / "LibriSpeech" / "test-clean"
    for utterance in shortest():
        speaker, chapter, _ = utterance.id.split("-")
        place = root / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(utterance.audio, place / f"{utterance.id}.flac")
        with (place / f"{speaker}-{chapter}.trans.txt").open("a") as transcript:
            transcript.write(f"{utterance.id} {utterance.reference}\n")
    return root


def write_jsonl(folder: Path, *rows: dict | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines), "utf-8")
