"""10,000 schedules of a virtual swarm: the result equals the truth or is stated as lost.

`HEADROOM_SIM_SEED=1234 pytest tests/swarm/test_core_simulation.py` runs that one again;
`HEADROOM_SIM_SCHEDULES` changes how many are run.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from simulation import TIMING, Master, VirtualEngine, World, plan_and_bytes
from simulation_faults import CALM, ROUGH, Schedule, simulate

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.model import LossPolicy
from loadtests.record.manifest import Outcome
from loadtests.record.window import Count
from loadtests.swarm.accounting import Account
from loadtests.swarm.messages import AgentPhase
from loadtests.swarm.run_state import EndCause

SCHEDULES = int(os.environ.get("HEADROOM_SIM_SCHEDULES", "10000"))
CHUNKS = 20
CHUNKS_AT_ONCE = 5  # in `make test`; the rest of them in `make test-faults`
SUMMED = slice(Count.PLANNED, Count.FAILED + 1)


def sums_of(account: Account) -> list[int]:
    """Total sums in the order of Count."""
    total = account.total_sums
    return [total.planned, total.sent, total.dropped, total.ok, total.client_error, total.failed]


def truth_by_engine(world: World) -> dict[str, VirtualEngine]:
    """Engines of members, by name; strangers never get to start any."""
    return {f"{engine.host.agent}/{engine.k}": engine for engine in world.engines}


def check_no_double(world: World) -> None:
    """No arrival is sent by two engines, whatever was taken over from whom."""
    sent = Counter((e.run_id, k) for e in world.engines for k in e.sent_sequences)
    doubled = [arrival for arrival, count in sent.items() if count > 1]
    assert not doubled, f"sent twice: {doubled}"


def check_leases(world: World, masters: list[Master]) -> None:
    """No load after the last lease that a master granted, but for half a round trip."""
    slack_ns = TIMING.lease_margin_ns
    for engine in world.engines:
        if engine.last_send_ns is None:
            continue
        granted = [m.granted.get(engine.host.peer, 0) for m in masters]
        assert engine.last_send_ns <= max(granted) + slack_ns, f"load after the lease: {engine.k}"


def check_archive(master: Master, account: Account) -> None:
    """Archive, journal and account agree to the request; labels come once, then as late parts."""
    assert master.released_sums == master.journal_sums
    assert sums_of(account) == master.released_sums[SUMMED]
    assert account.total_sums.waiting == account.lost_requests.in_backlog
    regular = [label for label, is_late in master.released if not is_late]
    assert regular == sorted(set(regular)), "a label was released twice as regular"


def check_truth(world: World, account: Account) -> bool:
    """No engine counts for more than it did; True if every engine counts for all it did."""
    engines = truth_by_engine(world)
    is_all = True
    for entry in account.engine_sums:
        sums = entry.sums
        seen = [sums.planned, sums.sent, sums.dropped, sums.ok, sums.client_error, sums.failed]
        engine = engines.get(entry.engine)
        truth = engine.truth[SUMMED] if engine else [0] * len(seen)
        assert all(a <= b for a, b in zip(seen, truth, strict=True)), f"{entry}: more than {truth}"
        if entry.has_final:
            assert seen == truth, f"{entry} has a FINAL, but did {truth}"
        is_all &= seen == truth
    return is_all


def check_accounted(world: World, account: Account, run_id: str) -> None:
    """No request left an engine that is neither in the archive nor in a lost window."""
    sent = sum(e.truth[Count.SENT] for e in world.engines if e.run_id in ("", run_id))
    lost = sum(window.planned for window in account.lost_windows)
    assert sent <= account.total_sums.sent + lost, f"sent {sent}, of which some are unaccounted"


def check_losses(schedule: Schedule, master: Master, account: Account, *, is_all: bool) -> None:
    """What is not in the archive is stated, and no run with a loss looks whole."""
    assert master.finished is not None
    if not is_all:
        assert not account.is_whole, "an engine's work is missing and the account looks whole"
    is_complete = master.finished.outcome is Outcome.COMPLETE
    losses = [event for event in master.events if event.kind == "engine_lost"]
    if losses and schedule.policy is LossPolicy.ABORT:
        assert not is_complete, "a loss under abort, and the run is complete"
    if losses and schedule.policy is LossPolicy.CONTINUE:
        is_passable = is_complete and account.is_whole
        assert not is_passable or not is_under_load(schedule, master)
    if master.finished.cause is EndCause.PLAN:
        planned = account.total_sums.planned + sum(w.planned for w in account.lost_windows)
        assert planned == schedule.world.arithmetic.total, "arrivals neither counted nor lost"


def is_under_load(schedule: Schedule, master: Master) -> bool:
    """True if an engine was lost before the plan's end."""
    assert master.barrier is not None
    end_ns = master.barrier.t0_unix_ns + schedule.world.plan.duration_ns
    return any(e.kind == "engine_lost" and e.at_unix_ns < end_ns for e in master.events)


