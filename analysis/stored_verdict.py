"""The verdict that was written with a run, as a word: what lists show without judging again."""

from __future__ import annotations

import msgspec

from analysis.judging import State
from analysis.text import UNKNOWN
from loadtests.record.catalogue import RunSummary


class _Stored(msgspec.Struct):
    """The one word of `verdict.json` that a list shows."""

    state: str


def verdict_text(summary: RunSummary) -> str:
    """PASS, FAIL or INCONCLUSIVE; `?` where nobody has judged or the file is not ours."""
    if summary.verdict is None:
        return UNKNOWN
    try:
        return State(msgspec.json.decode(summary.verdict, type=_Stored).state).value
    except ValueError:  # msgspec's errors are ValueErrors too
        return UNKNOWN
