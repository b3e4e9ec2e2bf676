"""The timeline as a pure state machine: each row of its drawing, and what it must never do."""

from __future__ import annotations

from dataclasses import replace

from failover_rig import fault
from hypothesis import given
from hypothesis import strategies as st

from loadtests.clock import NS_PER_S
from loadtests.failover.timeline import Apply, Steady, StopRun, Timeline, Undo
from loadtests.plan.failover import Failover, Fault, Quorum, SteadyState, System
from loadtests.plan.faults import parse_when


def failover(*faults: Fault, hold: int = 3, within: int = 10) -> Failover:
    """A failover without nodes: a timeline asks for none."""
    return Failover(
        system=System.OWN,
        quorum=Quorum.NONE,
        election_ns=0,
        health_path="",
        steady=SteadyState(hold_ns=hold * NS_PER_S, within_ns=within * NS_PER_S),
        leader=None,
        haproxy=None,
        nodes=(),
        faults=faults,
    )


def good(timeline: Timeline, start: int, end: int) -> list[object]:
    """Seconds [start, end) in which every objective held."""
    said: list[object] = []
    for second in range(start, end):
        said += timeline.observe((second + 1) * NS_PER_S, holds=True, reason="")
    return said


def test_nothing_is_injected_before_the_steady_state() -> None:
    """A fault that is due waits for it, and is due at once then."""
    timeline = Timeline(failover(fault("a", "noop", "all", at=2)))
    assert timeline.tick(2 * NS_PER_S) == []
    (steady,) = good(timeline, 0, 3)
    assert steady == Steady(is_reached=True, is_before=True, at_ns=3 * NS_PER_S, text=steady.text)  # type: ignore[attr-defined]  # a Steady
    (apply,) = timeline.tick(3 * NS_PER_S)
    assert isinstance(apply, Apply)
    assert timeline.tick(4 * NS_PER_S) == [], "once"


def test_a_target_that_is_never_steady_ends_the_run() -> None:
    """With the reason of the last bad second; and nothing is ever applied after it."""
    timeline = Timeline(failover(fault("a", "noop", "all", at=2)))
    for second in range(10):
        timeline.observe((second + 1) * NS_PER_S, holds=second % 3 != 2, reason="p95 < 1 ms")
    assert timeline.tick(10 * NS_PER_S - 1) == []
    missed, stop = timeline.tick(10 * NS_PER_S)
    assert isinstance(missed, Steady)
    assert not missed.is_reached
    assert isinstance(stop, StopRun)
    assert "p95 < 1 ms" in stop.reason
    assert "nothing was injected" in stop.reason
    good(timeline, 10, 20)
    assert timeline.tick(30 * NS_PER_S) == []


def test_a_missing_second_breaks_the_steady_state() -> None:
    """Good seconds count only on end."""
    timeline = Timeline(failover(fault("a", "noop", "all", at=0)))
    assert good(timeline, 0, 2) == []
    assert good(timeline, 3, 5) == []
    assert len(good(timeline, 5, 6)) == 1


def test_undo_counts_from_the_acknowledged_time() -> None:
    """Not from when it was due."""
    timeline = Timeline(failover(fault("a", "kill", "all", at=3, undo_after=5)))
    good(timeline, 0, 3)
    timeline.tick(3 * NS_PER_S)
    assert timeline.tick(9 * NS_PER_S) == [], "it is not applied yet"
    timeline.applied("a", 10 * NS_PER_S)
    assert timeline.tick(15 * NS_PER_S - 1) == []
    (undo,) = timeline.tick(15 * NS_PER_S)
    assert isinstance(undo, Undo)
    assert timeline.tick(16 * NS_PER_S) == []


def test_a_fault_after_another_waits_until_it_is_gone_and_the_target_steady() -> None:
    """A rolling restart goes on only when the cluster is whole again."""
    faults = (
        fault("a", "restart", "all", at=3, undo_after=0),
        fault("b", "restart", "all", after="a"),
    )
    timeline = Timeline(failover(*faults))
    good(timeline, 0, 4)
    timeline.tick(4 * NS_PER_S)
    timeline.applied("a", 5 * NS_PER_S)
    timeline.tick(5 * NS_PER_S)
    timeline.gone("a", 6 * NS_PER_S)
    good(timeline, 4, 8)
    assert timeline.tick(8 * NS_PER_S) == [], "steady for 2 s only since it was gone"
    good(timeline, 8, 9)
    (apply,) = timeline.tick(9 * NS_PER_S)
    assert isinstance(apply, Apply)
    assert apply.fault.name == "b"


def test_a_fault_that_stays_lets_the_target_recover_by_itself() -> None:
    """Steady again is told while it is in force: nobody has undone anything."""
    timeline = Timeline(failover(fault("a", "kill", "all", at=3)))
    good(timeline, 0, 3)
    timeline.tick(3 * NS_PER_S)
    timeline.applied("a", 3 * NS_PER_S + 1)
    timeline.observe(4 * NS_PER_S, holds=False, reason="errors")
    (steady,) = good(timeline, 4, 7)
    assert isinstance(steady, Steady)
    assert not steady.is_before
    assert timeline.missed_after(8 * NS_PER_S) == []


def test_no_recovery_before_the_end_is_told() -> None:
    """It did not become steady again."""
    timeline = Timeline(failover(fault("a", "kill", "all", at=3)))
    good(timeline, 0, 3)
    timeline.tick(3 * NS_PER_S)
    timeline.applied("a", 3 * NS_PER_S)
    (missed,) = timeline.missed_after(9 * NS_PER_S)
    assert isinstance(missed, Steady)
    assert (missed.is_reached, missed.is_before) == (False, False)


