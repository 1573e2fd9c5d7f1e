"""What the first visit needs is read before it comes."""

import subprocess
import sys
from pathlib import Path

import pytest
import streamlit as st

from pages import _session
from tests.support.opened_pages import PROJECT, opened
from tests.support.spoken_runs import MANY, SOME, run_with
from whisperq_core.evaluate.store import Store


@pytest.fixture
def filled(store) -> Store:
    for run in (run_with("fp32", SOME), run_with("torch-int8", MANY)):
        store.put(run)
    st.cache_resource.clear()
    return store


def read_ahead() -> None:
    thread = _session.start_reading_ahead()
    assert thread.daemon  # ends with the process
    thread.join()


@pytest.mark.parametrize("page", ["overview", "tradeoffs"])
def test_the_first_visit_finds_results_read_and_compared(filled, page, monkeypatch):
    read_ahead()

    def refuse(*_, **__):
        pytest.fail("computed again")

    monkeypatch.setattr(_session, "configurations", refuse)
    monkeypatch.setattr(_session.results_table, "rows", refuse)
    monkeypatch.setattr(Store, "_load", refuse)
    assert len(opened(page).dataframe[0].value) == 2


def damage_a_record(root: Path) -> None:
    next(root.glob("results/*.json")).write_text("{")


def damage_what_was_derived(root: Path) -> None:
    (root / "derived.sqlite").write_text("no database")


def put_a_file_in_the_place_of_results(root: Path) -> None:
    (root / "results").rename(root / "elsewhere")
    (root / "results").write_text("")


@pytest.mark.parametrize(
    "damage", [damage_a_record, damage_what_was_derived, put_a_file_in_the_place_of_results]
)
def test_a_store_that_cannot_be_read_stops_nothing(filled, damage):
    damage(filled.root)
    read_ahead()
    opened("overview")


def test_an_unreachable_store_is_said_and_stops_nothing(monkeypatch, capsys):
    monkeypatch.setenv("WHISPERQ_RESULTS", "nowhere://results")
    st.cache_resource.clear()
    read_ahead()
    assert "Results are not read ahead" in capsys.readouterr().out


def test_the_server_reads_ahead_without_torch(filled):
    code = """
import asyncio, sys, threading
from app import app

async def serve():
    async with app._user_lifespan(app):
        for thread in threading.enumerate():
            if thread.name == "read ahead":
                thread.join()
                print("read")

asyncio.run(serve())
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["read", "False"], done.stderr
