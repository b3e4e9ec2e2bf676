"""Plans, a clock and a runner for nights that take no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.nightly.budget import Budget
from loadtests.nightly.canary import HostJudgement, HostLimits, HostReading
from loadtests.nightly.night import begin, conduct
from loadtests.nightly.plan import NightPlan, Step
from loadtests.nightly.records import Attempt, NightRecord, NightState, StepRecord
from loadtests.nightly.schedule import Due, scheduled_at
from loadtests.nightly.spec import StepKind
from loadtests.nightly.windows import EVERY_DAY, Edge

MINUTE_NS = 60 * NS_PER_S
HOUR_NS = 60 * MINUTE_NS
FINE = HostJudgement(moved=(), notes=())
READING = HostReading(
    cpu_ns=10_000_000, loopback_ns=20_000, disk_sync_ns=900_000, cpu_model="X", cores=2
)


def step(name: str, minutes: float = 60, **changes: object) -> Step:
    """A run of an hour, every night."""
    plain = Step(
        name=name,
        kind=StepKind.RUN,
        scenario=Path(f"{name}.toml"),
        arguments=(),
        days=EVERY_DAY,
        is_required=False,
        length_ns=round(minutes * MINUTE_NS),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def plan_of(*steps: Step, **changes: object) -> NightPlan:
    """At 01:30, ten hours, one retry."""
    plain = NightPlan(
        path=Path("nightly.toml"),
        name="nightly",
        at_minute=90,
        catch_up_ns=12 * HOUR_NS,
        retries=1,
        overdue_ns=26 * HOUR_NS,
        steps=steps,
        budget=Budget(
            time_ns=10 * HOUR_NS, most_cost=None, cost_per_hour=2.0, beside_ns=2 * MINUTE_NS
        ),
        host_limits=HostLimits(cpu_ratio=0.1, loopback_ratio=0.3, disk_sync_ratio=1.0),
        authorised=(),
        quiet=(),
        retention_nights=None,
        upload=None,
        notify=None,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


@dataclass
class FakeClock:
    """Time that passes when a runner says so."""

    now_ns: int

    def monotonic_ns(self) -> int:
        """The same as the wall's."""
        return self.now_ns

    def unix_ns(self) -> int:
        """UTC."""
        return self.now_ns


def attempt(state: NightState, *, is_of_host: bool = False, run_id: str | None = None) -> Attempt:
    """One try."""
    return Attempt(
        state=state, run_id=run_id, is_of_host=is_of_host, words=f"it was {state.value}", took_ns=0
    )


OF_HOST = attempt(NightState.INCONCLUSIVE, is_of_host=True)


@dataclass
class FakeRunner:
    """Answers from a script of each step (then PASS); a step takes its length and `late_ns`.

    One that is still running at its edge is stopped there, as it is for real.
    """

    clock: FakeClock
    script: dict[str, list[Attempt]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stops_at: str | None = None
    reason: str = ""
    late_ns: int = 0
    had_before: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self, step: Step, before: Sequence[StepRecord], edge: Edge | None) -> Attempt:
        """The next answer."""
        self.asked.append(step.name)
        self.had_before[step.name] = tuple(one.name for one in before)
        self.clock.now_ns += step.length_ns + self.late_ns
        if edge is not None and self.clock.now_ns > edge.at.timestamp() * NS_PER_S:
            self.clock.now_ns = round(edge.at.timestamp()) * NS_PER_S
            return msgspec.structs.replace(attempt(NightState.ABORTED), words=edge.why)
        if step.name == self.stops_at:
            self.reason = "SIGTERM"
            return attempt(NightState.ABORTED)
        left = self.script.get(step.name, [])
        return left.pop(0) if left else attempt(NightState.PASS, run_id=f"run-of-{step.name}")

    def stop_reason(self) -> str:
        """What it was asked."""
        return self.reason


def unix_ns(text: str) -> int:
    """Of an ISO time; UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(moment.timestamp()) * NS_PER_S


def run_night(
    plan: NightPlan,
    *,
    script: dict[str, list[Attempt]] | None = None,
    at: str = "2026-11-26T01:30:00",
    night: str | None = None,
    judgement: HostJudgement = FINE,
    stops_at: str | None = None,
    saved: list[NightRecord] | None = None,
    late_ns: int = 0,
    reason: str = "",
) -> tuple[NightRecord, list[str]]:
    """Conduct a night from a moment on; its record and the steps that were asked for."""
    clock = FakeClock(unix_ns(at))
    runner = FakeRunner(clock, script or {}, stops_at=stops_at, late_ns=late_ns, reason=reason)
    day = date.fromisoformat(night or at[:10])
    due = Due(night=day, scheduled=scheduled_at(day, plan.at_minute), missed=())
    kept: list[NightRecord] = [] if saved is None else saved
    begun = begin(plan, due, clock, READING)
    record = conduct(plan, begun, judgement, clock=clock, runner=runner, save=kept.append)
    return record, runner.asked
