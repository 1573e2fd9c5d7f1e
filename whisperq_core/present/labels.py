"""What stored values are called on pages and in reports. Records keep the stored values."""

from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.whisper.protocols import CORRECTED, FITTED, MERGED, STUDY

_VERDICTS = {
    Verdict.BETTER: "better",
    Verdict.NO_WORSE: "no worse than {baseline} (95 %)",
    Verdict.WORSE: "worse",
    Verdict.INCONCLUSIVE: "too close to call",
    BASELINE: "baseline",
    NOT_COMPARED: "not compared",
}
_PROTOCOLS = {
    STUDY.name: "Study protocol",
    CORRECTED.name: "Corrected (Whisper's own fallback)",
    FITTED.name: "Fitted window",
    MERGED.name: "Merged window",
}


def verdict_label(verdict: str, baseline: str = "fp32") -> str:
    """The verdict in words; one that is not in the table keeps its own."""
    return _VERDICTS.get(verdict, str(verdict)).format(baseline=baseline)


def protocol_label(name: str) -> str:
    """What pages call the protocol of that stored name; an unknown one keeps its name."""
    return _PROTOCOLS.get(name, name)
