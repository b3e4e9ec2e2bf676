"""The host against its own history: a night on a host that moved says nothing of the target.

Three figures are measured before anything is sent: fixed work on one core, a round trip over
loopback, a sync to disk. Each is held against the median of the newest nights on a machine
of the same kind. It has moved when it differs by more than its limit *and* by more than its
own noise (4 standard deviations, from the median absolute deviation of the logarithms), in
either direction: a faster host is another one, too.

Nights that were void are part of the history, so a change that stays is accepted after half
of the nights looked at, and is named until then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import msgspec

from loadtests.plan.units import format_duration

NIGHTS: Final = 14  # looked at: after 7 a change is what is usual
FEWEST_NIGHTS: Final = 4  # with fewer a median means little
_SIGMAS: Final = 4.0
_MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution


class HostReading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement of a host, and what kind of machine it was."""

    cpu_ns: int  # fixed work, the least of some tries
    loopback_ns: int  # median round trip
    disk_sync_ns: int  # median of small writes with fsync
    cpu_model: str
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Parts (0-1) by which a figure may differ from the median of its history."""

    cpu_ratio: float
    loopback_ratio: float
    disk_sync_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJudgement:
    """`moved` names what moved, in words; `notes` what is not known."""

    moved: tuple[str, ...]
    notes: tuple[str, ...]


def judge_host(
    reading: HostReading, history: Sequence[HostReading], limits: HostLimits
) -> HostJudgement:
    """Judge tonight's reading by those before it, oldest first."""
    if history and _kind(history[-1]) != _kind(reading):
        seen, before = _words(reading), _words(history[-1])
        return HostJudgement(moved=(f"another machine: {seen}, the last was {before}",), notes=())
    alike = [one for one in history if _kind(one) == _kind(reading)][-NIGHTS:]
    if len(alike) < FEWEST_NIGHTS:
        note = f"{len(alike)} nights on this machine: compared from {FEWEST_NIGHTS} on"
        return HostJudgement(moved=(), notes=(note,))
    found = (
        _moved("fixed work", reading.cpu_ns, [o.cpu_ns for o in alike], limits.cpu_ratio),
        _moved(
            "loopback round trip",
            reading.loopback_ns,
            [o.loopback_ns for o in alike],
            limits.loopback_ratio,
        ),
        _moved(
            "disk sync",
            reading.disk_sync_ns,
            [o.disk_sync_ns for o in alike],
            limits.disk_sync_ratio,
        ),
    )
    return HostJudgement(moved=tuple(text for text in found if text is not None), notes=())


def _kind(reading: HostReading) -> tuple[str, int]:
    return reading.cpu_model, reading.cores


def _words(reading: HostReading) -> str:
    return f"{reading.cores} cores of {reading.cpu_model}"


def _moved(name: str, value_ns: int, before_ns: Sequence[int], limit_ratio: float) -> str | None:
    usual_ns = median(before_ns)
    off = [abs(math.log(max(1, one) / usual_ns)) for one in before_ns]
    allowed = max(math.log1p(limit_ratio), _SIGMAS * _MAD_TO_SIGMA * median(off))
    if abs(math.log(max(1, value_ns) / usual_ns)) <= allowed:
        return None
    return (
        f"{name} takes {format_duration(value_ns)}, {value_ns / usual_ns - 1:+.0%} from the median "
        f"{format_duration(usual_ns)} of {len(before_ns)} nights; "
        f"{math.expm1(allowed):.0%} is allowed"
    )
