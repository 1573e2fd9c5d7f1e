"""Pages run by Streamlit's own test harness, and what tests read from them."""

import json
from functools import lru_cache

import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from whisperq_core.settings import PROJECT

# Each AppTest reads the metadata of all installed packages in search of components, which takes
# longer than a page does. A test process needs it once.
manifest_scanner.scan_component_manifests = lru_cache(manifest_scanner.scan_component_manifests)


def opened(name: str, /, **query: str | list[str]) -> AppTest:
    """The page of that name, by a link with these parameters; "app" is all of them."""
    file = PROJECT / "app.py" if name == "app" else PROJECT / "pages" / f"{name}.py"
    app = AppTest.from_file(file, default_timeout=30)
    app.session_state["in_app"] = True
    app.query_params.update(query)
    return again(app)


def again(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def changed(widget, value) -> AppTest:
    app = widget.set_value(value).run()
    assert not app.exception
    return app


def left_at(monkeypatch, function: str) -> None:
    """From now on the script ends where it calls that, as when the user goes to another page."""
    monkeypatch.setattr(function, lambda *_, **__: st.stop())


def by_label(widgets, label: str):
    """The widget of that label, or of one that starts with it."""
    matching = [widget for widget in widgets if widget.label.startswith(label)]
    return min(matching, key=lambda widget: len(widget.label))


def everything(app: AppTest) -> str:
    parts = (*app.markdown, *app.caption, *app.info, *app.warning, *app.get("html"))
    return "\n".join(str(getattr(p, "value", None) or p.proto.body) for p in parts)


def plan_of(app: AppTest) -> list[tuple]:
    frame = app.dataframe[0].value
    return list(
        frame[["Model", "Recipe", "Evaluation set", "Status"]].itertuples(index=False, name=None)
    )


def codes(app: AppTest) -> list[str]:
    """What can be copied, in the order of the page."""
    drawn = (element.proto for element in app.get("bidi_component"))
    return [json.loads(one.json) for one in drawn if one.component_name == "whisperq_code"]
