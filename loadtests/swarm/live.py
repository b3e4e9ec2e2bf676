"""What the live page is told of a run: collected as the run goes, one JSON document a look.

The document is bounded whatever the run's size: the last five minutes of one request (or
of all), the worst 50 agents, and so on, each with how many were left out. Texts are cleaned
of secrets as the archive's are, and cut; not escaped: JSON needs none of it, and the page
puts them into text nodes alone.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.plan.model import MeasureKind, Plan
from loadtests.record.event import Event
from loadtests.record.fault_events import FaultEvent, fault_steps
from loadtests.record.redaction import clean_message, secrets_of
from loadtests.record.window import Window
from loadtests.swarm.live_fleet import LONGEST_NAME, AgentRow, LiveFleet
from loadtests.swarm.live_seconds import Column, LiveSeconds
from loadtests.swarm.metrics import RunSums
from loadtests.swarm.run_state import RunView

SHOWN_EVENTS: Final = 50
SHOWN_ERRORS: Final = 20
SHOWN_REQUESTS: Final = 50
SHOWN_FAULTS: Final = 50
LONGEST_TEXT: Final = 300
_NS_PER_US: Final = 1000
_STATES: Final = {
    FaultEvent.BEGAN: "beginning",
    FaultEvent.APPLIED: "applied",
    FaultEvent.VERIFIED: "in force",
    FaultEvent.NOT_IN_FORCE: "did not take hold",
    FaultEvent.UNDONE: "undone",
    FaultEvent.GONE: "gone",
    FaultEvent.UNDO_FAILED: "UNDO FAILED: may still be in force",
}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One event or state: when, who, what."""

    at_s: float | None  # since T0
    who: str
    text: str


class ErrorCount(msgspec.Struct, frozen=True, kw_only=True):
    """Requests (or connections) of a kind of error since T0."""

    request: str
    kind: str
    count: int


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """An objective on a percentile of the response time."""

    text: str
    limit_us: float


class LiveDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows; names and texts come from scenarios and targets."""

    run_id: str
    scenario: str
    scale: float
    load_model: str
    phase: str
    stage: str | None
    elapsed_s: float | None
    total_s: float
    t0_unix_s: float | None
    stop_reason: str | None
    is_read_only: bool
    requests: list[str]
    shown_request: int | None  # None: all together
    newest: dict[str, Column]  # of each request, in the order of `requests`; the last is all
    series: dict[str, Column]
    limits: list[Limit]
    errors: list[ErrorCount]
    agents: list[AgentRow]
    agents_up: int
    agents_joined: int
    engines_up: int
    engines: int
    faults: list[Told]
    events: list[Told]
    left_out: dict[str, int]
    verdict: msgspec.Raw  # `analysis`'s, as JSON; null before there is one
    verdict_note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The newest provisional verdict as JSON, and what there is to say of it."""

    verdict: bytes
    note: str


