"""The presentation turned with the keyboard, and the Overview's figure saved, in Chromium."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

LOADED_MS = 30_000


@pytest.fixture
def screen(browser, app):
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{app.address}/presentation?report_model=base&screen=1")
    expect(page.get_by_text("Which Whisper should we run")).to_be_visible(timeout=LOADED_MS)
    yield page
    assert page.get_by_text("Traceback").count() == 0
    context.close()


def test_arrow_keys_turn_the_screens_but_not_while_one_types(screen):
    expect(screen.get_by_test_id("stSidebar")).not_to_be_visible()
    # Keys are heard once their component has loaded, which nothing on the screen tells.
    for _ in range(60):
        screen.keyboard.press("ArrowRight")
        screen.wait_for_timeout(500)
        if "screen=1" not in screen.url:
            break
    screen.wait_for_timeout(1500)
    number = int(re.search(r"screen=(\d)", screen.url)[1])
    assert number > 1
    expect(screen.get_by_text(f"{number} of 5")).to_be_visible(timeout=LOADED_MS)
    screen.keyboard.press("Control+ArrowRight")
    screen.evaluate(
        "() => { const field = document.createElement('input'); document.body.append(field);"
        " field.focus(); }"
    )
    screen.keyboard.press("ArrowRight")
    screen.evaluate("document.activeElement.remove()")
    screen.keyboard.press("ArrowLeft")
    expect(screen.get_by_text(f"{number - 1} of 5")).to_be_visible(timeout=LOADED_MS)
    screen.reload()
    expect(screen.get_by_text(f"{number - 1} of 5")).to_be_visible(timeout=LOADED_MS)


def test_a_figure_is_saved_dark_on_white_in_three_formats(screen, app, tmp_path):
    screen.goto(app.address)
    screen.get_by_role("button", name="Save figure").click(timeout=LOADED_MS)
    inside = screen.frame_locator("iframe[srcdoc]")
    found = {}
    for button, suffix in (("Save as PNG", "png"), ("Save as SVG", "svg")):
        with screen.expect_download(timeout=LOADED_MS) as saved:
            inside.get_by_role("button", name=button).click(timeout=LOADED_MS)
        found[suffix] = tmp_path / saved.value.suggested_filename
        saved.value.save_as(found[suffix])
    assert found["png"].suffix == ".png" and found["png"].read_bytes()[1:4] == b"PNG"
    drawing = found["svg"].read_text(encoding="utf-8")
    assert "Times as fast as fp32" in drawing and "rgb(255, 255, 255)" in drawing
    with screen.expect_download(timeout=LOADED_MS) as saved:
        screen.get_by_role("button", name="Save as HTML").click()
    assert saved.value.suggested_filename.endswith(".html")
