"""What a page shows lives in its URL: read once, checked, and written back as the user changes it.

A page makes one View in a `with` block and asks it for every widget whose value belongs to the
picture. The widget's key is the parameter's name; values are names and keys, not labels; what is as
by default is left out. Where a link asks for something that is not there, the page says so in a
sentence and shows its default. Streamlit's own binding drops such values without a word, and
writes labels, which change with the results.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from whisperq_core.present import markup

_SHOWN_CHARACTERS = 40
_COMPLAINTS = 4
_TYPED_CHARACTERS = 1000
_LATE_S = 2.0  # until the browser shows the URL that it was told; measured: 0.1 to 0.5 s
_OLDER = 8


class View:
    """One run of a page: `with View("tradeoffs") as view: ...`"""

    def __init__(self, page: str):
        # Of the last run: the parameters that it wrote and when, those before them, its widgets'
        # values, what it complained of.
        start = {"written": {}, "at": -math.inf, "older": [], "values": {}, "ignored": []}
        self._last = st.session_state.setdefault(f"view of {page}", start)
        given = {name: st.query_params.get_all(name) for name in st.query_params}
        # Pages share the names of some widgets, whose values stay when one page follows the other.
        entered = st.session_state.get("view shown") != page
        entered |= not any(key in st.session_state for key in self._last["values"])
        st.session_state["view shown"] = page
        if entered and not given:
            # Back from another page by the menu: as it was left.
            given = self._last["written"]
        # What this page did not write came from outside: a link, or the browser's back button.
        self._read = entered or (given != self._last["written"] and not self._is_late(given))
        self._came, self._given, self._wire = given, dict(given), {}
        self._keys: set[str] = set()
        self._ignored: list[str] = []

    def __enter__(self) -> "View":
        self._place = st.container()
        return self

    def __exit__(self, failure, *_) -> None:
        if failure is not None:
            return
        if not self._read and self._wire == self._last["written"]:
            self._ignored = self._last["ignored"]
        if self._ignored:
            shown = self._ignored[:_COMPLAINTS]
            more = len(self._ignored) - len(shown)
            rest = f", and {more} more" if more else ""
            self._place.warning(
                f"The link asks for what is not here, which was ignored: {'; '.join(shown)}{rest}.",
                icon=":material/link_off:",
            )
        if self._wire != self._last["written"]:
            self._last["at"] = time.monotonic()
            self._last["older"] = [*self._last["older"], self._last["written"]][-_OLDER:]
        if self._read and self._came != self._wire:
            self._last["older"].append(self._came)
        self._last |= {"written": self._wire, "values": self.state(), "ignored": self._ignored}
        if {name: st.query_params.get_all(name) for name in st.query_params} != self._wire:
            st.query_params.from_dict(self._wire)

    def has(self, key: str) -> bool:
        """Whether the URL says something of it."""
        return key in self._given

    def given(self, key: str) -> str | None:
        """What a link asks for, unchecked; None where it does not, or has been followed."""
        return self._given[key][-1] if self._read and self._given.get(key) else None

    def imply(self, key: str, value: str) -> None:
        """A link that does not say otherwise means this."""
        if self._read:
            self._given.setdefault(key, [value])

    def one_of(
        self,
        label: str,
        options: Sequence,
        key: str,
        default: Any = None,
        widget: Callable = st.selectbox,
        **how,
    ) -> Any:
        """One of the options; None is shown where the default is None."""
        names = _names(options, how.get("format_func"))

        def read(values: list[str]) -> Any:
            return names[values[-1]]

        self._seed(label, key, default, read, how.get("format_func", str))
        if widget is st.selectbox and default is None:
            how["index"] = None
        value = widget(label, options, key=key, **how)
        return self._write(key, value, default, [] if value is None else [str(value)])

    def several(
        self, label: str, options: Sequence, key: str, default: Sequence = (), **how
    ) -> list:
        """Any of the options.

        With `accept_new_options` also what else a user could have typed; the page judges it.
        """
        names, default = _names(options, how.get("format_func")), list(default)
        wanted = [value for value in self._given.get(key, []) if value] if self._read else []
        if how.get("accept_new_options"):
            names = {value: value for value in wanted if _could_be_typed(value)} | names
        known = list(dict.fromkeys(names[value] for value in wanted if value in names))
        shown = how.get("format_func", str)
        for value in dict.fromkeys(value for value in wanted if value not in names):
            instead = ", ".join(shown(option) for option in known or default)
            self._ignore(label, value, instead or "all")
        self._seed(label, key, default, lambda _: known if known or not wanted else default, str)
        value = st.multiselect(label, options, key=key, **how)
        return self._write(key, value, default, [str(one) for one in value] or [""])

    def number(
        self,
        label: str,
        low: float,
        high: float | None,
        default: float | None,
        step: float,
        key: str,
        **how,
    ) -> float | None:
        """A number from low to high; where the default is None or `may_be_empty`, also none.

        Where the step is a whole number, so is the value.
        """
        may_be_empty = how.pop("may_be_empty", False) or default is None

        def read(values: list[str]) -> float | None:
            if not values[-1].strip() and may_be_empty:
                return None
            value = float(values[-1])
            if not math.isfinite(value) or value < low or (high is not None and value > high):
                raise ValueError(value)
            if isinstance(step, int) and not value.is_integer():
                raise ValueError(value)
            return type(step)(value)

        self._seed(
            label, key, default, read, lambda value: "any" if value is None else f"{value:g}"
        )
        start = {"value": None} if may_be_empty else {}
        value = st.number_input(label, low, high, step=step, key=key, **start, **how)
        return self._write(key, value, default, ["" if value is None else f"{value:g}"])

    def span(self, label: str, low: float, high: float, step: float, key: str, **how) -> tuple:
        """A range within low and high."""

        def read(values: list[str]) -> tuple[float, float]:
            first, last = (float(value) for value in values)
            if not low <= first <= last <= high:
                raise ValueError(values)
            return first, last

        default = (low, high)
        self._seed(label, key, default, read, lambda value: "{:g} to {:g}".format(*value))
        kept = st.session_state[key]
        if not low <= kept[0] <= kept[1] <= high:
            st.session_state[key] = default
        value = st.slider(label, low, high, step=step, key=key, **how)
        return self._write(key, tuple(value), default, [f"{end:g}" for end in value])

    def flag(self, label: str, default: bool, key: str, **how) -> bool:
        """On or off."""
        states = {"true": True, "false": False}
        self._seed(
            label, key, default, lambda values: states[values[-1]], {True: "on", False: "off"}.get
        )
        value = st.toggle(label, key=key, **how)
        return self._write(key, value, default, [str(value).lower()])

    def text(self, label: str, key: str, **how) -> str:
        """Words that a user types."""

        def read(values: list[str]) -> str:
            if values[-1] and not _could_be_typed(values[-1]):
                raise ValueError(values[-1])
            return values[-1]

        self._seed(label, key, "", read, lambda _: "nothing")
        value = st.text_input(label, key=key, **how)
        return self._write(key, value, "", [value])

    def page_of(self, pages: int, key: str) -> int:
        """Which of so many pages, from 1."""

        def read(values: list[str]) -> int:
            value = int(values[-1][:9])
            if not 1 <= value <= pages:
                raise ValueError(value)
            return value

        self._seed("Page", key, 1, read, str)
        if not 1 <= st.session_state[key] <= pages:
            st.session_state[key] = 1
        value = st.pagination(pages, key=key)
        return self._write(key, value, 1, [str(value)])

    def state(self) -> dict[str, Any]:
        """What the widgets hold, by their keys."""
        return {key: st.session_state[key] for key in self._keys}

    def _is_late(self, given: dict) -> bool:
        """Whether the browser had not yet been told the URL of the last run.

        It sends its URL with everything that is pressed. Taken for a link, an older one would undo
        what was chosen just before; the back button shows an older one too, but changes no widget.
        """
        if given not in self._last["older"]:
            return False
        values = self._last["values"]
        changed = any(st.session_state.get(key, value) != value for key, value in values.items())
        return changed or time.monotonic() - self._last["at"] < _LATE_S

    def _seed(self, label: str, key: str, default, read: Callable, show: Callable) -> None:
        """Before the widget is drawn: its value from the URL, or else the default."""
        self._keys.add(key)
        if key in st.session_state and not self._read:
            return
        st.session_state[key] = default
        if values := self._given.get(key):
            try:
                st.session_state[key] = read(values)
            except (ValueError, KeyError, OverflowError):
                instead = "none" if default is None else str(show(default))
                self._ignore(label, values[-1], instead)

    def _write(self, key: str, value, default, wire: list[str]) -> Any:
        if value != default:
            self._wire[key] = wire or [""]
        return value

    def _ignore(self, label: str, value: str, instead: str) -> None:
        text = " ".join(value.split())
        if len(text) > _SHOWN_CHARACTERS:
            text = f"{text[:_SHOWN_CHARACTERS]}…"
        self._ignored.append(markup.escape_markdown(f"{label} “{text}” (shown instead: {instead})"))


def _could_be_typed(text: str) -> bool:
    return text.isprintable() and len(text) <= _TYPED_CHARACTERS


def _names(options: Sequence, shown: Callable | None) -> dict[str, Any]:
    """Options by what stands for them in a URL; labels were, in older links."""
    labels = {shown(option): option for option in options} if shown else {}
    return labels | {str(option): option for option in options}
