"""HTML pages from the templates in `templates/`. Every value is escaped (Jinja2's autoescape).

What a page must not escape, because it is code, goes through `script` or `json_script`: the only
two places that mark text as safe. Style sheets are templates of their own, included by their page.
"""

from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).with_name("templates")
_JSON_ESCAPES = (("&", r"\u0026"), ("<", r"\u003c"), (">", r"\u003e"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(name: str, /, **values: object) -> str:
    """The template of that name with its values; raises UndefinedError where one is missing."""
    return _environment().get_template(name).render(**values)


def source(name: str) -> str:
    """The text of a template that has no values, such as a script."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def script(code: str) -> Markup:
    """Code of this project or of Plotly as the content of a <script>: not escaped."""
    return Markup(code)


def json_script(data: str) -> Markup:
    """JSON as the content of a <script type="application/json">, which no value in it can end."""
    for character, escaped in _JSON_ESCAPES:
        data = data.replace(character, escaped)
    return Markup(data)


def content_security_policy(scripts: Iterable[str]) -> str:
    """For a page that loads nothing, and runs its own scripts only, by their digests."""
    digests = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )
