"""Widgets whose values are in the page's URL, so that reload, back and links show the same.

A page makes one View in a `with` block and draws with it every widget that belongs to its state.
The widget's key is the parameter's name; URLs hold names and keys, not labels; defaults are left
out. `_url_codecs` turns values into texts and back, `_url_state` decides when the URL is followed.

Why not Streamlit's own `bind="query-params"`? It drops values that it does not know without a
message, where a page has to say what a link asked for and what is shown instead. It writes labels,
which change with the results (a WER is in them). And a bound parameter cannot be set by the page,
as it has to be where a link to a result implies its model and evaluation set.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from pages import _url_codecs as codecs
from pages import _url_state as url_state
from pages._url_codecs import Codec
from pages._url_state import Memory, Query
from whisperq_core.present import markup

_SHOWN_CHARACTERS = 40
_SHOWN_MESSAGES = 4


class View:
    """One run of a page: `with View("tradeoffs") as view: ...`"""

    def __init__(self, page: str):
        self._page = page
        self._memory: Memory = st.session_state.get(f"url of {page}", Memory())
        values = st.session_state.get(f"values of {page}", {})
        # Pages share the keys of some widgets, whose values stay when one page follows the other.
        entered = st.session_state.get("page shown") != page
        entered |= not any(key in st.session_state for key in values)
        st.session_state["page shown"] = page
        self._reading = url_state.read(
            _current_query(),
            self._memory,
            time.monotonic(),
            entered=entered,
            changed=any(st.session_state.get(key, old) != old for key, old in values.items()),
        )
        self._query, self._written = dict(self._reading.query), Query()
        self._keys: set[str] = set()
        self._messages: list[str] = []

    def __enter__(self) -> "View":
        self._place = st.container()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            return
        self._show_messages()
        self._memory = url_state.remember(
            self._reading, self._written, self._memory, time.monotonic()
        )
        st.session_state[f"url of {self._page}"] = self._memory
        st.session_state[f"values of {self._page}"] = self.state()
        if _current_query() != self._written:
            st.query_params.from_dict(self._written)

    def has(self, key: str) -> bool:
        """Whether the URL has this parameter."""
        return key in self._query

    def requested(self, key: str) -> str | None:
        """The parameter's unchecked text in a link that is followed in this run, or None."""
        return self._query[key][-1] if self._reading.follow and self._query.get(key) else None

    def imply(self, key: str, *values: str) -> None:
        """Uses values for a parameter that the followed link does not have."""
        if self._reading.follow:
            self._query.setdefault(key, list(values))

    def state(self) -> dict[str, Any]:
        """Values of the widgets drawn so far, by key."""
        return {key: st.session_state[key] for key in self._keys}

    def one_of(
        self,
        label: str,
        options: Sequence,
        key: str,
        default: Any = None,
        widget: Callable = st.selectbox,
        **how,
    ) -> Any:
        """One of the options; none is chosen at first where the default is None."""
        codec = codecs.choice(options, default, how.get("format_func"))
        self._set_value(label, key, codec)
        if widget is st.selectbox and default is None:
            how["index"] = None
        return self._write(key, codec, widget(label, options, key=key, **how))

    def several(
        self, label: str, options: Sequence, key: str, default: Sequence = (), **how
    ) -> list:
        """Any of the options; with `accept_new_options` also typed text, which the page checks."""
        codec = codecs.choices(
            options, default, how.get("format_func"), bool(how.get("accept_new_options"))
        )
        self._set_value(label, key, codec)
        return self._write(key, codec, st.multiselect(label, options, key=key, **how))

    def number(
        self,
        label: str,
        low: float,
        high: float | None,
        default: float | None,
        step: float,
        key: str,
        *,
        may_be_empty: bool = False,
        **how,
    ) -> float | None:
        """A number from low to high, whole where the step is; None (empty) where it may be."""
        optional = may_be_empty or default is None
        codec = codecs.number(low, high, default, step, optional=optional)
        self._set_value(label, key, codec)
        start = {"value": None} if optional else {}
        value = st.number_input(label, low, high, step=step, key=key, **start, **how)
        return self._write(key, codec, value)

    def span(self, label: str, low: float, high: float, step: float, key: str, **how) -> tuple:
        """A range within low and high."""
        codec = codecs.number_range(low, high)
        self._set_value(label, key, codec)
        first, last = st.session_state[key]
        if not low <= first <= last <= high:  # kept from another result
            st.session_state[key] = codec.default
        return self._write(
            key, codec, tuple(st.slider(label, low, high, step=step, key=key, **how))
        )

    def flag(self, label: str, default: bool, key: str, **how) -> bool:
        """On or off."""
        codec = codecs.flag(default)
        self._set_value(label, key, codec)
        return self._write(key, codec, st.toggle(label, key=key, **how))

    def text(self, label: str, key: str, **how) -> str:
        """A line that the user types."""
        codec = codecs.text()
        self._set_value(label, key, codec)
        return self._write(key, codec, st.text_input(label, key=key, **how))

    def page_of(self, pages: int, key: str) -> int:
        """Which of so many pages, from 1."""
        codec = codecs.page_number(pages)
        self._set_value("Page", key, codec)
        if not 1 <= st.session_state[key] <= pages:  # kept from a longer list
            st.session_state[key] = codec.default
        return self._write(key, codec, st.pagination(pages, key=key))

    def _set_value(self, label: str, key: str, codec: Codec) -> None:
        """Before the widget is drawn: its value from the URL, unless the user's own is kept."""
        self._keys.add(key)
        if key in st.session_state and not self._reading.follow:
            return
        decoded = codec.decode(self._query.get(key, []))
        st.session_state[key] = decoded.value
        instead = codec.label(decoded.value)
        self._messages += [_message(label, text, instead) for text in decoded.invalid]

    def _write(self, key: str, codec: Codec, value: Any) -> Any:
        texts = codec.to_query(value)
        if texts is not None:
            self._written[key] = texts
        return value

    def _show_messages(self) -> None:
        """Names what was invalid in the link, until the user changes something."""
        key = f"messages of {self._page}"
        if not self._reading.follow and self._written == self._memory.written:
            self._messages = st.session_state.get(key, [])
        st.session_state[key] = self._messages
        if self._messages:
            more = len(self._messages) - _SHOWN_MESSAGES
            rest = f", and {more} more" if more > 0 else ""
            self._place.warning(
                "The link contains values that are not available here:"
                f" {'; '.join(self._messages[:_SHOWN_MESSAGES])}{rest}.",
                icon=":material/link_off:",
            )


def _current_query() -> Query:
    return {name: st.query_params.get_all(name) for name in st.query_params}


def _message(label: str, text: str, instead: str) -> str:
    text = " ".join(text.split())
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    return markup.escape_markdown(f"{label} “{text}” (shown instead: {instead})")
