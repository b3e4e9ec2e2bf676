"""Open load is handed out once each, in groups, whatever happens to the shares meanwhile."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Final
from unittest import mock

import numpy as np
import pytest
from bench_of_connections import Bench
from bench_of_streams import StreamBench, unary
from driver import configuration
from engine_plans import node, plan_for, request, stage
from grpc_plans import call, grpc_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.closed import Supply
from loadtests.engine.gate import Gate, gate_of
from loadtests.engine.manner import EXACT
from loadtests.engine.pacer import Pacer
from loadtests.engine.recorder import SLOT_MASK
from loadtests.engine.run import Run
from loadtests.plan.call import Compression, Text
from loadtests.plan.model import ArrivalProcess, Hold, Plan, Share
from loadtests.plan.schedule import Schedule
from loadtests.record.window import Count

_PREPARE: Final = Catalogue.prepare


def _varied() -> Plan:
    """4,000 requests/s for 1 s: bodies that vary in width and in length, and one that does not."""
    return plan_for(
        1,
        [
            request("/a", name="a", method="POST", body=b'{"seq": ${seq}, "id": "${uuid}"}'),
            request("/b", name="b", method="POST", body=b'{"seq": ${seq}, "n": ${int:1:9}}'),
            request("/c", name="c"),
        ],
        level=4000,
        seconds=1,
        backlog_limit=1_000_000,
        nodes=(node(1), node(2, name="n2")),
    )


def _expected(plan: Plan, shares: list[Share], until_ns: int) -> list[tuple[int, int, bytes]]:
    """Intended time, slot and payload of every arrival of the shares due by then."""
    catalogue, slots = Catalogue(plan, run_id="run-1", environment={}), plan.slots
    found = []
    for share in shares:
        arrivals = Schedule(plan).arrivals(share, 0, plan.duration_ns)
        at = arrivals.stages * len(slots.requests) + arrivals.requests
        places = at * len(slots.nodes) + arrivals.nodes
        parcels = catalogue.parcels(arrivals.offsets_ns.tolist(), arrivals.sequences, places)
        due = (parcel for parcel in parcels if parcel[0] <= until_ns)
        found += [
            (due_ns, slot, payload)
            for (due_ns, _, _, payload), slot in zip(due, places.tolist(), strict=False)
        ]
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(
    steps_ms=st.lists(st.integers(0, 300), min_size=1, max_size=12),
    prepared=st.integers(0, 4),
    takes_over_at=st.integers(0, 11),
    stops_at=st.integers(0, 11),
)
def test_every_arrival_is_handed_out_or_dropped_once(
    steps_ms: list[int], prepared: int, takes_over_at: int, stops_at: int
) -> None:
    """Stalls, another share taken over in the middle of a slice, a stop: nothing twice or never.

    Whatever is prepared of the next slice when a window ends, or the share comes.
    """
    plan = _varied()
    mine = Share(residue=0, modulus=2, from_ns=0)
    with Bench.of(plan) as bench:
        catalogue = Catalogue(plan, run_id="run-1", environment={})
        pacer = Pacer(plan, mine, catalogue, bench.pools, bench.traffic)
        t0_ns = bench.clock.now_ns
        pacer.begin(t0_ns)
        shares = [mine]
        for number, step_ms in enumerate(steps_ms):
            bench.clock.now_ns += step_ms * NS_PER_MS
            offset_ns = bench.clock.now_ns - t0_ns
            for _ in range(prepared):
                pacer.step()
            if number % 2:
                pacer.count_planned(bench.clock.now_ns)
            if number == takes_over_at and offset_ns < plan.duration_ns:
                shares.append(Share(residue=1, modulus=2, from_ns=offset_ns // 2))
                pacer.take_over(shares[-1])
            if number == stops_at:
                pacer.stop(bench.clock.now_ns)
                break
            pacer.dispatch(bench.clock.now_ns)
            pacer.dispatch(bench.clock.now_ns)
        handed = bench.traffic.backlog_size  # nobody is connected: all that is handed out waits
        pacer.count_planned(bench.clock.now_ns + 1)
        until_ns = bench.clock.now_ns - t0_ns
        if not stops_at < len(steps_ms):  # what is due and was not handed out yet
            pacer.stop(bench.clock.now_ns)
        expected = _expected(plan, shares, until_ns)
        got = [
            (due_ns - t0_ns, code & SLOT_MASK, payload)
            for pool in bench.pools
            for due_ns, code, _, payload in pool.backlog
        ]
        assert bench.traffic.planned == len(expected) == handed + bench.traffic.dropped
        assert len(got) == len(set(got)) == handed
        assert set(got) <= set(expected)
        assert bench.close().total(Count.PLANNED) == len(expected)


def test_a_slice_made_in_steps_is_the_slice_made_at_once() -> None:
    """Arrivals of three requests, a few due at a time: the plan's bytes in the plan's order."""
    plan = _varied()
    whole = Share(residue=0, modulus=1, from_ns=0)
    with Bench.of(plan) as bench:
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        for _ in range(1000):
            bench.clock.now_ns += NS_PER_MS
            pacer.dispatch(bench.clock.now_ns)
        waiting = [parcel for pool in bench.pools for parcel in pool.backlog]
        assert sorted(payload for *_, payload in waiting) == sorted(
            payload for _, _, payload in _expected(plan, [whole], NS_PER_S)
        )
        for pool in bench.pools:
            dues_ns = [parcel[0] for parcel in pool.backlog]
            assert dues_ns == sorted(dues_ns)
        bodies = [payload.partition(b"\r\n\r\n")[2] for *_, payload in waiting]
        numbers = {json.loads(body)["seq"] for body in bodies if body}
        assert len(numbers) == sum(1 for body in bodies if body) > 2000


def test_rounds_prepare_what_rare_arrivals_leave_unprepared() -> None:
    """Ten a second: after a few rounds the next slice is ready, and an arrival only swaps it in."""
    plan = plan_for(1, [request("/a", method="POST", body=b"${uuid}")], level=10, seconds=2)
    with Bench.of(plan) as bench, mock.patch.object(Catalogue, "prepare", autospec=True) as made:
        made.side_effect = _PREPARE
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        for _ in range(20):
            pacer.step()
        prepared = made.call_count
        bench.clock.now_ns = t0_ns + 200 * NS_PER_MS
        pacer.dispatch(bench.clock.now_ns)
        assert bench.traffic.planned == 2
        assert prepared == 2


def test_what_is_prepared_already_is_no_step() -> None:
    """Rounds have taken all steps: counting need not stand back for the arrival's."""
    plan = plan_for(1, [request("/a", method="POST", body=b"${uuid}")], level=1000, seconds=2)
    with Bench.of(plan) as bench:
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        bench.clock.now_ns = t0_ns + 20 * NS_PER_MS
        assert pacer.dispatch(bench.clock.now_ns)
        taken = 0
        while pacer.step():
            taken += 1
        assert taken
        bench.clock.now_ns += 20 * NS_PER_MS
        assert not pacer.dispatch(bench.clock.now_ns)


