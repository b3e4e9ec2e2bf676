"""What a run shows while it runs: a frozen value, made from its newest merged windows.

The figures are of the newest *complete* window, which is a second or two old, and come
from the run's own histograms, never from Locust's rounded ones. They are for eyes; the
archive is the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.plan.model import Plan
from loadtests.record.histogram import Histogram
from loadtests.record.tally import Tally, tally_of
from loadtests.record.window import Count, Window
from loadtests.swarm.run_state import RunPhase, Status

_KEPT_EVENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One second of the whole run; a quantile without samples is None.

    Response-time quantiles are of ok requests, in microseconds from the intended start;
    `errors_per_s` counts client_error and failed; rates are per second.
    """

    planned_per_s: int
    sent_per_s: int
    done_per_s: int
    dropped_per_s: int
    errors_per_s: int
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    send_lag_p99_us: float | None
    in_flight: int
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a run stands. `stage` is None outside the plan's stages, `figures` before windows."""

    phase: RunPhase
    run_id: str
    stage: str | None
    elapsed_ns: int | None  # since T0, negative before it; None before the barrier
    total_ns: int
    figures: Figures | None
    requests: int  # done since T0
    errors: int  # of them client_error or failed
    agents_expected: int
    agents_up: int
    engines_up: int
    events: int
    newest_events: tuple[str, ...]  # sentences, oldest first, at most 5
    stop_reason: str | None


class ProgressBoard:
    """Collects windows and events between two looks at a run."""

    def __init__(self, run_id: str, plan: Plan, agents: int) -> None:
        self._run_id = run_id
        self._plan = plan
        self._agents = agents
        self._slots = range(len(plan.slots))
        self._newest_s = -1
        self._tally: Tally | None = None
        self._in_flight = self._backlog = 0
        self._requests = self._errors = 0
        self._events: tuple[str, ...] = ()

    def add_window(self, window: Window) -> None:
        """Take a merged window; a late part adds to the sums, and to its own second's figures."""
        tally = tally_of(window, self._slots)
        self._requests += tally.done
        self._errors += _errors(tally)
        if window.start_s < self._newest_s:
            return
        is_same = window.start_s == self._newest_s and self._tally is not None
        self._tally = self._tally + tally if is_same and self._tally is not None else tally
        if not is_same:
            self._in_flight = self._backlog = 0
        self._in_flight += sum(health.in_flight for health in window.health)
        self._backlog += sum(health.backlog for health in window.health)
        self._newest_s = window.start_s

    def add_event(self, text: str) -> None:
        """Remember an event's sentence."""
        self._events = (*self._events, text)[-_KEPT_EVENTS:]

    def look(self, status: Status) -> Progress:
        """Figures as they stand."""
        return Progress(
            phase=status.phase,
            run_id=self._run_id,
            stage=self.stage_at(status.elapsed_ns),
            elapsed_ns=status.elapsed_ns,
            total_ns=self._plan.duration_ns,
            figures=None if self._tally is None else self._figures(self._tally),
            requests=self._requests,
            errors=self._errors,
            agents_expected=self._agents,
            agents_up=status.agents_alive,
            engines_up=status.engines_alive,
            events=status.events,
            newest_events=self._events,
            stop_reason=status.stop_reason,
        )

    def stage_at(self, elapsed_ns: int | None) -> str | None:
        """Name of the stage at a time since T0; None outside all."""
        if elapsed_ns is None:
            return None
        inside = (s.name for s in self._plan.stages if s.start_ns <= elapsed_ns < s.end_ns)
        return next(inside, None)

    def _figures(self, tally: Tally) -> Figures:
        return Figures(
            planned_per_s=tally.count(Count.PLANNED),
            sent_per_s=tally.count(Count.SENT),
            done_per_s=tally.done,
            dropped_per_s=tally.count(Count.DROPPED),
            errors_per_s=_errors(tally),
            p50_us=_quantile(tally.response, 0.5),
            p95_us=_quantile(tally.response, 0.95),
            p99_us=_quantile(tally.response, 0.99),
            send_lag_p99_us=_quantile(tally.send_lag, 0.99),
            in_flight=self._in_flight,
            backlog=self._backlog,
        )


def _errors(tally: Tally) -> int:
    return tally.count(Count.CLIENT_ERROR) + tally.count(Count.FAILED)


def _quantile(histogram: Histogram, q: float) -> float | None:
    return histogram.quantile_us(q) if histogram.n else None
