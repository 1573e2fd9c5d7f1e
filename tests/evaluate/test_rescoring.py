"""Stored transcripts are scored again, without a model."""

from dataclasses import replace

import pytest

from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.rescoring import rescore
from whisperq_core.evaluate.runner import run
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe

# Most of these tests load real weights.
pytestmark = pytest.mark.model


QUICK = Request("tiny.en", recipe("torch-int8"), "quick-look", threads=2)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The result of QUICK, run once."""
    return run(QUICK, Store(tmp_path_factory.mktemp("quick")))


def test_stored_transcripts_are_scored_again_without_a_model(store, quick):
    found = quick
    old = replace(found.utterances[0].score, normaliser="whisper-english@0.0.1", looped=True)
    stale = found.utterances[0].model_copy(update={"score": old})
    store.put(found.model_copy(update={"utterances": (stale, *found.utterances[1:])}))
    assert store.get(found.key) != found
    assert rescore(store) == 1 and rescore(store) == 0
    assert store.get(found.key) == found
