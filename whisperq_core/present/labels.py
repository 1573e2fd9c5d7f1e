"""What stored values are called on pages and in reports. Records keep the stored values."""

from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.whisper.protocols import protocol_label as protocol_label

_VERDICTS = {
    Verdict.BETTER: "better",
    Verdict.NO_WORSE: "no worse than {baseline} (95 %)",
    Verdict.WORSE: "worse",
    Verdict.INCONCLUSIVE: "too close to call",
    BASELINE: "baseline",
    NOT_COMPARED: "not compared",
}


def verdict_label(verdict: str, baseline: str = "fp32") -> str:
    """The verdict in words; one that is not in the table keeps its own."""
    return _VERDICTS.get(verdict, str(verdict)).format(baseline=baseline)
