"""Blind tests: two anonymous transcripts, a reader's vote, and the tally of votes."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

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
    def subject(self) -> tuple[str, frozenset[str], str]:
        """The utterance, the keys of the two runs, the reader: what is voted on once."""
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
        """The reader's choice, as it is stored."""
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
    """Votes on two systems: for the first, for the second, for neither.

    p: of the two-sided sign test, without votes for neither (Dixon and Mood 1946). None without
    votes for either.
    """

    first: str
    second: str
    for_first: int
    for_second: int
    same: int
    p: float | None


def system_name(run: AccuracyRun) -> str:
    """What a system is called in votes."""
    protocol, name = run.spec.protocol.name, f"{run.model} {run.spec.recipe.name}"
    return name if protocol == STUDY.name else f"{name} ({protocol})"


def pending_trials(
    runs: Sequence[AccuracyRun], votes: Iterable[Vote], who: str, seed: str
) -> list[Trial]:
    """Pairs of different transcripts that this reader has not voted on, in a random order.

    Which of the two is left is random, too. The same seed gives the same order, so that reloading
    the page reveals nothing.
    """
    voted_on = {vote.subject for vote in votes}
    trials = []
    for place, first in enumerate(runs):
        for second in runs[place + 1 :]:
            utterances = {u.id: u for u in second.utterances}
            for utterance in first.utterances:
                other = utterances.get(utterance.id)
                if other is None or other.hypothesis == utterance.hypothesis:
                    continue
                if (utterance.id, frozenset((first.key, second.key)), who) in voted_on:
                    continue
                draw = random.Random(f"{seed} {utterance.id} {first.key} {second.key}")
                sides = [(first, utterance.hypothesis), (second, other.hypothesis)]
                draw.shuffle(sides)
                (left, left_text), (right, right_text) = sides
                trial = Trial(utterance.id, left, right, left_text, right_text)
                trials.append((draw.random(), trial))
    return [trial for _, trial in sorted(trials, key=lambda pair: pair[0])]


def tallies(votes: Iterable[Vote]) -> list[Tally]:
    """One tally for each pair of systems with votes, that with most votes first."""
    from scipy import stats  # slow to import

    counts: dict[tuple[str, str], list[int]] = {}
    for vote in votes:
        one, other = sorted((vote.left_name, vote.right_name))
        pair = one, other
        chosen = {"left": vote.left_name, "right": vote.right_name}.get(vote.chosen)
        place = 2 if chosen is None else pair.index(chosen)
        counts.setdefault(pair, [0, 0, 0])[place] += 1
    totals = []
    for (first, second), (for_first, for_second, same) in counts.items():
        chosen_sides = for_first + for_second
        p = float(stats.binomtest(for_first, chosen_sides).pvalue) if chosen_sides else None
        totals.append(Tally(first, second, for_first, for_second, same, p))
    return sorted(totals, key=lambda t: -(t.for_first + t.for_second + t.same))
