"""Outages known to the nanosecond are measured within one bin, whatever their phase and kind."""

from __future__ import annotations

import random

import numpy as np
import pytest
from simulated_outage import MS, START_NS, S, Simulated

from analysis.recovery.connections import measure_storm
from analysis.recovery.downtime import measure_downtime
from analysis.recovery.holding import find_recovery
from analysis.recovery.outage import Outage, is_unavailable, measure_outage, silent_bins
from analysis.recovery.series import Series, build_series, is_request
from loadtests.plan.model import Binning, LateMark, Objective
from loadtests.plan.objectives import parse_objective
from loadtests.record.bins import BIN_NS, BinCount
from loadtests.record.window import Kind

BINNING = Binning(marks=(LateMark(kind=Kind.RESPONSE, limit_ns=500 * MS),))
OBJECTIVES = ("p99 < 500 ms", "error_ratio < 0.1 %")


def series_of(simulated: Simulated) -> Series:
    """All requests."""
    return build_series(simulated.frame(), simulated.span_ns, is_request)


def measured(simulated: Simulated) -> tuple[Series, Outage]:
    """From the first outage's begin to the end."""
    series = series_of(simulated)
    begin_ns = START_NS + simulated.outages[0][0]
    return series, measure_outage(series, begin_ns, series.end_ns)


def with_series(series: Series, *texts: str) -> list[tuple[Objective, Series]]:
    """Objectives on one series."""
    return [(parse_objective(text), series) for text in texts]


CASES = [
    (mode, length_s, seed)
    for mode in ("error", "hang", "drop", "freeze")
    for length_s in (0.3, 1.0, 5.0, 20.0)
    for seed in range(4)
]


@pytest.mark.parametrize(("mode", "length_s", "seed"), CASES)
def test_a_known_outage_is_measured_within_one_bin(mode: str, length_s: float, seed: int) -> None:
    """Unavailability, its longest stretch and the time to recover, at random phases."""
    draw = random.Random(f"{mode} {length_s} {seed}")
    begin_ns = 5 * S + draw.randrange(S)
    length_ns = round(length_s * S)
    simulated = Simulated(
        mode=mode,
        outages=[(begin_ns, begin_ns + length_ns)],
        latency_ns=draw.randrange(1, 30) * MS,
        rate=draw.choice([100.0, 200.0, 333.0]),
        phase_ns=draw.randrange(BIN_NS),
    )
    series, outage = measured(simulated)
    assert abs(outage.unavailable_ns - length_ns) <= BIN_NS
    assert abs(outage.longest_ns - length_ns) <= BIN_NS
    assert len(outage.stretches) == 1
    assert outage.blackout_ns <= outage.unavailable_ns
    recovered = find_recovery(
        series, with_series(series, *OBJECTIVES), BINNING, START_NS + begin_ns
    )
    assert recovered.after_ns is not None
    # What was frozen is answered when the outage is over, perhaps in the next bin.
    answer_ns = simulated.latency_ns if mode == "freeze" else 0
    assert -BIN_NS <= recovered.after_ns - length_ns <= BIN_NS + answer_ns
    if mode != "freeze":
        expected = simulated.rate * length_s
        assert abs(outage.failed - expected) <= 2
    if mode in {"drop", "freeze", "hang"}:
        assert abs(outage.blackout_ns - length_ns) <= 2 * BIN_NS + simulated.latency_ns


@pytest.mark.parametrize("seed", range(8))
def test_a_partial_outage_is_as_long_as_a_whole_one(seed: int) -> None:
    """One request in four fails: the edges are still those of the outage."""
    draw = random.Random(seed)
    begin_ns = 5 * S + draw.randrange(S)
    simulated = Simulated(outages=[(begin_ns, begin_ns + 3 * S)], part=0.25, rate=400.0)
    _, outage = measured(simulated)
    assert abs(outage.unavailable_ns - 3 * S) <= BIN_NS
    assert outage.blackout_ns == 0


