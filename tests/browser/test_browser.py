"""What a user does, in headless Chromium, on the real app with real weights and speech."""

import ipaddress
import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from tests.support.served_app import LOADED_MS, WORK_MS, open_page, pages, wait_until_drawn
from whisperq_core.evaluate.store import Store

pytestmark = pytest.mark.browser


def test_a_link_to_a_page_opens_it_with_the_whole_navigation(browser, app):
    # The first test: a link opened right after the start of the server is the hard case.
    opened = browser.new_page(viewport={"width": 420, "height": 900}, color_scheme="dark")
    opened.goto(f"{app.address}/study")
    expect(opened.get_by_role("heading", name="Study", level=1)).to_be_visible(timeout=LOADED_MS)
    opened.get_by_test_id("stExpandSidebarButton").click()
    links = opened.get_by_test_id("stSidebarNav").get_by_role("link")
    expect(links).to_have_text([re.compile(offered.title) for offered in pages()])
    paths = [link.get_attribute("href").removeprefix(f"{app.address}/") for link in links.all()]
    assert paths == [offered.path for offered in pages()]
    opened.close()


def test_the_dashboard_opens_with_results_and_no_torch_in_it(page, app):
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible(timeout=LOADED_MS)
    expect(plot.locator(".scatterlayer .point").first).to_be_attached(timeout=LOADED_MS)
    expect(page.get_by_text("smaller than fp32", exact=False).first).to_be_visible()
    mapped = Path(f"/proc/{app.pid}/maps").read_text()
    assert "libtorch" not in mapped and "pandas" in mapped  # it sees what is loaded


def test_the_advisor_leads_to_its_evidence(page):
    open_page(page, "Advisor")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("base", timeout=LOADED_MS)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Per-utterance results").first.click()
    expect(opened.value.get_by_text("have errors")).to_be_visible(timeout=LOADED_MS)


def test_a_small_evaluation_runs_to_its_end(page, app):
    recipes = "recipes=fp32&recipes=torch-int8&recipes=bnb-nf4"
    page.goto(f"{app.address}/run_evaluations?models=tiny.en&{recipes}")
    expect(page.get_by_text("Plan", exact=True)).to_be_visible(timeout=LOADED_MS)
    page.get_by_role("button", name="Start").click()
    # Nothing is lost of who leaves at once.
    open_page(page, "Terms")
    open_page(page, "Run evaluations")
    expect(page.get_by_text("finished").first).to_be_visible(timeout=LOADED_MS)
    expect(page.get_by_text("3 of 3 finished")).to_be_visible(timeout=WORK_MS)
    runs = [r for r in Store(app.cache).runs() if r.eval_set == "quick-look"]
    found = {r.spec.recipe.name for r in runs if r.model == "tiny.en" and r.measures == "accuracy"}
    assert {"fp32", "torch-int8", "bnb-nf4"} <= found


def test_the_app_listens_on_this_machine_only(app):
    connections = psutil.Process(app.pid).net_connections()
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening and all(ipaddress.ip_address(ip).is_loopback for ip in listening)


def test_code_is_copied_as_it_is_and_lines_break_between_words(page):
    # A line is 22 pixels high.
    words = page.locator("pre span")
    names = [word for word in words.all() if "whole-int8-dynamic" in word.inner_text()]
    assert names
    for name in names:
        assert name.bounding_box()["height"] < 25
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[0] == "import whisperq_core as wq" and len(copied.splitlines()) == 3
    page.set_viewport_size({"width": 320, "height": 800})
    wait_until_drawn(page)
    for code in page.locator("pre").all():
        assert code.evaluate("code => code.scrollWidth <= code.clientWidth")
