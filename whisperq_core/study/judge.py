"""The verdicts on the study's claims: one rule for all of them.

A claim is reproduced where all its statements but the m that may fail are shown to hold, each at
ALPHA / (m + 1); without exceptions no correction is needed (intersection-union test: Berger 1982,
"Multiparameter hypothesis testing and acceptance sampling"). It is not reproduced where more than m
are shown to fail, each at ALPHA / (k - m), k being the number of those that can fail. Both are the
partial conjunction tests of Benjamini & Heller 2008, "Screening for partial conjunction
hypotheses", with Bonferroni's correction; for m = 0 the second is the first step of Holm's method.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from whisperq_core.analyze.verdicts import INFERIORITY_LEVEL
from whisperq_core.evaluate.records import Run
from whisperq_core.study.answers import Answer, Outcome, commands
from whisperq_core.study.claims import CLAIMS, Claim
from whisperq_core.study.divergence_measure import in_divergence
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.measures import Measure, SizeReduction, WerDifference
from whisperq_core.study.ranking import RanksFirst
from whisperq_core.whisper.protocols import CORRECTED, FITTED, STUDY

# Of the one-sided tests: 95 % confidence of a two-sided interval.
ALPHA = INFERIORITY_LEVEL

# tiny.en replaces the study's tiny where tiny is not measured. It is another model, and is named.
_STAND_INS = {"tiny": "tiny.en"}

# Neither reproduced nor not, for want of results.
_UNMEASURED = (Outcome.NOT_MEASURED, Outcome.NOT_MEASURABLE)


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim for one model under one protocol, with its evidence.

    answers: of the claim's measures. support: of what does not decide, divergence and context.
    """

    model: str
    protocol: str
    outcome: Outcome
    answers: tuple[Answer, ...]
    support: tuple[Answer, ...] = ()

    @property
    def model_text(self) -> str:
        """The model, and in parentheses the one that was measured in its place."""
        others = dict.fromkeys(a.model for a in self.answers if a.model != self.model)
        return f"{self.model} ({', '.join(others)})" if others else self.model

    @property
    def has_evidence(self) -> bool:
        """Whether anything of it was measured."""
        return any(answer.is_measured for answer in (*self.answers, *self.support))


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict. deciding: the findings that it rests on, see `evaluate_claims`."""

    claim: Claim
    outcome: Outcome
    deciding: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    def under(self, protocol: str) -> tuple[Finding, ...]:
        """Findings under one protocol."""
        return tuple(f for f in self.findings if f.protocol == protocol)

    @property
    def evaluated_models(self) -> tuple[str, ...]:
        """The models whose results decide the outcome."""
        answers = [a for f in self.deciding for a in f.answers if a.is_measured]
        return tuple(dict.fromkeys(answer.model for answer in answers))

    @property
    def undecided(self) -> tuple[Answer, ...]:
        """The statements that an inconclusive claim still needs a conclusion on."""
        if self.outcome is not Outcome.INCONCLUSIVE:
            return ()
        answers = [a for f in self.deciding for a in f.answers]
        return tuple(a for a in answers if a.outcome is Outcome.INCONCLUSIVE)

    @property
    def requirements(self) -> str:
        """What a verdict on the claim's own models needs, as text; empty if they were measured."""
        unmeasured = [
            f
            for f in self.under(STUDY.name)
            if f.model in self.claim.models and f.outcome in _UNMEASURED
        ]
        models = [f"whisper-{f.model}" for f in unmeasured]
        gpu = any(answer.needs_gpu for f in unmeasured for answer in f.answers)
        needed = [*dict.fromkeys(models), *(["a GPU"] if gpu else [])]
        return f"needs {_listed(needed)}" if needed else ""

    @property
    def commands(self) -> tuple[str, ...]:
        """Shell commands that measure what is missing, or more speech where it is undecided."""
        unmeasured = [
            answer
            for finding in self.under(STUDY.name)
            for answer in finding.answers
            if not answer.is_measured
        ]
        return tuple(commands([*self.undecided, *unmeasured]))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def evaluate_claims(runs: Iterable[Run], claims: Iterable[Claim] = CLAIMS) -> list[ClaimResult]:
    """Every claim with its verdict, from the newest results under the study's protocol.

    The claim's own models decide where they are measured: it must hold for each, and fails where it
    does for one. Else the first measured of its substitutes does, the nearest in size. Other
    protocols are shown, and decide nothing.
    """
    evidence = Evidence(runs)
    return [_evaluate(claim, evidence) for claim in claims]


