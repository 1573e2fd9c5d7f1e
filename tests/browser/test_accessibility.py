"""Every page for people who see little, see no colours or use no mouse: axe-core, and the keyboard.

New pages of the navigation are covered by themselves.
"""

import pytest
from playwright.sync_api import Page, expect

from tests.support.accessibility import RULES, violations
from tests.support.served_app import pages, wait_until_drawn
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE

pytestmark = pytest.mark.browser

MODES = (("light", 1440), ("dark", 1440), ("light", 420))
# More than any page's sidebar and controls take.
MOST_TABS = 60

# Whether frame, shadow or colours of the focused element, or of what is around it, show the focus.
# What only scrolls is no control.
FOCUS_IS_VISIBLE = """async () => {
    const focused = document.activeElement;
    if (!focused.matches('a, button, input, textarea, summary, [role]:not(section)')) return true;
    const around = [focused];
    while (around.length < 4) around.push(around.at(-1).parentElement ?? focused);
    const look = () => around.map(element => {
        const style = getComputedStyle(element);
        return [style.outline, style.boxShadow, style.borderColor, style.backgroundColor].join();
    }).join('|');
    const frame = () => new Promise(requestAnimationFrame);
    const drawn = async () => { await frame(); await frame(); };
    around.forEach(element => element.style.transition = 'none');
    await drawn();
    const box = focused.getBoundingClientRect(), focusedLook = look();
    focused.blur();
    await drawn();
    const otherLook = look();
    focused.focus({focusVisible: true});
    await drawn();
    return box.width > 0 && box.height > 0 && focusedLook !== otherLook;
}"""


@pytest.fixture(scope="module")
def context(browser):
    with browser.new_context(viewport={"width": 1440, "height": 1000}) as opened:
        yield opened


@pytest.fixture
def page(context):
    opened = context.new_page()
    yield opened
    opened.close()


def opened(page: Page, app, path: str) -> Page:
    page.goto(f"{app.address}/{path}")
    wait_until_drawn(page)
    return page


def violations_in_every_mode(page: Page) -> dict[tuple[str, int], list[str]]:
    """Those of the page light, dark, and on a phone."""
    found = {}
    for mode, width in MODES:
        page.emulate_media(color_scheme=mode)
        page.set_viewport_size({"width": width, "height": 1000})
        wait_until_drawn(page)
        # Contrast is all that the dark differs in.
        only = RULES if mode == "light" else ("color-contrast",)
        if wrong := violations(page, only):
            found[mode, width] = wrong
    return found


@pytest.mark.parametrize("offered", pages(), ids=lambda offered: offered.name)
def test_axe_finds_nothing_serious(offered, page, app):
    assert violations_in_every_mode(opened(page, app, offered.path)) == {}


def test_axe_finds_nothing_serious_in_utterances(page, app):
    runs = Store(SHIPPED_CACHE).runs()
    run = max((r for r in runs if isinstance(r, AccuracyRun)), key=lambda r: r.words.errors)
    opened(page, app, f"utterances?run={run.key}")
    expect(page.get_by_text("have errors")).to_be_visible()
    assert page.locator("del, ins").count() > 5
    assert violations_in_every_mode(page) == {}


def test_axe_finds_what_is_wrong(page, app):
    """In the dark too, and not under the names of the exceptions only."""
    opened(page, app, "report")
    page.emulate_media(color_scheme="dark")
    wait_until_drawn(page)
    page.evaluate(
        """document.querySelector('[data-testid=stMain] h1').insertAdjacentHTML('afterend',
        '<p style="color:#444">dark on dark</p><h5>deep</h5><button></button>')"""
    )
    found = violations(page)
    for rule in ("color-contrast", "heading-order", "button-name"):
        assert any(line.startswith(f"{rule}:") for line in found)
    page.add_style_tag(content="button { all: unset !important }")
    page.get_by_role("button", name="CSV").focus()
    assert not page.evaluate(FOCUS_IS_VISIBLE)


def focus_of(page: Page) -> str:
    """What a screen reader would call the focused element, more or less; "" for what scrolls."""
    return page.evaluate(
        """() => { const one = document.activeElement;
        if (one.tagName === 'MAIN') return '';
        return one.ariaLabel || one.labels?.[0]?.innerText || one.innerText || one.tagName }"""
    )


def tab_to(page: Page, wanted: str) -> list[str]:
    """Tabs until the element has the focus; all that had it on the way, each visibly."""
    passed: list[str] = []
    while len(passed) < MOST_TABS:
        page.keyboard.press("Tab")
        passed.append(focus_of(page))
        assert page.evaluate(FOCUS_IS_VISIBLE), f"no focus to be seen: {passed}"
        if wanted in passed[-1]:
            return passed
    raise AssertionError(f"{wanted} is not reached by {passed}")


def in_order(passed: list[str], wanted: tuple[str, ...]) -> bool:
    places = [next((i for i, name in enumerate(passed) if w in name), -1) for w in wanted]
    return -1 not in places and places == sorted(places)


def test_the_keyboard_chooses_and_starts_an_evaluation(page, app):
    opened(page, app, "run_evaluations")
    passed = tab_to(page, "Start")
    assert in_order(passed, ("Skip to", "Overview", "Study", "Model", "Recipes", "Start"))


def test_the_keyboard_asks_the_advisor_and_opens_its_code(page, app):
    opened(page, app, "advisor")
    passed = tab_to(page, "Use it")
    assert in_order(passed, ("Skip to", "Model", "Speech", "Maximum WER", "Use it"))
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stPopoverBody")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stPopoverBody")).to_be_hidden()


def test_the_keyboard_filters_the_trade_offs(page, app):
    opened(page, app, "tradeoffs")
    tab_to(page, "Quantization scheme, device")
    library = page.get_by_test_id("stMain").get_by_text("Library", exact=True).first
    for key, is_open in (("Enter", True), ("Space", False)):
        page.keyboard.press(key)
        (expect(library).to_be_visible if is_open else expect(library).to_be_hidden)()
