"""`whisperq history`: the log of work on this machine."""

from whisperq_core.evaluate import history as log
from whisperq_core.evaluate.store import Store


def history() -> None:
    """List this machine's jobs: who, when, how long, outcome."""
    print(log.as_text(log.read(Store().root)))
