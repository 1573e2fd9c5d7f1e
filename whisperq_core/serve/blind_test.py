"""Which transcript reads better: two without names, a reader's choice, and the tally of choices."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field
from scipy import stats

from whisperq_core.evaluate.records import AccuracyRun, utc_now
from whisperq_core.whisper.protocols import STUDY

Choice = Literal["left", "right", "same"]


class Vote(BaseModel, frozen=True):
    """A reader's choice between two transcripts of one utterance.

    left, right: keys of the two runs, as they were shown; names of their models and recipes.
    """

    utterance: str = Field(max_length=300)
    left: str = Field(max_length=100)
    right: str = Field(max_length=100)
    left_name: str = Field(max_length=200)
    right_name: str = Field(max_length=200)
    chosen: Choice
    who: str = Field(max_length=200)
    at: datetime

    @property
    def judges(self) -> tuple[str, frozenset[str], str]:
        """The utterance, the keys of the two runs, the reader: what is judged once."""
        return self.utterance, frozenset((self.left, self.right)), self.who


@dataclass(frozen=True)
class Trial:
    """Two transcripts of one utterance, in the order they are shown."""

    utterance: str
    left: AccuracyRun
    right: AccuracyRun
    left_text: str
    right_text: str

    def vote(self, chosen: Choice, who: str) -> Vote:
        """The choice, as it is kept."""
        return Vote(
            utterance=self.utterance,
            left=self.left.key,
            right=self.right.key,
            left_name=system_name(self.left),
            right_name=system_name(self.right),
            chosen=chosen,
            who=who,
            at=utc_now(),
        )


@dataclass(frozen=True)
class Tally:
    """What readers chose between two systems: how often the first, the second, neither.

    p: that so lopsided a choice, or more, comes of indifference; two-sided sign test, where
    "no difference" is left out (Dixon and Mood 1946). None where nobody chose a side.
    """

    first: str
    second: str
    for_first: int
    for_second: int
    same: int
    p: float | None


def system_name(run: AccuracyRun) -> str:
    """What a system is called in votes."""
    protocol = run.spec.protocol.name
    named = f"{run.model} {run.spec.recipe.name}"
    return named if protocol == STUDY.name else f"{named} ({protocol})"


def pending_trials(
    runs: Sequence[AccuracyRun], votes: Iterable[Vote], who: str, seed: str
) -> list[Trial]:
    """Pairs of different transcripts that this reader has not judged, in a shuffled order.

    Which of two stands left is drawn, too. The same seed gives the same order, so that reloading
    the page does not tell anything.
    """
    judged = {vote.judges for vote in votes}
    found = []
    for place, first in enumerate(runs):
        for second in runs[place + 1 :]:
            theirs = {u.id: u for u in second.utterances}
            for utterance in first.utterances:
                other = theirs.get(utterance.id)
                if other is None or other.hypothesis == utterance.hypothesis:
                    continue
                if (utterance.id, frozenset((first.key, second.key)), who) in judged:
                    continue
                draw = random.Random(f"{seed} {utterance.id} {first.key} {second.key}")
                sides = [(first, utterance.hypothesis), (second, other.hypothesis)]
                draw.shuffle(sides)
                (left, left_text), (right, right_text) = sides
                trial = Trial(utterance.id, left, right, left_text, right_text)
                found.append((draw.random(), trial))
    return [trial for _, trial in sorted(found, key=lambda pair: pair[0])]


def tallies(votes: Iterable[Vote]) -> list[Tally]:
    """One tally for each pair of systems that was judged, the most judged first."""
    counts: dict[tuple[str, str], list[int]] = {}
    for vote in votes:
        one, other = sorted((vote.left_name, vote.right_name))
        pair = one, other
        chosen = {"left": vote.left_name, "right": vote.right_name}.get(vote.chosen)
        place = 2 if chosen is None else pair.index(chosen)
        counts.setdefault(pair, [0, 0, 0])[place] += 1
    found = []
    for (first, second), (for_first, for_second, same) in counts.items():
        chosen_sides = for_first + for_second
        p = float(stats.binomtest(for_first, chosen_sides).pvalue) if chosen_sides else None
        found.append(Tally(first, second, for_first, for_second, same, p))
    return sorted(found, key=lambda t: -(t.for_first + t.for_second + t.same))
