"""How long a page takes to be at rest: after the app's start, in a new browser, in the same one.

    python -m benchmarks.first_page [--records 2000] [--page overview] [--repeats 5] [--starts 2]
    python -m benchmarks.first_page --server [--records 2000] [--repeats 5]

Starts the app, opens the page in headless Chromium, and measures from the navigation until nothing
of the page is still to come (at rest), and to the plot's points being in the document, in a fresh
browser context, which has to fetch and compile the scripts of Streamlit and Plotly, and again in
the same one. The first visit of all is told apart: the server also imports what the page needs,
reads every result and compares them. Browser and server share the machine. The results are a copy
of the shipped ones, or as many accuracy records as wanted (see `large_store`).

--server measures instead the page's script alone, without a browser, by Streamlit's test harness:
seconds of processor time, which other processes do not disturb much, of a first and of a second run
in a process that has imported nothing, for Overview, Advisor and Trade-offs.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from benchmarks import large_store
from benchmarks.processes import machine, median_and_range, process
from tests.support.served_app import PROJECT, launched, served, wait_until_drawn
from whisperq_core.evaluate.store import Store

POINTS = ".js-plotly-plot .scatterlayer .point"
SERVER_PAGES = ("overview", "advisor", "tradeoffs")
FIRST_MS = 300_000
# From the navigation to the last change of the page, and to its first points, in milliseconds.
# Both are on the browser's clock: how often Playwright looks does not count.
_WATCH = """points => {
    const look = () => document.querySelector(points)
        ? window.firstPoints = performance.now() : requestAnimationFrame(look);
    addEventListener('DOMContentLoaded', look);
}"""
_TIMES = "() => [window.since - performance.timeOrigin, window.firstPoints]"


class Visit(NamedTuple):
    """Seconds from the navigation to the page at rest, and to the first points of its plot."""

    rest_s: float
    points_s: float | None

    def __str__(self) -> str:
        points = f", {self.points_s:.2f} s to the plot's points" if self.points_s else ""
        return f"{self.rest_s:.2f} s{points}"


def visits(browser: Browser, address: str) -> tuple[Visit, Visit]:
    """In a fresh context, and the next visit from it."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.add_init_script(f"({_WATCH})({POINTS!r})")
    page = context.new_page()
    taken = []
    for _ in range(2):
        page.goto(address, wait_until="commit")
        wait_until_drawn(page, FIRST_MS)
        times_ms = page.evaluate(_TIMES)
        taken.append(Visit(*(ms and ms / 1000 for ms in times_ms)))
    context.close()
    return taken[0], taken[1]


@contextmanager
def results(records: int) -> Iterator[Path]:
    """A cache with a copy of the shipped results, or with so many accuracy records."""
    with tempfile.TemporaryDirectory(prefix="whisperq-records-") as folder:
        cache = Path(folder) / "cache"
        if records:
            large_store.fill(cache, records)
        yield cache


def server_cpu_s(cache: Path, page: str) -> tuple[float, float]:
    """Processor seconds of a page's script in this process: the first run, and the second."""
    os.environ["WHISPERQ_CACHE"] = str(cache)
    start = time.process_time()
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(PROJECT / "pages" / f"{page}.py", default_timeout=FIRST_MS / 1000)
    app.session_state["in_app"] = True
    times = []
    for _ in range(2):
        app.run()
        times.append(time.process_time() - start)
        start = time.process_time()
    if app.exception:
        raise SystemExit(app.exception[0].value)
    return times[0], times[1]


def print_server(cache: Path, repeats: int) -> None:
    """A line for each page."""
    for page in SERVER_PAGES:
        taken = []
        for _ in range(repeats):
            with process() as new:
                taken.append(new.submit(server_cpu_s, cache, page).result())
        first, second = (median_and_range(times, 2) for times in zip(*taken, strict=True))
        print(f"{page}: {first} s of processor time, then {second} s", flush=True)


def print_browser(cache: Path, page: str, repeats: int, starts: int) -> None:
    """The first visits after a start of the app, and the later ones."""
    path = "" if page == "overview" else page
    later: list[tuple[Visit, Visit]] = []
    with sync_playwright() as playwright:
        browser = launched(playwright)
        for start in range(starts):
            with served(cache) as app:
                address = f"{app.address}/{path}"
                first, _ = visits(browser, address)
                print(f"first visit after a start: {first}", flush=True)
                if start == starts - 1:
                    later = [visits(browser, address) for _ in range(repeats)]
        browser.close()
    fresh, again = zip(*later, strict=True)
    for label, taken in (("a new browser", fresh), ("the same browser again", again)):
        print(f"{label}: {median_and_range([v.rest_s for v in taken], 2)} s, {len(taken)} visits")


def main() -> None:
    """Prints the times of one page in a browser, or of the server alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=0, help="0: the shipped results")
    parser.add_argument("--page", default="overview")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--starts", type=int, default=2, help="of the app, each with a first visit")
    parser.add_argument("--server", action="store_true", help="the page's script alone")
    arguments = parser.parse_args()
    with results(arguments.records) as cache:
        if arguments.server:
            where = cache if cache.exists() else PROJECT / "cache"
            print(f"{len(Store(where).keys())} results; {machine()}", flush=True)
            print_server(where, arguments.repeats)
            return
        print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
        print_browser(cache, arguments.page, arguments.repeats, arguments.starts)
        print(f"{len(Store(cache).keys())} results; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
