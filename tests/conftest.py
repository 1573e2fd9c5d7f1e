"""Real weights, real speech, results in a folder of the test's own."""

import os
import shutil
import tempfile

import pytest
from playwright.sync_api import sync_playwright

# Two tests run side by side: threads beyond one each would only wait for each other.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# No test may fetch a model or find one fetched before: what is embedded has to be enough.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="whisperq-no-hub-")

from whisperq_core import eval_sets, models
from whisperq_core.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("WHISPERQ_CACHE", str(tmp_path / "cache"))
    return Store()


@pytest.fixture(scope="session")
def tiny() -> models.Model:
    return models.load("tiny.en")


@pytest.fixture(scope="session")
def base() -> models.Model:
    return models.load("base")


@pytest.fixture(scope="session")
def jfk() -> eval_sets.Utterance:
    return eval_sets.shipped()["jfk"].utterances[0]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


def _chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("CI needs a browser: apt-get install chromium")
    if found is None:
        pytest.skip("no browser here; install one with: sudo apt-get install chromium")
    return found
