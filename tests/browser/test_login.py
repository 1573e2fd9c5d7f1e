"""Login at a real provider of OpenID Connect, in headless Chromium: who comes in, and sees what."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.served_app import Served, free_port, served, wait_until_drawn
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets

pytestmark = pytest.mark.browser

USERS = ("ann@example.org", "bob@example.org", "carol@elsewhere.example", "dan@example.org")


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    for email in USERS:
        verified = "false" if email.startswith("dan") else "true"
        claims = f'{{"sub": "{email}", "email": "{email}", "email_verified": {verified}}}'
        command += ["--user-claims", claims]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the provider did not start"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def app(provider, tmp_path_factory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("login"), free_port()
    secrets = folder / "secrets.toml"
    secrets.write_text(
        f"""[auth]
        redirect_uri = "http://localhost:{port}/oauth2callback"
        cookie_secret = "no secret, for this is a test of logging in"
        client_id = "whisperq"
        client_secret = "none"
        server_metadata_url = "{provider}/.well-known/openid-configuration"
        """
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHISPERQ_USERS", "ann@example.org, @example.org")
        with served(folder / "cache", port, ["--secrets.files", str(secrets)]) as running:
            yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1440, "height": 1000}) as made:
        yield made


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    wait_until_drawn(page)
    return page


def logged_in(context: BrowserContext, app: Served, email: str, place: str = "") -> Page:
    page = opened(context, f"{app.address}/{place}")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name=email).click()
    page.wait_for_url(f"{app.address}/**")
    wait_until_drawn(page)
    return page


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="End session").click()  # the provider's
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=30_000)


def test_nobody_sees_a_page_who_is_not_logged_in(app, context):
    # The first of these is the first that this server is asked for, when it has not run app.py yet.
    for place in ("recordings", "", "my_speech", "utterances"):
        page = opened(context, f"{app.address}/{place}")
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        assert page.get_by_role("heading").all_inner_texts() == ["WhisperQ"], place
        assert page.get_by_test_id("stSidebarNav").count() == 0, place
        page.close()


def test_a_link_that_was_opened_before_logging_in_comes_back(app, context):
    place = "run_evaluations?models=tiny.en"
    page = logged_in(context, app, "ann@example.org", place)
    expect(page).to_have_url(re.compile(rf"^{re.escape(app.address)}/run_evaluations\?"))
    assert "models=tiny.en" in page.url
    expect(page.get_by_role("heading", name="Run evaluations", level=1)).to_be_visible()
    # The next login is not led there.
    log_out(page)
    page.goto(f"{app.address}/terms")
    wait_until_drawn(page)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="ann@example.org").click()
    page.wait_for_url(f"{app.address}/terms")


def test_users_see_their_own_recordings_sets_and_work_only(app, browser, jfk):
    with (
        browser.new_context(viewport={"width": 1440, "height": 1000}) as anns,
        browser.new_context(viewport={"width": 1440, "height": 1000}) as bobs,
    ):
        ann = logged_in(anns, app, "ann@example.org")
        expect(ann.get_by_text("Logged in as ann@example.org")).to_be_visible()
        ann.goto(f"{app.address}/recordings?recipes=torch-int8")
        wait_until_drawn(ann)
        ann.locator("input[type=file]").first.set_input_files(jfk.audio)
        expect(ann.get_by_role("heading", name=jfk.audio.name)).to_be_visible(timeout=60_000)

        (user,) = (app.cache / "users").iterdir()
        shelf, sets = RecordingStore(user), UserSets(user)
        (kept,) = shelf.all()
        assert RecordingStore(app.cache).all() == []
        sets.add("calls", shelf.set_reference(kept.id, jfk.reference), jfk.audio, "en")
        ann.get_by_role("button", name="Transcribe").click()
        job = ann.get_by_test_id("stSidebar").get_by_text(jfk.audio.name)
        expect(job).to_be_visible(timeout=60_000)  # the first job starts the worker's process

        bob = logged_in(bobs, app, "bob@example.org")
        for place in (f"recordings?recording={kept.id}", "my_speech?set=calls", "history"):
            bob.goto(f"{app.address}/{place}")
            wait_until_drawn(bob)
            everything = bob.get_by_test_id("stApp").inner_text()
            assert jfk.audio.stem not in everything, place
            assert "ask not" not in everything.lower(), place
            assert "calls" not in everything, place
        # Nor do they get at it by the path of its folder.
        bob.goto(
            f"{app.address}/run_evaluations?models=tiny.en&recipes=fp32&sets={user}/sets/calls"
        )
        wait_until_drawn(bob)
        expect(bob.get_by_role("alert")).to_contain_text("is not one of your sets")

        ann.goto(f"{app.address}/my_speech")
        wait_until_drawn(ann)
        expect(ann.get_by_text("1 recording").first).to_be_visible()
        log_out(ann)


@pytest.mark.parametrize(
    ("email", "why"),
    [
        ("carol@elsewhere.example", "is not on the list of this app's users"),
        ("dan@example.org", "is not verified"),
    ],
)
def test_who_is_not_on_the_list_stays_out(app, context, email, why):
    page = logged_in(context, app, email)
    expect(page.get_by_role("alert")).to_contain_text(why)
    # A word joiner keeps the address from becoming a link.
    shown = page.get_by_role("alert").inner_text().replace("\u2060", "")
    assert f"{email} {why}" in shown
    page.goto(f"{app.address}/recordings")
    wait_until_drawn(page)
    expect(page.get_by_role("alert")).to_contain_text(why)
    log_out(page)
