"""Stored transcripts are scored again, without a model."""

from dataclasses import replace

from tests.support.shipped_runs import runs_of
from whisperq_core.evaluate.rescoring import rescore


def test_stored_transcripts_are_scored_again_without_a_model(store):
    found = runs_of("tiny.en")["torch-int8"]
    old = replace(found.utterances[0].score, normaliser="whisper-english@0.0.1", looped=True)
    stale = found.utterances[0].model_copy(update={"score": old})
    store.put(found.model_copy(update={"utterances": (stale, *found.utterances[1:])}))
    assert store.get(found.key) != found
    assert rescore(store) == 1 and rescore(store) == 0
    assert store.get(found.key) == found
