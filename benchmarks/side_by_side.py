"""How long a page with ten recipes' transcripts of a three-minute recording takes to be drawn.

    python -m benchmarks.side_by_side [--repeats 8] [--loops]

The recording is the first three minutes of the test-other excerpt, the transcripts are those of the
shipped results of ten recipes, so every word is one that a model wrote; words are spread evenly
over their utterance. With --loops, a recipe that repeats itself for thousands of words is one of
them; otherwise recipes have less than one error a word. They are put on the shelf of a temporary
cache, the app is started on it, and in headless Chromium one recipe is taken out and put back in
turn. Measured is from the click to the columns standing there, on the browser's clock, all words in
them; and by itself what of it is the alignment. Browser and server share the machine.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.processes import machine, median_and_range
from tests.support.served_app import launched, served, wait_until_drawn
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.scoring.transcript_alignment import align, as_written, phrases, words_of
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.word_timestamps import TimedWord

MODEL, SET, LENGTH_S, RECIPES = "tiny.en", "test-other-excerpt", 180.0, 10
_CLICKED = "addEventListener('pointerdown', () => window.clickedAt = performance.now(), true)"
# Milliseconds from the last click, once so many columns stand there and every phrase has them.
_DRAWN = """columns => {
    const hosts = [...document.querySelectorAll('*')].filter(e => e.shadowRoot);
    const sheet = hosts.map(h => h.shadowRoot.querySelector('.sheet')).find(Boolean);
    const lines = sheet ? [...sheet.querySelectorAll('.line:not(.left-out)')] : [];
    return lines.length > 1 && lines.every(line => line.children.length === columns + 1)
        && performance.now() - window.clickedAt;
}"""


def runs(loops: bool) -> list[AccuracyRun]:
    """fp32's result and those of other recipes that can transcribe a recording."""
    by_recipe = {
        run.spec.recipe.name: run
        for run in Store(SHIPPED_CACHE).runs()
        if isinstance(run, AccuracyRun)
        and (run.model, run.eval_set) == (MODEL, SET)
        and run.spec.protocol.name == STUDY.name
        and run.spec.recipe.calibration != "evaluation-10%"
    }
    fp32 = by_recipe.pop("fp32")
    worst_first = sorted(by_recipe.values(), key=lambda run: -run.words.rate)
    usual = [run for run in by_recipe.values() if run.words.rate < 100]
    return [fp32, *(worst_first[:1] if loops else []), *usual][:RECIPES]


def fill(cache: Path, measured: list[AccuracyRun]) -> Recording:
    """Puts the recording and its transcriptions into the cache."""
    utterances, length_s = [], 0.0
    for utterance in evaluation_sets.shipped_sets()[SET].utterances:
        if length_s < LENGTH_S:
            utterances.append(utterance)
            length_s += utterance.duration_s
    samples = np.concatenate([evaluation_sets.read_audio(one) for one in utterances])
    store = RecordingStore(cache)
    (recording,) = store.add([("three minutes.wav", decode.encode_wav(samples))])
    recording = store.set_reference(recording.id, " ".join(one.reference for one in utterances))
    for run in measured:
        hypotheses = {one.id: one.hypothesis for one in run.utterances}
        words, start = [], 0.0
        for one in utterances:
            hypothesis_words = hypotheses[one.id].split()
            edges = np.linspace(start, start + one.duration_s, len(hypothesis_words) + 1)
            words += [
                TimedWord(text=word, start_s=float(a), end_s=float(b))
                for word, a, b in zip(hypothesis_words, edges[:-1], edges[1:], strict=True)
            ]
            start += one.duration_s
        facts = {"language": "en", "detected": False, "audio_s": length_s, "silent": False}
        facts |= {"wall_s": 1.0, "weights_bytes": run.weights_bytes, "looped": False}
        text = " ".join(word.text for word in words)
        transcription = Transcription(
            text=text, words=tuple(words), fp32_bytes=run.fp32_bytes, **facts
        )
        store.put_transcription(
            recording.id, TranscriptionConfig(MODEL, run.spec.recipe, "en"), transcription
        )
    return recording


def align_s(cache: Path, recording: Recording, measured: list[AccuracyRun]) -> tuple[float, int]:
    """Seconds to align all, and how many words there are in all columns."""
    store = RecordingStore(cache)
    start = time.perf_counter()
    columns = [words_of(recording.reference, "en")]
    for run in measured:
        transcription = store.transcription(
            recording.id, TranscriptionConfig(MODEL, run.spec.recipe, "en")
        )
        columns.append(
            words_of(transcription.text, "en", [word.start_s for word in transcription.words])
        )
    phrases(as_written(align(columns)))
    return time.perf_counter() - start, sum(map(len, columns))


def redrawn_s(page: Page, columns: int, click) -> float:
    """Seconds from the click to so many columns."""
    click()
    taken_ms = page.wait_for_function(_DRAWN, arg=columns, timeout=60_000, polling="raf")
    page.wait_for_timeout(1000)
    return taken_ms.json_value() / 1000


def main() -> None:
    """Prints the alignment's part, then the whole."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--loops", action="store_true")
    arguments = parser.parse_args()
    repeats, measured = arguments.repeats, runs(arguments.loops)
    names = [run.spec.recipe.name for run in measured]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        recording = fill(cache, measured)
        alignments = [align_s(cache, recording, measured) for _ in range(repeats)]
        print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
        print(
            f"{len(names)} recipes and the reference, {recording.sound.duration_s:.0f} s,"
            f" {alignments[0][1]} words: aligned in {median(s for s, _ in alignments):.2f} s"
        )
        with served(cache) as app, sync_playwright() as playwright:
            browser = launched(playwright)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.add_init_script(_CLICKED)
            query = {"model": MODEL, "recordings": recording.id, "recipes": names[1:]}
            page.goto(f"{app.address}/recordings?{urlencode(query, doseq=True)}")
            wait_until_drawn(page)
            box = page.get_by_test_id("stMultiSelect").filter(
                has=page.get_by_text("Recipes to compare with fp32")
            )
            times = []
            for _ in range(repeats):
                last = box.get_by_label(f"Remove {names[-1]}")
                times.append(redrawn_s(page, len(names), last.first.click))
                box.get_by_role("combobox").fill(names[-1])
                option = page.get_by_role("option", name=names[-1], exact=True)
                option.wait_for()
                times.append(redrawn_s(page, len(names) + 1, option.click))
                page.get_by_text("Upload or record speech").click(force=True)  # closes the list
            browser.close()
        print(
            f"click to drawn: {median_and_range(times, 2)} s, {len(times)} changes;"
            f" load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
