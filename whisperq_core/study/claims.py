"""The study's claims as data, and their verdicts, which are computed from the stored results.

A claim is a conjunction of measures. For one model and protocol it is reproduced when every measure
is, not reproduced when one is shown not to hold, and inconclusive otherwise. Answers to the same
question on several evaluation sets are combined: conclusive ones outweigh inconclusive ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from whisperq_core.evaluate.records import Run
from whisperq_core.study.evidence import Answer, Evidence, Outcome, commands
from whisperq_core.study.measures import (
    Measure,
    RanksFirst,
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
)
from whisperq_core.whisper.protocols import CORRECTED, STUDY

# tiny.en replaces the study's tiny where tiny is not measured. It is another model, and is named.
_STAND_INS = {"tiny": "tiny.en"}


@dataclass(frozen=True)
class Claim:
    """A claim of the study, paraphrased.

    source: tables and sections of the study. models: that the claim is about. substitutes: models
    that are judged while none of those is measured. may_fail: how many measures may fail, for
    claims of "almost every". note: what limits the comparison.
    """

    id: str
    statement: str
    source: str
    models: tuple[str, ...]
    measures: tuple[Measure, ...]
    substitutes: tuple[str, ...] = ()
    may_fail: int = 0
    device: str = "cpu"
    note: str = ""


_SMALL = ("small",)
_ALL = ("small", "base", "tiny")
_SMALLER = ("base", "tiny")
_STATIC = "quanto-int8-float8-eval10"

CLAIMS = (
    Claim(
        "size-int8",
        "Int8 for every linear layer reduces the size of tiny by 19 %, of base by 36 % and of small"
        " by 57 %.",
        "Tables 2 and 3, abstract",
        _ALL,
        (SizeReduction("torch-int8"), SizeReduction("quanto-int8"), SizeReduction(_STATIC)),
    ),
    Claim(
        "size-low-bit",
        "nf4 reduces the size of tiny by 37 %, of base by 52 % and of small by 70 %; HQQ int4"
        " reduces that of small by 69 % and HQQ int3 by 71 %.",
        "Tables 2 and 3, section 6.1",
        _ALL,
        (SizeReduction("bnb-nf4"), SizeReduction("hqq-int4-g64"), SizeReduction("hqq-int3-g64")),
    ),
    Claim(
        "fastest-cpu",
        "On a CPU, PyTorch's dynamic int8 is the fastest recipe: 0.64 times fp32's latency.",
        "Table 2, sections 6.1 and 7.1",
        _SMALL,
        (RelativeTime("torch-int8", "faster"), RanksFirst("torch-int8", "time")),
        _SMALLER,
    ),
    Claim(
        "fastest-costs-wer",
        "The cost of PyTorch's dynamic int8 is a higher WER on test-other.",
        "Tables 2 and 4, section 7.1",
        _SMALL,
        (WerDifference("torch-int8", "other", "worse"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-clean",
        "Quanto int8 is as accurate as fp32 on test-clean.",
        "Tables 2 and 3, section 6.1",
        _SMALL,
        (WerDifference("quanto-int8", "clean", "no worse"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-regularizes",
        "Quanto int8 is more accurate than fp32 on test-other: quantization acts as a regularizer.",
        "Table 2, sections 6.1, 7.3 and 8",
        _SMALL,
        (WerDifference("quanto-int8", "other", "better"),),
        _SMALLER,
    ),
    Claim(
        "quanto-int8-slower",
        "The cost of Quanto int8's accuracy is a higher latency.",
        "Tables 2, 3 and 4, section 7.1 (measured on a GPU; here on a CPU)",
        _SMALL,
        (RelativeTime("quanto-int8", "slower"),),
        _SMALLER,
    ),
    Claim(
        "static-worse",
        "Static int8 with float8 activations is less accurate and slower than dynamic int8.",
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
        "Static int8 with float8 activations is less accurate and slower than fp32.",
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
        "Almost every recipe increases WER more on test-other than on test-clean.",
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
        "nf4 and HQQ int3 increase WER on test-other more than int8.",
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
        "Fewer than 8 bits are not robust: on test-other 4 and 3 bits increase WER, 8 bits do not.",
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
        "On clean speech 4 bits (HQQ int4, nf4) are as accurate as fp32.",
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
        "Per-channel scales are more accurate than per-tensor scales. PyTorch's two int8 recipes"
        " differ in nothing else.",
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
        "Quanto's symmetric per-channel int8 is more accurate than PyTorch's per-tensor int8.",
        "Sections 7.1 and 8",
        _SMALL,
        tuple(
            WerDifference("quanto-int8", split, "better", against="torch-int8")
            for split in ("clean", "other")
        ),
        _SMALLER,
        note="Granularity is confounded with activations. Quanto's activations stay in floating"
        " point; PyTorch's dynamic int8 quantizes them to 7 bits (reduce_range), with one range for"
        " a whole batch, so this difference is not that of the weights alone. With 8-bit"
        " activations PyTorch's WER of base on the test-other excerpt falls from 18.27 % to 15.73 %"
        " with a scale per tensor (−2.54 points, 95 % interval −6.87 to +1.80), and from 15.14 % to"
        " 13.50 % with one per channel (−1.64, −2.70 to −0.72).",
    ),
    Claim(
        "smaller-models",
        "Smaller models follow the same pattern: nf4 increases WER more than int8 on both sets.",
        "Table 3, sections 6.2 and 7.1",
        _SMALLER,
        (
            WerDifference("bnb-nf4", "clean", "worse", against="quanto-int8"),
            WerDifference("bnb-nf4", "other", "worse", against="quanto-int8"),
        ),
    ),
    Claim(
        "losses-as-published",
        "WER increases of int8 and nf4: Quanto int8 +0.02 and +1.85 points on base, +0.04 and +0.95"
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
        "For accuracy, choose Quanto int8.",
        "Table 4",
        _SMALL,
        (RanksFirst("quanto-int8", "wer"), WerDifference("quanto-int8", "other", "no worse")),
        _SMALLER,
    ),
    Claim(
        "choose-small",
        "For size, choose HQQ int3, at a higher WER and latency.",
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
        "On a CPU with limited memory, choose HQQ int4: as accurate as fp32 on clean speech, slower"
        " than fp32.",
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
    """The verdict on a claim for one model under one protocol, with its evidence."""

    model: str
    protocol: str
    outcome: Outcome
    answers: tuple[Answer, ...]

    @property
    def model_text(self) -> str:
        """The model, and in parentheses the one that was measured in its place."""
        others = dict.fromkeys(a.model for a in self.answers if a.model != self.model)
        return f"{self.model} ({', '.join(others)})" if others else self.model


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its findings. commands: shell commands that measure what is missing."""

    claim: Claim
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]

    def under(self, protocol: str) -> tuple[Finding, ...]:
        """Findings under one protocol."""
        return tuple(f for f in self.findings if f.protocol == protocol)

    @property
    def _deciding(self) -> tuple[Finding, ...]:
        """Under the study's protocol: of the claim's models, or else of its substitutes."""
        measured = [f for f in self.under(STUDY.name) if f.outcome is not Outcome.NOT_MEASURABLE]
        of_claimed_models = tuple(f for f in measured if f.model in self.claim.models)
        return of_claimed_models or tuple(measured)

    @property
    def outcome(self) -> Outcome:
        """The verdict: the conjunction over the evaluated models."""
        return conjunction([finding.outcome for finding in self._deciding])

    @property
    def evaluated_models(self) -> tuple[str, ...]:
        """The models whose results decide the outcome."""
        answers = [a for f in self._deciding for a in f.answers if a.effect is not None]
        return tuple(dict.fromkeys(answer.model for answer in answers))

    @property
    def requirements(self) -> str:
        """What a verdict on the claim's own models needs, as text; empty if they were measured."""
        missing = [
            f"whisper-{f.model}"
            for f in self.under(STUDY.name)
            if f.model in self.claim.models and f.outcome is Outcome.NOT_MEASURABLE
        ]
        if not missing:
            return ""
        device = "" if self.claim.device == "cpu" else " and a GPU"
        return f"needs {', '.join(missing)}{device}"