@pytest.mark.parametrize("process", ArrivalProcess)
def test_a_pause_of_an_hour_is_passed_in_leaps(process: ArrivalProcess) -> None:
    """Not by its 51,000 stretches at once; a share that is taken over in it has its arrivals."""
    names = (("before", 0, 1, 100), ("pause", 1, 3600, 0), ("after", 3601, 1, 100))
    stages = tuple(
        stage(Hold(level=level), seconds=seconds, name=name, start_s=start_s)
        for name, start_s, seconds, level in names
    )
    plan = plan_for(1, [request("/a")], stages=stages, arrival_process=process)
    shares = [Share(residue=0, modulus=2, from_ns=0)]
    arrivals = Schedule.arrivals
    with (
        Bench.of(plan) as bench,
        mock.patch.object(Schedule, "arrivals", autospec=True, side_effect=arrivals) as computed,
    ):
        catalogue = Catalogue(plan, run_id="run-1", environment={})
        pacer = Pacer(plan, shares[0], catalogue, bench.pools, bench.traffic)
        t0_ns = bench.clock.now_ns
        pacer.begin(t0_ns)
        for at_ms in (*range(0, 1_000, 10), 1_800_000, *range(3_600_990, 3_602_010, 10)):
            bench.clock.now_ns = t0_ns + at_ms * NS_PER_MS
            pacer.count_planned(bench.clock.now_ns)
            if at_ms == 1_800_000:
                shares.append(Share(residue=1, modulus=2, from_ns=at_ms * NS_PER_MS))
                pacer.take_over(shares[-1])
            pacer.dispatch(bench.clock.now_ns)
        assert computed.call_count < 100
        got = [parcel[0] - t0_ns for pool in bench.pools for parcel in pool.backlog]
    schedule = Schedule(plan)
    expected = [
        offset_ns
        for share in shares
        for offset_ns in schedule.arrivals(share, 0, plan.duration_ns).offsets_ns.tolist()
    ]
    assert got == sorted(expected)
    assert len(got) > 100


def _places(plan: Plan) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    whole = Share(residue=0, modulus=1, from_ns=0)
    return Schedule(plan).arrivals(whole, 0, plan.duration_ns).requests