@pytest.mark.parametrize("rate", [4.0, 7.0, 12.0, 20.0])
@pytest.mark.parametrize("mode", ["error", "drop"])
def test_few_arrivals_do_not_make_an_outage_shorter(mode: str, rate: float) -> None:
    """Bins in which nothing was due, amid failures, are no availability: 3 s to two gaps."""
    for phase_ns in range(0, BIN_NS, 30 * MS):
        simulated = Simulated(
            mode=mode, rate=rate, outages=[(5 * S + phase_ns, 8 * S + phase_ns)], seconds=20
        )
        series, outage = measured(simulated)
        assert len(outage.stretches) == 1
        (stretch,) = outage.stretches
        near_ns = max(2 * S / rate, (silent_bins(series, stretch) + 1) * BIN_NS)
        assert abs(outage.unavailable_ns - 3 * S) <= near_ns


def test_an_outage_shorter_than_a_bin_is_no_longer_than_it_was() -> None:
    """20 ms in the middle of a bin: two ticks and their arrivals, not 100 ms."""
    _, outage = measured(Simulated(outages=[(5 * S + 33 * MS, 5 * S + 53 * MS)], rate=500.0))
    assert 10 * MS <= outage.unavailable_ns <= 40 * MS


def test_late_timeouts_do_not_make_an_outage_longer() -> None:
    """A hang of 2 s with timeouts of 10 s ends after 2 s, though failures end 8 s later."""
    simulated = Simulated(mode="hang", timeout_ns=10 * S, outages=[(5 * S, 7 * S)], seconds=50)
    series, outage = measured(simulated)
    assert abs(outage.unavailable_ns - 2 * S) <= BIN_NS
    assert outage.first_bad_ns is not None
    assert abs(outage.first_bad_ns - 10 * S) <= BIN_NS
    recovered = find_recovery(series, with_series(series, *OBJECTIVES), BINNING, START_NS + 5 * S)
    assert recovered.after_ns is not None
    assert abs(recovered.after_ns - 2 * S) <= BIN_NS


def test_a_quiet_target_is_not_unavailable() -> None:
    """Few arrivals leave bins without an answer, and an answer may take longer than a bin."""
    for rate, latency_ns in ((3.0, 10 * MS), (9.0, 150 * MS), (25.0, 90 * MS)):
        series = series_of(Simulated(rate=rate, latency_ns=latency_ns, seconds=20))
        assert not is_unavailable(series)[5:-5].any()


def test_first_bad_and_detected_come_in_this_order() -> None:
    """The first bad response is in the bin of the outage's begin; the second shows it at once."""
    _, outage = measured(Simulated(outages=[(5 * S + 250 * MS, 8 * S)]))
    assert outage.first_bad_ns == 0
    assert outage.detected_ns is not None
    assert 0 < outage.detected_ns <= BIN_NS


def test_what_did_not_recover_or_could_not_be_seen_to_is_told_apart() -> None:
    """Until the end of load bad: nothing; good for less than 30 s: since when."""
    for end_s, tail in ((60, None), (45, 40 * S)):
        simulated = Simulated(outages=[(5 * S, end_s * S)])
        series = series_of(simulated)
        recovered = find_recovery(
            series, with_series(series, *OBJECTIVES), BINNING, START_NS + 5 * S
        )
        assert recovered.after_ns is None
        if tail is None:
            assert recovered.tail_ns is None
        else:
            assert recovered.tail_ns is not None
            assert abs(recovered.tail_ns - tail) <= BIN_NS


def test_a_second_outage_within_the_hold_puts_recovery_off() -> None:
    """Objectives have to hold for 30 s: what fails again after 20 s had not recovered."""
    simulated = Simulated(outages=[(5 * S, 6 * S), (26 * S, 27 * S)], seconds=60)
    series = series_of(simulated)
    recovered = find_recovery(series, with_series(series, *OBJECTIVES), BINNING, START_NS + 5 * S)
    assert recovered.after_ns is not None
    assert abs(recovered.after_ns - 22 * S) <= BIN_NS


