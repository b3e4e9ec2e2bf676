"""The promises of the swarm, each with production's timing and a calm network.

A killed engine is noticed within 1 s, a killed agent within 3 s, a hung one within 4 s;
load ends within the lease + 1 s of the master's death; a loss is handled as the scenario
says and stated to the arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from simulation import VirtualEngine, World, plan_and_bytes
from simulation_faults import CALM

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.model import LossPolicy, Plan
from loadtests.record.manifest import Outcome
from loadtests.swarm.accounting import Account
from loadtests.swarm.actions import Finished
from loadtests.swarm.run_state import EndCause
from loadtests.swarm.timing import Timing

FAULT_NS = 2_300 * NS_PER_MS  # after T0
PRODUCTION = Timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run with one fault."""

    world: World
    account: Account
    fault_ns: int  # world time

    @property
    def finished(self) -> Finished:
        """How it ended."""
        finished = self.world.master.finished
        assert finished is not None, "the run did not end"
        return finished

    def after_fault_ns(self, kind: str) -> int:
        """How long after the fault the first event of a kind was recorded."""
        for event in self.world.master.events:
            if event.kind == kind:
                return event.at_unix_ns - self.fault_ns - self.epoch_ns
        raise AssertionError(f"no {kind} in {[e.kind for e in self.world.master.events]}")

    def events(self, kind: str) -> list[tuple[str, str]]:
        """Who and what of the events of a kind, in order."""
        return [(e.who, e.text) for e in self.world.master.events if e.kind == kind]

    @property
    def epoch_ns(self) -> int:
        """World time's zero as unix time."""
        barrier = self.world.master.barrier
        assert barrier is not None
        return barrier.t0_unix_ns - barrier.t0_ns


def name_of(engine: VirtualEngine) -> str:
    """An engine's name in the books."""
    return f"{engine.host.agent}/{engine.k}"


def run_with(
    fault: Callable[[World], None],
    *,
    policy: LossPolicy = LossPolicy.ABORT,
    seconds: int = 6,
    agents: int = 2,
    engines: int = 2,
    plan: Plan | None = None,
) -> Ran:
    """Run with production's timing; the fault comes at `FAULT_NS` after T0."""
    world = World(1, PRODUCTION)
    chosen, plan_bytes = plan_and_bytes(seconds * NS_PER_S, policy)
    world.setup(
        agents=agents, engines=engines, plan=plan or chosen, plan_bytes=plan_bytes, weather=CALM
    )
    limit_ns = world.now_ns + 120 * NS_PER_S
    world.run(limit_ns, lambda: world.master.barrier is not None)
    assert world.master.barrier is not None
    fault_ns = world.master.barrier.t0_ns + FAULT_NS
    world.after(fault_ns - world.now_ns, lambda: fault(world))

    def is_over() -> bool:
        master = world.masters[0]
        is_ended = master.finished is not None or master.is_dead
        return is_ended and all(host.is_gone for host in world.hosts)

    world.run(limit_ns, is_over)
    return Ran(world=world, account=world.masters[0].coordinator.account(), fault_ns=fault_ns)


def nothing(world: World) -> None:
    """No fault."""


def kill_engine(world: World) -> None:
    """SIGKILL of one engine."""
    world.engines[0].kill()


def stop_engine(world: World) -> None:
    """SIGSTOP of one engine, for good."""
    world.engines[0].pause()


def kill_agent(world: World) -> None:
    """SIGKILL of one agent and, by its death, of its engines."""
    world.hosts[0].kill()


def stop_agent(world: World) -> None:
    """SIGSTOP of one agent for 20 s; its engines go on."""
    host = world.hosts[0]
    host.pause()
    world.after(20 * NS_PER_S, host.resume)


def kill_master(world: World) -> None:
    """SIGKILL of the master."""
    world.master.is_dead = True


def end_engine(world: World) -> None:
    """One engine ends in order, with a FINAL that nobody asked for."""
    world.engines[0]._stop("its own idea")


def end_engine_slowly(world: World) -> None:
    """The same, but the FINAL comes only after the plan's end: early sending, late word."""
    engine = world.engines[0]
    end_engine(world)
    engine.pause()
    assert world.master.barrier is not None
    after_end_ns = world.master.barrier.t0_ns + world.plan.duration_ns + NS_PER_S // 5
    world.after(after_end_ns - world.now_ns, engine.resume)


