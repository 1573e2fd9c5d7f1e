"""`whisperq history`: the log of work on this machine."""

from whisperq_core.evaluate import history as log
from whisperq_core.evaluate.store import Store


def history() -> None:
    """List who ran what on this machine, when, for how long, and how it ended."""
    print(log.as_text(log.read(Store().root)))
