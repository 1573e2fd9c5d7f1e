"""How long the first page takes to be drawn with the shipped results.

    python -m benchmarks.first_page [--repeats 7]

Starts the app, opens it in headless Chromium, and measures from the navigation to the plot's points
being in the document: in a fresh browser context, which has to fetch and compile the scripts of
Streamlit and Plotly, and again in the same one. The first visit of all is told apart: the server
also imports what the page needs and reads every result. Browser and server share the machine.
"""

import argparse
import statistics
import time

from playwright.sync_api import sync_playwright

from benchmarks.processes import machine
from tests.support.served_app import launched, served
from whisperq_core.evaluate.store import Store

POINTS = ".js-plotly-plot .scatterlayer .point"


def draw_s(browser, address: str) -> tuple[float, float]:
    """Seconds to drawn points: in a fresh context, and on the next visit from it."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(POINTS).first.wait_for(state="attached", timeout=60_000)
        times.append(time.perf_counter() - start)
    context.close()
    return times[0], times[1]


def main() -> None:
    """Prints the first visit's time, then median and range of the later ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with served() as app, sync_playwright() as playwright:
        browser = launched(playwright)
        first, *later = [draw_s(browser, app.address) for _ in range(repeats + 1)]
        browser.close()
        print(f"{len(Store(app.cache).keys())} results; {machine()}")
    print(f"first visit after the start: {first[0]:.2f} s")
    fresh, again = zip(*later, strict=True)
    for label, times in (("a new browser", fresh), ("the same browser again", again)):
        spread = f"{min(times):.2f} to {max(times):.2f} s, {len(times)} visits"
        print(f"{label}: median {statistics.median(times):.2f} s ({spread})")


if __name__ == "__main__":
    main()
