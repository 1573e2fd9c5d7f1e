"""Divergence: how far a model's predictions of a known transcript are from fp32's.

Both models are given the same audio and the same tokens, and each predicts every next token. Their
distributions are compared by the Kullback-Leibler divergence of Kullback & Leibler 1951, "On
information and sufficiency": the sum over the vocabulary of p (log p - log q), p being fp32's, in
nats. It is 0 where both agree, needs no reference, and sees damage that is too small to change a
word.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Divergence:
    """Sums over the predicted tokens of some speech.

    tokens: how many were predicted. nats: the sum of their divergences. changed: how many had
    another most probable token than fp32's.
    """

    tokens: int
    nats: float
    changed: int

    @property
    def nats_per_token(self) -> float:
        """The mean divergence; 0 without tokens."""
        return self.nats / self.tokens if self.tokens else 0.0

    @property
    def changed_share(self) -> float:
        """The share of changed tokens, 0 to 1; 0 without tokens."""
        return self.changed / self.tokens if self.tokens else 0.0


def total(divergences: Iterable[Divergence]) -> Divergence:
    """The sums over several pieces of speech."""
    items = list(divergences)
    return Divergence(
        sum(one.tokens for one in items),
        sum(one.nats for one in items),
        sum(one.changed for one in items),
    )


def nats_of_tokens(fp32: "Tensor", other: "Tensor") -> "Tensor":
    """The divergence of each token, shape (tokens,), never below 0.

    fp32, other: log-probabilities of the next token, shape (tokens, vocabulary).
    """
    return (fp32.exp() * (fp32 - other)).sum(-1).clamp(min=0)


def changed_tokens(fp32: "Tensor", other: "Tensor") -> "Tensor":
    """Whether the most probable token is another one, shape (tokens,), boolean."""
    return fp32.argmax(-1) != other.argmax(-1)
