"""How long the Trade-offs page takes to be redrawn with thousands of results.

    python -m benchmarks.views [--records 2000] [--repeats 8]

Makes a store of so many accuracy records in a temporary folder (see `large_store`), starts the app
on it, opens Trade-offs in headless Chromium, switches filters of the design on and off in turn, and
measures from the press of the mouse to the plot being there with other points, and to the end of
the page's script: the server's part and the browser's together. While the first visit has all
results read, somebody else opens another page. What the server alone takes is measured by
Streamlit's own test harness, in a process of its own that does nothing else. Browser and server
share the machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from playwright.sync_api import Browser, Locator, Page, sync_playwright
from streamlit.testing.v1 import AppTest

from benchmarks import large_store
from benchmarks.first_page import POINTS
from benchmarks.processes import machine, median_and_range, process
from tests.support.served_app import PROJECT, launched, served, wait_until_drawn
from whisperq_core.whisper.protocols import STUDY

# A filter of the design and what is chosen in it, switched on and off in turn.
FILTERS = (("Library", "HQQ"), ("Library", "Quanto"), ("Library", "PyTorch"))
FIRST_MS, REDRAWN_MS = 300_000, 30_000
# Notes, from a click on, when the plot first stood painted with other points, and when the script
# ended. Both ends are on the browser's clock: Playwright's own waiting does not count. What
# Streamlit keeps of the last run until the script ends is not seen, and has no area.
_WATCH = """([points]) => {
    const count = () => [...document.querySelectorAll(points)]
        .filter(point => !point.closest('[data-stale=true]')).length;
    const app = document.querySelector('[data-testid=stApp]');
    const before = count();
    window.redrawn = window.ended = null;
    const look = () => {
        const now = performance.now();
        if (window.redrawn === null && ![0, before].includes(count())) window.redrawn = now;
        if (window.redrawn !== null && app.dataset.testScriptState === 'notRunning')
            window.ended = now;
        else requestAnimationFrame(look);
    };
    addEventListener('pointerdown', () => {
        window.clickedAt = performance.now();
        requestAnimationFrame(look);
    }, {capture: true, once: true});
}"""
_ENDED = "() => window.ended && [window.redrawn, window.ended].map(at => at - window.clickedAt)"


class Taken(NamedTuple):
    """Seconds from a click until the plot has other points, and until nothing is to come."""

    plot_s: float
    page_s: float


def browser_s(cache: Path, repeats: int) -> tuple[float, float, list[Taken], int]:
    """Seconds to the first plot, to another page meanwhile; each change; points in all."""
    with served(cache) as app, sync_playwright() as playwright:
        browser = launched(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        start = time.perf_counter()
        page.goto(f"{app.address}/tradeoffs?protocol={quote(STUDY.name)}")
        other = other_page_s(browser, f"{app.address}/terms")
        page.locator(POINTS).first.wait_for(state="attached", timeout=FIRST_MS)
        first = time.perf_counter() - start
        wait_until_drawn(page, FIRST_MS)
        page.get_by_text("Quantization scheme, device").click()
        wait_until_drawn(page)
        whole = page.locator(POINTS).count()
        times = []
        for _ in range(repeats):
            for label, option in FILTERS:
                times.append(switch_on(page, label, option))
                times.append(switch_off(page, label))
        browser.close()
    return first, other, times, whole


def other_page_s(browser: Browser, address: str) -> float:
    """Seconds in which a page that needs no results is opened by somebody else."""
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for(timeout=FIRST_MS)
    taken = time.perf_counter() - start
    page.close()
    return taken


def switch_on(page: Page, label: str, option: str) -> Taken:
    """From the click on an option, the list being open, to the plot of what is left."""
    box = filter_box(page, label)
    # The list closes when the page is scrolled below it.
    box.evaluate("box => box.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(300)
    box.get_by_role("combobox").click()
    page.keyboard.type(option)
    wanted = page.get_by_role("option", name=option, exact=True)
    wanted.wait_for()
    return redrawn(page, wanted.click)


def switch_off(page: Page, label: str) -> Taken:
    """From clearing the filter to the whole plot."""
    # A click anywhere closes the list, which hides the rest; Escape would clear the filter.
    page.locator("[data-testid=stMain] h1").click(force=True)
    wanted = filter_box(page, label).get_by_label("Clear all")
    wanted.wait_for()
    return redrawn(page, wanted.click)


def filter_box(page: Page, label: str) -> Locator:
    """The multiselect of a filter."""
    return page.get_by_test_id("stMultiSelect").filter(has=page.get_by_text(label, exact=True))


def redrawn(page: Page, click: Callable) -> Taken:
    """What passes after the click."""
    page.evaluate(_WATCH, [POINTS])
    click()
    times_ms = page.wait_for_function(_ENDED, timeout=REDRAWN_MS, polling=100).json_value()
    wait_until_drawn(page)
    return Taken(*(taken_ms / 1000 for taken_ms in times_ms))


def server_s(cache: Path, repeats: int) -> tuple[float, list[float]]:
    """Seconds of the page's script alone: at first, and after each change of a filter."""
    os.environ["WHISPERQ_CACHE"] = str(cache)
    app = AppTest.from_file(PROJECT / "pages" / "tradeoffs.py", default_timeout=FIRST_MS / 1000)
    app.session_state["in_app"] = True
    app.query_params["protocol"] = STUDY.name

    def run() -> float:
        start = time.perf_counter()
        app.run()
        return time.perf_counter() - start

    first, times = run(), []
    for _ in range(repeats):
        for label, option in FILTERS:
            box = next(box for box in app.multiselect if box.label == label)
            for value in ([box.options.index(option)], []):
                box.set_value([box.options[i] for i in value])
                times.append(run())
    return first, times


def main() -> None:
    """Prints first the server's part, then the whole."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=4, help="rounds through the filters")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        large_store.fill(cache, arguments.records)
        print(f"{arguments.records} accuracy records; {machine()}; load {os.getloadavg()[0]:.1f}")
        with process() as new:
            first, times = new.submit(server_s, cache, arguments.repeats).result()
        print(f"server: first {first:.1f} s, then {median_and_range(times, 2)} s a filter")
        first, other, times, points = browser_s(cache, arguments.repeats)
        plot, page = ([taken[i] for taken in times] for i in range(2))
        print(
            f"first visit: {first:.1f} s to the plot; another page opened meanwhile: {other:.1f} s"
        )
        print(
            f"{len(times)} changes of a filter, up to {points} points: click to plot"
            f" {median_and_range(plot, 2)} s, to the page at rest {median_and_range(page, 2)} s;"
            f" load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
