"""Fills the templates of this package: every text escaped, all pages in the same style.

Every text goes through autoescaping and, before it, through `clean`: what a scenario or a
target wrote is shown and does nothing. Only our own SVG and CSS are inserted as they are,
and a content security policy forbids the rest should both fail.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.tables import CellValue
from analysis.text import clean

_STATES: Final = {
    "PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "open", "met": "pass", "missed": "fail",
    "RAISED": "fail",
}  # fmt: skip
_SIGNS: Final = {"pass": "✓", "fail": "✕", "open": "?"}
_LONGEST_NAME: Final = 300
_LONGEST_TEXT: Final = 2000


def _exact(value: CellValue) -> str:
    return repr(value)


def _finalize(value: object) -> object:
    """What autoescaping gets: no text is without `clean`, whoever wrote it."""
    is_ours = isinstance(value, Markup)
    return clean(value, _LONGEST_TEXT) if isinstance(value, str) and not is_ours else value


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_finalize
    )
    environment.filters["name"] = lambda text: clean(text, _LONGEST_NAME)
    environment.filters["exact"] = _exact
    return environment


def read_resource(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def render_page(template: str, values: dict[str, object]) -> str:
    """Fill a template of this package, with the style sheet that all pages share."""
    css = Markup(read_resource("page.css"))  # noqa: S704 - our own file
    page = _environment().from_string(read_resource(template))
    return page.render(css=css, states=_STATES, signs=_SIGNS, **values)
