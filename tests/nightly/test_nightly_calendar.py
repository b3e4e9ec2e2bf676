"""Nights, windows and clocks: missed nights, midnight, year's end, summer time."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.nightly.schedule import Due, NotDue, decide_due, newest_night
from loadtests.nightly.windows import EVERY_DAY, Window, parse_days, parse_minute, refusal
from loadtests.plan.units import UnitError

AT = 90  # 01:30
LATE = timedelta(hours=12)
HOUR = timedelta(hours=1)


def moment(text: str) -> datetime:
    """UTC unless the text says otherwise."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def due(now: str, last: str | None) -> Due | NotDue:
    """At 01:30 with half a day to catch up."""
    return decide_due(moment(now), AT, LATE, None if last is None else date.fromisoformat(last))


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-11-26T01:29:59", "2026-11-25"),
        ("2026-11-26T01:30:00", "2026-11-26"),
        ("2026-11-26T23:59:59", "2026-11-26"),
        ("2027-01-01T01:29:00", "2026-12-31"),
        ("2027-01-01T01:30:00", "2027-01-01"),
        ("2028-02-29T02:00:00", "2028-02-29"),
        # The same instants told by clocks elsewhere.
        ("2026-11-25T20:30:00-05:00", "2026-11-26"),
        ("2026-11-26T10:29:00+09:00", "2026-11-25"),
    ],
)
def test_a_night_is_the_day_on_which_it_was_to_begin(now: str, night: str) -> None:
    """Whatever the clock on the wall; after midnight, at the end of a year, on a leap day."""
    assert newest_night(moment(now), AT) == date.fromisoformat(night)


def test_the_first_night_has_missed_none() -> None:
    """Without a record nothing is caught up."""
    found = due("2026-11-26T01:30:05", None)
    assert isinstance(found, Due)
    assert (found.night, found.missed) == (date(2026, 11, 26), ())
    assert not found.is_caught_up(moment("2026-11-26T01:30:05"))


def test_a_night_runs_once() -> None:
    """A second start in the same night finds it begun, and says when the next one is."""
    found = due("2026-11-26T09:00:00", "2026-11-26")
    assert isinstance(found, NotDue)
    assert "begun already" in found.why
    assert found.following == moment("2026-11-27T01:30:00")


def test_of_missed_nights_the_newest_is_caught_up_once() -> None:
    """Over New Year, four days off: one night runs, three are named, and then none is due."""
    found = due("2027-01-02T08:00:00", "2026-12-29")
    assert isinstance(found, Due)
    assert found.night == date(2027, 1, 2)
    assert found.missed == (date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 1))
    assert found.is_caught_up(moment("2027-01-02T08:00:00"))
    assert isinstance(due("2027-01-02T08:00:01", "2027-01-02"), NotDue)


def test_a_night_that_is_too_late_waits_for_the_next() -> None:
    """12 h after its time it is left out."""
    assert isinstance(due("2026-11-26T13:30:00", "2026-11-25"), Due)
    found = due("2026-11-26T13:30:01", "2026-11-25")
    assert isinstance(found, NotDue)
    assert "12.0 h late" in found.why
    assert found.following == moment("2026-11-27T01:30:00")


def test_a_clock_that_went_back_begins_no_night_twice() -> None:
    """Nothing runs until the clock is past what was begun."""
    found = due("2026-11-20T02:00:00", "2026-11-26")
    assert isinstance(found, NotDue)
    assert "clock went back" in found.why
    assert found.following == moment("2026-11-27T01:30:00")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_machines_own_zone_changes_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of nights, both changes of the clock included: each once, 24 h apart."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        now, last, begun = moment("2026-01-01T00:00:00"), None, []
        while now < moment("2027-01-01T00:00:00"):
            local = datetime.fromtimestamp(now.timestamp()).astimezone()  # as the machine tells it
            found = decide_due(local, AT, LATE, last)
            if isinstance(found, Due):
                assert found.missed == ()
                begun.append(found.scheduled)
                last = found.night
            now += timedelta(hours=2)
    finally:
        monkeypatch.undo()
        os.environ.pop("TZ", None)
        time.tzset()
    assert len(begun) == 365
    assert {after - before for before, after in pairwise(begun)} == {timedelta(days=1)}


