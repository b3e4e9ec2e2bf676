"""Which night is due: one a day, at a time of day in UTC, which has no summer time.

A night is the day on which it was to begin, whenever it runs and ends. Of nights that were
missed (the machine was off) the newest is caught up, once, where that is not too late.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The night that is to run now; `missed` were to run before it and never will."""

    night: date
    scheduled: datetime
    missed: tuple[date, ...]

    def is_caught_up(self, now: datetime) -> bool:
        """Whether it begins so late that it was missed: later than a timer is ever late."""
        return now - self.scheduled > timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDue:
    """Nothing is to run now, and why; `following` is when something is."""

    why: str
    following: datetime


def scheduled_at(night: date, at_minute: int) -> datetime:
    """The moment at which a night is to begin."""
    return datetime.combine(night, time(at_minute // 60, at_minute % 60), tzinfo=UTC)


def newest_night(now: datetime, at_minute: int) -> date:
    """The last night that was to begin until now (with a zone)."""
    today = now.astimezone(UTC).date()
    is_begun = scheduled_at(today, at_minute) <= now
    return today if is_begun else today - timedelta(days=1)


def decide_due(
    now: datetime, at_minute: int, catch_up: timedelta, last: date | None
) -> Due | NotDue:
    """What is due after the night `last` (None: there was none)."""
    night = newest_night(now, at_minute)
    scheduled = scheduled_at(night, at_minute)
    following = scheduled_at(night + timedelta(days=1), at_minute)
    if last is not None and last > night:
        why = f"night {last} was begun already: the clock went back, or it is a night ahead"
        return NotDue(why=why, following=scheduled_at(last + timedelta(days=1), at_minute))
    if last == night:
        return NotDue(why=f"night {night} was begun already", following=following)
    if now - scheduled > catch_up:
        late_h = (now - scheduled) / timedelta(hours=1)
        limit_h = catch_up / timedelta(hours=1)
        why = f"night {night} is {late_h:.1f} h late, and is caught up within {limit_h:g} h only"
        return NotDue(why=why, following=following)
    first = night if last is None else last + timedelta(days=1)
    missed = tuple(first + timedelta(days=day) for day in range((night - first).days))
    return Due(night=night, scheduled=scheduled, missed=missed)
