"""Pages in Streamlit's test harness start no worker processes by being opened."""

import pytest

from whisperq_core.serve.job_queue import JobQueue


@pytest.fixture(autouse=True)
def warmed_up(monkeypatch) -> list[str]:
    """The names of the configurations that pages had loaded ahead."""
    names: list[str] = []
    monkeypatch.setattr(JobQueue, "warm_up", lambda _, config: names.append(config.name))
    return names
