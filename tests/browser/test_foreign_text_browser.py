"""What a link or a planted file says is text in a real browser: no request, no link of its own."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from tests.support.served_app import wait_until_drawn

pytestmark = pytest.mark.browser
EVIL = (
    "![x](https://evil.example/x.png) [y](https://evil.example) https://evil.example"
    " www.evil.example a@evil.example"
)


@pytest.mark.parametrize("place", ["report?report_margin=", "presentation?report_model="])
def test_a_links_parameter_is_text(page: Page, app, place):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{app.address}/{place}{quote(EVIL)}")
    wait_until_drawn(page)
    text = page.get_by_test_id("stMain").inner_text()
    assert "evil.example" in text
    hrefs = page.locator("a").evaluate_all("links => links.map(link => link.href)")
    foreign = [url for url in [*asked, *hrefs] if "evil" in url.partition("?")[0]]
    assert foreign == []


def test_a_page_fetches_no_image_of_another_server(page: Page, app):
    # Even if text were rendered: the server's own policy forbids it.
    refused = page.evaluate(
        "new Promise(done => {"
        " document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        " new Image().src = 'http://127.0.0.1:9/x.png'; setTimeout(() => done(null), 5000); })"
    )
    assert refused == "img-src"
