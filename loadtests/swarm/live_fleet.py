"""How each agent's last second was: its own send lag, CPU and stalls, not the fleet's.

Taken from the windows as agents hand them over, before they are merged. Only what is needed
is kept of them, and nothing is computed until somebody looks: 1,000 agents hand over as many
windows a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.record.histogram import LENGTH
from loadtests.record.summary import sparse_quantile_us
from loadtests.record.window import EngineHealth, Hiccup, Kind, Window
from loadtests.swarm.run_state import AgentStatus

SHOWN_AGENTS: Final = 50
LONGEST_NAME: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class _AgentSecond:
    """One agent's newest second; buckets of its send lag in any order, some several times."""

    start_s: int
    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]
    health: tuple[EngineHealth, ...]
    hiccups: tuple[Hiccup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """One agent; None: not known (yet). `send_lag_p99_us` inf: over an hour."""

    agent: str
    is_alive: bool
    silence_s: float
    lease_age_s: float | None
    window_s: int | None
    engines: int
    send_lag_p99_us: float | None
    cpu_ratio: float | None  # of its busiest engine
    stalled_ms: float | None  # of the engine that stood still longest
    hiccup_p99_ms: float | None  # lateness of the host's bare ticker
    in_flight: int
    backlog: int


class LiveFleet:
    """Newest second by agent."""

    def __init__(self) -> None:
        self._newest: dict[str, _AgentSecond] = {}

    def add(self, source: str, window: Window) -> None:
        """Take a window of `<agent>@<incarnation>`; parts of one second add up."""
        agent = source.rpartition("@")[0]
        known = self._newest.get(agent)
        if known is not None and known.start_s > window.start_s:
            return
        buckets, counts = _send_lags(window)
        health, hiccups = window.health, window.hiccups
        if known is not None and known.start_s == window.start_s:
            buckets = np.concatenate((known.buckets, buckets))
            counts = np.concatenate((known.counts, counts))
            health, hiccups = known.health + health, known.hiccups + hiccups
        self._newest[agent] = _AgentSecond(
            start_s=window.start_s, buckets=buckets, counts=counts, health=health, hiccups=hiccups
        )

    def rows(self, agents: Iterable[AgentStatus]) -> list[AgentRow]:
        """The worst first: lost ones, then by send lag; at most `SHOWN_AGENTS`."""
        rows = [self._row(agent) for agent in agents]
        rows.sort(key=lambda row: (row.is_alive, -(row.send_lag_p99_us or 0.0), row.agent))
        return rows[:SHOWN_AGENTS]

    def _row(self, status: AgentStatus) -> AgentRow:
        newest = self._newest.get(status.agent)
        health = () if newest is None else newest.health
        hiccups = () if newest is None else newest.hiccups
        lag_us = None
        if newest is not None and newest.buckets.size:
            lag_us = sparse_quantile_us(newest.buckets, newest.counts, 0.99)
        age_ns = status.lease_age_ns
        return AgentRow(
            agent=status.agent[:LONGEST_NAME],
            is_alive=status.is_alive,
            silence_s=status.silence_ns / NS_PER_S,
            lease_age_s=None if age_ns is None else age_ns / NS_PER_S,
            window_s=None if newest is None else newest.start_s,
            engines=len({one.engine for one in health}),
            send_lag_p99_us=lag_us,
            cpu_ratio=max((one.cpu_ns / max(1, one.wall_ns) for one in health), default=None),
            stalled_ms=max((one.stalled_ns / 1e6 for one in health), default=None),
            hiccup_p99_ms=max((one.p99_ns / 1e6 for one in hiccups), default=None),
            in_flight=sum(one.in_flight for one in health),
            backlog=sum(one.backlog for one in health),
        )


def _send_lags(window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Buckets and counts of all slots; found by search, for most keys are of other kinds."""
    lows = (window.slots.astype(np.int64) * len(Kind) + Kind.SEND_LAG) * LENGTH
    # As the keys are: of another type, NumPy would convert all of them first.
    firsts = np.searchsorted(window.keys, lows.astype(np.uint32))
    ends = np.searchsorted(window.keys, (lows + LENGTH).astype(np.uint32))
    lengths = ends - firsts
    before = np.cumsum(lengths) - lengths
    places = np.repeat(firsts - before, lengths) + np.arange(int(lengths.sum()))
    return window.keys[places].astype(np.int64) - np.repeat(lows, lengths), window.counts[places]
