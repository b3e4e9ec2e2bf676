"""Rules of leases, clocks, guards, holdings and events, one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import Arithmetic, good_plan

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.failover import (
    Chosen,
    Failover,
    Fault,
    Quorum,
    Selector,
    Settings,
    SteadyState,
    System,
)
from loadtests.plan.faults import parse_when
from loadtests.plan.model import Plan, Share
from loadtests.plan.objectives import parse_abort, parse_objective
from loadtests.record.manifest import LostWindow
from loadtests.record.window import Count, EngineHealth, Window
from loadtests.swarm.chronicle import NOISE_TOLD, Chronicle
from loadtests.swarm.guards import build_guards
from loadtests.swarm.holdings import Holding, Loss, divide, lost_windows
from loadtests.swarm.lease import ClockEstimate, HeldLease
from loadtests.swarm.steadiness import Steadiness
from loadtests.swarm.timing import Timing

SECONDS = st.integers(0, 20)


def test_a_lease_is_only_lengthened() -> None:
    """A repeated or overtaken grant changes nothing."""
    lease = HeldLease(10)
    assert lease.renew(8, 0)
    assert not lease.renew(8, 1)
    assert not lease.renew(5, 1)
    assert lease.renew(9, 1)
    assert lease.until_ns == 9


def test_a_lease_is_never_longer_than_its_length_from_receipt() -> None:
    """A wrong clock estimate cannot give more than one length."""
    lease = HeldLease(10)
    assert lease.renew(1_000, 5)
    assert lease.until_ns == 15


def test_an_ended_lease_is_not_revived() -> None:
    """Its engines have ended: a late grant must not say otherwise."""
    lease = HeldLease(10)
    assert not lease.renew(3, 4)
    assert lease.renew(8, 4)
    assert lease.has_ended(8)
    assert not lease.renew(18, 8)
    assert lease.has_ended(9)


@given(
    st.integers(-(10**15), 10**15),
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6)),
        min_size=1,
        max_size=20,
    ),
)
def test_the_clock_offset_is_wrong_by_at_most_half_the_round_trip(
    offset_ns: int, exchanges: list[tuple[int, int, int]]
) -> None:
    """Whatever the two delays are: the bound of NTP holds for the best exchange."""
    clock = ClockEstimate(is_same_kernel=False)
    now_ns = 10**16
    for there_ns, back_ns, think_ns in exchanges:
        t1_ns = now_ns + there_ns + offset_ns
        t3_ns = now_ns + there_ns + think_ns + back_ns
        assert clock.add(now_ns, t1_ns, t1_ns + think_ns, t3_ns, 0)
        now_ns = t3_ns
    assert clock.round_trip_ns == min(there + back for there, back, _ in exchanges)
    assert abs(clock.offset_ns - offset_ns) * 2 <= clock.round_trip_ns + 1


def test_processes_of_one_kernel_share_one_clock() -> None:
    """On the same boot the offset is 0, unless the exchanges contradict that."""
    clock = ClockEstimate(is_same_kernel=True)
    clock.add(0, 900, 900, 1000, 0)
    assert clock.offset_ns == 0
    elsewhere = ClockEstimate(is_same_kernel=True)
    elsewhere.add(0, 5_900, 5_900, 1000, 0)
    assert elsewhere.offset_ns == 5_400


def test_the_wall_clocks_are_compared_through_the_monotonic_ones() -> None:
    """An agent whose wall clock is 60 ms ahead is reported as that."""
    clock = ClockEstimate(is_same_kernel=False)
    master_wall_ns, agent_wall_ns = 5_000, 1_000  # unix - monotonic of each
    monotonic_offset_ns = 4_000 + 60 * NS_PER_MS
    clock.add(0, monotonic_offset_ns, monotonic_offset_ns, 0, agent_wall_ns)
    assert clock.wall_offset_ns(master_wall_ns) == 60 * NS_PER_MS


@pytest.mark.parametrize("times", [(10, 5, 5, 9), (0, 5, 4, 9), (0, 0, 20, 9)])
def test_an_impossible_exchange_is_refused(times: tuple[int, int, int, int]) -> None:
    """A pong that came before its ping, or took longer inside than outside, is forged."""
    clock = ClockEstimate(is_same_kernel=False)
    assert not clock.add(*times, 0)
    assert clock.rounds == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"silence_ns": 100 * NS_PER_MS},
        {"renew_ns": 6 * NS_PER_S},
        {"confirm_ns": 3 * NS_PER_S},
        {"silence_ns": 20 * NS_PER_S},
    ],
)
def test_timing_that_breaks_a_promise_is_refused(changes: dict[str, int]) -> None:
    """Constants only make sense together."""
    with pytest.raises(ValueError, match="must"):
        replace(Timing(), **changes)


def guarded_plan(text: str) -> Plan:
    """A plan with one abort condition."""
    return replace(good_plan(), aborts=(parse_abort(text),))


def outcome_window(label: int, ok: int, failed: int) -> Window:
    """A second of the plan's only request."""
    counters = np.zeros((1, len(Count)), dtype=np.int64)
    counters[0, Count.PLANNED] = counters[0, Count.SENT] = ok + failed
    counters[0, Count.OK], counters[0, Count.FAILED] = ok, failed
    empty = Window.empty(label)
    return replace(empty, slots=np.zeros(1, dtype=np.uint32), counters=counters)


