"""The hosted dashboard: results only, with no more packages than it names, and no worker."""

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.opened_pages import everything
from whisperq_core.errors import ClusterError
from whisperq_core.serve import worker_pool
from whisperq_core.settings import PROJECT

HOSTED = PROJECT / "hosted"


def pins(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("==") for line in lines if "==" in line)


def test_its_packages_are_those_of_the_project():
    hosted, all_packages = pins(HOSTED / "requirements.txt"), pins(PROJECT / "requirements.txt")
    assert hosted.items() <= all_packages.items()
    assert not {"torch", "transformers"} & hosted.keys()


# Opens pages where what the hosted app does not install cannot be imported.
_OPEN = """
import sys
missing = set(sys.argv[1].split(","))

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from streamlit.testing.v1 import AppTest
app = AppTest.from_file(sys.argv[2], default_timeout=120).run()
assert not app.exception, app.exception
print(app.title[0].value)
"""


def test_it_opens_with_its_own_packages_only():
    unnamed = pins(PROJECT / "requirements.txt").keys() - pins(HOSTED / "requirements.txt").keys()
    imports = {name.replace("-", "_").lower() for name in unnamed} | {"hqq", "optimum", "av"}
    arguments = [",".join(sorted(imports)), str(HOSTED / "streamlit_app.py")]
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Whisper" in done.stdout


@pytest.fixture
def results_only(monkeypatch, store):
    monkeypatch.setenv("WHISPERQ_RESULTS_ONLY", "true")


def test_nothing_is_run(results_only):
    with pytest.raises(ClusterError, match="shows results only"):
        worker_pool.start_local_client()
    app = AppTest.from_file(PROJECT / "app.py", default_timeout=30)
    app.switch_page("pages/run_evaluations.py").run()
    assert not app.exception and "shows results only" in everything(app)
    assert not app.button
