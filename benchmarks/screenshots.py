"""A picture of every page of the app: light and dark, wide and on a phone, as high as it is.

    python -m benchmarks.screenshots [--out docs/screens] [--pages tradeoffs,study]
        [--modes light,dark] [--widths 1440,420] [--height 1100]

Pages are those of app.py's navigation, by the names of their files. The app runs on a copy of the
shipped results. Ends with code 1 where a page shows an exception or the browser's console has an
error; the pictures are there all the same.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.support.served_app import (
    PROJECT,
    NavigationPage,
    grow_to_content,
    launched,
    pages,
    served,
    wait_until_drawn,
)

# Streamlit looks for its server below the page's own path first, and says so.
ITS_OWN_SEARCH = ("/_stcore/health", "/_stcore/host-config")
MODES = ("light", "dark")
WIDTHS_PX = (1440, 420)
START_HEIGHT_PX = 900


def take(browser: Browser, url: str, file: Path, mode: str, width: int, height: int | None):
    """The picture of a page, and what was wrong with it, a sentence each.

    height: how much of the page from its top, in pixels; None is all of it.
    """
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        url = message.location["url"]
        if message.type == "error" and not url.endswith(ITS_OWN_SEARCH):
            wrong.append(f"console: {message.text} ({url})")

    context = browser.new_context(
        viewport={"width": width, "height": height or START_HEIGHT_PX}, color_scheme=mode
    )
    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.goto(url)
    try:
        wait_until_drawn(page)
        if height is None:
            grow_to_content(page)
    except BrowserError as error:
        wrong.append(f"not drawn: {error.message.splitlines()[0]}")
    shown = page.get_by_test_id("stException")
    wrong += [f"exception: {text.splitlines()[0]}" for text in shown.all_inner_texts()]
    page.screenshot(path=file)
    context.close()
    return wrong


def chosen(names: str | None) -> list[NavigationPage]:
    """The pages of those names, all without any; SystemExit where one is not offered."""
    offered = {page.name: page for page in pages()}
    wanted = names.split(",") if names else list(offered)
    if unknown := [name for name in wanted if name not in offered]:
        sys.exit(f"No such page: {', '.join(unknown)}. There are {', '.join(offered)}.")
    return [offered[name] for name in wanted]


def combinations(arguments: argparse.Namespace) -> Iterator[tuple[NavigationPage, str, int]]:
    """Each page in each mode and width."""
    for page in chosen(arguments.pages):
        for mode in arguments.modes.split(","):
            for width in arguments.widths.split(","):
                yield page, mode, int(width)


def main() -> int:
    """Prints each file with what was wrong on its page; 1 where anything was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "screens")
    parser.add_argument("--pages")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS_PX)))
    parser.add_argument("--height", type=int)
    arguments = parser.parse_args()
    wanted = list(combinations(arguments))
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = False
    with served() as app, sync_playwright() as playwright:
        browser = launched(playwright)
        for page, mode, width in wanted:
            file = arguments.out / f"{page.name}-{mode}-{width}.png"
            url = f"{app.address}/{page.path}"
            wrong = take(browser, url, file, mode, width, arguments.height)
            print(file, *wrong, sep="\n    ", flush=True)
            failed = failed or bool(wrong)
        browser.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