def test_large_bodies_that_differ_are_prepared_a_few_at_a_time() -> None:
    """A megabyte each: not 512 of them ahead of their time, in open load and in closed load."""
    large = request("/a", name="a", method="POST", body=b"x" * (1 << 20) + b"${uuid}")
    plan = plan_for(1, [large], level=100, seconds=1)
    catalogue = Catalogue(plan, run_id="run-1", environment={})
    assert catalogue.most_together(_places(plan), 512) == 7
    share = Share(residue=0, modulus=1, from_ns=0)
    assert len(Supply(plan, share, catalogue).batch(0)) == 7
    with Bench.of(plan) as bench:
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        for _ in range(101):
            bench.clock.now_ns += 10 * NS_PER_MS
            pacer.dispatch(bench.clock.now_ns)
            bench.pools[0].backlog.clear()
        assert bench.traffic.planned == 100


def test_a_rare_large_body_does_not_make_all_others_dear() -> None:
    """One megabyte in a thousand requests: as many are prepared together as without it."""
    large = request("/a", name="a", method="POST", body=b"x" * (1 << 20) + b"${seq}", weight=0.001)
    small = request("/b", name="b", method="POST", body=b"${uuid}", weight=0.999)
    plan = plan_for(1, [large, small], level=2000, seconds=1)
    catalogue = Catalogue(plan, run_id="run-1", environment={})
    assert catalogue.most_together(_places(plan), 512) == 512


def test_no_step_makes_more_than_one_row_where_rows_take_long() -> None:
    """Compressed messages of 100 kB: a row a step, each paid for by an arrival of its own."""
    message = (Text(source=b"${hex:64}" * 20 + b"x" * 100_000),)
    plan = grpc_plan(1, [call("Echo", message, compression=Compression.GZIP)], level=100)
    catalogue = Catalogue(plan, run_id="run-1", environment={})
    numbers = np.arange(30, dtype=np.int64)

    def prepared() -> Iterator[None]:
        parcels = yield from catalogue.prepare([0] * 30, numbers, numbers * 0)
        assert len(parcels) == 30

    steps = [sum(1 for _ in prepared()) for _ in range(2)]
    assert steps[1] >= 30