def stop_agent_for_a_while(world: World) -> None:
    """SIGSTOP of one agent until it has been given up; it comes back under load."""
    host = world.hosts[0]
    host.pause()
    world.after(5 * NS_PER_S, host.resume)


FAULTS = [kill_engine, stop_engine, kill_agent, stop_agent]


def test_without_a_fault_nothing_is_lost() -> None:
    """The whole plan is planned, archived and complete."""
    ran = run_with(nothing)
    assert ran.finished.outcome is Outcome.COMPLETE
    assert ran.account.is_whole
    assert ran.account.total_sums.planned == ran.world.arithmetic.total


@pytest.mark.parametrize(
    ("fault", "kind", "limit_ns"),
    [
        (kill_engine, "engine_lost", 1 * NS_PER_S),
        (kill_agent, "agent_lost", 3 * NS_PER_S),
        (stop_agent, "agent_lost", 4 * NS_PER_S),
        (stop_engine, "engine_lost", 4 * NS_PER_S),
    ],
)
def test_losses_are_noticed_in_time(
    fault: Callable[[World], None], kind: str, limit_ns: int
) -> None:
    """A killed engine within 1 s, a killed agent within 3 s, hung ones within 4 s."""
    assert 0 < run_with(fault).after_fault_ns(kind) <= limit_ns


@pytest.mark.parametrize("fault", FAULTS)
def test_abort_ends_the_run_at_a_loss(fault: Callable[[World], None]) -> None:
    """Under `abort` the run stops, says who was lost, and is not complete."""
    ran = run_with(fault)
    assert ran.finished.outcome is Outcome.ABORTED
    assert ran.finished.cause is EndCause.LOSS
    assert "agent-" in ran.finished.reason
    assert not ran.account.is_whole


@pytest.mark.parametrize("fault", FAULTS)
def test_continue_goes_on_and_states_the_gap_to_the_arrival(
    fault: Callable[[World], None],
) -> None:
    """Under `continue` archived and lost arrivals add up to the plan; the gap has a name."""
    ran = run_with(fault, policy=LossPolicy.CONTINUE)
    assert ran.finished.outcome is Outcome.COMPLETE
    lost = ran.account.lost_windows
    assert sum(entry.planned for entry in lost) > 0
    planned = ran.account.total_sums.planned
    assert planned + sum(entry.planned for entry in lost) == ran.world.arithmetic.total
    assert {entry.who for entry in lost} <= {engine.engine for engine in ran.account.engine_sums}


def test_what_a_killed_engine_had_not_handed_over_is_at_most_its_last_second() -> None:
    """The first lost stretch is what was done and not handed over: the second of its death."""
    ran = run_with(kill_engine, policy=LossPolicy.CONTINUE)
    first = ran.account.lost_windows[0]
    fault_s = (ran.fault_ns + ran.epoch_ns) // NS_PER_S
    assert (first.from_s, first.to_s) == (fault_s, fault_s + 1)


@pytest.mark.parametrize(("fault", "seconds"), [(kill_engine, 8), (kill_agent, 30)])
def test_redistribute_loses_nothing_after_the_takeover(
    fault: Callable[[World], None], seconds: int
) -> None:
    """Survivors send every arrival from the stated second on, none of them twice."""
    ran = run_with(fault, policy=LossPolicy.REDISTRIBUTE, seconds=seconds, agents=3)
    events = [e for e in ran.world.master.events if e.kind == "takeover"]
    assert events
    takeover_s = int(events[0].text.rsplit(" ", 1)[1])
    arithmetic = ran.world.arithmetic
    cut = arithmetic.below(takeover_s * NS_PER_S)
    planned = {k for k in range(cut, arithmetic.total) if k % 13 != 7}
    sent = [k for engine in ran.world.engines for k in engine.sent_sequences if k >= cut]
    assert sorted(sent) == sorted(planned)
    lost = sum(entry.planned for entry in ran.account.lost_windows)
    assert lost + ran.account.total_sums.planned == arithmetic.total
    assert takeover_s * NS_PER_S - FAULT_NS > 0