def test_a_failed_fault_stops_the_run_once() -> None:
    """Nothing begins after it."""
    timeline = Timeline(failover(fault("a", "kill", "all", at=3), fault("b", "kill", "all", at=4)))
    good(timeline, 0, 3)
    timeline.tick(3 * NS_PER_S)
    assert timeline.failed("a", "no such process") == [StopRun(reason="no such process")]
    assert timeline.failed("a", "again") == []
    assert timeline.tick(5 * NS_PER_S) == []


@given(
    holds=st.lists(st.booleans(), min_size=1, max_size=60),
    at=st.integers(3, 30),
    undo_after=st.integers(0, 10),
)
def test_whatever_the_target_does_a_fault_is_applied_once_and_undone_once(
    holds: list[bool], at: int, undo_after: int
) -> None:
    """And never before the target was steady for as long as it has to be."""
    timeline = Timeline(failover(fault("a", "kill", "all", at=at, undo_after=undo_after)))
    applied, undone = [], []
    for second, good_second in enumerate(holds):
        now_ns = (second + 1) * NS_PER_S
        timeline.observe(now_ns, holds=good_second, reason="bad")
        for step in timeline.tick(now_ns):
            if isinstance(step, Apply):
                applied.append(second)
                timeline.applied("a", now_ns)
            elif isinstance(step, Undo):
                undone.append(second)
                timeline.gone("a", now_ns)
    assert len(undone) <= len(applied) <= 1
    for second in applied:
        assert second + 1 >= at
        runs = "".join("x" if one else " " for one in holds[: second + 1])
        assert "xxx" in runs
    if applied and undone:
        assert undone[0] - applied[0] >= undo_after


def waiting(name: str, when: str, at: float = 0.0) -> Fault:
    """A fault that waits for a condition."""
    return replace(fault(name, "noop", "all", at=at), when=parse_when(when))


def due(timeline: Timeline, second: int) -> list[str]:
    """Faults that are due at the end of a second; each is in force and gone at once."""
    names = [
        step.fault.name for step in timeline.tick(second * NS_PER_S) if isinstance(step, Apply)
    ]
    for name in names:
        timeline.applied(name, second * NS_PER_S)
    return names


def test_a_measure_is_waited_for_until_it_has_held_for_its_time() -> None:
    """Three true seconds on end, counted from the steady state on; then the offset."""
    timeline = Timeline(failover(waiting("slow", "p95 > 300 ms for 3 s", at=2)))
    good(timeline, 0, 3)
    found = []
    for second in range(3, 16):
        is_true = second in {3, 4, 6, 7, 8}
        true = ("slow",) if is_true else ()
        timeline.observe((second + 1) * NS_PER_S, holds=True, reason="", conditions=true)
        found += [(name, second + 1) for name in due(timeline, second + 1)]
    assert found == [("slow", 11)], "true for three seconds at 9, and two more"


def test_a_measure_that_was_true_before_the_steady_state_does_not_count() -> None:
    """Nor does a second that is missing in between."""
    timeline = Timeline(failover(waiting("slow", "error_ratio > 1 % for 2 s")))
    for second in range(3):
        timeline.observe((second + 1) * NS_PER_S, holds=True, reason="", conditions=("slow",))
    assert due(timeline, 3) == []
    timeline.observe(4 * NS_PER_S, holds=True, reason="", conditions=("slow",))
    timeline.observe(6 * NS_PER_S, holds=True, reason="", conditions=("slow",))
    assert due(timeline, 6) == []
    timeline.observe(7 * NS_PER_S, holds=True, reason="", conditions=("slow",))
    assert due(timeline, 7) == ["slow"]


def test_a_leader_is_waited_for() -> None:
    """The node itself, and only once it was steady."""
    timeline = Timeline(failover(waiting("n2-leads", "leader is n2")))
    timeline.leads("n2", NS_PER_S)
    asks = [timeline.asks_for_leader]
    good(timeline, 0, 3)
    asks.append(timeline.asks_for_leader)
    timeline.leads("n1", 4 * NS_PER_S)
    assert due(timeline, 4) == []
    timeline.leads("n2", 5 * NS_PER_S)
    assert due(timeline, 5) == ["n2-leads"]
    assert [*asks, timeline.asks_for_leader] == [False, True, False]


def test_a_recovery_is_seen_while_the_fault_is_still_in_force() -> None:
    """`after` waits until it is gone; `recovered` for every objective to hold again."""
    kill = fault("kill", "kill", "all", at=3)
    timeline = Timeline(failover(kill, waiting("next", "recovered kill")))
    good(timeline, 0, 3)
    assert due(timeline, 3) == ["kill"]
    timeline.observe(4 * NS_PER_S, holds=False, reason="errors")
    good(timeline, 4, 6)
    assert due(timeline, 6) == [], "good for two seconds"
    good(timeline, 6, 7)
    assert due(timeline, 7) == ["next"]
    assert timeline.never_due() == ()


def test_what_never_came_is_told() -> None:
    """A fault that was not begun; none of a run that was stopped."""
    timeline = Timeline(failover(waiting("n2-leads", "leader is n2")))
    good(timeline, 0, 9)
    assert timeline.never_due() == ("n2-leads",)
    timeline.stop()
    assert timeline.never_due() == ()
