"""Serious violations that axe-core reports for a page."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
GRAVE = ("serious", "critical")
# Less grave, but ours to keep.
OURS = ("heading-order", "empty-heading", "page-has-heading-one")
# Streamlit's own violations, which cannot be fixed here: rule, element, why.
EXCEPTIONS = (
    (
        "scrollable-region-focusable",
        "[data-testid=stTable]",
        "st.table scrolls sideways on a phone without a tab stop; Chromium and Firefox add one",
    ),
    (
        "color-contrast",
        "[data-variant=segmented_control][data-selected]",
        "in the dark the chosen option is written in the very colour that white is written on",
    ),
    ("color-contrast", "[data-testid=stSliderThumbValue]", "the same: the value above a slider"),
    ("aria-dialog-name", "[data-testid=stToast]", "st.toast is an alert dialog without a name"),
)


def violations(page: Page, only: tuple[str, ...] = RULES) -> list[str]:
    """What axe-core finds serious, a line for each element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    # What is preloaded are style sheets, for rules that are not asked for.
    options = {"runOnly": list(only), "resultTypes": ["violations"], "preload": False}
    reported = page.evaluate("options => axe.run(options)", options)["violations"]
    return [
        f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
        for violation in reported
        if violation["impact"] in GRAVE or violation["id"] in OURS
        for node in violation["nodes"]
        if not excepted(page, violation["id"], node["target"][0])
    ]


def excepted(page: Page, rule: str, target: str) -> bool:
    within = "([target, of]) => document.querySelector(target)?.closest(of) !== null"
    return any(
        rule == its_rule and page.evaluate(within, [target, element])
        for its_rule, element, _ in EXCEPTIONS
    )
