"""Draws one figure to SVG: the same bytes every time, in colours that the page decides.

Matplotlib is used without pyplot and without a user's settings. Colours are placeholders
that become CSS variables, so that one figure serves light, dark and print. Text stays text
(the reader's fonts, selectable, no mathtext: `$` is a dollar). Names are escaped by
Matplotlib's XML writer and made harmless before that, by `short`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.report.source import Source
from analysis.text import clean

WIDTH_IN: Final = 5.8
_ABOVE_IN: Final = 0.28  # legend
_BELOW_IN: Final = 0.42  # axis label
# Placeholder -> CSS variable. No other colour may be used in a figure.
INK: Final = "#010101"
MUTED: Final = "#010102"
GRID: Final = "#010103"
WARM_UP: Final = "#010104"
BAD: Final = "#010105"
FIRST: Final = "#010111"
SECOND: Final = "#010112"
THIRD: Final = "#010113"
FOURTH: Final = "#010114"
SERIES: Final = (FIRST, SECOND, THIRD, FOURTH)
_VARIABLES: Final = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", WARM_UP: "--warm-up", BAD: "--bad",
    FIRST: "--series-1", SECOND: "--series-2", THIRD: "--series-3", FOURTH: "--series-4",
}  # fmt: skip
# Lines differ in their dashes too: colour is never the only sign.
Dash = str | tuple[float, tuple[float, ...]]
DASHES: Final[tuple[Dash, ...]] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
)

_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
    "path.simplify": True,
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib: the layout is the same everywhere
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 1.5,
}
_TAG: Final = re.compile(r"<[^>]*>")
_PLACEHOLDER: Final = re.compile(r"(fill|stroke): (#0101[0-9a-f]{2})")
_LONG_NUMBER: Final = re.compile(r"(\d\.\d\d)\d+")
_FONT: Final = re.compile(r"font-family: [^;\"]*;? ?")
_GROUP_ID: Final = re.compile(r'^<g id="[^"]*"')
_STYLE: Final = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_VIEW_BOX: Final = re.compile(r'viewBox="[0-9. ]+"')
_SHORT: Final = 28
_LONGEST_ALT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure for the page; `alt` says in words what it shows, `svg` is safe to insert."""

    name: str
    title: str
    caption: str
    alt: str
    source: Source
    svg: str


def short(name: str, longest: int = _SHORT) -> str:
    """A name as a figure can hold it."""
    return clean(name, longest)


def draw(name: str, alt: str, height_in: float, paint: Callable[[Axes], None]) -> str:
    """Let `paint` fill the axes of a figure and return it as an SVG element.

    The axes have the same place in all figures, so that those over time can be compared.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        # Glyphs that the layout's font lacks are drawn by the reader's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        mpl.rcParams["svg.hashsalt"] = name
        figure = Figure(figsize=(WIDTH_IN, height_in))
        bottom, top = _BELOW_IN / height_in, 1 - _ABOVE_IN / height_in
        paint(figure.add_axes((0.125, bottom, 0.86, top - bottom)))
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", dpi=144, metadata=nothing)
    return _inline(out.getvalue(), alt)


def put_legend(axes: Axes, columns: int = 4) -> None:
    """Above the axes, where no data can be."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.13, 1.0), ncols=columns, borderaxespad=0.2,
        columnspacing=1.2, handlelength=2.2,
    )  # fmt: skip


def _inline(document: str, alt: str) -> str:
    """An SVG document as an element of a page: no prologue, no fixed size, no clashing id."""
    document = document[document.index("<svg") :]
    head, body = document.split(">", 1)
    view_box = _VIEW_BOX.search(head)
    assert view_box is not None, "Matplotlib writes one"
    body = _TAG.sub(lambda tag: _tidy(tag[0]), _STYLE.sub("", body, count=1))
    label = escape(clean(alt, _LONGEST_ALT))
    return f'<svg {view_box[0]} role="img" aria-label="{label}">{body.strip()}'


def _tidy(tag: str) -> str:
    """One tag of a figure; text between tags is never touched."""
    blank = "" if tag.startswith("<image") else " "  # base64 holds no blank
    tag = _GROUP_ID.sub("<g", tag.replace("\n", blank))
    tag = _FONT.sub("", _LONG_NUMBER.sub(r"\1", tag))
    return _PLACEHOLDER.sub(lambda found: f"{found[1]}: var({_VARIABLES[found[2]]})", tag)
