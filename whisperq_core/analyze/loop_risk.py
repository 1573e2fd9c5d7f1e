"""What loops that are too rare to have been seen could cost.

A decoder that runs into a loop adds dozens to hundreds of words at once. Comparisons of error rates
take losses as spread over many words, so "no worse" holds apart from such loops; how much they
could add is bounded here, from how many there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from whisperq_core.analyze.verdicts import CONFIDENCE

# Words that a loop adds: 237 on average in the 4 loops that recipes with more than 3 bits had in
# 192 shipped results where fp32 had none. Those of broken recipes (2 bits) reach the token limit,
# 440 words.
LOOP_WORDS = 240


@dataclass(frozen=True)
class LoopRisk:
    """Loops of a candidate that its baseline does not have, and what their rate could cost.

    utterances: that were compared. words: of their references. loop_words: of one loop.
    """

    loops: int
    utterances: int
    words: float
    loop_words: float = LOOP_WORDS

    @property
    def highest_rate(self) -> float:
        """Upper limit of loops for each utterance, one-sided 95%.

        The exact Poisson limit (Garwood 1936, "Fiducial limits for the Poisson distribution");
        without a loop it is 3 / utterances, the rule of three (Hanley & Lippman-Hand 1983, "If
        nothing goes wrong, is everything all right?").
        """
        return float(special.gammaincinv(self.loops + 1, CONFIDENCE)) / self.utterances

    @property
    def highest_cost(self) -> float:
        """Points of WER that loops could add to what was measured, at most, with 95%.

        Those that were seen are part of the difference already.
        """
        unseen = self.highest_rate * self.utterances - self.loops
        return 100 * unseen * self.loop_words / self.words


def loop_risk(baseline: Sequence[bool], candidate: Sequence[bool], words: float) -> LoopRisk:
    """Of two runs' utterances in the same order: whether each looped; words of all references."""
    new = sum(b and not a for a, b in zip(baseline, candidate, strict=True))
    return LoopRisk(new, len(baseline), words)
