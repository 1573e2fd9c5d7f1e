"""A published site in headless Chromium: from a folder and from a web server, with no network."""

import functools
import http.server
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.offline_pages import CONTRAST, LOCAL, MARKS, OVERFLOW, is_bad
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import site
from whisperq_core.present.site import PAGES, Site
from whisperq_core.settings import SHIPPED_CACHE

pytestmark = pytest.mark.browser

DATE = datetime(2026, 3, 1, tzinfo=UTC)
LOADED_MS = 120_000  # five megabytes of Plotly, on a busy machine
RECIPES = ("fp32", "bf16", "quanto-int8", "torch-int8")
# How many tables have columns out of sight.
CUT_OFF = """[...document.querySelectorAll('.scroll')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).length"""
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Some of the shipped results, with a hostile note."""
    sets = ("test-clean-excerpt", "test-other-excerpt")
    runs = [
        run
        for run in Store(SHIPPED_CACHE).runs()
        if (run.model, run.spec.protocol.name) == ("base", "as in the study")
        and run.spec.recipe.name in RECIPES
        and (run.eval_set in sets or isinstance(run, SpeedRun))
    ]
    run = noted(runs)
    notes = (
        Note(run=run.key, utterance=run.utterances[0].id, comment=HOSTILE, starred=True),
        Note(run=run.key, comment=HOSTILE),
    )
    out = tmp_path_factory.mktemp("published") / "site"
    site.write(out, Site(tuple(runs), DATE, notes).files())
    return out


def noted(runs) -> AccuracyRun:
    """The newest run of torch-int8 on the longer set."""
    matching = [
        run
        for run in runs
        if isinstance(run, AccuracyRun)
        and run.eval_set == "test-other-excerpt"
        and run.spec.recipe.name == "torch-int8"
    ]
    return max(matching, key=lambda run: run.created_at)


@pytest.fixture
def run(folder) -> AccuracyRun:
    stored = [r for r in Store(SHIPPED_CACHE).runs() if isinstance(r, AccuracyRun)]
    return noted([r for r in stored if (folder / "runs" / f"{r.key}.html").is_file()])


@pytest.fixture
def opened(browser):
    """Opens pages without a network; nothing may be fetched from elsewhere, or complained of."""
    wrong, contexts = [], []

    def open_page(width: int = 1440, scheme: str = "light", local: tuple = LOCAL) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=scheme
        )
        contexts.append(context)
        context.set_default_timeout(LOADED_MS)
        context.on("request", lambda r: None if r.url.startswith(local) else wrong.append(r.url))
        context.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
        context.on("console", lambda m: wrong.append(m.text) if is_bad(m) else None)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        context.set_offline(local is LOCAL)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def server(folder):
    """`python -m http.server` in the folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def wait_for_plots(page: Page) -> None:
    expect(page.locator(".plot:not(:has(.main-svg))")).to_have_count(0, timeout=LOADED_MS)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (420, "dark")])
def test_every_page_is_drawn_from_a_folder(opened, folder, run, width, scheme):
    page = opened(width, scheme)
    for file in (*(file for _, file in PAGES), f"runs/{run.key}.html"):
        page.goto((folder / file).as_uri())
        wait_for_plots(page)
        plots = page.locator(".plot").all()
        assert all(plot.evaluate(MARKS) > 0 for plot in plots)
        assert bool(plots) == (file in ("index.html", "tradeoffs.html", "report.html"))
        assert not plots or page.evaluate(CONTRAST) > 4.5
        assert page.evaluate(OVERFLOW) <= 0, file
        assert width < 1440 or page.evaluate(CUT_OFF) == 0, file
    assert page.locator("article").count() == len(run.utterances)


def test_a_reader_gets_from_the_overview_to_an_utterance(opened, server, run):
    page = opened(local=(server, "data:", "blob:"))
    page.goto(server)
    page.get_by_role("navigation").get_by_role("link", name="Runs").click()
    page.locator(f"a[href='runs/{run.key}.html']").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("torch-int8 · base")
    utterance = run.utterances[-1]
    page.get_by_role("link", name=utterance.id).click()
    assert page.url.endswith(f"#u-{utterance.id}")
    # The address opens there again, in a tab of its own.
    other = page.context.new_page()
    other.goto(page.url)
    article = other.locator("article.linked")
    expect(article).to_be_in_viewport()
    expect(article).to_contain_text(utterance.id)
    other.get_by_role("link", name="Trade-offs").click()
    wait_for_plots(other)
    point = other.locator(".plot").first.locator(".scatterlayer .trace:nth-child(2) .point").first
    box = point.bounding_box()
    other.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    other.wait_for_url("**/runs/*.html")


def test_hostile_notes_are_text(opened, folder, run):
    page = opened()
    page.goto((folder / "runs" / f"{run.key}.html").as_uri())
    assert page.locator("img").count() == 0
    comments = page.locator(".comment")
    assert comments.count() == 2
    assert all(HOSTILE in text for text in comments.all_inner_texts())
    page.goto((folder / "report.html").as_uri())
    assert HOSTILE in page.locator("main").inner_text()


def test_pages_print_on_light_paper(opened, folder, run):
    page = opened(scheme="dark")
    page.goto((folder / f"runs/{run.key}.html").as_uri())
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    assert 3 <= pdf.count(b"/Type /Page\n") <= 25
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.get_by_role("navigation").is_visible()
    page.set_viewport_size({"width": 695, "height": 1000})
    assert page.evaluate(OVERFLOW) <= 0
