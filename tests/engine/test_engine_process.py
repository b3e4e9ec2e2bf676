"""The engine as a process: leases, ends, stalls, shares, the ceiling, dead nodes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from driver import EngineDriver, RunResult, run_plan
from engine_plans import node, plan_for, request, stage
from hostile_server import hostile_server, plain_server

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.messages import EngineError, FinalReport, Ready, ShareOf, Stop, TakeOver
from loadtests.plan.model import Hold, LoadModel, Plan, Ramp
from loadtests.plan.schedule import Schedule
from loadtests.record.window import CONNECTION, Count, Kind

pytestmark = pytest.mark.system


def started(plan: Plan, **options: int) -> EngineDriver:
    """An engine under load."""
    driver = EngineDriver(plan, **options)  # type: ignore[arg-type]  # index and of_engines
    try:
        ready = driver.configure()
        assert isinstance(ready, Ready), ready
        driver.start()
    except BaseException:
        driver.__exit__(None, None, None)
        raise
    return driver


def test_every_second_has_its_window() -> None:
    """Windows are whole UTC seconds in order, empty ones too; planned is exact in each."""
    with hostile_server() as server:
        stages = (
            stage(Hold(level=100), seconds=1.2, name="a"),
            stage(Hold(level=0.5), seconds=1.8, name="b", start_s=1.2),
        )
        plan = plan_for(server.port, [request("/ok")], stages=stages)
        with started(plan) as driver:
            t0_ns = driver.t0_ns
            unix_ns = time.time_ns() - time.monotonic_ns() + t0_ns
            result = driver.finish()
    result.check_conservation()
    totals = Schedule(plan).totals
    assert result.final.planned == sum(totals)
    assert result.windows[0].start_s in {unix_ns // NS_PER_S, (unix_ns - NS_PER_MS) // NS_PER_S}
    space = plan.slots
    for index, total in enumerate(totals):
        planned = sum(
            int(row[Count.PLANNED])
            for window in result.windows
            for slot, row in zip(window.slots.tolist(), window.counters, strict=True)
            if space.indices(slot)[0] == index
        )
        assert planned == total
    for window in result.windows[1:-1]:
        assert window.health[0].wall_ns == NS_PER_S


def test_in_flight_integral_agrees_with_the_latencies() -> None:
    """Little's law on a real run: the time integral equals the sum of service times."""
    with hostile_server() as server:
        plan = plan_for(server.port, [request("/wait?20000", name="w")], level=200, seconds=2)
        result = run_plan(plan)
    result.check_conservation()
    integral_ns = sum(window.health[0].in_flight_ns for window in result.windows)
    service = result.histogram(Kind.SERVICE)
    assert integral_ns / 1000 == pytest.approx(service.mean_us() * service.n, rel=0.01)


def test_stop_drains_and_drops_what_was_not_sent() -> None:
    """After Stop nothing is sent, answers are awaited, overdue arrivals count as dropped."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/wait?400000", name="w")],
            level=100,
            seconds=30,
            connections=4,
            in_flight_limit=4,
        )
        with started(plan) as driver:
            driver.wait_window()
            driver.wait_window()
            driver.send(Stop(grace_ns=5 * NS_PER_S, reason="enough"))
            result = driver.finish()
    result.check_conservation()
    assert result.final.reason == "enough"
    assert result.final.dropped > 50
    assert result.final.in_flight_at_stop == 0
    assert server.seen.total() == result.final.sent


def test_a_short_run_with_a_slow_target_misses_nothing() -> None:
    """A drain of 2 s waits for answers of 1 s: all planned requests end ok."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/wait?1000000", name="w", timeout_ns=5 * NS_PER_S)],
            level=60,
            seconds=1,
            connections=80,
            in_flight_limit=80,
            grace_ns=3 * NS_PER_S,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.ok == result.final.planned == 60


