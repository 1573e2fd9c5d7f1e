"""Real weights, real speech, results in a folder of the test's own."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import sync_playwright

# Two tests run side by side: threads beyond one each would only wait for each other.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# No test may fetch a model or find one fetched before: what is embedded has to be enough.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="whisperq-no-hub-")

from tests.support import schedule
from tests.support.opened_runtimes import OpenedRuntimes
from tests.support.served_app import Served, chromium, launched, served, wait_until_drawn
from whisperq_core import machine
from whisperq_core.analyze import family_cache
from whisperq_core.analyze.paired_tests import PairedTest
from whisperq_core.evaluate import history
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a model among their fixtures are marked by themselves; the longest start first."""
    for item in items:
        if {"tiny", "base"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("model")
    items.sort(key=lambda item: schedule.position(item.nodeid))


def pytest_xdist_make_scheduler(config, log):
    return schedule.WholeFiles(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(autouse=True)
def one_thread():
    """An evaluation sets its own number of threads, which the next test would keep."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def users_history_is_untouched():
    """A test that runs or exports without the `store` fixture would write to the user's cache."""
    folder = SHIPPED_CACHE / history.FOLDER
    before = set(folder.glob("*"))
    yield
    assert set(folder.glob("*")) == before, f"tests wrote to {folder}"


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("WHISPERQ_CACHE", str(tmp_path / "cache"))
    return Store()


@pytest.fixture
def new_process(monkeypatch) -> Iterator[Callable[..., None]]:
    """Forgets the comparisons that this process remembers; may_resample: or fail where it would."""

    def forget(may_resample: bool) -> None:
        family_cache._compared.cache_clear()
        family_cache._test.cache_clear()
        monkeypatch.setattr(family_cache, "PairedTest", PairedTest if may_resample else refuse)

    def refuse(*_):
        pytest.fail("a family was resampled again")

    forget(may_resample=True)
    yield forget
    forget(may_resample=True)


@pytest.fixture(scope="session")
def tiny() -> models.Model:
    return models.load("tiny.en")


@pytest.fixture(scope="session")
def base() -> models.Model:
    return models.load("base")


@pytest.fixture(scope="module")
def emulated_bf16() -> Iterator[None]:
    """bf16 on any CPU: PyTorch emulates missing instructions, too slowly for users, but rightly."""
    with pytest.MonkeyPatch.context() as patch:
        flags = machine.cpu_flags() | {"avx512_bf16"}
        patch.setattr(machine, "cpu_flags", lambda: flags)
        yield


@pytest.fixture(scope="session")
def opened_runtimes(tiny) -> OpenedRuntimes:
    return OpenedRuntimes(tiny)


@pytest.fixture(scope="session")
def jfk() -> evaluation_sets.Utterance:
    return evaluation_sets.shipped_sets()["jfk"].utterances[0]


@pytest.fixture(scope="module")
def browser():
    if chromium() is None and os.environ.get("CI"):
        pytest.fail("CI needs a browser: apt-get install chromium")
    if chromium() is None:
        pytest.skip("no browser here; install one with: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        found = launched(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[Served]:
    """The app, just started, on a copy of the shipped results."""
    with served(tmp_path_factory.mktemp("app") / "cache") as running:
        yield running


@pytest.fixture
def page(browser, app):
    """The app's first page, wide; nothing that one does on it may show a stack trace."""
    opened = browser.new_page(viewport={"width": 1440, "height": 1000})
    opened.goto(app.address)
    wait_until_drawn(opened, timeout_ms=120_000)  # a slow machine takes a minute to the first plot
    yield opened
    assert opened.get_by_text("Traceback").count() == 0
    opened.close()