@pytest.mark.parametrize(("pause_ms", "recovered_s"), [(300, 0.0), (900, 10.9)])
def test_a_pause_within_the_limits_puts_no_recovery_off(pause_ms: int, recovered_s: float) -> None:
    """10 s after the fault nobody answers for 0.3 s, which p99 < 500 ms allows, or for 0.9 s."""
    pause = (15 * S, 15 * S + pause_ms * MS)
    series = series_of(Simulated(mode="freeze", rate=100.0, outages=[pause], timeout_ns=5 * S))
    recovered = find_recovery(
        series, with_series(series, "p99 < 500 ms"), BINNING, START_NS + 5 * S
    )
    assert recovered.after_ns is not None
    assert abs(recovered.after_ns - recovered_s * S) <= BIN_NS


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99 < 500 ms", False),
        ("p90 < 500 ms", True),
        ("error_ratio < 0.1 %", True),
        ("goodput >= 199 rps", True),
        ("goodput >= 210 rps", False),
        ("max < 500 ms", False),
        ("success_ratio > 99.9 %", True),
        ("dropped_ratio < 1 %", True),
    ],
)
def test_each_kind_of_objective_is_held_against_its_bins(text: str, *, holds: bool) -> None:
    """2 % of all answers are later than 500 ms, none failed, 200 a second."""
    simulated = Simulated(seconds=40)
    frame = simulated.frame()
    is_answer = frame["ok"] > 0
    frame.loc[is_answer, "late_0"] = (np.arange(int(is_answer.sum())) % 5 == 0) * 2
    series = build_series(frame, simulated.span_ns, is_request)
    recovered = find_recovery(series, with_series(series, text), BINNING, START_NS + 2 * S)
    assert (recovered.after_ns == 0) is holds


def test_no_downtime_needs_every_request_and_every_second() -> None:
    """One failed request, or one second of late answers, is downtime; no limit, no answer."""
    simulated = Simulated(seconds=20)
    series = series_of(simulated)
    args = (START_NS, series.end_ns)
    assert measure_downtime(series, *args, (0, 500 * MS)).is_none is True
    assert measure_downtime(series, *args, None).is_none is None
    failing = series_of(Simulated(seconds=20, outages=[(5 * S, 5 * S + 4 * MS)]))
    found = measure_downtime(failing, *args, (0, 500 * MS))
    assert (found.is_none, found.failed, found.failed_seconds) == (False, 1, 1)
    counts = series.counts.copy()
    counts[50, BinCount.LATE_0] = 3  # of 200 in that second: p99 allows 2
    late = Series(start_ns=series.start_ns, counts=counts, bad_ticks=series.bad_ticks)
    found = measure_downtime(late, *args, (0, 500 * MS))
    assert (found.is_none, found.slow_seconds) == (False, 1)


def test_a_connection_storm_is_counted_and_timed() -> None:
    """100 connections, 60 lost at 5 s, back in steps of 20 a bin from 6.05 s on."""
    counts = np.zeros((100, len(BinCount)), dtype=np.int64)
    counts[:, BinCount.OPEN] = 100
    counts[50:60, BinCount.OPEN] = 40
    counts[60:63, BinCount.OPEN] = (60, 80, 100)
    counts[60:63, BinCount.CONNECTS] = 20
    counts[50:60, BinCount.CONNECT_FAILURES] = 3
    series = Series(start_ns=START_NS, counts=counts, bad_ticks=np.empty(0, dtype=np.int64))
    storm = measure_storm(series, START_NS + 5 * S, series.end_ns)
    assert storm is not None
    assert (storm.before, storm.fewest, storm.connects, storm.failures) == (100, 40, 60, 30)
    assert storm.restored_ns == 1200 * MS
    assert storm.highest_per_s == 20 * 3 + 3 * 7
    counts[60:, BinCount.OPEN] = 99
    storm = measure_storm(series, START_NS + 5 * S, series.end_ns)
    assert storm is not None
    assert (storm.restored_ns, storm.is_restored) == (None, False)
