"""A gate's outcome as JUnit XML, which CI systems show as a test."""

import re
from xml.etree import ElementTree

from whisperq_core.analyze.gate import Gate, Outcome

# Characters that XML 1.0 cannot have, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def gate_xml(gate: Gate, took_s: float) -> bytes:
    """One test: passed, failed, or skipped where it is too close to call.

    took_s: seconds of evaluation.
    """
    comparison = gate.pooled.comparison
    values = {
        "outcome": gate.outcome.value,
        "difference_points": f"{comparison.difference.value:.4f}",
        "low": f"{comparison.difference.low:.4f}",
        "high": f"{comparison.difference.high:.4f}",
        "margin_points": f"{comparison.margin:g}",
        "confidence_above_margin": f"{comparison.p_beyond_margin:.4f}",
        "minutes": f"{gate.pooled.minutes:.1f}",
        "records": ",".join(run.key for run in gate.pooled.runs),
        "baseline_records": ",".join(base.key for base in gate.pooled.baselines),
    }
    tag = {Outcome.FAIL: "failure", Outcome.OPEN: "skipped"}.get(gate.outcome)
    return _suite(gate.title, took_s, gate.paragraph, tag, values)


def error_xml(title: str, message: str, took_s: float) -> bytes:
    """A test that could not be run."""
    return _suite(title, took_s, message, "error", {})


def _suite(name: str, took_s: float, text: str, tag: str | None, values: dict[str, str]) -> bytes:
    counts = {f"{kind}s": str(int(tag == kind)) for kind in ("failure", "error")}
    counts |= {"tests": "1", "skipped": str(int(tag == "skipped")), "time": f"{took_s:.3f}"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", counts | {"name": "whisperq gate"})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in values.items():
        ElementTree.SubElement(properties, "property", name=key, value=value)
    case = ElementTree.SubElement(
        suite, "testcase", classname="whisperq.gate", name=_valid(name), time=f"{took_s:.3f}"
    )
    if tag:
        result = ElementTree.SubElement(case, tag, message=_valid(text))
        result.text = _valid(text)
    ElementTree.SubElement(case, "system-out").text = _valid(text)
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True))


def _valid(text: str) -> str:
    return _NOT_XML.sub("�", text)