def test_what_is_not_answered_within_the_grace_is_in_flight_at_stop() -> None:
    """Requests without an answer at the end of the drain are counted as such."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/stall", timeout_ns=60 * NS_PER_S)],
            level=20,
            seconds=0.5,
            grace_ns=200 * NS_PER_MS,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.in_flight_at_stop == 10


def test_no_request_leaves_after_the_lease() -> None:
    """A lease that nobody renews ends the load by itself, at its time."""
    with hostile_server() as server:
        plan = plan_for(server.port, [request("/ok")], level=200, seconds=30)
        with EngineDriver(plan) as driver:
            driver.renews = False
            assert isinstance(driver.configure(), Ready)
            driver.start(lease_ns=1500 * NS_PER_MS)
            lease_until_ns = driver.t0_ns - 50 * NS_PER_MS + 1500 * NS_PER_MS
            result = driver.finish()
        assert result.final.reason == "lease expired"
        # The server notes the arrival; what had left in time may be noted later, as late as
        # the server's own loop was at its worst.
        late_ns = 500 * NS_PER_MS + server.longest_gap_ns
        assert max(server.arrived_ns) < lease_until_ns + late_ns
    result.check_conservation()
    assert result.final.sent < 350


def test_the_engine_ends_when_its_socket_closes() -> None:
    """Without an agent there is no load."""
    with hostile_server() as server:
        with started(plan_for(server.port, [request("/ok")], level=200, seconds=60)) as driver:
            driver.wait_window()
            driver.socket.close()
            assert driver.process.wait(5) != 0
        count = server.seen.total()
        time.sleep(0.3)
        assert server.seen.total() == count


def test_the_engine_dies_with_its_parent() -> None:
    """A killed agent leaves no engine behind, even while the socket stays open."""
    ours, theirs = socket.socketpair()
    program = (
        "import subprocess, sys, time\n"
        "engine = subprocess.Popen([sys.executable, '-m', 'loadtests.engine.process',"
        f" '--fd', '{theirs.fileno()}'], pass_fds=[{theirs.fileno()}])\n"
        "print(engine.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with ours, theirs:
        agent = subprocess.Popen(
            [sys.executable, "-c", program], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE
        )
        try:
            assert agent.stdout is not None
            engine_pid = int(agent.stdout.readline())
            _wait_until_armed(engine_pid)
        finally:
            agent.kill()
            agent.wait(10)
        for _ in range(100):
            if not _is_running(engine_pid):
                return
            time.sleep(0.05)
    os.kill(engine_pid, signal.SIGKILL)
    pytest.fail("the engine outlived its parent")


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - one line of procfs
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until_armed(pid: int) -> None:
    """Wait until SIGINT is ignored: that is set after the death signal."""
    for _ in range(200):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123 - procfs
            (line,) = (line for line in file if line.startswith("SigIgn"))
        if int(line.split()[1], 16) & (1 << (signal.SIGINT - 1)):
            return
        time.sleep(0.05)
    pytest.fail("the engine did not start")


def test_sigint_is_the_agents_business() -> None:
    """A terminal's Ctrl-C reaches the group; the engine goes on until it is told."""
    with (
        hostile_server() as server,
        started(plan_for(server.port, [request("/ok")], level=100, seconds=2)) as driver,
    ):
        driver.wait_window()
        driver.process.send_signal(signal.SIGINT)
        result = driver.finish()
    result.check_conservation()
    assert result.final.ok == 200


def test_a_stopped_engine_shows_its_stall_and_loses_nothing() -> None:
    """SIGSTOP for 1.5 s: every arrival is sent late with its intended time kept."""
    with hostile_server() as server:
        plan = plan_for(server.port, [request("/ok")], level=200, seconds=4)
        with started(plan) as driver:
            driver.wait_window()
            driver.process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            driver.process.send_signal(signal.SIGCONT)
            result = driver.finish()
    result.check_conservation()
    assert result.final.ok == result.final.planned == 800
    assert result.histogram(Kind.SEND_LAG).max_us() >= 1_200_000
    assert result.histogram(Kind.RESPONSE).share_above(500_000) >= 190 / 800
    assert max(window.health[0].stalled_ns for window in result.windows) >= NS_PER_S