class LiveRun:
    """One run, from its barrier on."""

    def __init__(self, plan: Plan, run_id: str, sums: RunSums) -> None:
        self._plan, self._run_id, self._sums = plan, run_id, sums
        self._secrets = secrets_of(plan.scenario_text, os.environ)
        self._seconds = LiveSeconds(plan.slots)
        self._fleet = LiveFleet()
        self._events: deque[Event] = deque(maxlen=SHOWN_EVENTS)
        self._faults: dict[tuple[str, str], Event] = {}

    def received(self, source: str, window: Window) -> None:
        """A window of one agent, as it was handed over."""
        self._fleet.add(source, window)

    def released(self, window: Window) -> None:
        """A merged window of the run, or a late part of one."""
        self._seconds.add(window)

    def told(self, event: Event) -> None:
        """An event of the run."""
        self._events.append(event)
        for step in fault_steps((event,)):
            self._faults[step.fault, step.node] = event

    def document(
        self, view: RunView, judged: Judged, *, request: int | None, is_read_only: bool
    ) -> LiveDocument:
        """The page's data; `request` is a number in plan order, None or unknown: all."""
        plan, status = self._plan, view.status
        names = [one.name for one in plan.requests]
        is_known = request is not None and 0 <= request < min(len(names), SHOWN_REQUESTS)
        number = request if is_known and request is not None else self._seconds.all_number
        t0_unix_ns = None
        if status.elapsed_ns is not None:
            t0_unix_ns = view.unix_ns - status.elapsed_ns
        rows = self._fleet.rows(view.agents)
        errors, faults = self._sums.errors.most_common(SHOWN_ERRORS), list(self._faults.values())
        return LiveDocument(
            run_id=self._run_id,
            scenario=plan.scenario_name[:LONGEST_NAME],
            scale=plan.scale,
            load_model=plan.load_model.value,
            phase=status.phase.name.lower(),
            stage=None if view.stage is None else view.stage[:LONGEST_NAME],
            elapsed_s=None if status.elapsed_ns is None else status.elapsed_ns / NS_PER_S,
            total_s=plan.duration_ns / NS_PER_S,
            t0_unix_s=None if t0_unix_ns is None else t0_unix_ns / NS_PER_S,
            stop_reason=None if status.stop_reason is None else self._text(status.stop_reason),
            is_read_only=is_read_only,
            requests=[name[:LONGEST_NAME] for name in names[:SHOWN_REQUESTS]],
            shown_request=number if is_known else None,
            newest=self._newest(min(len(names), SHOWN_REQUESTS)),
            series=self._seconds.series(number),
            limits=self._limits(names[number] if is_known else None),
            errors=[
                ErrorCount(request=name[:LONGEST_NAME], kind=kind[:LONGEST_NAME], count=count)
                for (name, kind), count in errors
            ],
            agents=rows,
            agents_up=status.agents_alive,
            agents_joined=status.agents_joined,
            engines_up=status.engines_alive,
            engines=status.engines,
            faults=[self._fault(event, t0_unix_ns) for event in faults[-SHOWN_FAULTS:]],
            events=[
                self._told(event, f"{event.kind}: {event.text}", t0_unix_ns)
                for event in reversed(self._events)
            ],
            left_out={
                "requests": max(0, len(names) - SHOWN_REQUESTS),
                "errors": max(0, len(self._sums.errors) - SHOWN_ERRORS),
                "agents": max(0, len(view.agents) - len(rows)),
                "faults": max(0, len(faults) - SHOWN_FAULTS),
                "events": max(0, status.events - len(self._events)),
            },
            verdict=msgspec.Raw(judged.verdict),
            verdict_note=judged.note[:LONGEST_TEXT],
        )

    def _newest(self, shown: int) -> dict[str, Column]:
        """The last second of each request shown and of all, by column."""
        numbers = [*range(shown), self._seconds.all_number]
        rows = [self._seconds.series(number, last=1) for number in numbers]
        return {name: [v for row in rows for v in row[name]] for name in rows[0]}

    def _limits(self, request: str | None) -> list[Limit]:
        """Objectives on percentiles of the response time of what is shown."""
        return [
            Limit(text=one.text[:LONGEST_NAME], limit_us=one.limit / _NS_PER_US)
            for one in self._plan.objectives
            if one.measure.kind is MeasureKind.RESPONSE_QUANTILE and one.request == request
        ]

    def _fault(self, event: Event, t0_unix_ns: int | None) -> Told:
        (step,) = fault_steps((event,))
        text = f"{step.fault} ({step.action}): {_STATES[step.kind]}"
        return self._told(event, text, t0_unix_ns)

    def _told(self, event: Event, text: str, t0_unix_ns: int | None) -> Told:
        at_s = None if t0_unix_ns is None else (event.at_unix_ns - t0_unix_ns) / NS_PER_S
        who = clean_message(event.who, self._secrets)[:LONGEST_NAME]
        return Told(at_s=at_s, who=who, text=self._text(text))

    def _text(self, text: str) -> str:
        return clean_message(text, self._secrets)[:LONGEST_TEXT]
