"""What speaks against the figures of a failover: with any of it nothing can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.figures import NS_PER_S
from analysis.recovery.faults import Fault
from analysis.recovery.outage import measure_outage
from analysis.recovery.series import Series
from loadtests.plan.model import LoadModel, Plan
from loadtests.record.archive import Run
from loadtests.record.bins import BIN_NS
from loadtests.record.fault_events import FaultEvent


def doubts_of(run: Run, plan: Plan, faults: Sequence[Fault], series: Series) -> Iterator[str]:
    """Each as a sentence; `series` is of all requests."""
    if plan.load_model is LoadModel.CLOSED:
        yield "closed load stops with the target: what it did not send cannot fail"
    for fault in faults:
        if fault.problem is not None:
            yield f"fault {fault.name}: {fault.problem}"
    if any(event.kind == FaultEvent.STEADY_MISSED.value for event in run.events):
        yield "steady state was missed"
    for event in run.events:
        if event.kind == FaultEvent.NEVER_DUE.value:
            yield event.text
    from_s = faults[0].at_ns // NS_PER_S
    lost = [entry for entry in run.manifest.lost_windows if entry.to_s > from_s]
    if lost:
        yield f"{sum(entry.planned for entry in lost)} arrivals of lost windows are in no bin"
    yield from _stalls(run, series, from_s)


def _stalls(run: Run, series: Series, from_s: int) -> Iterator[str]:
    """Seconds in which an engine stood still for a bin and something became bad, or good again.

    And those beside them, because what was due before a stall may fail in it. In the midst of
    a stretch a stall neither begins nor ends it.
    """
    rows = run.engines[(run.engines["window_s"] >= from_s) & (run.engines["stalled_ns"] > BIN_NS)]
    outage = measure_outage(series, from_s * NS_PER_S, series.end_ns)
    edges_s = {at // NS_PER_S for s in outage.stretches for at in (s.start_ns, s.end_ns)}
    for second, stalled_ns in zip(rows["window_s"], rows["stalled_ns"], strict=True):
        if any(abs(int(second) - edge_s) <= 1 for edge_s in edges_s):
            yield (
                f"an engine stood still for {stalled_ns / 1e6:.0f} ms in second {second}, when "
                "requests began or ceased to fail: it may have been the generator"
            )
