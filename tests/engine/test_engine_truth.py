"""Latencies against truth: on a virtual clock exactly, over real sockets within tolerance."""

from __future__ import annotations

import math
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from bench_of_connections import Bench
from driver import EngineDriver, RunResult, run_plan
from engine_plans import plan_for, request
from hostile_server import OK, hostile_server

from loadtests.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from loadtests.engine.messages import Ready
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


def exact_quantile(values_us: list[float], q: float) -> float:
    """Smallest value with count(<= v) >= ceil(q n)."""
    ordered = sorted(values_us)
    return ordered[max(1, math.ceil(round(q * len(ordered), 6))) - 1]


def test_every_percentile_of_a_known_distribution_is_within_the_promise() -> None:
    """Through connection, recorder and window a latency loses at most 0.1 % or 1 us."""
    source = random.Random(5)
    latencies_ns = [int(source.lognormvariate(15, 1.5)) for _ in range(20_000)]
    with Bench.of(plan_for(1, [request("/ok")])) as bench:
        bench.connect()
        for latency_ns in latencies_ns:
            made = bench.begin()
            bench.clock.now_ns += latency_ns
            made.data_received(OK)
            bench.clock.now_ns += 1000
        window = bench.close()
        bench.check_conservation(window)
        for kind in (Kind.RESPONSE, Kind.SERVICE):
            histogram = bench.histogram(window, kind)
            for q in QUANTILES:
                exact_us = exact_quantile([ns // NS_PER_US for ns in latencies_ns], q)
                seen_us = histogram.quantile_us(q)
                assert exact_us <= seen_us <= exact_us * 1.001 + 1, (kind, q)


def test_a_freeze_shows_whole_in_response_time_and_not_in_service_time() -> None:
    """1,000 arrivals/s, 10 connections, frozen 1 s: the tail is the ramp worked out by hand."""
    rate, step_ns = 1000, NS_PER_S // 10_000
    plan = plan_for(1, [request("/ok")], level=rate, seconds=5)
    with Bench.of(plan) as bench:
        for _ in range(10):
            bench.connect()
        pacer = bench.pacer()
        t0_ns = bench.clock.now_ns
        bench.traffic.on_due = pacer.dispatch
        pacer.begin(t0_ns)
        while bench.clock.now_ns < t0_ns + 5 * NS_PER_S:
            bench.clock.now_ns += step_ns
            now_ns = bench.clock.now_ns
            pacer.dispatch(now_ns)
            if not 2 * NS_PER_S <= now_ns - t0_ns < 3 * NS_PER_S:
                for made in list(bench.sockets):  # everything in flight is answered at once
                    while made.task is not None:
                        made.data_received(OK)
        pacer.count_planned(t0_ns + 5 * NS_PER_S)
        window = bench.close()
        bench.check_conservation(window)
    assert window.total(Count.PLANNED) == bench.traffic.planned == 5000
    response = bench.histogram(window, Kind.RESPONSE)
    service = bench.histogram(window, Kind.SERVICE)
    # The 1,000 arrivals of the frozen second wait from 1 s down to 0, evenly.
    for above_ms in (1, 100, 500, 900):
        expected = (1000 - above_ms) / 5000
        assert response.share_above(above_ms * 1000) == pytest.approx(expected, abs=2 / 5000)
    assert 998_000 <= response.max_us() <= 1_002_000
    # Only the ten that were on a connection waited there; the others were sent and answered.
    assert service.share_above(1000) == pytest.approx(10 / 5000)
    assert service.quantile_us(0.99) <= 200


@contextmanager
def bare_client(port: int) -> Iterator[list[int]]:
    """Ask /ok every 10 ms with a blocking socket; collects round trips in ns.

    That is what sockets, kernel, server and a busy machine cost any client at this moment.
    """
    round_trips_ns: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port)) as own:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not stop.wait(0.01):
                began_ns = time.monotonic_ns()
                own.sendall(b"GET /ok HTTP/1.1\r\n\r\n")
                own.recv(1000)
                round_trips_ns.append(time.monotonic_ns() - began_ns)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield round_trips_ns
    finally:
        stop.set()
        thread.join()


