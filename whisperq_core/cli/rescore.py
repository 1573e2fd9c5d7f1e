"""`whisperq rescore`: score stored transcripts again."""

from whisperq_core.evaluate.rescoring import rescore as rescore_store
from whisperq_core.evaluate.store import Store
from whisperq_core.plurals import counted


def rescore() -> None:
    """Rescore stored transcripts with the current normalizers. No model is run."""
    print(f"{counted(rescore_store(Store()), 'result')} changed")
