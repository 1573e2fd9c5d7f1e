"""The report of the shipped results in headless Chromium, with no network: screen, phone, paper."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.support.offline_pages import CONTRAST, MARKS, OVERFLOW, offline
from whisperq_core.evaluate.store import Store
from whisperq_core.present import report
from whisperq_core.present.report_sections import Selection
from whisperq_core.settings import SHIPPED_CACHE

pytestmark = pytest.mark.browser

DATE = datetime(2026, 3, 1, tzinfo=UTC)
FIGURES = 6


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    selection = Selection(("base",), ("test-other-excerpt",), (), ("as in the study",))
    runs = Store(SHIPPED_CACHE).runs()
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(report.render(runs, ".html", date=DATE, selection=selection))
    return path


def opened(context: BrowserContext, file: Path) -> Page:
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function(
        f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {FIGURES}"
    )
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 420])
def test_every_figure_is_drawn_without_a_network(browser, file, width, scheme):
    wrong: list[str] = []
    context = offline(browser, width, scheme, wrong)
    page = opened(context, file)
    plots = page.locator(".js-plotly-plot")
    assert plots.count() == FIGURES
    for plot in plots.all()[1:]:
        assert plot.evaluate(MARKS) >= 15
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["width"] > 300 and box["height"] > 200
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(CONTRAST) > 4.5
    assert wrong == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_on_light_pages(browser, file, tmp_path, scheme):
    wrong: list[str] = []
    context = offline(browser, 1440, scheme, wrong)
    page = opened(context, file)
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    # 17 where there is nothing but DejaVu, which is wide: the tables of noise and of all
    # configurations are long. More shipped results make them longer.
    assert 4 <= pdf.count(b"/Type /Page\n") <= 20
    # Back on the screen, the figures are as wide as before.
    width = page.locator(".plot").first.bounding_box()["width"]
    assert page.locator(".main-svg").first.bounding_box()["width"] == pytest.approx(width, abs=2)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) > 4.5
    # On A4 without its margins, nothing is wider than the page.
    page.set_viewport_size({"width": 695, "height": 1000})
    tables = page.locator("table").evaluate_all("tables => tables.map(t => t.scrollWidth)")
    assert max(tables) <= 695
    assert wrong == []
    context.close()


def test_tables_scroll_on_a_phone(browser, file):
    context = offline(browser, 420, "light", [])
    page = opened(context, file)
    scroll = page.locator(".scroll").first
    inside, outside = scroll.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert inside > outside
    name = page.locator("tbody th").first
    before = name.bounding_box()["x"]
    scroll.evaluate("box => { box.scrollLeft = 300 }")
    # The recipe's name stays where it is.
    assert name.bounding_box()["x"] == pytest.approx(before, abs=2)
    context.close()
