"""Twenty browsers at once on one app while evaluations run: how long pages take, and its memory.

    python -m benchmarks.load [--browsers 20] [--minutes 10]

Starts the app on the shipped results, and evaluations of tiny.en in its worker, begun as a user
does. Then so many browsers, each with a session of its own, all go to the same page in the same
moment, and to the next one when all are there, until the time is over: the worst case. Every page
is opened at least once. Measured is, for each browser, from the address to the page at rest; the
scripts are cached after the first visit. The same is done by one browser alone, first.

Server, worker and all browsers share this machine, so most of what twenty wait for is each
other's drawing; what the server itself needs is told by the time in which it answers a request
for its health meanwhile. Its memory is what the app's process holds (resident): before, at most,
and when all have left. The exit code is 1 if a page shows a failure, if more than 5 % of the
server's answers take a second or longer, or if the evaluations ended before the browsers did.
"""

import argparse
import os
import statistics
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import cycle

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.processes import machine
from tests.support.served_app import STILL, STILL_MS, Served, launched, served, wait_until_drawn

PATHS = ("utterances", "", "recordings", "report", "terms")
PAGE_S, EVERY_S = 600, 0.25
# Evaluated meanwhile: 47 minutes of speech for each of three recipes.
SETS = ("test-other-excerpt", "test-clean-34-speakers", "test-other-25-speakers")
MOST_S = 1.0  # for 95 % of the server's own answers


@dataclass
class Watch:
    """What the app's process does meanwhile."""

    app: Served
    highest_bytes: int = 0
    health_s: list[float] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            start = time.perf_counter()
            urllib.request.urlopen(f"{self.app.address}/_stcore/health", timeout=60).close()
            self.health_s.append(time.perf_counter() - start)
            self.highest_bytes = max(self.highest_bytes, resident(self.app))

    def __exit__(self, *failure) -> None:
        self._over.set()
        self._thread.join()


def resident(app: Served) -> int:
    """Bytes of the app's process; its workers are others."""
    return psutil.Process(app.pid).memory_info().rss


def arrived(pages: list[Page], address: str) -> list[float]:
    """Seconds until each of the browsers has the page, all of them sent there at once."""
    begun, left, taken = {}, list(pages), {}
    for page in pages:
        begun[page] = time.perf_counter()
        page.goto(address, wait_until="commit", timeout=1000 * PAGE_S)
    while left:
        for page in list(left):
            passed = time.perf_counter() - begun[page]
            if page.evaluate(STILL, STILL_MS):
                taken[page] = passed - STILL_MS / 1000
                left.remove(page)
            elif passed > PAGE_S:
                raise SystemExit(f"{address} was not there after {PAGE_S} s.")
        time.sleep(0.02)
    return [taken[page] for page in pages]


def walk(browser: Browser, app: Served, browsers: int, minutes: float) -> dict[str, list[float]]:
    """Seconds by page, of all browsers and rounds, which begin until the time is over."""
    contexts = [browser.new_context() for _ in range(browsers)]
    pages = [context.new_page() for context in contexts]
    seconds = defaultdict(list)
    # With fetching and compiling Streamlit's and Plotly's scripts, which is no part of the others.
    seconds["first visit"] = arrived(pages, f"{app.address}/")
    over = time.monotonic() + 60 * minutes
    for number, path in enumerate(cycle(PATHS)):
        if number >= len(PATHS) and time.monotonic() > over:
            break
        seconds[path or "overview"] += arrived(pages, f"{app.address}/{path}")
        if wrong := [page for page in pages if fails(page)]:
            raise SystemExit(f"{path}: {len(wrong)} of {browsers} browsers see a failure.")
    for context in contexts:
        context.close()
    return seconds


def fails(page: Page) -> bool:
    """Whether it shows an exception, in Streamlit's words or in Python's."""
    shown = page.get_by_test_id("stException").or_(page.get_by_text("Traceback"))
    return bool(shown.or_(page.get_by_text("has encountered an error")).count())


def begin_work(browser: Browser, app: Served) -> None:
    """Evaluations in the worker, one after another, for as long as this takes."""
    page = browser.new_page()
    sets = "&".join(f"sets={name}" for name in SETS)
    page.goto(f"{app.address}/run_evaluations?models=tiny.en&{sets}&run_threads=1")
    wait_until_drawn(page)
    page.get_by_role("button", name="Start").click()
    page.get_by_text("finished").first.wait_for()
    page.close()


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def main() -> int:
    """Prints a line a page, then the server's; 1 where not all is as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browsers", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    with served() as app, sync_playwright() as playwright:
        browser = launched(playwright)
        begin_work(browser, app)
        with Watch(app) as quiet:
            alone = walk(browser, app, 1, 0)
        before = resident(app)
        with Watch(app) as watch:
            many = walk(browser, app, arguments.browsers, arguments.minutes)
        is_working = any((app.cache / "pieces").rglob("*.json"))
        for path, times in many.items():
            print(
                f"{path:12s} one browser {statistics.median(alone[path]):5.1f} s;"
                f" {arguments.browsers}: median {statistics.median(times):5.1f} s,"
                f" 95 % within {p95(times):.1f} s"
            )
        browser.close()
        time.sleep(60)
        for name, seen in (("one", quiet), (str(arguments.browsers), watch)):
            print(
                f"server, {name}: answers in {1000 * statistics.median(seen.health_s):.0f} ms,"
                f" 95 % within {1000 * p95(seen.health_s):.0f} ms"
            )
        figures = [f"{size / 1e6:.0f} MB" for size in (before, watch.highest_bytes, resident(app))]
        print("the app's process: {} before, {} at most, {} a minute after".format(*figures))
    if not is_working:
        print("The evaluations had ended before.")
    return 0 if is_working and p95(watch.health_s) < MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