def observe_all(text: str, windows: list[Window]) -> list[int]:
    """Labels at which the condition had held long enough."""
    (guard,) = build_guards(guarded_plan(text))
    return [w.start_s for w in windows if guard.observe(w) is not None]


def test_an_abort_condition_must_hold_without_a_break() -> None:
    """Two bad seconds, one good, three bad: only the third of the last ones ends the run."""
    bad = [1, 2, 4, 5, 6]
    windows = [outcome_window(s, 90, 10 if s in bad else 0) for s in range(1, 7)]
    assert observe_all("error_ratio > 5 % for 3 s", windows) == [6]


def test_a_second_without_data_breaks_a_condition() -> None:
    """No data is not "true": an empty or a missing second starts the count anew."""
    bad = [outcome_window(s, 0, 10) for s in (1, 2)]
    again = [outcome_window(s, 0, 10) for s in (4, 5)]
    assert observe_all("error_ratio > 5 % for 3 s", [*bad, Window.empty(3), *again]) == []
    assert observe_all("error_ratio > 5 % for 3 s", [*bad, *again]) == []


def test_a_sustain_is_rounded_up_to_whole_windows() -> None:
    """1.5 s needs two windows."""
    windows = [outcome_window(s, 0, 10) for s in (1, 2)]
    assert observe_all("error_ratio > 5 % for 1500 ms", windows) == [2]


def pool_window(label: int, *in_use: int, planned: int = 10) -> Window:
    """A second of engines with 100 streams each and so many of them in use."""
    health = tuple(
        EngineHealth(
            engine=f"a/{index}",
            wall_ns=NS_PER_S,
            cpu_ns=0,
            in_flight=0,
            in_flight_ns=0,
            backlog=0,
            connections=1,
            stalled_ns=0,
            streams=100,
            streams_in_use=number,
        )
        for index, number in enumerate(in_use)
    )
    return replace(outcome_window(label, planned, 0), health=health)


def test_a_full_stream_pool_can_end_a_run() -> None:
    """The use is of all engines together, and must last; a second without engines is no use."""
    windows = [
        pool_window(1, 100, 80),
        pool_window(2, 100, 79),
        pool_window(3, 91, 92),
        Window.empty(4),
        *(pool_window(s, 95, 95) for s in (5, 6, 7)),
    ]
    assert observe_all("pool_use >= 90 % for 2 s", windows) == [6, 7]
    assert observe_all("pool_use >= 90 % for 4 s", windows) == []


def test_a_pool_is_watched_in_the_named_stage_alone() -> None:
    """Without planned arrivals of that stage a full pool is somebody else's."""
    name = good_plan().stages[0].name
    windows = [pool_window(s, 100, planned=0 if s < 4 else 5) for s in range(1, 7)]
    assert observe_all(f"pool_use > 90 % in {name} for 2 s", windows) == [5, 6]
    assert observe_all("pool_use > 90 % for 2 s", windows) == [2, 3, 4, 5, 6]


@given(st.integers(1, 5), st.integers(1, 4), SECONDS)
def test_divided_shares_hold_each_arrival_once(engines: int, heirs: int, cut_s: int) -> None:
    """The parts of a lost share are disjoint and cover it from the cut on."""
    arithmetic = Arithmetic(period_ns=7 * NS_PER_MS, total=2000)
    share = Share(residue=0, modulus=engines, from_ns=0)
    lost = Holding(index=0, engine="a/0", incarnation="i", shares=[share])
    survivors = [Holding(index=n + 1, engine=f"a/{n}", incarnation="i") for n in range(heirs)]
    parts = divide(lost, survivors, cut_s * NS_PER_S)
    end_ns = 30 * NS_PER_S
    sent = [k for part in parts for k in arithmetic.sequences(part.share, 0, end_ns)]
    assert sorted(sent) == list(arithmetic.sequences(share, cut_s * NS_PER_S, end_ns))


@given(
    last_ns=st.integers(-NS_PER_S, 12 * NS_PER_S),
    end_ns=st.integers(0, 10 * NS_PER_S),
    cut_s=st.none() | SECONDS,
    through=st.none() | st.integers(0, 9),
)
def test_lost_windows_add_up_to_what_was_due_and_not_counted(
    last_ns: int, end_ns: int, cut_s: int | None, through: int | None
) -> None:
    """Not handed over + not sent = due - counted, to the arrival, in ordered stretches."""
    arithmetic = Arithmetic(period_ns=30 * NS_PER_MS, total=400)
    share = Share(residue=0, modulus=1, from_ns=0)
    counted = 0 if through is None else arithmetic.below(min(end_ns, (through + 1) * NS_PER_S))
    cut_ns = None if cut_s is None else cut_s * NS_PER_S
    holding = Holding(
        index=0,
        engine="a/0",
        incarnation="i",
        shares=[share],
        loss=Loss(how="killed", last_ns=last_ns, free_ns=last_ns, cut_ns=cut_ns),
    )
    lost = lost_windows(
        holding,
        counted=counted,
        through_s=None if through is None else 1000 + through,
        t0_unix_ns=1000 * NS_PER_S,
        end_ns=end_ns,
        planned=arithmetic.planned,
    )
    until_ns = end_ns if cut_ns is None else min(end_ns, cut_ns)
    due = arithmetic.below(until_ns)
    assert sum(entry.planned for entry in lost) == max(0, due - counted)
    for entry in lost:
        assert entry.from_s < entry.to_s
    for before, after in pairwise(lost):
        assert before.to_s <= after.from_s