def check(schedule: Schedule) -> tuple[str, str]:
    """All laws at once; returns outcome and cause."""
    world = schedule.world
    check_no_double(world)
    masters = world.masters
    check_leases(world, masters)
    *_, last = [master for master in masters if master.run_id == masters[0].run_id]
    for host in world.hosts:
        # Who never got a plan may wait for a master for ever; it has no engine.
        is_waiting = host.agency.phase is AgentPhase.JOINING
        assert host.is_gone or is_waiting, f"{host.incarnation} was left behind"
    assert all(engine.is_dead or engine.has_ended for engine in world.engines)
    is_dead = last.is_dead and last.finished is None
    if is_dead and last.checkpoint is None:
        return ("dead", "master")
    ended = world.close_books(last) if is_dead else last
    account = ended.coordinator.account()
    check_archive(ended, account)
    assert ended.finished is not None, "the run did not end"
    is_all = check_truth(world, account)
    if ended.barrier is not None:
        check_accounted(world, account, ended.run_id)
        check_losses(schedule, ended, account, is_all=is_all)
    if schedule.is_harmless:
        assert ended.finished.outcome is Outcome.COMPLETE, ended.finished.reason
        assert account.is_whole, account.warnings
        assert account.total_sums.planned == world.arithmetic.total
    if is_dead:
        return ("dead", "master")
    return (ended.finished.outcome.value, ended.finished.cause.value)


def run_seed(seed: int) -> tuple[str, str]:
    """One schedule; a failure names its seed."""
    try:
        schedule = simulate(seed)
    except Exception as error:
        raise AssertionError(f"HEADROOM_SIM_SEED={seed}: {error!r}") from error
    try:
        return check(schedule)
    except AssertionError as error:
        text = f"HEADROOM_SIM_SEED={seed} {schedule.faults} {schedule.policy}: {error}"
        raise AssertionError(text) from error


@pytest.mark.skipif("HEADROOM_SIM_SEED" in os.environ, reason="one seed is asked for")
@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(chunk, marks=[] if chunk < CHUNKS_AT_ONCE else [pytest.mark.faults])
        for chunk in range(CHUNKS)
    ],
)
def test_every_schedule_ends_in_the_truth_or_in_a_stated_loss(chunk: int) -> None:
    """Whatever network, kills, stops and restarts do: truth, or stated as lost."""
    size = SCHEDULES // CHUNKS
    outcomes = Counter(run_seed(seed) for seed in range(chunk * size, (chunk + 1) * size))
    if size >= 100:  # the schedules must reach all the ends, or they prove little
        assert outcomes["complete", "plan"] > size // 5
        assert outcomes["aborted", "loss"] > size // 50
        assert outcomes["dead", "master"] > size // 100


@pytest.mark.skipif("HEADROOM_SIM_SEED" not in os.environ, reason="no seed is asked for")
def test_the_schedule_of_a_given_seed() -> None:
    """A seed printed by a failure can be run alone."""
    run_seed(int(os.environ["HEADROOM_SIM_SEED"]))


@pytest.mark.parametrize("seed", range(60))
def test_a_master_that_is_resumed_in_time_loses_nothing(seed: int) -> None:
    """Killed anywhere under load and resumed within the lease: as if nothing had happened."""
    world = World(seed)
    plan, plan_bytes = plan_and_bytes(3 * NS_PER_S, LossPolicy.ABORT)
    weather = CALM if seed % 2 else ROUGH
    world.setup(agents=2, engines=2, plan=plan, plan_bytes=plan_bytes, weather=weather)
    world.run(world.now_ns + 20 * NS_PER_S, lambda: world.master.checkpoint is not None)
    first = world.master
    world.run(world.now_ns + world.random.randrange(4 * NS_PER_S), lambda: False)
    if first.finished is None:
        first.is_dead, first.died_ns = True, world.now_ns
        away_ns = world.random.randrange(50, 700) * NS_PER_MS
        world.after(away_ns, lambda: world.resume_master(first))
    world.run(world.now_ns + 20 * NS_PER_S, lambda: world.master.finished is not None)
    account = world.master.coordinator.account()
    check_no_double(world)
    check_archive(world.master, account)
    assert check_truth(world, account)
    assert world.master.finished is not None
    assert world.master.finished.outcome is Outcome.COMPLETE, world.master.finished.reason
    assert account.is_whole, account.warnings
    assert account.total_sums.planned == world.arithmetic.total


def test_a_seed_is_reproducible() -> None:
    """The same seed gives the same events at the same times."""
    first, second = simulate(7), simulate(7)
    assert first.world.master.events == second.world.master.events
    assert first.world.master.released == second.world.master.released
    assert first.world.now_ns == second.world.now_ns