def _evaluate(claim: Claim, evidence: Evidence) -> ClaimResult:
    own = _judged(claim, evidence, claim.models, STUDY.name)
    substitutes = [
        finding
        for model in claim.substitutes
        for finding in _judged(claim, evidence, (model,), STUDY.name)
    ]
    deciding = _measured(own) or _measured(substitutes)[:1]
    findings = [*own, *substitutes]
    for protocol in (FITTED, CORRECTED):
        for model in (*claim.models, *claim.substitutes):
            found = _judged(claim, evidence, (model,), protocol.name)
            findings += [finding for finding in found if finding.has_evidence]
    outcome = _over_models([finding.outcome for finding in deciding or (*own, *substitutes)])
    return ClaimResult(claim, outcome, deciding, tuple(findings))


def _measured(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.outcome not in _UNMEASURED)


def _over_models(outcomes: Sequence[Outcome]) -> Outcome:
    """One verdict for several models: the first of these that any of them has."""
    for outcome in (Outcome.NOT_REPRODUCED, Outcome.NOT_MEASURABLE, Outcome.NOT_MEASURED):
        if outcome in outcomes:
            return outcome
    return Outcome.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Outcome.REPRODUCED


def _judged(
    claim: Claim, evidence: Evidence, models: Iterable[str], protocol: str
) -> list[Finding]:
    """Findings of several models, any of which can refute the claim."""
    by_model = {model: _answers(claim.measures, evidence, model, protocol) for model in models}
    levels = levels_of(by_model.values(), claim.may_fail)
    context = (*(in_divergence(measure) for measure in claim.measures), *claim.context)
    findings = []
    for model, answers in by_model.items():
        judged = [with_outcome(answer, *levels) for answer in answers]
        support = _answers([m for m in context if m is not None], evidence, model, protocol)
        findings.append(
            Finding(
                model,
                protocol,
                conjunction([answer.outcome for answer in judged], claim.may_fail),
                tuple(judged),
                tuple(with_outcome(a, ALPHA, ALPHA) for a in support if a.is_measured),
            )
        )
    return findings


def _answers(
    measures: Iterable[Measure], evidence: Evidence, model: str, protocol: str
) -> list[Answer]:
    answers = [
        measure.answer(evidence, _model_to_measure(measure, evidence, model), protocol)
        for measure in measures
    ]
    return [answer for answer in answers if answer is not None]


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


def levels_of(of_models: Iterable[Sequence[Answer]], may_fail: int) -> tuple[float, float]:
    """The levels at which each statement has to be shown to hold, and to fail.

    of_models: the answers for each model, any of which can refute the claim.
    """
    can_fail = (sum(answer.can_fail for answer in answers) for answers in of_models)
    refuting = sum(max(number - may_fail, 0) for number in can_fail)
    return ALPHA / (may_fail + 1), ALPHA / max(refuting, 1)


def with_outcome(answer: Answer, to_hold: float, to_fail: float) -> Answer:
    """The answer with its outcome by tests at these levels, and the data that one needs.

    What holds counts as holding even where it also fails: a loss that is shown, and shown to be
    below the margin, is no worse.
    """
    if not answer.is_measured:
        outcome = Outcome.NOT_MEASURABLE if answer.needs_gpu else Outcome.NOT_MEASURED
        return replace(answer, outcome=outcome)
    if answer.holds.p < to_hold:
        return replace(answer, outcome=Outcome.REPRODUCED)
    if answer.fails.p < to_fail:
        return replace(answer, outcome=Outcome.NOT_REPRODUCED)
    needed = [answer.holds.times_needed(to_hold), answer.fails.times_needed(to_fail)]
    times = min((factor for factor in needed if factor is not None), default=None)
    return replace(answer, outcome=Outcome.INCONCLUSIVE, times_needed=times)


def conjunction(outcomes: Sequence[Outcome], may_fail: int = 0) -> Outcome:
    """The outcome of several that must all hold, but for `may_fail` of them."""
    if not outcomes:
        return Outcome.NOT_MEASURED
    if outcomes.count(Outcome.NOT_REPRODUCED) > may_fail:
        return Outcome.NOT_REPRODUCED
    if outcomes.count(Outcome.REPRODUCED) >= max(1, len(outcomes) - may_fail):
        return Outcome.REPRODUCED
    for outcome in reversed(_UNMEASURED):
        if outcome in outcomes:
            return outcome
    return Outcome.INCONCLUSIVE
