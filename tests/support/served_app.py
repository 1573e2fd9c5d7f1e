"""The app in a process of its own, its pages, and a Chromium to look at them.

What the tests, `benchmarks.first_page` and `benchmarks.screenshots` share.
"""

import ast
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, Playwright, expect

from whisperq_core.settings import PROJECT

SHIPPED = ("results", "sensitivity")
START_S = 60
LOADED_MS, WORK_MS = 60_000, 480_000
# How long a page has to stay as it is to count as drawn.
STILL_MS = 400
# True once no script runs, nothing is a placeholder, and every plot and table has its drawing.
STILL = """still => {
    const all = selector => [...document.querySelectorAll(selector)];
    const shown = element => element.checkVisibility();
    const app = document.querySelector('[data-testid=stApp]');
    const waits = ['stSkeleton', 'stSpinner', 'stAppSkeleton'];
    const here = app && app.dataset.testScriptState === 'notRunning'
        && app.dataset.testConnectionState === 'CONNECTED'
        && document.querySelector('[data-testid=stMain] h1, [data-testid=stException]')
        && !all(waits.map(name => `[data-testid=${name}]`).join()).some(shown)
        && !all('[data-stale=true]').some(shown)
        && all('[data-testid=stPlotlyChart]').filter(shown)
            .every(plot => plot.querySelector('.main-svg :is(.trace, .hm, .xtick)'))
        && all('[data-testid=stDataFrame]').filter(shown).every(t => t.querySelector('canvas'))
        && document.fonts.status === 'loaded';
    const main = document.querySelector('[data-testid=stMain]');
    const seen = here && `${main.scrollHeight} ${main.querySelectorAll('*').length}`;
    if (!seen || seen !== window.lastSeen) [window.lastSeen, window.since] = [seen, Date.now()];
    return seen && Date.now() - window.since >= still;
}"""


class Served(NamedTuple):
    """A running app: where it answers, the folder of its results, and its process."""

    address: str
    cache: Path
    pid: int


class NavigationPage(NamedTuple):
    """A page that app.py offers: its title, its file's name, its path below the app's address."""

    title: str
    name: str
    path: str


def pages() -> list[NavigationPage]:
    """The pages of the navigation in its order, read from app.py without running it."""
    calls = [
        node
        for node in ast.walk(ast.parse((PROJECT / "app.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.Page"
    ]
    listed = []
    for call in sorted(calls, key=lambda call: call.lineno):
        file = Path(ast.literal_eval(call.args[0]))
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        path = "" if named.get("default") else named.get("url_path", file.stem)
        listed.append(NavigationPage(named["title"], file.stem, path))
    return listed


def free_port() -> int:
    """One at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(
    cache: Path | None = None, port: int | None = None, options: Sequence[str] = ()
) -> Iterator[Served]:
    """The app on the results in `cache`, or on a copy of the shipped ones where it has none.

    Without `cache` that copy is in a temporary folder, and goes with the app at the end.
    options: more of Streamlit's.

    Raises RuntimeError with what the app printed last where it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="whisperq-app-") as temporary:
        cache = cache or Path(temporary) / "cache"
        for name in SHIPPED if not cache.exists() else ():
            shutil.copytree(PROJECT / "cache" / name, cache / name)
        port = port or free_port()
        command = [sys.executable, "-m", "streamlit", "run", "app.py"]
        command += ["--server.headless", "true", "--server.port", str(port), *options]
        log = Path(temporary) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=os.environ | {"WHISPERQ_CACHE": str(cache)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        address = f"http://localhost:{port}"
        try:
            _wait_until_up(process, f"{address}/_stcore/health", log)
            yield Served(address, cache, process.pid)
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_up(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    code = process.poll()
    what = f"is not up after {START_S} s" if code is None else f"ended with code {code}"
    last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
    raise RuntimeError(f"The app {what}. It printed:\n{last}")


def chromium() -> str | None:
    """The Chromium or Chrome of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def launched(playwright: Playwright) -> Browser:
    """A headless Chromium; RuntimeError where there is none."""
    if (path := chromium()) is None:
        raise RuntimeError("No browser here; install one with: sudo apt-get install chromium")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


def wait_until_drawn(page: Page, timeout_ms: float = 60_000) -> None:
    """Waits until nothing of the page is still to come: no script runs, and all plots are there."""
    page.evaluate("window.since = Date.now()")  # what was just pressed may not have begun
    page.wait_for_function(STILL, arg=STILL_MS, timeout=timeout_ms, polling=100)


def grow_to_content(page: Page) -> None:
    """Makes the viewport as high as the page: Streamlit scrolls inside it, not the document."""
    for _ in range(3):
        width, height = page.viewport_size["width"], page.viewport_size["height"]
        content = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight")
        if content <= height:
            return
        page.set_viewport_size({"width": width, "height": content})
        wait_until_drawn(page)


def open_page(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible(timeout=LOADED_MS)
