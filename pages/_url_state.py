"""Whether a page follows its URL or its widgets: a pure function of the URL, memory and time.

The URL that comes with a run of a page is one of three things:

- what the page itself wrote last: the widgets are right;
- a link, or the browser's back button: the widgets are set from it;
- late: an earlier URL of the page, sent along with something that the user pressed before the
  browser had the newer one. Followed like a link, it would undo the choice just made.

Back and late look alike, since both send an earlier URL. They are told apart by what else
happened: a late URL comes with a changed widget, or (after a button) within `LATE_S` of the last
write. Back changes no widget, and nobody presses it that soon.
"""

import math
from dataclasses import dataclass, field

LATE_S = 2.0  # until the browser shows the URL that it was sent; measured: 0.1 to 0.5 s
_EARLIER_URLS = 8

Query = dict[str, list[str]]


@dataclass(frozen=True)
class Memory:
    """What a page remembers of its URLs between runs.

    written: the query that it wrote last, written_at s on a monotonic clock. earlier: those before.
    """

    written: Query = field(default_factory=dict)
    written_at: float = -math.inf
    earlier: tuple[Query, ...] = ()


@dataclass(frozen=True)
class Reading:
    """The query that a run of a page uses; follow: whether the widgets are set from it."""

    query: Query
    follow: bool


def read(url: Query, last: Memory, now: float, *, entered: bool, changed: bool) -> Reading:
    """What to do with the URL of this run.

    entered: the user comes from another page, or for the first time. changed: a widget's value is
    not that of the last run. now: s on the clock of `last.written_at`.
    """
    if entered:
        # From the navigation, which has no query: the page as it was left.
        return Reading(url or last.written, True)
    late = url in last.earlier and (changed or now - last.written_at < LATE_S)
    return Reading(url, url != last.written and not late)


def remember(reading: Reading, written: Query, last: Memory, now: float) -> Memory:
    """The memory after a run that read the URL as `reading` and wrote `written`."""
    earlier, written_at = [*last.earlier], last.written_at
    if written != last.written:
        written_at = now
        earlier.append(last.written)
    if reading.follow and reading.query != written:
        earlier.append(reading.query)
    return Memory(written, written_at, tuple(earlier[-_EARLIER_URLS:]))