@given(st.lists(st.integers(0, 200), max_size=30), st.integers(0, 1439))
def test_every_night_is_run_or_missed_or_too_late(pauses_h: list[int], at: int) -> None:
    """Whenever a machine happens to be on: no night twice, none forgotten between two."""
    now, last, seen = moment("2026-12-20T00:00:00"), None, []
    for pause_h in pauses_h:
        now += timedelta(hours=pause_h)
        found = decide_due(now, at, LATE, last)
        if isinstance(found, Due):
            if last is not None:
                days = [last, *found.missed, found.night]
                assert all(b - a == timedelta(days=1) for a, b in pairwise(days))
            last = found.night
            seen.append(found.night)
    assert len(seen) == len(set(seen))


def window(start: str, end: str, days: tuple[str, ...] = (), zone: str = "UTC") -> Window:
    """A window of the day."""
    return Window(
        from_minute=parse_minute(start),
        to_minute=parse_minute(end),
        days=parse_days(days),
        zone=ZoneInfo(zone),
    )


NIGHT = window("22:00", "06:00", ("fri",))  # 2026-11-27 is a Friday


@pytest.mark.parametrize(
    ("at", "is_inside"),
    [
        ("2026-11-27T21:59:59", False),
        ("2026-11-27T22:00:00", True),
        ("2026-11-28T05:59:59", True),  # Saturday morning is Friday's window
        ("2026-11-28T06:00:00", False),
        ("2026-11-27T03:00:00", False),  # and Friday morning was Thursday's
        ("2026-11-28T22:30:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_its_first_day(at: str, is_inside: bool) -> None:  # noqa: FBT001 - a table
    """Both of its ends are looked at."""
    assert NIGHT.holds(moment(at)) is is_inside


def test_the_same_time_twice_is_the_whole_day() -> None:
    """From 00:00 to 00:00."""
    assert all(window("00:00", "00:00").holds(moment(f"2026-11-26T{h:02}:17")) for h in range(24))


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        ("2026-03-28T12:00:00", "2026-03-29T12:00:00", 0),  # 02:00 to 03:00 does not exist
        ("2026-10-24T12:00:00", "2026-10-25T12:00:00", 120),  # and exists twice
        ("2026-06-01T12:00:00", "2026-06-02T12:00:00", 60),
    ],
)
def test_summer_time_leaves_out_or_repeats_an_hour(start: str, end: str, minutes: int) -> None:
    """A window of 02:00 to 03:00 in Berlin, minute by minute of real time."""
    own, now, inside = window("02:00", "03:00", zone="Europe/Berlin"), moment(start), 0
    while now < moment(end):
        inside += own.holds(now)
        now += timedelta(minutes=1)
    assert inside == minutes


def test_load_begins_only_where_it_may_also_end() -> None:
    """An hour at 05:30 leaves a window that ends at 06:00; half an hour fits to the minute."""
    open_ = (window("00:00", "06:00"),)
    assert refusal(open_, (), moment("2026-11-26T05:00:00"), timedelta(minutes=59)) is None
    why = refusal(open_, (), moment("2026-11-26T05:30:00"), HOUR)
    assert why is not None
    assert "2026-11-26 06:00 UTC is in no authorised window (00:00-06:00 UTC)" in why


def test_quiet_hours_end_nothing_that_has_begun_but_are_not_begun_into() -> None:
    """Their zone's clock counts: 08:00 in Berlin is 07:00 UTC in winter and 06:00 in summer."""
    quiet = (window("08:00", "18:00", zone="Europe/Berlin"),)
    assert refusal((), quiet, moment("2026-01-15T05:30:00"), HOUR) is None
    why = refusal((), quiet, moment("2026-07-15T05:30:00"), HOUR)
    assert why is not None
    assert "quiet hours 08:00-18:00 Europe/Berlin" in why


def test_two_windows_are_one_after_the_other() -> None:
    """Load may go from one authorised window into the next."""
    both = (window("00:00", "02:00"), window("02:00", "04:00"))
    assert refusal(both, (), moment("2026-11-26T01:30:00"), HOUR) is None


@pytest.mark.parametrize("text", ["24:00", "1:30", "01:60", "", "01:30 ", "-1:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    """Two digits each."""
    with pytest.raises(UnitError):
        parse_minute(text)


def test_an_unknown_day_lists_the_known_ones() -> None:
    """And no day at all is every day."""
    with pytest.raises(UnitError, match="mon, tue, wed"):
        parse_days(("monday",))
    assert parse_days(()) == EVERY_DAY