class _Passing:
    """A clock on which every look takes a while."""

    def __init__(self, bench: Bench, step_ns: int) -> None:
        self._clock, self._step_ns = bench.clock, step_ns

    def __call__(self) -> int:
        """Stand in for time.monotonic_ns."""
        self._clock.now_ns += self._step_ns
        return self._clock.now_ns


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("ceiling", [1e9, 100_000.0])
def test_a_busy_engine_sends_what_was_due_in_one_piece_for_each_node(
    ceiling: float, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a group leaves others become due: they wait for the next one, a quantum later."""
    names = tuple(node(port, name=f"n{port}") for port in range(1, nodes + 1))
    plan = grpc_plan(1, [call("Echo")], level=50_000, in_flight_limit=10_000, nodes=names)
    with StreamBench.of(plan) as bench:
        bench.traffic.gate = gate_of(ceiling)
        made = [bench.open(streams=100, index=index) for index in range(nodes)]
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        for connection in made:
            bench.own[connection].sent.clear()
        now_ns = t0_ns + NS_PER_MS
        bench.clock.now_ns = now_ns
        for module in ("pacer", "multiplexed", "multiplexed_pool", "pool"):
            passing = _Passing(bench, 100_000)
            monkeypatch.setattr(f"loadtests.engine.{module}.monotonic_ns", passing)
        pacer.dispatch(now_ns)
        due = len(Schedule(plan).arrivals(Share(residue=0, modulus=1, from_ns=0), 0, NS_PER_MS + 1))
        assert bench.traffic.sent == due == 50
        assert [len(bench.own[connection].sent) for connection in made] == [1] * nodes
        assert bench.traffic.due_ns == now_ns + pacer.manner.quantum_ns


def test_what_waits_leaves_in_one_piece_with_the_room_that_a_read_makes() -> None:
    """Ten streams, 30 requests: ten answers in one read let the next ten leave together."""
    plan = grpc_plan(1, [call("Echo")], in_flight_limit=10_000)
    with StreamBench.of(plan) as bench:
        made = bench.open(streams=10)
        bench.ask(30)
        assert bench.traffic.backlog_size == 20
        bench.sent(made)
        made.data_received(b"".join(unary(number) for number in range(1, 20, 2)))
        assert len(bench.own[made].sent) == 1
        opened = [name for kind, _, name, _ in bench.sent(made) if kind == 1]
        assert opened == list(range(21, 40, 2))
        assert bench.traffic.backlog_size == 10
        lag = np.array([parcel[0] for parcel in bench.many[0].backlog])
        assert (lag == bench.clock.now_ns).all()


def test_a_ceiling_holds_for_what_leaves_in_one_piece() -> None:
    """100 due, 60 allowed in 100 ms: 60 leave, the others wait, and leave when they may."""
    plan = grpc_plan(1, [call("Echo")], level=1000, in_flight_limit=10_000, seconds=0.1)
    with StreamBench.of(plan) as bench:
        bench.traffic.gate = Gate(600.0)
        made = bench.open(streams=500)
        pacer = bench.pacer()
        pacer.begin(bench.clock.now_ns)
        bench.clock.now_ns += 100 * NS_PER_MS
        pacer.dispatch(bench.clock.now_ns)
        assert (bench.traffic.sent, bench.traffic.backlog_size) == (60, 40)
        bench.clock.now_ns += 99 * NS_PER_MS
        bench.many[0].serve(bench.clock.now_ns)
        assert bench.traffic.sent == 60
        for _ in range(200):
            bench.clock.now_ns += NS_PER_MS
            bench.many[0].serve(bench.clock.now_ns)
        assert (bench.traffic.sent, bench.traffic.backlog_size) == (100, 0)
        assert made.in_flight == 100


def test_a_busy_engine_reads_answers_between_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP/1.1: what becomes due while a group leaves goes with it once, not for ever."""
    plan = plan_for(1, [request("/a")], level=20_000, backlog_limit=10_000)
    with Bench.of(plan) as bench:
        for _ in range(400):
            bench.connect()
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.begin(t0_ns)
        bench.clock.now_ns = now_ns = t0_ns + NS_PER_MS
        for module in ("pacer", "connection", "pool"):
            passing = _Passing(bench, 20_000)
            monkeypatch.setattr(f"loadtests.engine.{module}.monotonic_ns", passing)
        pacer.dispatch(now_ns)
        assert 20 < bench.traffic.sent <= 120
        assert bench.traffic.due_ns <= bench.clock.now_ns + pacer.manner.quantum_ns


def test_who_waited_too_long_takes_no_permission_from_others() -> None:
    """Sixty may go in 100 ms: of sixty that wait 59 are too late, and 59 others go at once."""
    patient, impatient = call("Echo", name="a"), call("Echo", name="b")
    timeouts_ns = {patient: 10 * NS_PER_S, impatient: NS_PER_S // 10}
    requests = [dataclasses.replace(one, timeout_ns=ns) for one, ns in timeouts_ns.items()]
    with StreamBench.of(grpc_plan(1, requests, in_flight_limit=10_000)) as bench:
        bench.traffic.gate = Gate(600.0)
        bench.ask(1)
        bench.ask(59, request=1)
        bench.clock.now_ns += NS_PER_S
        bench.open(streams=500)
        assert (bench.traffic.in_flight, bench.traffic.failed) == (1, 59)
        bench.clock.now_ns += NS_PER_MS
        due_ns, numbers = bench.clock.now_ns, np.arange(60, 120)
        bench.many[0].take_due(bench.catalogue.parcels([due_ns] * 60, numbers, 0 * numbers))
        bench.traffic.flush()
        assert (bench.traffic.in_flight, bench.traffic.backlog_size) == (60, 1)


def test_who_waits_too_long_behind_others_is_not_sent() -> None:
    """A patient request waits before an impatient one: only the first is sent after a second."""
    patient, impatient = call("Echo", name="a"), call("Echo", name="b")
    plan = grpc_plan(
        1,
        [
            dataclasses.replace(patient, timeout_ns=10 * NS_PER_S),
            dataclasses.replace(impatient, timeout_ns=NS_PER_S // 10),
        ],
        in_flight_limit=10_000,
    )
    with StreamBench.of(plan) as bench:
        made = bench.open(streams=2)
        bench.ask(2)
        bench.ask(1)
        bench.ask(1, request=1)
        bench.sent(made)
        bench.clock.now_ns += NS_PER_S
        made.data_received(unary(1) + unary(3))
        opened = [name for kind, _, name, _ in bench.sent(made) if kind == 1]
        assert opened == [5]
        assert (bench.traffic.ok, bench.traffic.failed, bench.traffic.backlog_size) == (2, 1, 0)


def test_no_engine_is_exact_when_its_load_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle for two seconds before T0, and in a first stage: each stage begins strained."""
    monkeypatch.setattr("loadtests.engine.run.process_time_ns", lambda: 0)
    stages = tuple(
        stage(Hold(level=1), seconds=1, name=name, start_s=at) for at, name in enumerate("ab")
    )
    plan = plan_for(1, [request("/a")], stages=stages)
    run = Run(configuration(plan), list[object]().append, environment={}, pid=1)
    run._t0_ns = t0_ns = 5 * NS_PER_S
    exact_ms = set()
    for at_ms in range(-2000, 2000, 10):
        run._feel_strain(t0_ns + at_ms * NS_PER_MS)
        if run._pacer.manner is EXACT:
            exact_ms.add(at_ms)
    assert exact_ms == {*range(90, 1000, 10), *range(1100, 2000, 10)}
