"""The two shapes that every section of RESULTS.md is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.results import Stamp


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    rule = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def heading(title: str, stamp: Stamp) -> list[str]:
    """The head of a part: when it was measured, and on how quiet a machine."""
    quick = " (quick run: a smoke test, not a result)" if stamp.is_quick else ""
    machine = stamp.machine
    return [
        "",
        f"## {title}{quick}",
        "",
        (
            f"{machine.date_utc}, commit {stamp.commit or 'unknown'}, {machine.python},"
            f" took {stamp.took_s:.0f} s,"
            f" others used {machine.busy_ratio:.0%} of the machine before, the hypervisor took"
            f" {stamp.stolen_ratio:.1%} of a core meanwhile."
        ),
        "",
    ]