def test_no_100_ms_hold_more_than_the_ceiling_also_after_a_stall() -> None:
    """The target sees at most the ceiling in any 100 ms, catch-up after SIGSTOP included."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/ok")],
            level=300,
            seconds=3,
            max_rate_per_s=400.0,
            grace_ns=3 * NS_PER_S,
            connections=64,
            in_flight_limit=64,
        )
        with started(plan) as driver:
            driver.wait_window()
            driver.process.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            driver.process.send_signal(signal.SIGCONT)
            result = driver.finish()
    result.check_conservation()
    assert result.final.ok == 900
    arrived = sorted(server.arrived_ns)
    # 40 in 100 ms at the sender; what waits leaves evenly, so delays of the receiver (its
    # loop's longest gap) can push together only what is due in them.
    allowed = 40 + 400 * (server.longest_gap_ns / NS_PER_S + 0.02)
    worst = max(
        sum(1 for at in arrived[first : first + 100] if at < arrived[first] + 100 * NS_PER_MS)
        for first in range(len(arrived))
    )
    assert worst <= allowed
    assert result.histogram(Kind.RESPONSE).max_us() > 800_000


def test_shares_of_two_engines_are_the_whole() -> None:
    """Two engines send every arrival of the plan exactly once between them."""
    with hostile_server() as server:
        server.keeps_requests = True
        body = b'{"n":"${seq}","u":"${uuid}"}'
        plan = plan_for(
            server.port, [request("/ok", method="POST", body=body)], level=150, seconds=1
        )
        with (
            started(plan, index=0, of_engines=2) as one,
            started(plan, index=1, of_engines=2) as two,
        ):
            results = [one.finish(), two.finish()]
    for result in results:
        result.check_conservation()
    assert sum(result.final.ok for result in results) == 150
    bodies = {body for _, body in server.requests}
    assert len(bodies) == 150
    assert {int(body.split(b'"')[3]) for body in bodies} == set(range(150))


def test_a_taken_over_share_is_sent_from_its_time_on() -> None:
    """Engine 0 of 2 takes over engine 1's share: from then on it sends the whole."""
    with hostile_server() as server:
        plan = plan_for(server.port, [request("/ok")], level=200, seconds=3)
        with started(plan, index=0, of_engines=2) as driver:
            driver.wait_window()
            from_ns = 1_500_000_000
            driver.send(TakeOver(ShareOf(residue=1, modulus=2, from_ns=from_ns)))
            result = driver.finish()
    result.check_conservation()
    assert result.final.planned == 300 + 150
    assert result.final.ok == 450


def test_closed_load_follows_its_stages() -> None:
    """Connections rise and fall with the level, think time holds the rate down."""
    with hostile_server() as server:
        stages = (
            stage(Ramp(start=1, end=20), seconds=1, name="up"),
            stage(Hold(level=2), seconds=1.5, name="low", start_s=1),
        )
        plan = plan_for(
            server.port,
            [request("/ok")],
            stages=stages,
            load_model=LoadModel.CLOSED,
            think_time_ns=50 * NS_PER_MS,
            connections=20,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert 10 <= server.connections <= 20
    assert result.windows[-2].health[0].connections <= 3
    low = [s for s in result.merged.slots.tolist() if plan.slots.indices(s)[0] == 1]
    assert low
    assert result.final.ok == server.seen.total()


def test_a_dead_node_fails_fast_and_comes_back() -> None:
    """Arrivals for a node that refuses end at once as connect_refused; the others are ok."""
    with hostile_server() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        nodes = (node(server.port), node(closed.getsockname()[1], name="dead"))
        plan = plan_for(server.port, [request("/ok")], level=200, seconds=1, nodes=nodes)
        with EngineDriver(plan) as driver:
            ready = driver.configure()
            assert isinstance(ready, Ready)
            assert any("dead" in warning for warning in ready.warnings)
            driver.start()
            result = driver.finish()
    result.check_conservation()
    assert result.final.ok + result.final.failed == 200
    assert 95 <= result.final.failed <= 105
    merged, space = result.merged, plan.slots
    kinds = {(space.indices(s), kind): n for (s, kind), n in merged.errors.items()}
    assert kinds[(0, 0, 1), "connect_refused"] == result.final.failed
    # Paused for between attempts: at 2,000 connects/s there would be hundreds without.
    assert 2 <= kinds[(0, space.requests.index(CONNECTION), 1), "connect_refused"] <= 20
    assert result.total(Count.CONNECTS) == 16 // 2


def test_connects_are_spread_and_timed() -> None:
    """At 20 connects/s the 21st connection comes a second after the first; each is timed."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/ok")],
            level=20,
            seconds=0.5,
            connections=21,
            connects_per_s=20.0,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert server.connections == result.total(Count.CONNECTS) == result.histogram(Kind.CONNECT).n
    assert server.connections == 21
    # Without the rate they come within milliseconds; the rest is room for a slow accept.
    assert server.connected_ns[-1] - server.connected_ns[0] > 700 * NS_PER_MS


def test_a_target_that_turns_the_first_connection_away_is_loaded_all_the_same() -> None:
    """One refusal after the fact is not the last word: the next connection lasts."""
    held: list[socket.socket] = []

    def behave(peer: socket.socket, number: int) -> None:
        held.append(peer)
        if number == 0:
            peer.shutdown(socket.SHUT_RDWR)

    with plain_server(behave) as port:
        plan = plan_for(port, [request("/ok")], connections=1)
        with EngineDriver(plan) as driver:
            ready = driver.configure()
            deadline_s = time.monotonic() + 20
            while len(held) < 2 and time.monotonic() < deadline_s:
                time.sleep(0.01)  # Ready may come before the first one is known to be gone
    assert isinstance(ready, Ready), ready
    assert (ready.connections, len(held)) == (1, 2)


def test_a_restarted_target_is_loaded_again() -> None:
    """Every connection is cut at once: they come back, spread, and the rest is ok."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/ok", weight=50.0), request("/reset")],
            level=400,
            seconds=2,
            connections=8,
        )
        result = run_plan(plan)
    result.check_conservation()
    resets = result.kinds().get("reset", 0)
    assert resets == result.final.failed == server.seen["reset"] > 5
    assert result.total(Count.CONNECTS) == server.connections == 8 + resets
    assert result.histogram(Kind.CONNECT).n == server.connections


