"""What a rollout came to: how it was decided to go back, and how soon nothing was felt any more.

The five criteria of the requirement's section 10, measured:

    rollback completes         all_green: from the decision until every objective holds again
                               (clients' bins), and the new version serves nothing any more
    no data loss               lost_writes, of the audit
    previous version stable    relapses: how often the objectives missed again after that
    metrics restored           p95_restored: the last judged stage's p95 to the first one's
    no cascading failures      nodes of the version before that HAProxy took for down

and traffic_off, from the decision until the new version's weight is as before and no request is
under way on it. Times of the decision and of that are the injector's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.figures import NS_PER_S
from analysis.judging import Outcome, State, inconclusive
from analysis.reading import Reading, unit_of
from analysis.recovery.holding import HOLD_NS, Recovered, count_relapses, find_recovery
from analysis.recovery.series import Series
from loadtests.plan.model import Binning, MeasureKind, Objective, Plan
from loadtests.plan.objectives import is_met, required_samples
from loadtests.plan.units import format_duration
from loadtests.record.archive import Run
from loadtests.record.event import Event
from loadtests.record.fault_events import ROLLOUT, FaultEvent, fault_steps
from loadtests.record.tally import tally_of
from loadtests.record.window import CONNECTION

_P95: Final = 0.95
BIN_KINDS: Final = frozenset({MeasureKind.ALL_GREEN, MeasureKind.RELAPSES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """p95 of response time in the first and in the last judged stage (ns)."""

    before_ns: float
    after_ns: float
    samples: int  # of the stage that has fewer
    from_ns: int  # unix, where the last one begins

    @property
    def ratio(self) -> float:
        """After to before."""
        return self.after_ns / self.before_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """One rollout; durations in ns from the decision, None: it was not, or did not happen."""

    phases: tuple[float, ...]  # shares of the traffic that the new version had
    is_passed: bool
    decisions: int
    decided_ns: int | None  # unix
    reason: str
    off_ns: int | None
    green: Recovered | None
    relapses: int | None
    went_down: tuple[str, ...]  # nodes of the version before
    gaps: int  # looks in vain, of the load balancer too
    restored: Restored | None

    @property
    def green_ns(self) -> int | None:
        """Until every objective holds and the new version serves nothing."""
        if self.green is None or self.green.after_ns is None or self.off_ns is None:
            return None
        return max(self.green.after_ns, self.off_ns)


def measure_rollback(
    run: Run,
    plan: Plan,
    series: Series,
    objectives: Sequence[tuple[Objective, Series]],
    *,
    binning: Binning,
    hold_ns: int = HOLD_NS,
) -> Rollback | None:
    """The rollout of a run; None where its plan has none."""
    if plan.failover is None or plan.failover.rollout is None:
        return None
    of = _by_kind(run)
    decided = of(FaultEvent.ROLLBACK_DECIDED)
    decided_ns = decided[0].at_unix_ns if decided else None
    off_ns = None if decided_ns is None else _off_ns(run, plan, decided_ns)
    green = None
    if decided_ns is not None and objectives:
        green = find_recovery(series, objectives, binning, decided_ns, hold_ns)
    relapses = None
    if decided_ns is not None and green is not None and green.after_ns is not None:
        since_ns = decided_ns + green.after_ns
        relapses = count_relapses(series, objectives, binning, since_ns, hold_ns)
    looks = of(FaultEvent.ROLLOUT_LOOK)
    return Rollback(
        phases=tuple(float(e.fields["traffic_ratio"] or 0) for e in of(FaultEvent.ROLLOUT_PHASE)),
        is_passed=bool(of(FaultEvent.ROLLOUT_PASSED)),
        decisions=len(decided),
        decided_ns=decided_ns,
        reason=decided[0].text if decided else "",
        off_ns=off_ns,
        green=green,
        relapses=relapses,
        went_down=_went_down(looks),
        gaps=len(of(FaultEvent.ROLLOUT_GAP)) + sum(e.fields["down"] is None for e in looks),
        restored=_restored(run, plan),
    )


def _by_kind(run: Run) -> Callable[[FaultEvent], list[Event]]:
    def of(kind: FaultEvent) -> list[Event]:
        return [event for event in run.events if event.kind == kind.value]

    return of


def _off_ns(run: Run, plan: Plan, decided_ns: int) -> int | None:
    """Until every node of the new version was seen to serve nothing; None: it was not seen."""
    assert plan.failover is not None, "a rollout is a part of it"
    names = {node.name for node in plan.failover.nodes_of(is_new=True)}
    t0_ns = run.manifest.t0_unix_ns or 0
    gone = {
        step.node: t0_ns + step.at_ns - decided_ns
        for step in fault_steps(run.events)
        if step.fault == ROLLOUT and step.kind is FaultEvent.GONE
    }
    return max(gone[name] for name in names) if names <= gone.keys() else None


def _went_down(looks: Sequence[Event]) -> tuple[str, ...]:
    old = [look for look in looks if not look.fields["is_new"]]
    names = [name for look in old for name in str(look.fields["down"] or "").split(", ") if name]
    return tuple(dict.fromkeys(names))


def _restored(run: Run, plan: Plan) -> Restored | None:
    """None with fewer than two judged stages that have an answer."""
    judged = [stage for stage in run.manifest.stages if stage.is_judged]
    if len(judged) < 2 or run.manifest.t0_unix_ns is None:  # noqa: PLR2004 - before and after
        return None
    slots, merged = run.slots, run.merged(judged=True)
    names = [stage.name for stage in plan.stages]
    found = []
    for stage in (judged[0], judged[-1]):
        own = [
            slots.slot(names.index(stage.name), request, node)
            for request, name in enumerate(slots.requests)
            if name != CONNECTION
            for node in range(len(slots.nodes))
        ]
        found.append(tally_of(merged, own).response)
    if not all(histogram.n for histogram in found):
        return None
    before_ns, after_ns = (histogram.quantile_us(_P95) * 1000 for histogram in found)
    return Restored(
        before_ns=before_ns,
        after_ns=after_ns,
        samples=min(histogram.n for histogram in found),
        from_ns=run.manifest.t0_unix_ns + judged[-1].start_ns,
    )


def read_rollback(objective: Objective, rollback: Rollback | None) -> Reading:
    """The value of an objective on a rollout, as far as there is one."""
    kind, value, samples = objective.measure.kind, None, 0
    if rollback is not None:
        restored = rollback.restored
        values = {
            MeasureKind.ROLLBACKS: rollback.decisions,
            MeasureKind.TRAFFIC_OFF: rollback.off_ns,
            MeasureKind.ALL_GREEN: rollback.green_ns,
            MeasureKind.RELAPSES: rollback.relapses,
            MeasureKind.CASCADING_FAILURES: len(rollback.went_down),
            MeasureKind.P95_RESTORED: None if restored is None else restored.ratio,
        }
        value = values[kind]
        samples = 1
        if kind is MeasureKind.P95_RESTORED:
            samples = 0 if restored is None else restored.samples
    return Reading(
        unit=unit_of(objective.measure),
        value=None if value is None else float(value),
        samples=samples,
        required=required_samples(_P95) if kind is MeasureKind.P95_RESTORED else 0,
        resolution=None,
    )


def judge_rollback(objective: Objective, rollback: Rollback, reading: Reading) -> Outcome:
    """A limit on a rollout; what did not happen is neither kept nor missed."""
    kind = objective.measure.kind
    if (lack := _lack(kind, rollback, reading)) is not None:
        return lack
    assert reading.value is not None, "what is lacking was told"
    if not is_met(objective, reading.value):
        return State.FAIL, _missed(kind, rollback)
    is_over = rollback.is_passed or rollback.off_ns is not None
    if kind is MeasureKind.ROLLBACKS and not is_over:
        return inconclusive("the rollout did not come to its end")
    if kind in {MeasureKind.ROLLBACKS, MeasureKind.CASCADING_FAILURES} and rollback.gaps:
        return inconclusive(f"{rollback.gaps} times nothing was known")
    return State.PASS, "met"


def _missed(kind: MeasureKind, rollback: Rollback) -> str:
    if kind is MeasureKind.CASCADING_FAILURES:
        return f"went down: {', '.join(rollback.went_down)}"
    if kind is MeasureKind.ROLLBACKS and rollback.reason:
        return f"limit missed: {rollback.reason}"
    return "limit missed"


def _lack(kind: MeasureKind, rollback: Rollback, reading: Reading) -> Outcome | None:
    """Why a value is not there, or says nothing."""
    if kind in {MeasureKind.ROLLBACKS, MeasureKind.CASCADING_FAILURES}:
        return None
    if rollback.decided_ns is None:
        return inconclusive("no rollback was decided")
    if kind is MeasureKind.P95_RESTORED:
        return _lack_of_restored(rollback, reading)
    if rollback.off_ns is None:
        return State.FAIL, "the new version was not seen to serve nothing again"
    return None if reading.value is not None else _lack_of_green(rollback)


def _lack_of_green(rollback: Rollback) -> Outcome:
    """Why it is not known when all was green."""
    if rollback.green is None:
        return inconclusive("no objective that bins can tell of has to hold again")
    since_ns = rollback.green.tail_ns
    if since_ns is None:
        return State.FAIL, "objectives did not hold again before the run ended"
    text = f"objectives held from {format_duration(since_ns)} on"
    return inconclusive(f"{text}, but the run ended before 30 s of it")


def _lack_of_restored(rollback: Rollback, reading: Reading) -> Outcome | None:
    if rollback.restored is None:
        return inconclusive("no judged stage before and after")
    if reading.is_too_small:
        return inconclusive(f"{reading.samples} samples, {reading.required} are needed")
    green_ns = rollback.green_ns
    if green_ns is None or rollback.restored.from_ns < (rollback.decided_ns or 0) + green_ns:
        late = "" if green_ns is None else f" {green_ns / NS_PER_S:.1f} s after the decision"
        return inconclusive(f"the last judged stage begins before all was green{late}")
    return None
