"""What stored values are called on pages and in reports. Records keep the stored values."""

from whisperq_core.analyze.verdict_text import verdict_label as verdict_label
from whisperq_core.plurals import counted
from whisperq_core.scoring.error_rates import Counts
from whisperq_core.whisper.protocols import protocol_label as protocol_label


def error_counts(counts: Counts) -> str:
    """Errors by kind: “3 substitutions, 1 deletion, 0 insertions”."""
    kinds = (
        (counts.substitutions, "substitution"),
        (counts.deletions, "deletion"),
        (counts.insertions, "insertion"),
    )
    return ", ".join(counted(number, kind) for number, kind in kinds)
