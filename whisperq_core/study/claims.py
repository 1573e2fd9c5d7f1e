"""The study's claims as data, and what our records say of each: computed, never typed.

A claim is a conjunction of measures. For one model and protocol it is reproduced when each of them
is, not reproduced when one is decided against it, undecided otherwise. Sets that answer the same
question are weighed together: a decided answer stands over an undecided one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from whisperq_core.study.evidence import (
    INCONCLUSIVE,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    Answer,
    Evidence,
    Run,
    commands,
)
from whisperq_core.study.measures import (
    Measure,
    RanksFirst,
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
)
from whisperq_core.whisper.protocols import CORRECTED, STUDY

# tiny.en stands in for the study's tiny where tiny is not measured: another model, and said so.
_STAND_INS = {"tiny": "tiny.en"}


@dataclass(frozen=True)
class Claim:
    """What the study says, in our words.

    place: where it says so. about: the models it speaks of. elsewhere: models that may speak for
    them while none of them is measured. may_fail: how many measures may be decided against it
    ("almost every").
    """

    id: str
    wording: str
    place: str
    about: tuple[str, ...]
    measures: tuple[Measure, ...]
    elsewhere: tuple[str, ...] = ()
    may_fail: int = 0
    device: str = "cpu"


_SMALL = ("small",)
_ALL = ("small", "base", "tiny")
_SMALLER = ("base", "tiny")
_STATIC = "quanto-int8-float8-eval10"

CLAIMS = (
    Claim(
        "size-int8",
        "Int8 for every Linear layer makes tiny 19 %, base 36 % and small 57 % smaller.",
        "Tables 2 and 3, abstract",
        _ALL,
        (SizeReduction("torch-int8"), SizeReduction("quanto-int8"), SizeReduction(_STATIC)),
    ),
    Claim(
        "size-low-bit",
        "nf4 makes tiny 37 %, base 52 % and small 70 % smaller; HQQ int4 makes small 69 % and HQQ"
        " int3 71 % smaller.",
        "Tables 2 and 3, section 6.1",
        _ALL,
        (SizeReduction("bnb-nf4"), SizeReduction("hqq-int4-g64"), SizeReduction("hqq-int3-g64")),
    ),
    Claim(
        "fastest-cpu",
        "On a CPU, PyTorch's dynamic int8 is the fastest: 0.64 of fp32's time.",
        "Table 2, sections 6.1 and 7.1",
        _SMALL,
        (RelativeTime("torch-int8", "faster"), RanksFirst("torch-int8", "time")),
        _SMALLER,
    ),
    Claim(
        "fastest-costs-wer",
        "PyTorch's dynamic int8 pays for its speed with WER on test-other.",
        "Tables 2 and 4, section 7.1",
        _SMALL,
        (WerDifference("torch-int8", "other", "worse"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-clean",
        "Quanto int8 has fp32's accuracy on test-clean.",
        "Tables 2 and 3, section 6.1",
        _SMALL,
        (WerDifference("quanto-int8", "clean", "no worse"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-regularizes",
        "Quanto int8 beats fp32 on test-other: quantization acts as regularization.",
        "Table 2, sections 6.1, 7.3 and 8",
        _SMALL,
        (WerDifference("quanto-int8", "other", "better"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-slower",
        "Quanto int8 pays for its accuracy with time.",
        "Tables 2, 3 and 4, section 7.1 (measured on a GPU; here on a CPU)",
        _SMALL,
        (RelativeTime("quanto-int8", "slower"),),
        _SMALLER,
    ),
    Claim(
        "static-worse",
        "Static int8 with float8 activations is both less accurate and slower than dynamic int8.",
        "Table 2, sections 6.1 and 7.2",
        _SMALL,
        (
            WerDifference(_STATIC, "clean", "worse", against="quanto-int8"),
            WerDifference(_STATIC, "other", "worse", against="quanto-int8"),
            RelativeTime(_STATIC, "slower", against="quanto-int8"),
        ),
        _SMALLER,
    ),
    Claim(
        "static-worse-than-fp32",
        "Static int8 with float8 activations is both less accurate and slower than fp32.",
        "Table 2",
        _SMALL,
        (
            WerDifference(_STATIC, "clean", "worse"),
            WerDifference(_STATIC, "other", "worse"),
            RelativeTime(_STATIC, "slower"),
        ),
        _SMALLER,
    ),
    Claim(
        "more-on-other",
        "Almost every recipe loses more on test-other than on test-clean.",
        "Figure 1, section 7.3",
        _SMALL,
        tuple(
            RobustnessGapChange(name)
            for name in ("torch-int8", "hqq-int4-g64", "hqq-int3-g64", "bnb-nf4", _STATIC)
        ),
        _SMALLER,
        may_fail=1,
    ),
    Claim(
        "low-bit-steepest",
        "nf4 and HQQ int3 lose more on test-other than int8 does.",
        "Figure 1, section 7.3",
        _SMALL,
        (
            WerDifference("bnb-nf4", "other", "worse", against="quanto-int8"),
            WerDifference("hqq-int3-g64", "other", "worse", against="quanto-int8"),
        ),
        _SMALLER,
    ),
    Claim(
        "eight-bits-minimum",
        "Below 8 bits robustness goes: on test-other 4 and 3 bits lose WER, 8 bits do not.",
        "Sections 7.1, 7.3 and 8",
        _SMALL,
        (
            WerDifference("quanto-int8", "other", "no worse"),
            WerDifference("hqq-int4-g64", "other", "worse"),
            WerDifference("bnb-nf4", "other", "worse"),
            WerDifference("hqq-int3-g64", "other", "worse"),
        ),
        _SMALLER,
    ),
    Claim(
        "low-bit-clean",
        "On clean speech 4 bits keep fp32's accuracy (HQQ int4 and nf4).",
        "Table 2, section 6.1",
        _SMALL,
        (
            WerDifference("hqq-int4-g64", "clean", "no worse"),
            WerDifference("bnb-nf4", "clean", "no worse"),
        ),
        _SMALLER,
    ),
    Claim(
        "per-channel",
        "A scale for each channel is more accurate than one for the tensor. PyTorch's two int8"
        " recipes differ in nothing else.",
        "Sections 7.1 and 8",
        _SMALL,
        tuple(
            WerDifference("torch-int8-channel", split, "better", against="torch-int8")
            for split in ("clean", "other")
        ),
        _SMALLER,
    ),
    Claim(
        "symmetric-per-channel",
        "Quanto's symmetric per-channel int8 is more accurate than PyTorch's per-tensor int8. (They"
        " also differ in the activations: float, and one dynamic range for a batch.)",
        "Sections 7.1 and 8",
        _SMALL,
        tuple(
            WerDifference("quanto-int8", split, "better", against="torch-int8")
            for split in ("clean", "other")
        ),
        _SMALLER,
    ),
    Claim(
        "smaller-models",
        "Smaller models follow the same pattern: nf4 loses more than int8, on both sets.",
        "Table 3, sections 6.2 and 7.1",
        _SMALLER,
        (
            WerDifference("bnb-nf4", "clean", "worse", against="quanto-int8"),
            WerDifference("bnb-nf4", "other", "worse", against="quanto-int8"),
        ),
    ),
    Claim(
        "losses-as-published",
        "What int8 and nf4 cost in WER: Quanto int8 +0.02 and +1.85 points on base, +0.04 and +0.95"
        " on tiny; nf4 +0.97 and +5.22 on base, +3.56 and +8.50 on tiny (clean, other).",
        "Table 3",
        _SMALLER,
        tuple(
            WerDifference(recipe, split, "as published")
            for recipe in ("quanto-int8", "bnb-nf4")
            for split in ("clean", "other")
        ),
    ),
    Claim(
        "choose-accurate",
        "For accuracy choose Quanto int8.",
        "Table 4",
        _SMALL,
        (RanksFirst("quanto-int8", "wer"), WerDifference("quanto-int8", "other", "no worse")),
        _SMALLER,
    ),
    Claim(
        "choose-small",
        "For size choose HQQ int3, at the price of a higher WER and more time.",
        "Table 4, section 6.1",
        _SMALL,
        (
            RanksFirst("hqq-int3-g64", "size"),
            WerDifference("hqq-int3-g64", "other", "worse"),
            RelativeTime("hqq-int3-g64", "slower"),
        ),
        _SMALLER,
    ),
    Claim(
        "memory-limited",
        "Where memory is limited on a CPU choose HQQ int4: clean accuracy kept, slower than fp32.",
        "Table 2, sections 6.1, 7.4 and 8",
        _SMALL,
        (
            WerDifference("hqq-int4-g64", "clean", "no worse"),
            RelativeTime("hqq-int4-g64", "slower"),
        ),
        _SMALLER,
    ),
    Claim(
        "gpu-slower",
        "On a GPU every quantized recipe is slower than fp32.",
        "Tables 2 and 3",
        _ALL,
        (
            RelativeTime("quanto-int8", "slower"),
            RelativeTime("bnb-nf4", "slower"),
            RelativeTime("hqq-int3-g64", "slower"),
        ),
        device="cuda",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What the records say of a claim for one model under one protocol."""

    model: str
    protocol: str
    verdict: str
    parts: tuple[Answer, ...]

    @property
    def measured_on(self) -> str:
        """The model, and the one that stood in for it where one did."""
        others = dict.fromkeys(p.model for p in self.parts if p.model != self.model)
        return f"{self.model} ({', '.join(others)})" if others else self.model


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its findings; commands would measure what is missing."""

    claim: Claim
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]

    def under(self, protocol: str) -> tuple[Finding, ...]:
        """Findings under one protocol."""
        return tuple(f for f in self.findings if f.protocol == protocol)

    @property
    def _deciding(self) -> tuple[Finding, ...]:
        """Under the study's protocol: of the models it is about, else of those that stand in."""
        measured = [f for f in self.under(STUDY.name) if f.verdict != NOT_MEASURABLE]
        its_own = tuple(f for f in measured if f.model in self.claim.about)
        return its_own or tuple(measured)

    @property
    def verdict(self) -> str:
        """The verdict of all the models that it rests on."""
        return _all_of([finding.verdict for finding in self._deciding])

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The models that were measured for the verdict."""
        parts = [p for f in self._deciding for p in f.parts if p.effect is not None]
        return tuple(dict.fromkeys(part.model for part in parts))

    @property
    def why_not(self) -> str:
        """What it would need to be measured on the models it is about; empty where it was."""
        missing = [
            f"whisper-{f.model}"
            for f in self.under(STUDY.name)
            if f.model in self.claim.about and f.verdict == NOT_MEASURABLE
        ]
        if not missing:
            return ""
        device = "" if self.claim.device == "cpu" else " and a GPU"
        return f"needs {', '.join(missing)}{device}"


def evaluate_claims(runs: Iterable[Run], claims: Iterable[Claim] = CLAIMS) -> list[ClaimResult]:
    """Every claim with its verdicts, from the newest records."""
    runs = list(runs)
    known = {device: Evidence(runs, device) for device in {claim.device for claim in claims}}
    return [_judged(claim, known[claim.device]) for claim in claims]


def _judged(claim: Claim, evidence: Evidence) -> ClaimResult:
    findings = []
    for protocol in (STUDY.name, CORRECTED.name):
        for model in (*claim.about, *claim.elsewhere):
            parts = _parts(claim, evidence, model, protocol)
            if protocol == STUDY.name or any(p.effect is not None for p in parts):
                findings.append(_finding(claim, model, protocol, parts))
    missing = [
        part
        for finding in findings
        if finding.protocol == STUDY.name
        for part in finding.parts
        if part.verdict == NOT_MEASURABLE
    ]
    return ClaimResult(claim, tuple(findings), tuple(commands(missing, claim.device)))


def _finding(claim: Claim, model: str, protocol: str, parts: list[Answer]) -> Finding:
    questions = dict.fromkeys(part.question for part in parts)
    answers = [_weighed([p.verdict for p in parts if p.question == q]) for q in questions]
    return Finding(model, protocol, _all_of(answers, claim.may_fail), tuple(parts))


def _parts(claim: Claim, evidence: Evidence, model: str, protocol: str) -> list[Answer]:
    return [
        part
        for measure in claim.measures
        for part in measure.parts(evidence, _measured_on(measure, evidence, model), protocol)
    ]


def _measured_on(measure: Measure, evidence: Evidence, model: str) -> str:
    """The model itself, or its stand-in where that alone has transcripts.

    Sizes are of the model's own shape, and published values are of the model itself.
    """
    other = _STAND_INS.get(model)
    if other is None or _needs_it_itself(measure) or evidence.knows(model):
        return model
    return other if evidence.knows(other) else model


def _needs_it_itself(measure: Measure) -> bool:
    match measure:
        case SizeReduction() | RanksFirst(column="size") | WerDifference(expects="as published"):
            return True
    return False


def _weighed(verdicts: list[str]) -> str:
    """One verdict for the answers of several sets to one question."""
    decided = {v for v in verdicts if v in (REPRODUCED, NOT_REPRODUCED)}
    if len(decided) == 1:
        return decided.pop()
    return NOT_MEASURABLE if set(verdicts) == {NOT_MEASURABLE} else INCONCLUSIVE


def _all_of(verdicts: list[str], may_fail: int = 0) -> str:
    """The verdict of a conjunction."""
    if not verdicts:
        return NOT_MEASURABLE
    if verdicts.count(NOT_REPRODUCED) > may_fail:
        return NOT_REPRODUCED
    if verdicts.count(REPRODUCED) >= max(1, len(verdicts) - may_fail):
        return REPRODUCED
    return NOT_MEASURABLE if NOT_MEASURABLE in verdicts else INCONCLUSIVE