def evaluate_claims(runs: Iterable[Run], claims: Iterable[Claim] = CLAIMS) -> list[ClaimResult]:
    """Every claim with its verdict, from the newest results."""
    runs, claims = list(runs), list(claims)
    by_device = {device: Evidence(runs, device) for device in {c.device for c in claims}}
    return [_evaluate(claim, by_device[claim.device]) for claim in claims]


def _evaluate(claim: Claim, evidence: Evidence) -> ClaimResult:
    findings = []
    for protocol in (STUDY.name, CORRECTED.name):
        for model in (*claim.models, *claim.substitutes):
            answers = _answers(claim, evidence, model, protocol)
            if protocol == STUDY.name or any(a.effect is not None for a in answers):
                findings.append(_finding(claim, model, protocol, answers))
    missing = [
        answer
        for finding in findings
        if finding.protocol == STUDY.name
        for answer in finding.answers
        if answer.outcome is Outcome.NOT_MEASURABLE
    ]
    return ClaimResult(claim, tuple(findings), tuple(commands(missing, claim.device)))


def _finding(claim: Claim, model: str, protocol: str, answers: list[Answer]) -> Finding:
    by_question: dict[str, list[Outcome]] = {}
    for answer in answers:
        by_question.setdefault(answer.question, []).append(answer.outcome)
    outcomes = [over_sets(of_sets) for of_sets in by_question.values()]
    return Finding(model, protocol, conjunction(outcomes, claim.may_fail), tuple(answers))


