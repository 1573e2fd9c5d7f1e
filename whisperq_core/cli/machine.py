"""`whisperq machine`: what this machine has, and what is missing."""

from whisperq_core.evaluate.store import Store
from whisperq_core.serve import diagnostics


def machine() -> None:
    """Show hardware, libraries and models. Names the recipes that cannot run, and why."""
    print(diagnostics.as_text(diagnostics.machine_report(Store().root)))