def test_a_lost_engine_of_closed_load_states_its_stretch() -> None:
    """Closed load plans no arrivals; that an engine was missing is said all the same."""
    holding = Holding(
        index=0,
        engine="a/0",
        incarnation="i",
        shares=[],
        loss=Loss(how="killed", last_ns=2 * NS_PER_S + 1, free_ns=0, cut_ns=None),
    )
    lost = lost_windows(
        holding,
        counted=50,
        through_s=1001,
        t0_unix_ns=1000 * NS_PER_S,
        end_ns=6 * NS_PER_S,
        planned=lambda _share, _from, _to: 0,
    )
    assert lost == [LostWindow(who="a/0", from_s=1002, to_s=1006, planned=0)]


def test_noise_is_bounded_and_counted() -> None:
    """Ten thousand garbage messages make ten events and one warning."""
    chronicle = Chronicle(0)
    told = [chronicle.noise("message_malformed", "x", "y", 1) for _ in range(10_000)]
    assert sum(event is not None for event in told) == NOISE_TOLD
    assert chronicle.warnings() == ("message_malformed: 10000 times",)


def test_hostile_texts_are_cut() -> None:
    """An event's text has a bound, whatever a peer sent."""
    event = Chronicle(0).tell("kind", "w" * 10_000, "t" * 10_000, 1)
    assert len(event.who) == len(event.text) == 1000


def steady_reasons(texts: list[str], *windows: Window) -> list[str]:
    """What each second says to a plan with these objectives; "" is well."""
    objectives = tuple(parse_objective(text) for text in texts)
    steadiness = Steadiness(replace(good_plan(), objectives=objectives))
    looks = [steadiness.look(window) for window in windows]
    assert all(look.holds == (look.reason == "") for look in looks)
    return [look.reason for look in looks]


def test_a_second_is_steady_when_every_objective_on_it_holds() -> None:
    """The reason names the objective; a second without an answer is never steady."""
    reasons = steady_reasons(
        ["error_ratio < 10 %"],
        outcome_window(0, ok=95, failed=5),
        outcome_window(1, ok=85, failed=15),
        outcome_window(2, ok=0, failed=0),
    )
    assert reasons[0] == ""
    assert "error_ratio < 10 %" in reasons[1]
    assert reasons[2] == "no request ended"


def test_a_second_is_not_held_against_rates() -> None:
    """A throughput objective is the verdict's: one second's count says little about it."""
    assert steady_reasons(["throughput >= 1000 rps"], outcome_window(0, ok=5, failed=0)) == [""]


def test_without_an_objective_no_request_may_fail() -> None:
    """Something has to hold before a fault is injected."""
    good, bad = steady_reasons(
        [], outcome_window(0, ok=5, failed=0), outcome_window(1, ok=99, failed=1)
    )
    assert good == ""
    assert bad == "1 of 100 requests failed"


def test_a_second_says_whose_condition_is_true_in_it() -> None:
    """Good news or bad, of all requests; a second that measured nothing makes none true."""
    nowhere = Failover(
        system=System.OWN, quorum=Quorum.NONE, election_ns=0, health_path="", leader=None,
        steady=SteadyState(hold_ns=1, within_ns=1), haproxy=None, nodes=(),
        faults=tuple(
            fault(name, text)
            for name, text in (
                ("errors", "error_ratio > 10 % for 5 s"),
                ("answers", "throughput >= 50 rps for 1 s"),
                ("led", "leader is n1"),
            )
        ),
    )  # fmt: skip
    steadiness = Steadiness(replace(good_plan(), failover=nowhere))
    assert steadiness.true_conditions(outcome_window(0, ok=95, failed=5)) == ("answers",)
    assert steadiness.true_conditions(outcome_window(1, ok=8, failed=2)) == ("errors",)
    assert steadiness.true_conditions(outcome_window(2, ok=0, failed=0)) == ()


def fault(name: str, when: str) -> Fault:
    """A fault that waits for a condition."""
    settings = Settings(
        latency_ns=0, bytes_per_s=0, weight_percent=0, command=(), undo_command=(),
        verify_command=(), timeout_ns=1,
    )  # fmt: skip
    return Fault(
        name=name, action="noop", on=Selector(chosen=Chosen.ALL, name="", count=1), at_ns=0,
        after=None, undo_after_ns=0, settings=settings, when=parse_when(when),
    )  # fmt: skip