def _largest_gap(result: RunResult, truth_ns: list[int], bare_ns: list[int]) -> float:
    """Largest deviation over percentiles, in parts of 0.2 % + 0.2 ms + a bare client's p99.

    Its p99, because engine and server are woken twice as often for an answer that waited as
    the bare client's thread and the server are for one that did not.
    """
    truth = Histogram.of_ns(np.array(truth_ns, dtype=np.int64))
    bare_us = Histogram.of_ns(np.array(bare_ns, dtype=np.int64)).quantile_us(0.99)
    seen = result.histogram(Kind.SERVICE)
    assert seen.n == truth.n
    gaps = []
    for q in (0.05, 0.25, 0.5, 0.75, 0.9):
        exact_us = truth.quantile_us(q)
        over_us = seen.quantile_us(q) - exact_us
        allowed_us = exact_us * 0.002 + 200
        gaps.append(max(over_us / (allowed_us + bare_us), -over_us / allowed_us))
    return max(gaps)


@pytest.mark.system
def test_percentiles_over_sockets_match_what_the_server_waited() -> None:
    """Percentiles are what the server waited, within 0.2 % + 0.2 ms and a bare client's cost.

    The operating system may delay either side at any moment; what is systematic shows in
    every attempt, what is noise does not show in all of five. Where even a bare client needs
    milliseconds, nothing can be compared; the virtual clock's test above holds anyway.
    """
    source = random.Random(3)
    waits_us = [int(min(200_000, 5_000 + source.expovariate(1 / 30_000))) for _ in range(40)]
    requests = [request(f"/wait?{us}", name=f"wait {i}") for i, us in enumerate(waits_us)]
    gaps, is_quiet = [], False
    for _ in range(5):
        with hostile_server() as server, bare_client(server.port) as bare_ns:
            plan = plan_for(server.port, requests, level=150, seconds=2, connections=64)
            result = run_plan(plan)
        result.check_conservation()
        gaps.append(_largest_gap(result, server.waited_ns, bare_ns))
        if gaps[-1] <= 1:
            return
        is_quiet |= float(np.quantile(bare_ns, 0.9)) < NS_PER_MS
    if not is_quiet:
        pytest.skip("a bare client needs more than 1 ms here: too busy to compare to 0.2 ms")
    pytest.fail(f"deviations in parts of the tolerance: {gaps}")


@pytest.mark.system
def test_a_frozen_target_over_sockets() -> None:
    """The target freezes for 1 s at 500 arrivals/s: response time shows it, service does not."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/frozen")],
            level=500,
            seconds=4,
            connections=8,
            in_flight_limit=8,
        )
        with EngineDriver(plan) as driver:
            assert isinstance(driver.configure(), Ready)
            driver.start(lead_ns=300 * NS_PER_MS)
            server.frozen_from_ns = driver.t0_ns + 1500 * NS_PER_MS
            server.frozen_until_ns = server.frozen_from_ns + NS_PER_S
            result = driver.finish()
    result.check_conservation()
    assert result.final.ok == 2000
    response, service = result.histogram(Kind.RESPONSE), result.histogram(Kind.SERVICE)
    # By hand: 500 of 2,000 arrivals fall into the freeze; half of them wait 0.5 s or more.
    assert response.share_above(500_000) >= 245 / 2000
    assert response.share_above(500_000) <= 400 / 2000  # a slow machine drains slowly
    assert response.max_us() >= 990_000
    assert service.share_above(500_000) <= 10 / 2000
    gap_us = response.quantile_us(0.95) - service.quantile_us(0.95)
    print(f"coordinated-omission gap at p95: {gap_us / 1000:.0f} ms")  # noqa: T201 - the issue asks for it
    assert gap_us > 500_000
