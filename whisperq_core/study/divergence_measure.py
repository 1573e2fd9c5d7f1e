"""What divergence from fp32 says of statements on WER: support, which decides nothing."""

from dataclasses import dataclass, replace

from whisperq_core.analyze import divergences
from whisperq_core.analyze.effects import UNKNOWN, Effect, OneSided
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.study.answers import DIVERGENCE, MNAT, Answer
from whisperq_core.study.evidence import Evidence, Split
from whisperq_core.study.measures import (
    Expected,
    Measure,
    WerDifference,
    counterpart_recipe,
    tested,
)


@dataclass(frozen=True)
class Divergence:
    """Against another recipe: the quotient of their divergences from fp32.

    Against fp32: whether the divergence is below or above the one that, by its calibration against
    WER, excludes a loss of the margin (`Evidence.harmless_mnat`).
    """

    recipe: str
    split: Split
    expects: Expected
    against: str = "fp32"

    @property
    def question(self) -> str:  # noqa: D102
        if self.against == "fp32":
            return f"divergence of {self.recipe} from fp32 {self._where}"
        more = {"better": "less", "worse": "more", "no worse": "no more"}[self.expects]
        return f"{self.recipe} diverges {more} from fp32 {self._where} than {self.against}"

    @property
    def _where(self) -> str:
        return "on clean speech" if self.split == "clean" else "on test-other"

    def answer(self, evidence: Evidence, model: str, protocol: str) -> Answer | None:  # noqa: D102
        names = [counterpart_recipe(r, protocol) for r in (self.recipe, self.against)]
        names = [name for name in names if name != "fp32"]
        groups = evidence.divergences(self.split, model, names, protocol)
        answer = Answer(self.question, model, protocol, DIVERGENCE if names[1:] else MNAT)
        if not groups:
            return answer
        sides = [[group[i] for group in groups] for i in range(len(names))]
        harmless = evidence.harmless_mnat
        if len(sides) == 2:
            effect = divergences.times_as_much(*sides)
            tests = self._tests(effect, 1.0)
        else:
            effect = divergences.pooled_mnat(sides[0])
            tests = self._tests(effect, harmless) if harmless else (UNKNOWN, UNKNOWN)
            question = self._against_harmless(harmless) if harmless else self.question
            answer = replace(answer, question=question)
        utterances = sum(len(run.utterances) for run in sides[0])
        return replace(
            tested(answer, effect.estimate, tests),
            sample=f"{', '.join(run.eval_set for run in sides[0])}, {utterances} utterances",
            keys=tuple(run.key for side in sides for run in side),
        )

    def _tests(self, effect: Effect, boundary: float) -> tuple[OneSided, OneSided]:
        below, above = effect.below(boundary), effect.above(boundary)
        return (above, below) if self.expects == "worse" else (below, above)

    def _against_harmless(self, mnat: float) -> str:
        loss = f"a loss of {MARGIN:g} points"
        if self.expects == "worse":
            side = f"more than {mnat:.2g} mnat, so that {loss} is possible"
        else:
            side = f"less than {mnat:.2g} mnat, which excludes {loss}"
        return f"{self.recipe} diverges from fp32 {self._where} by {side}"


def in_divergence(measure: Measure) -> Divergence | None:
    """What divergence says of the same, where the measure speaks of damage; else None."""
    match measure:
        case WerDifference(expects="as published"):
            return None
        case WerDifference(expects="better", against="fp32"):
            # Divergence from fp32 is never better than none.
            return None
        case WerDifference(recipe, split, "better" | "worse" | "no worse" as expects, against):
            return Divergence(recipe, split, expects, against)
    return None
