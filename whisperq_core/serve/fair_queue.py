"""Whose turn it is: owners share a queue fairly, however many items one of them has added.

Next is the oldest item of the owner with the fewest items running; where several owners have as
few, of the one whose last turn is the longest ago. Turns are counted, not timed, so that a clock
that is set back changes nothing. Knows nothing of jobs or workers, and is not thread-safe.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

# Owners whose last turn is remembered; sessions without a login come and go.
_MAX_OWNERS = 1000


class FairQueue(Generic[Item]):
    """Items that wait and items that run, each with its owner."""

    def __init__(self) -> None:
        self._waiting: dict[Item, str] = {}
        self._running: dict[Item, str] = {}
        # Number of each owner's last turn, in the order of turns.
        self._last_turn: dict[str, int] = {}
        self._turns = 0

    @property
    def waiting(self) -> list[Item]:
        """Items that wait for their turn, oldest first."""
        return list(self._waiting)

    @property
    def running(self) -> list[Item]:
        """Items that had their turn and are not removed yet, in the order of their turns."""
        return list(self._running)

    def unfinished(self, owner: str) -> int:
        """Number of the owner's items, waiting or running."""
        return [*self._waiting.values(), *self._running.values()].count(owner)

    def add(self, item: Item, owner: str) -> None:
        """Add an item at the end of its owner's."""
        self._waiting[item] = owner

    def take(self) -> Item | None:
        """Start the item whose turn it is, and return it; None where nothing waits."""
        if not self._waiting:
            return None
        running = Counter(self._running.values())
        # min() keeps the first of equals, which is the oldest.
        item, owner = min(
            self._waiting.items(),
            key=lambda pair: (running[pair[1]], self._last_turn.get(pair[1], 0)),
        )
        self._running[item] = self._waiting.pop(item)
        self._turns += 1
        self._last_turn.pop(owner, None)
        self._last_turn[owner] = self._turns
        if len(self._last_turn) > _MAX_OWNERS:
            del self._last_turn[next(iter(self._last_turn))]
        return item

    def remove(self, item: Item) -> None:
        """Remove an item, whether it waits, runs or is not there."""
        self._waiting.pop(item, None)
        self._running.pop(item, None)
