"""The measuring parts of the benchmark: counts, spreads, slopes, processes."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench_builders import cost_sample
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cost import ratios_to, undisturbed_ratio, undisturbed_us
from benchmarks.fan_in import Usage, require_whole
from benchmarks.generators import count_of_hey, count_of_locust, count_of_wrk
from benchmarks.memory import theil_sen
from benchmarks.process import cpu_ns, descendants, resident_bytes, spawn
from benchmarks.simulated_agents import relabelled
from benchmarks.spread import spread_of
from benchmarks.synthetic import ENDPOINTS, synthetic_window
from loadtests.errors import HarnessError
from loadtests.record.window import Count, Kind, histogram_of, pack_window, unpack_window


def test_counts_of_the_peers_are_read_from_their_summaries() -> None:
    """Each peer's own total is found in what it prints."""
    assert count_of_wrk("  9841 requests in 1.10s, 1.46MB read\nRequests/sec: 8931") == 9841
    assert count_of_hey("Status code distribution:\n  [200]\t52660 responses\n") == 52660
    summary = 'noise\n[{"num_requests": 5, "num_failures": 0}]'
    assert count_of_locust(summary) == 5


@pytest.mark.parametrize(
    ("count", "output"),
    [
        (count_of_wrk, "  10 requests in 1s\n  Socket errors: connect 0, read 3, write 0"),
        (count_of_wrk, "  10 requests in 1s\n  Non-2xx or 3xx responses: 4"),
        (count_of_wrk, "unable to connect"),
        (count_of_hey, "  [200]\t9 responses\n  [502]\t1 responses\n"),
        (count_of_hey, ""),
        (count_of_locust, '[{"num_requests": 5, "num_failures": 1}]'),
    ],
)
def test_a_peer_with_errors_is_refused(count: object, output: str) -> None:
    """Failed requests are cheap: a peer that had some gives no figure."""
    assert callable(count)
    with pytest.raises(ValueError, match="said"):
        count(output)


def test_ratios_pair_samples_of_one_round() -> None:
    """A slow round of the machine cancels: each sample is divided by its own round's wrk."""
    samples = [
        cost_sample("wrk", 1, 10.0),
        cost_sample("open", 1, 15.0),
        cost_sample("open", 2, 30.0),
        cost_sample("wrk", 2, 20.0),
    ]
    assert ratios_to(samples, "open", "wrk") == [1.5, 1.5]


@given(values=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9))
def test_a_spread_is_ordered_and_reproducible(values: list[float]) -> None:
    """Range and interval enclose the median, and equal rounds give equal intervals."""
    spread = spread_of(values)
    assert spread.lowest <= spread.ci_low <= spread.median <= spread.ci_high <= spread.highest
    assert spread == spread_of(values)


def test_slices_that_a_neighbour_slowed_do_not_move_the_undisturbed_cost() -> None:
    """Half of the slices at twice the cost: the lower quartile is still the generator's own."""
    quiet = replace(cost_sample("wrk", 1, 10.0), slices_us=(10.0, 10.1, 10.2, 20.0))
    spoilt = replace(cost_sample("wrk", 2, 20.0), slices_us=(20.0, 20.1, 20.2, 10.0))
    assert undisturbed_us([quiet, spoilt], "wrk") == pytest.approx(10.075)
    engine = cost_sample("open", 1, 15.0)
    assert undisturbed_ratio([quiet, spoilt, engine], "open", "wrk") == pytest.approx(1.489, 1e-3)


def test_no_rounds_are_no_result() -> None:
    """A spread of nothing is refused."""
    with pytest.raises(ValueError, match="no rounds"):
        spread_of([])


def test_the_leak_slope_ignores_outliers_and_sees_growth() -> None:
    """A tenth of wild samples does not move the slope; steady growth is found exactly."""
    times = [float(t) for t in range(100)]
    values = [7.0 * t for t in times]
    for spoilt in range(0, 100, 10):
        values[spoilt] = 1e9
    assert theil_sen(times, values) == pytest.approx(7.0)
    assert theil_sen(times, [5.0] * 100) == 0.0


