"""Scores stored transcripts again after a change of the normalizers; no model is run."""

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.scoring import error_rates


def rescore(store: Store) -> int:
    """Scores all stored accuracy runs with today's normalizers; returns how many changed."""
    changed = 0
    for run in store.runs():
        if not isinstance(run, AccuracyRun):
            continue
        utterances = tuple(
            u.model_copy(update={"score": error_rates.score(u.reference, u.hypothesis, u.language)})
            for u in run.utterances
        )
        if utterances != run.utterances:
            store.put(run.model_copy(update={"utterances": utterances}))
            changed += 1
    return changed