def test_a_silent_agents_share_is_taken_over_only_after_its_lease() -> None:
    """Its engines may still be sending: 10 s lease and 1 s margin come first."""
    ran = run_with(stop_agent, policy=LossPolicy.REDISTRIBUTE, seconds=30)
    events = [e for e in ran.world.master.events if e.kind == "takeover"]
    takeover_ns = int(events[0].text.rsplit(" ", 1)[1]) * NS_PER_S
    stopped = ran.world.hosts[0].engines.values()
    barrier = ran.world.master.barrier
    assert barrier is not None
    for engine in stopped:
        assert engine.last_send_ns is not None
        assert engine.last_send_ns - barrier.t0_ns <= takeover_ns
        assert engine.last_send_ns - ran.fault_ns > 5 * NS_PER_S, "its lease ran on unseen"
    assert not [e for e in ran.world.master.events if e.kind == "counters_backwards"]


@pytest.mark.parametrize("policy", LossPolicy)
def test_an_early_final_is_a_loss_at_once(policy: LossPolicy) -> None:
    """An engine that ends before the plan, untold, is lost when it says so, not at the end."""
    ran = run_with(end_engine, policy=policy)
    name = name_of(ran.world.engines[0])
    assert ran.events("engine_lost") == [(name, "ended: its own idea")]
    assert 0 < ran.after_fault_ns("engine_lost") <= NS_PER_S
    assert not ran.account.is_whole
    if policy is LossPolicy.ABORT:
        assert ran.finished.cause is EndCause.LOSS
        assert ran.finished.reason == f"lost {name}: ended: its own idea"
    else:
        assert ran.finished.outcome is Outcome.COMPLETE
    takeovers = [name] if policy is LossPolicy.REDISTRIBUTE else []
    assert [who for who, _ in ran.events("takeover")] == takeovers


@pytest.mark.parametrize("policy", LossPolicy)
def test_an_engine_that_fell_short_is_found_at_the_end(policy: LossPolicy) -> None:
    """A FINAL after the plan's end is no early one; only the schedule tells what is missing.

    Under `abort` such a run is not complete; under the others it is, and states the loss.
    """
    ran = run_with(end_engine_slowly, policy=policy, seconds=4)
    name = name_of(ran.world.engines[0])
    assert ran.events("engine_lost") == []
    missing = ran.world.arithmetic.total - ran.account.total_sums.planned
    assert missing > 0
    assert [(lost.who, lost.planned) for lost in ran.account.lost_windows] == [(name, missing)]
    if policy is LossPolicy.ABORT:
        assert (ran.finished.outcome, ran.finished.cause) == (Outcome.ABORTED, EndCause.LOSS)
        text = f"{missing} planned arrivals were lost, the first of {name}"
        assert ran.finished.reason == text
    else:
        assert (ran.finished.outcome, ran.finished.cause) == (Outcome.COMPLETE, EndCause.PLAN)


def test_the_final_of_an_engine_that_was_given_up_changes_nothing_of_its_loss() -> None:
    """Heard again under load it hands over and ends: it counts, was lost once, and stays lost."""
    ran = run_with(stop_agent_for_a_while, policy=LossPolicy.CONTINUE, seconds=20)
    names = sorted(f"{ran.world.hosts[0].agent}/{k}" for k in range(2))
    assert sorted(who for who, _ in ran.events("engine_lost")) == names
    assert sorted({lost.who for lost in ran.account.lost_windows}) == names
    assert all(engine.has_final for engine in ran.account.engine_sums)
    lost = sum(entry.planned for entry in ran.account.lost_windows)
    assert lost + ran.account.total_sums.planned == ran.world.arithmetic.total
    assert not ran.account.is_whole


def test_load_ends_with_the_lease_of_a_dead_master() -> None:
    """No request later than lease + 1 s, and no process is left behind."""
    ran = run_with(kill_master, seconds=60)
    for engine in ran.world.engines:
        assert engine.last_send_ns is not None
        after_ns = engine.last_send_ns - ran.fault_ns
        assert 7 * NS_PER_S < after_ns <= PRODUCTION.lease_ns + NS_PER_S
        assert engine.is_dead or engine.has_ended
    assert all(host.is_gone for host in ran.world.hosts)


