"""Bins of a real engine: what was due, what ended, and when bad requests were due."""

from __future__ import annotations

import time

import numpy as np
import pytest
from driver import EngineDriver, RunResult, run_plan
from engine_plans import plan_for, request
from hostile_server import hostile_server

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.messages import Ready
from loadtests.plan.model import Binning, LateMark
from loadtests.record.bins import BIN_NS, TICK_NS, TICKS_PER_BIN, BinCount, sum_bins
from loadtests.record.window import Count, Kind, check_bins

pytestmark = pytest.mark.system

MARKS = (
    LateMark(kind=Kind.RESPONSE, limit_ns=2 * NS_PER_MS),
    LateMark(kind=Kind.SERVICE, limit_ns=20 * NS_PER_MS),
)
BINNING = Binning(marks=MARKS)


def by_bin(result: RunResult, column: BinCount) -> dict[int, int]:
    """Sums of a column by the bin's first tick."""
    bins = sum_bins([window.bins for window in result.windows])
    found: dict[int, int] = {}
    ticks = (bins.ticks - bins.ticks % TICKS_PER_BIN).tolist()
    for tick, number in zip(ticks, bins.counters[:, column].tolist(), strict=True):
        if number:
            found[tick] = found.get(tick, 0) + number
    return found


def test_bins_add_up_and_planned_arrivals_are_in_their_own_bin() -> None:
    """500 arrivals/s put exactly 50 into every whole bin; all bins add up to their windows."""
    with hostile_server() as server:
        plan = plan_for(
            server.port,
            [request("/wait?5000", name="wait"), request("/status?503", name="bad", weight=0.1)],
            level=500, seconds=2.3, binning=BINNING,
        )  # fmt: skip
        result = run_plan(plan)
    result.check_conservation()
    for window in result.windows:
        assert len(window.bins) or not window.total(Count.PLANNED)
        check_bins(window)
    planned = by_bin(result, BinCount.PLANNED)
    assert set(sorted(planned.values())[2:]) == {50}  # the first and the last bin may be parts
    assert sum(planned.values()) == result.final.planned == 1150
    late = sum(by_bin(result, BinCount.LATE_0).values())
    histogram = result.histogram(Kind.RESPONSE)
    assert late == histogram.n  # all waited 5 ms, the mark is 2 ms
    assert max(by_bin(result, BinCount.OPEN).values()) == 16


def test_requests_that_time_out_are_bad_when_they_were_due() -> None:
    """Frozen 0.5 s into the run for half a second; timeouts fire later, dues lie in the freeze."""
    timeout_ns = 300 * NS_PER_MS
    with hostile_server() as server:
        plan = plan_for(
            server.port, [request("/frozen", timeout_ns=timeout_ns)],
            level=200, seconds=1.5, binning=BINNING, connections=200, in_flight_limit=200,
        )  # fmt: skip
        with EngineDriver(plan) as driver:
            assert isinstance(driver.configure(), Ready)
            to_unix_ns = time.time_ns() - time.monotonic_ns()
            driver.start()
            server.frozen_from_ns = driver.t0_ns + NS_PER_S // 2
            server.frozen_until_ns = driver.t0_ns + NS_PER_S
            frozen_ns = server.frozen_from_ns + to_unix_ns
            result = driver.finish()
    result.check_conservation()
    bins = sum_bins([window.bins for window in result.windows])
    bad = bins.ticks[bins.counters[:, BinCount.DUE_FAILED] > 0] * TICK_NS
    # Due from the freeze on, until what is left of it is shorter than the timeout. A server or
    # an engine that gets no core is frozen too, for as long as they say themselves.
    assert -2 * TICK_NS <= bad.min() - frozen_ns <= 2 * TICK_NS
    stood_still_ns = server.longest_gap_ns + result.histogram(Kind.SEND_LAG).max_us() * 1000
    beyond_ns = bad.max() - (frozen_ns + NS_PER_S // 2 - timeout_ns)
    assert -4 * TICK_NS <= beyond_ns <= 4 * TICK_NS + stood_still_ns
    ended = np.array(sorted(by_bin(result, BinCount.FAILED))) * TICK_NS
    assert ended.min() >= frozen_ns + timeout_ns - BIN_NS
    for window in result.windows:
        check_bins(window)


def test_without_binning_windows_have_no_bins() -> None:
    """Off otherwise."""
    with hostile_server() as server:
        result = run_plan(plan_for(server.port, [request("/ok")], seconds=0.5))
    assert not any(len(window.bins) for window in result.windows)
