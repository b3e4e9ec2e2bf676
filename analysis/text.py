"""Numbers and names as text: consistent units, and nothing active in a name.

Latencies have three significant digits, as their histograms do; a missing value is `?`, a
sample too small for its percentile `n too small`, a value beyond the histogram `> 1 h`.
Text never depends on locale or time zone.

Names and messages come from scenario files and targets, so they may be hostile. `clean`
makes control, bidirectional and invisible characters visible and cuts what is too long;
every output escapes what its own format would act on. Terminals get `rich.text.Text`,
which parses no markup.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from analysis.unit import Unit

if TYPE_CHECKING:  # whoever has one has loaded pandas; clean text needs none
    from analysis.reading import Reading

UNKNOWN: Final = "?"
TOO_SMALL: Final = "n too small"
BEYOND: Final = "> 1 h"
LONGEST_NAME: Final = 160
# Cc control, Cf format (bidirectional, zero width), Cs surrogates, Co private, Zl and Zp breaks.
_ACTIVE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FORMULA: Final = ("=", "+", "-", "@")
_NS_PER_S: Final = 1_000_000_000
_FEW: Final = 10
_MANY: Final = 1000
_THREE_DIGITS: Final = 999.5
_SIZES: Final = ("B", "kB", "MB", "GB", "TB")


def clean(text: str, longest: int = LONGEST_NAME) -> str:
    """One line without active characters, at most `longest` characters."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(_visible(character) for character in cut)


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _ACTIVE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte


def markdown_cell(text: str, longest: int = LONGEST_NAME) -> str:
    """Text for one cell of a Markdown table: no markup, link, HTML or further cell."""
    return markdown_text(text, longest)


def markdown_text(text: str, longest: int = LONGEST_NAME) -> str:
    """Text within a line of Markdown; addresses in it are no links, as GitHub would make them."""
    safe = clean(text, longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = "".join(f"\\{c}" if c in "\\`*[]|#~!@" else c for c in safe)
    return safe.replace("://", "\\://").replace("www.", "www\\.")


def csv_cell(text: str) -> str:
    """Text for one CSV field: a spreadsheet must not take it for a formula."""
    safe = clean(text)
    return f"'{safe}" if safe.startswith(_FORMULA) else safe


def significant(value: float, digits: int = 3) -> str:
    """So many significant digits, never an exponent: 0.0123, 29.2, 1250."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def latency(value_ns: float | None) -> str:
    """Time in us, ms or s: "850 us", "29.2 ms", "1.25 s"."""
    if value_ns is None:
        return UNKNOWN
    if math.isinf(value_ns):
        return BEYOND
    # 999.6 us would round to "1000 us": the next unit begins where three digits end.
    for limit_ns, unit_ns, unit in ((999_500, 1e3, "us"), (999_500_000, 1e6, "ms")):
        if value_ns < limit_ns:
            return f"{significant(value_ns / unit_ns)} {unit}"
    return f"{significant(value_ns / _NS_PER_S)} s"


def ratio(value: float | None) -> str:
    """Percent: "0.02 %"; what is not all is never rounded to 100 %: "99.95 %"."""
    if value is None:
        return UNKNOWN
    text = significant(value * 100)
    if value < 1 and float(text) >= 100:  # noqa: PLR2004 - percent
        places = math.ceil(round(-math.log10((1 - value) * 100), 6))
        text = f"{value * 100:.{places}f}"
    return f"{text} %"


def rate(value_per_s: float | None) -> str:
    """Per second: "776,000" from 1000 on, "500.0" from 10 on, three digits below."""
    if value_per_s is None:
        return UNKNOWN
    if value_per_s < _FEW:
        return significant(value_per_s)
    return f"{value_per_s:,.1f}" if value_per_s < _MANY else f"{value_per_s:,.0f}"


def size(value_bytes: float) -> str:
    """Bytes in decimal units, as limits are written: "850 B", "63.4 MB"."""
    power = 0
    while value_bytes >= _THREE_DIGITS and power < len(_SIZES) - 1:
        value_bytes, power = value_bytes / 1000, power + 1
    return f"{significant(value_bytes)} {_SIZES[power]}"


def count(value: int) -> str:
    """A whole number in groups of three."""
    return f"{value:,}"


def number(value: float) -> str:
    """A number of things, whole where it is."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def _requests_per_s(value: float) -> str:
    # An objective can be missed by less than one per second.
    return f"{significant(value)} rps" if value < _FEW else f"{value:,.1f} rps"


_TEXTS: Final[Mapping[Unit, Callable[[float], str]]] = {
    Unit.NANOSECONDS: latency,
    Unit.RATIO: ratio,
    Unit.PER_SECOND: _requests_per_s,
    Unit.BYTES: size,
    Unit.COUNT: number,
    Unit.COUNT_PER_SECOND: lambda value: f"{rate(value)} /s",
}


def with_unit(unit: Unit, value: float | None) -> str:
    """A value in its unit."""
    return UNKNOWN if value is None else _TEXTS[unit](value)


def reading_text(reading: Reading) -> str:
    """A reading's value; `n too small` where its sample cannot carry it."""
    if reading.value is not None and reading.is_too_small and reading.unit is Unit.NANOSECONDS:
        return TOO_SMALL
    return with_unit(reading.unit, reading.value)


def utc(unix_ns: int) -> str:
    """ISO date and time in UTC, to the second."""
    return datetime.fromtimestamp(unix_ns // _NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def start_text(t0_unix_ns: int | None, created_unix_ns: int) -> str:
    """When a run began: at its T0; one that never got there was only prepared."""
    if t0_unix_ns is None:
        return f"prepared {utc(created_unix_ns)}, never started"
    return f"started {utc(t0_unix_ns)}"


def utc_date(unix_ns: int) -> str:
    """ISO date in UTC."""
    return utc(unix_ns)[:10]


def scale_text(scale: float) -> str:
    """The mark that every heading of a scaled run carries; "" for an unscaled one."""
    return "" if scale == 1.0 else f"SCALED x {scale:.6g}"
