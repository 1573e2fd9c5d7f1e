"""`whisperq rescore`: score stored transcripts again."""

from whisperq_core.evaluate.rescoring import rescore as rescore_store
from whisperq_core.evaluate.store import Store


def rescore() -> None:
    """Score stored transcripts again with today's normalizers; runs no model."""
    print(f"{rescore_store(Store())} results changed")
