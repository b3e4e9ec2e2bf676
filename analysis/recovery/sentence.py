"""What a fault cost, in one sentence each, with how close it is known."""

from __future__ import annotations

from analysis.recovery.measures import PartRecovery, Recovery, measure_recoveries
from analysis.text import clean, count, latency
from analysis.unmeasured import Unmeasured
from analysis.verdict import plan_of
from loadtests.record.archive import Run


def recovery_sentences(run: Run) -> tuple[str, ...]:
    """One for each fault of a run; none where nothing was measured."""
    recoveries = measure_recoveries(run, plan_of(run))
    if isinstance(recoveries, Unmeasured):
        return ()
    return tuple(_sentence(recovery) for recovery in recoveries.faults)


def _sentence(recovery: Recovery) -> str:
    fault, part = recovery.fault, recovery.whole
    assert fault is not None, "of a fault, not of all together"
    outage = part.outage
    failed = outage.failed + outage.dropped
    near = f"±{latency(part.resolution_ns)}"
    nodes = ", ".join(map(clean, fault.nodes))
    return (
        f"{clean(fault.name)} ({clean(fault.action)} of {nodes}): unavailable "
        f"for {latency(outage.unavailable_ns)} {near}, {_recovered(part)} {near}; "
        f"{count(failed)} of {count(outage.planned)} requests failed"
    )


def _recovered(part: PartRecovery) -> str:
    if part.recovered is None or part.recovered.after_ns is None:
        return "not seen to recover"
    return f"every objective held again after {latency(part.recovered.after_ns)}"
