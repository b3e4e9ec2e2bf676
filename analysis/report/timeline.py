"""The time axis of a run: its stages, and what happened on it besides requests.

Every event is marked but those that every healthy run has: a fault that somebody adds later
must not need a line here to be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from analysis.figures import NS_PER_S
from analysis.recovery.faults import build_faults
from analysis.unmeasured import CRASHES
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome

MOST_MARKS: Final = 20  # more would be a wall; the table of events has them all
_ROUTINE: Final = frozenset(
    {
        *("agent_joined", "barrier_passed", "t0_chosen", "load_confirmed", "finished"),
        # What goes along with a fault: its being applied and its being gone are marked.
        *("prediction", "steady_state_reached", "fault_began", "fault_verified", "fault_undone"),
        *("failover_ended", "rollout_look"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A stage, in seconds from the axis' start."""

    name: str
    start_s: float
    end_s: float
    is_judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An event, in seconds from the axis' start; `number` is its line in the table of events."""

    number: int
    at_s: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch that somebody did not hand over, in seconds from the axis' start."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBand:
    """A fault in force, in seconds from the axis' start; to its end where it was not undone."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """An axis from `first_s` (unix) over `length_s` seconds; `unmarked` events found no room."""

    first_s: int
    length_s: int
    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]
    unmarked: int
    gaps: tuple[Gap, ...]
    faults: tuple[FaultBand, ...]


def _faults(run: Run, first_s: int, length_s: int) -> tuple[FaultBand, ...]:
    end_ns = (first_s + length_s) * NS_PER_S
    try:
        faults = build_faults(run)
    except CRASHES:  # the verdict says what is wrong with the events
        return ()
    return tuple(
        FaultBand(
            name=fault.name,
            start_s=fault.at_ns / NS_PER_S - first_s,
            end_s=(end_ns if fault.gone_ns is None else fault.gone_ns) / NS_PER_S - first_s,
        )
        for fault in faults
        if fault.problem is None
    )


def _bands(run: Run, first_s: int) -> tuple[Band, ...]:
    t0_s = (run.manifest.t0_unix_ns or 0) / NS_PER_S - first_s
    return tuple(
        Band(
            name=stage.name,
            start_s=t0_s + stage.start_ns / NS_PER_S,
            end_s=t0_s + stage.end_ns / NS_PER_S,
            is_judged=stage.is_judged,
        )
        for stage in run.manifest.stages
    )


def build_timeline(run: Run, first_s: int, length_s: int) -> Timeline:
    """Stages, marks and gaps on an axis; marks outside of it are only in the table."""
    is_whole = run.manifest.outcome is Outcome.COMPLETE  # then it stopped because it was over
    routine = _ROUTINE | {"stopping"} if is_whole else _ROUTINE
    marks = [
        Mark(number=number, at_s=event.at_unix_ns / NS_PER_S - first_s, kind=event.kind)
        for number, event in enumerate(run.events, start=1)
        if event.kind not in routine
    ]
    inside = [mark for mark in marks if 0 <= mark.at_s <= length_s]
    return Timeline(
        first_s=first_s,
        length_s=length_s,
        bands=_bands(run, first_s),
        marks=tuple(inside[:MOST_MARKS]),
        unmarked=len(marks) - len(inside[:MOST_MARKS]),
        gaps=tuple(
            Gap(start_s=float(lost.from_s - first_s), end_s=float(lost.to_s - first_s))
            for lost in run.manifest.lost_windows
        ),
        faults=_faults(run, first_s, length_s),
    )
