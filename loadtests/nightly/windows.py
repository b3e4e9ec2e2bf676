"""When load may be sent: windows of the day, each in a time zone of its own.

A window holds at an instant if the clock on the wall of its zone is inside it then. So an
hour that a change to summer time leaves out has no instants, and one that the change back
repeats is inside both times: nothing has to be decided about either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from loadtests.plan.units import UnitError
from loadtests.plan.values import one_of

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY: Final = frozenset(range(7))
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_STEP: Final = timedelta(minutes=1)  # windows begin and end at whole minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From `from_minute` up to `to_minute` of the day; the same twice is the whole day.

    A window over midnight belongs to the day on which it begins. `days`: 0 is Monday.
    """

    from_minute: int
    to_minute: int
    days: frozenset[int]
    zone: ZoneInfo

    def holds(self, instant: datetime) -> bool:
        """Whether it is inside at an instant (with a zone)."""
        wall = instant.astimezone(self.zone)
        minute, day = wall.hour * 60 + wall.minute, wall.weekday()
        if self.from_minute < self.to_minute:
            return day in self.days and self.from_minute <= minute < self.to_minute
        is_begun = day in self.days and minute >= self.from_minute
        is_left = (day - 1) % 7 in self.days and minute < self.to_minute
        return is_begun or is_left

    def __str__(self) -> str:
        times = "-".join(f"{m // 60:02}:{m % 60:02}" for m in (self.from_minute, self.to_minute))
        days = "" if self.days == EVERY_DAY else " ".join(DAYS[day] for day in sorted(self.days))
        return " ".join(part for part in (times, days, str(self.zone)) if part)


def parse_minute(text: str) -> int:
    """Minute of the day of "01:30"; UnitError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise UnitError('a time of day from "00:00" to "23:59"')
    return int(found[1]) * 60 + int(found[2])


def parse_days(words: Sequence[str]) -> frozenset[int]:
    """Days of "mon" to "sun"; none are all of them; UnitError."""
    for word in words:
        if word not in DAYS:
            raise UnitError(one_of(word, DAYS))
    return frozenset(map(DAYS.index, words)) or EVERY_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The moment from which load may not be sent, and why."""

    at: datetime
    why: str


def refusal(
    authorised: Sequence[Window], quiet: Sequence[Window], start: datetime, length: timedelta
) -> str | None:
    """Why nothing of this length may begin now; None where it may be sent to its very end."""
    edge = first_edge(authorised, quiet, start, length)
    return None if edge is None else edge.why


def first_edge(
    authorised: Sequence[Window], quiet: Sequence[Window], start: datetime, length: timedelta
) -> Edge | None:
    """Where load of this length would leave what is allowed; None where it stays inside."""
    for number in range(max(1, -(-length // _STEP)) + 1):
        instant = min(start + number * _STEP, start + length)
        if authorised and not any(window.holds(instant) for window in authorised):
            windows = "; ".join(map(str, authorised))
            return _edge(instant, f"is in no authorised window ({windows})")
        for window in quiet:
            if window.holds(instant):
                return _edge(instant, f"is in the quiet hours {window}")
    return None


def _edge(instant: datetime, why: str) -> Edge:
    """The whole minute at or before the first instant that was found outside."""
    return Edge(at=instant.replace(second=0, microsecond=0), why=f"{_at(instant)} {why}")


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