def _answers(claim: Claim, evidence: Evidence, model: str, protocol: str) -> list[Answer]:
    return [
        answer
        for measure in claim.measures
        for answer in measure.answers(
            evidence, _model_to_measure(measure, evidence, model), protocol
        )
    ]


def _model_to_measure(measure: Measure, evidence: Evidence, model: str) -> str:
    """The model, or its stand-in where only that has transcripts.

    Sizes and published values are those of the model itself.
    """
    stand_in = _STAND_INS.get(model)
    if stand_in is None or _needs_the_model_itself(measure) or evidence.has_transcripts(model):
        return model
    return stand_in if evidence.has_transcripts(stand_in) else model


def _needs_the_model_itself(measure: Measure) -> bool:
    match measure:
        case SizeReduction() | RanksFirst(metric="size") | WerDifference(expects="as published"):
            return True
    return False


def over_sets(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome for the answers of several evaluation sets to one question."""
    conclusive = {o for o in outcomes if o in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED)}
    if len(conclusive) == 1:
        return conclusive.pop()
    unmeasured = set(outcomes) == {Outcome.NOT_MEASURABLE}
    return Outcome.NOT_MEASURABLE if unmeasured else Outcome.INCONCLUSIVE


def conjunction(outcomes: Sequence[Outcome], may_fail: int = 0) -> Outcome:
    """The outcome of several that must all hold, but for `may_fail` of them."""
    if not outcomes:
        return Outcome.NOT_MEASURABLE
    if outcomes.count(Outcome.NOT_REPRODUCED) > may_fail:
        return Outcome.NOT_REPRODUCED
    if outcomes.count(Outcome.REPRODUCED) >= max(1, len(outcomes) - may_fail):
        return Outcome.REPRODUCED
    unmeasured = Outcome.NOT_MEASURABLE in outcomes
    return Outcome.NOT_MEASURABLE if unmeasured else Outcome.INCONCLUSIVE
