"""`whisperq machine`: what this machine has, and what is missing."""

from whisperq_core.evaluate.store import Store
from whisperq_core.serve import diagnostics


def machine() -> None:
    """Show what this machine has, what is missing, and which recipes cannot run."""
    print(diagnostics.as_text(diagnostics.machine_report(Store().root)))
