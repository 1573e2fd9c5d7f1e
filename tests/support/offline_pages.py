"""Pages without a server in headless Chromium: what they may load, and how they are drawn."""

from playwright.sync_api import Browser, BrowserContext

LOCAL = ("file:", "data:", "blob:")
# Marks of a figure that take up room, and how much lies outside the page's width.
MARKS = """plot => [...plot.querySelectorAll('.scatterlayer .point, .scatterlayer .js-line')]
    .filter(mark => { const box = mark.getBoundingClientRect(); return box.width + box.height > 0 })
    .length"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CONTRAST = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => {
            const s = v / 255;
            return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const texts = [...document.querySelectorAll('.xtick text, .ytick text, .legendtext, .xtitle')];
    return Math.min(...texts.map(text => {
        const [a, b] = [light(getComputedStyle(text).fill), paper].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }));
}"""


def offline(browser: Browser, width: int, scheme: str, wrong: list[str]) -> BrowserContext:
    """A browser without a network; what it would have fetched and complains of is in `wrong`."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=scheme, accept_downloads=False
    )
    context.set_offline(True)

    def decide(route) -> None:
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    context.route("**/*", decide)
    context.on("console", lambda message: wrong.append(message.text) if is_bad(message) else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    return context


def is_bad(message) -> bool:
    return message.type in ("error", "warning")