@pytest.mark.parametrize("growth_mib_per_h", [0.0, 0.5, 5.0])
def test_a_masters_growth_is_seen_behind_what_comes_and_goes(growth_mib_per_h: float) -> None:
    """90 MB are given back every minute and mostly taken again before the next reading.

    A start fills up, and every other minute no reading is low.
    """
    readings = [
        (100 << 20)
        + min(at, 900) * 50_000
        + (0 if at % 120 < 2 else 90_000_000 + at * 7919 % 5_000_000)
        + round(growth_mib_per_h * (1 << 20) * at / 3600)
        for at in range(0, 3_600, 2)
    ]
    usage = Usage(seconds=3_600.0, cpu_ratio=0.4, cpu_slices=(), resident_bytes=tuple(readings))
    assert usage.slope_bytes_per_h / (1 << 20) == pytest.approx(growth_mib_per_h, abs=0.01)


def test_a_run_that_its_master_gave_up_is_no_sample() -> None:
    """Its last word decides: an agent can be lost in the last second, when all was measured."""
    require_whole("complete: the last stage is over", 1_000)
    with pytest.raises(HarnessError, match="lost agent-1254/0"):
        require_whole("aborted: lost agent-1254/0: agent-1254: silent for 2.5 s", 3_000)


def test_synthetic_windows_obey_the_laws_and_travel() -> None:
    """Planned = sent = ok = histogram counts, and the wire format gives the same window."""
    window = synthetic_window(
        start_s=7, requests_per_endpoint=50, engine="a/0", seed=1, has_hiccup=True
    )
    for count in (Count.PLANNED, Count.SENT, Count.OK):
        assert window.total(count) == 50 * ENDPOINTS
    for kind in (Kind.RESPONSE, Kind.SERVICE, Kind.SEND_LAG):
        assert histogram_of(window, kind, range(ENDPOINTS)).n == 50 * ENDPOINTS
    assert pack_window(unpack_window(pack_window(window))) == pack_window(window)


def test_a_label_is_changed_in_place() -> None:
    """The simulated agents' short cut gives what packing the relabelled window gives."""
    window = synthetic_window(
        start_s=2**31, requests_per_endpoint=5, engine="a/0", seed=1, has_hiccup=True
    )
    later = replace(window, start_s=1_800_000_123)
    assert relabelled(pack_window(window), 1_800_000_123) == pack_window(later)


@pytest.mark.system
def test_a_child_is_pinned_measured_and_gone(tmp_path: Path) -> None:
    """A started program runs on its core, its CPU time grows, and leaving the block ends it."""
    core = min(os.sched_getaffinity(0))
    loop = [sys.executable, "-c", "while True: pass"]
    with spawn("spin", loop, core=core, scratch=tmp_path) as child:
        _wait_until(lambda: cpu_ns(child.pid) > 200_000_000)
        assert os.sched_getaffinity(child.pid) == {core}
        assert resident_bytes(child.pid) > 1_000_000
        assert child.pid in descendants(os.getpid())
    with pytest.raises(ProcessLookupError):
        cpu_ns(child.pid)


@pytest.mark.system
def test_a_child_that_ends_early_is_named_with_its_complaint(tmp_path: Path) -> None:
    """An early end is an error that carries the program's own last words."""
    program = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    core = min(os.sched_getaffinity(0))
    with spawn("short", program, core=core, scratch=tmp_path) as child:
        child.wait(30)
        with pytest.raises(HarnessError, match=r"short.*no such luck"):
            child.require_alive()
        with pytest.raises(HarnessError, match="exit code 1"):
            child.wait_success(1)


@pytest.mark.system
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the benchmark leaves no generator behind."""
    core = min(os.sched_getaffinity(0))
    script = (
        "import sys, time, pathlib\n"
        "from benchmarks.process import spawn\n"
        "here = pathlib.Path(sys.argv[1])\n"
        f"with spawn('nap', ['sleep', '60'], core={core}, scratch=here) as c:\n"
        "    print(c.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    program = [sys.executable, "-c", script, str(tmp_path)]
    with spawn("parent", program, core=core, scratch=tmp_path) as parent:
        _wait_until(lambda: parent.output().endswith("\n"))
        grandchild = int(parent.output())
        # The launcher asks for its end only once it runs: wait until it has become `sleep`.
        _wait_until(lambda: "sleep" in Path(f"/proc/{grandchild}/comm").read_text())
        parent.popen.kill()
        parent.wait(10)
        _wait_until(lambda: _is_gone(grandchild))


def _is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def _wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
