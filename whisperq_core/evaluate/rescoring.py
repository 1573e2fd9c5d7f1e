"""Scores stored transcripts again after a change of the normalizers; no model is run."""

from functools import lru_cache

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.scoring import error_rates

# Recipes of one set write many transcripts alike.
_score = lru_cache(maxsize=50_000)(error_rates.score)


def rescored(run: AccuracyRun) -> AccuracyRun:
    """The run with today's scores of its transcripts; the run itself where they are the same."""
    utterances = tuple(
        u.model_copy(update={"score": _score(u.reference, u.hypothesis, u.language)})
        for u in run.utterances
    )
    same = utterances == run.utterances
    return run if same else run.model_copy(update={"utterances": utterances})


def rescore(store: Store) -> int:
    """Scores all stored accuracy runs with today's normalizers; returns how many changed."""
    changed = 0
    for run in store.runs():
        if isinstance(run, AccuracyRun) and (current := rescored(run)) is not run:
            store.put(current)
            changed += 1
    return changed