def test_a_master_that_stood_still_blames_itself() -> None:
    """After 5 s of SIGSTOP no agent is declared lost, and nothing is missing."""

    def stop_master(world: World) -> None:
        master = world.master
        master.is_paused = True

        def resume() -> None:
            master.is_paused = False
            for what in master.deferred:
                what()

        world.after(5 * NS_PER_S, resume)

    ran = run_with(stop_master, seconds=12)
    kinds = [event.kind for event in ran.world.master.events]
    assert "master_stalled" in kinds
    assert "agent_lost" not in kinds
    assert ran.account.is_whole


def test_every_engine_starts_at_one_instant() -> None:
    """T0 is a whole unix second and the same instant on hosts whose clocks differ."""
    ran = run_with(nothing, agents=3)
    barrier = ran.world.master.barrier
    assert barrier is not None
    assert barrier.t0_unix_ns % NS_PER_S == 0
    for engine in ran.world.engines:
        assert engine.start is not None
        world_ns = engine.start.t0_ns - engine.host.offset_ns
        assert abs(world_ns - barrier.t0_ns) <= CALM.delay_ns
        assert engine.start.t0_unix_ns == barrier.t0_unix_ns


def test_the_first_stop_reason_counts_and_the_archive_is_kept() -> None:
    """A user's stop drains, hands everything over and is an abort, not a loss."""

    def stop(world: World) -> None:
        for reason in ("SIGINT", "SIGTERM"):
            world.act(world.master, world.master.coordinator.request_stop(reason, world.now_ns))

    ran = run_with(stop)
    assert (ran.finished.cause, ran.finished.reason) == (EndCause.USER, "SIGINT")
    assert ran.finished.outcome is Outcome.ABORTED
    assert ran.account.is_whole
    assert all(engine.has_final for engine in ran.account.engine_sums)


def test_a_late_agent_and_a_new_incarnation_have_no_part() -> None:
    """Membership is frozen: both are refused, both are events, the run is whole."""

    def arrive(world: World) -> None:
        world.new_host("agent-late", 0)
        world.new_host("agent-0", 0)

    ran = run_with(arrive)
    refusals = [e.text for e in ran.world.master.events if e.kind == "agent_refused"]
    assert len(refusals) == 2
    assert any("too late" in text for text in refusals)
    assert any("incarnation" in text for text in refusals)
    assert ran.account.is_whole
    assert len(ran.account.agents) == 2
    assert all(host.is_gone for host in ran.world.hosts)


def test_a_failed_preflight_ends_the_start_at_once() -> None:
    """A target that an agent cannot reach is the target's fault, named with its agent."""
    world = World(1, PRODUCTION)
    plan, plan_bytes = plan_and_bytes(NS_PER_S, LossPolicy.ABORT)
    world.setup(agents=2, engines=1, plan=plan, plan_bytes=plan_bytes, weather=CALM)
    world.preflight_failure = ("target", "127.0.0.1:1 refused")
    world.run(world.now_ns + 20 * NS_PER_S, lambda: world.master.finished is not None)
    finished = world.master.finished
    assert finished is not None
    assert finished.cause is EndCause.TARGET
    assert finished.reason in {f"agent-{n}: 127.0.0.1:1 refused" for n in range(2)}
    assert not world.engines


def test_agents_that_do_not_come_are_a_harness_error() -> None:
    """After the waiting time the run says who came; no load was sent."""
    world = World(1, PRODUCTION)
    plan, plan_bytes = plan_and_bytes(NS_PER_S, LossPolicy.ABORT)
    world.setup(agents=1, engines=1, plan=plan, plan_bytes=plan_bytes, weather=CALM)
    world.run(world.now_ns + NS_PER_S // 3, lambda: bool(world.hosts))
    world.hosts[0].kill()
    world.run(world.now_ns + 60 * NS_PER_S, lambda: world.master.finished is not None)
    finished = world.master.finished
    assert finished is not None
    assert finished.cause is EndCause.HARNESS
    assert finished.outcome is Outcome.CRASHED
    assert "expected 1 agents" in finished.reason
