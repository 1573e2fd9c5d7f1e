"""Names and texts that are code stay what they are: on the pages, in the report and the figures."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from tests.support.sample_runs import accuracy_run
from tests.support.served_app import Served, served, wait_until_drawn
from tests.support.spoken_runs import MANY, SOME, TEXT
from whisperq_core.analyze import confusions
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import figure_export, report
from whisperq_core.present.contribution_chart import contribution_figure
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.user_sets import UserSets

pytestmark = pytest.mark.browser

EVIL = (
    "=HYPERLINK(1)<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
    "[a](javascript:window.pwned=1)<a href=javascript:window.pwned=1>b</a>"
)
# What would be there if any of it were more than text.
TRACES = """() => [window.pwned,
    ...[...document.querySelectorAll('img[src="x"], a[href^="javascript:"]')].map(e => e.outerHTML),
    ...[...document.scripts].map(e => e.textContent).filter(code => code === 'window.pwned=1'),
].filter(Boolean)"""


class Hostile(NamedTuple):
    """The app with these in its cache."""

    app: Served
    runs: list[AccuracyRun]
    kept: Recording


def evil_run(name: str, wrong: list[int], **how) -> AccuracyRun:
    """A result every text of which is code."""
    words = TEXT.split()
    texts = [(f"{EVIL} {TEXT}", " ".join([EVIL, *words[count:]])) for count in wrong]
    names = [f"{EVIL}{i}" for i in range(len(wrong))]
    how |= {"model": EVIL, "eval_set": EVIL, "ids": names, "speakers": names}
    run = accuracy_run("fp32" if name == "fp32" else "torch-int8", texts, **how)
    spec = run.spec.model_copy(update={"recipe": replace(run.spec.recipe, name=name)})
    return run.model_copy(update={"spec": spec})


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, jfk) -> Iterator[Hostile]:
    cache = tmp_path_factory.mktemp("hostile") / "cache"
    store, shelf, sets = Store(cache), RecordingStore(cache), UserSets(cache)
    runs = [evil_run("fp32", SOME, weights_bytes=200_000_000), evil_run(EVIL, MANY)]
    for run in runs:
        store.put(run)
        assert (store.results / f"{run.slug}.json").is_file()
    (kept,) = shelf.add([(f"../../{EVIL}.flac", jfk.audio.read_bytes())])
    kept = shelf.set_reference(kept.id, EVIL)
    facts = {"language": "en", "detected": False, "audio_s": 11.0, "wall_s": 1.1}
    facts |= {"weights_bytes": 5_000_000, "fp32_bytes": 9, "silent": False, "looped": False}
    listener = TranscriptionConfig("tiny.en", recipe("fp32"), "en")
    shelf.put_transcription(kept.id, listener, Transcription(text=f"b {EVIL}", words=(), **facts))
    sets.add("calls", kept, shelf.original_path(kept.id), "en", EVIL)
    manifest = sets.folder("calls") / "manifest.jsonl"
    row = json.loads(manifest.read_text()) | {"id": EVIL}
    manifest.write_text(json.dumps(row))
    with served(cache) as app:
        yield Hostile(app, runs, kept)


def assert_only_text(page: Page) -> None:
    wait_until_drawn(page)
    assert "onerror=window.pwned=1" in page.content().replace('"', "")  # it is shown
    assert page.evaluate(TRACES) == []


def test_on_the_pages(browser, hostile):
    first, second = (run.key for run in hostile.runs)
    links = (
        "/",
        f"/tradeoffs?run={second}",
        f"/utterances?run={second}",
        f"/compare?first={first}&second={second}",
        f"/recordings?recordings={hostile.kept.id}",
        "/my_speech",
    )
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    # Without it, Streamlit saves by a link that tests can follow.
    page.add_init_script("delete window.showSaveFilePicker")
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for link in links:
        page.goto(f"{hostile.app.address}{link}")
        assert_only_text(page)
        if link == "/tradeoffs?run=" + second:
            page.locator(".st-key-results").get_by_test_id("stDataFrame").hover()
            for button in ("CSV", "Download as CSV"):
                with page.expect_download() as download:
                    # Streamlit's own lies over the table while the mouse is there.
                    page.get_by_role("button", name=button, exact=True).last.dispatch_event("click")
                saved = Path(download.value.path()).read_text("utf-8-sig")
                cells = [cell for row in csv.reader(io.StringIO(saved)) for cell in row]
                assert any(cell.startswith("'=HYPERLINK") for cell in cells)
                assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
    expect(page.get_by_text("Traceback")).to_have_count(0)
    assert dialogs == []
    page.close()


def test_in_the_files(browser, hostile, tmp_path):
    date = datetime(2026, 3, 1, tzinfo=UTC)
    made = tmp_path / "report.html"
    made.write_bytes(report.render(hostile.runs, ".html", date=date))
    figure = tmp_path / "figure.html"
    drawn = contribution_figure(confusions.error_contributions(*hostile.runs, True), EVIL, EVIL)
    figure.write_text(figure_export.to_html(drawn, EVIL), "utf-8")
    page = browser.new_page()
    for file in (made, figure):
        page.goto(file.as_uri())
        page.locator(".main-svg").first.wait_for()
        assert "onerror" in page.locator("body").inner_text()
        assert page.evaluate(TRACES) == []
    page.close()