def test_the_backlog_cap_sheds_arrivals() -> None:
    """Beyond connections and backlog arrivals are dropped at once, and counted."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/stall", timeout_ns=10 * NS_PER_S)],
            level=100,
            seconds=1,
            connections=4,
            in_flight_limit=4,
            backlog_limit=6,
            grace_ns=100 * NS_PER_MS,
        )
        result = run_plan(plan)
    result.check_conservation()
    assert result.final.sent == result.final.in_flight_at_stop == 4
    assert result.final.dropped == 96


def test_ipv6_and_names_are_reached() -> None:
    """A node may be an IPv6 address or a name with several addresses."""
    with hostile_server(host="::1") as six:
        plan = plan_for(
            six.port, [request("/ok")], seconds=0.5, nodes=(node(six.port, host="::1"),)
        )
        result = run_plan(plan)
        assert result.final.ok == 100
    with hostile_server() as four:
        nodes = (node(four.port, host="localhost"),)
        plan = plan_for(four.port, [request("/ok")], seconds=0.5, nodes=nodes)
        result: RunResult = run_plan(plan)  # type: ignore[no-redef]  # the same thing again
        assert result.final.ok + result.final.failed == 100
        assert result.final.ok >= 90


def test_strangers_are_refused() -> None:
    """An address that nobody authorised is not even connected to."""
    plan = plan_for(80, [request("/ok")], nodes=(node(80, host="192.0.2.1"),))
    with EngineDriver(plan) as driver:
        answer = driver.configure()
        assert isinstance(answer, EngineError)
        assert answer.family == "target"
        assert "authorised" in answer.seen
        assert driver.process.wait(5) == 4


def test_a_missing_variable_is_the_scenarios_fault() -> None:
    """A placeholder without its environment variable ends the engine with the right family."""
    plan = plan_for(80, [request("/ok", headers=(("X", "${env:HEADROOM_NOT_SET}"),))])
    with EngineDriver(plan) as driver:
        answer = driver.configure()
        assert isinstance(answer, EngineError)
        assert answer.family == "scenario"
        assert "HEADROOM_NOT_SET" in answer.seen
        assert driver.process.wait(5) == 2


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x05hello", b"\xff\xff\xff\xff", b"\x00" * 64])
def test_malformed_frames_end_the_engine(data: bytes) -> None:
    """An engine that cannot be sure of its orders does nothing and says so."""
    with EngineDriver(plan_for(80, [request("/ok")])) as driver:
        driver.socket.sendall(data)
        answer = driver.receive(10)
        assert isinstance(answer, EngineError)
        assert answer.family == "harness"
        assert driver.process.wait(5) == 5


def test_descriptors_running_out_is_the_clients_kind() -> None:
    """EMFILE is neither the target's fault nor silent: it has its own kind."""
    limit = ("bash", "-c", 'ulimit -n 40; exec "$@"', "bash")
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/ok")],
            level=100,
            seconds=0.5,
            connections=100,
            connect_timeout_ns=300 * NS_PER_MS,
        )
        with EngineDriver(plan, prefix=limit) as driver:
            ready = driver.configure(timeout_s=60)
            assert isinstance(ready, Ready)
            assert 5 <= ready.connections < 40
            driver.start()
            result = driver.finish()
    result.check_conservation()
    assert result.final.ok == 50
    assert result.kinds()["client_descriptors_exhausted"] >= 1


def test_stop_before_the_start_reports_nothing_sent() -> None:
    """A run that is given up at the barrier ends in order, with zeros."""
    with hostile_server() as server:
        with EngineDriver(plan_for(server.port, [request("/ok")])) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.send(Stop(grace_ns=NS_PER_S, reason="given up"))
            final = driver.receive(5)
            assert isinstance(final, FinalReport)
            assert (final.planned, final.sent, final.reason) == (0, 0, "given up")
            assert driver.process.wait(5) == 0
        assert server.seen.total() == 0
