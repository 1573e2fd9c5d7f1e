"""How long the first page takes to be drawn with the shipped results.

    python -m benchmarks.first_page [--repeats 7]

Starts the app, opens it in headless Chromium, and measures from the navigation to the plot's points
being in the document: in a fresh browser context, which has to fetch and compile the scripts of
Streamlit and Plotly, and again in the same one. The first visit of all is told apart: the server
also imports what the page needs and reads every result. Browser and server share the machine.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.processes import machine
from whisperq_core.store import Store

PROJECT = Path(__file__).parent.parent
POINTS = ".js-plotly-plot .scatterlayer .point"


def start_app(cache: Path | None = None) -> tuple[subprocess.Popen, str]:
    """The running app and its address; its results are those of `cache`, or of the project."""
    there = {} if cache is None else {"WHISPERQ_CACHE": str(cache)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true"]
    process = subprocess.Popen(
        [*command, "--server.port", str(port)], cwd=PROJECT, env=os.environ | there
    )
    address = f"http://localhost:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return process, address
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


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
    process, address = start_app()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            first, *later = [draw_s(browser, address) for _ in range(repeats + 1)]
            browser.close()
    finally:
        process.terminate()
        process.wait(20)
    print(f"{len(Store().keys())} results; {machine()}")
    print(f"first visit after the start: {first[0]:.2f} s")
    fresh, again = zip(*later, strict=True)
    for label, times in (("a new browser", fresh), ("the same browser again", again)):
        spread = f"{min(times):.2f} to {max(times):.2f} s, {len(times)} visits"
        print(f"{label}: median {statistics.median(times):.2f} s ({spread})")


if __name__ == "__main__":
    main()
