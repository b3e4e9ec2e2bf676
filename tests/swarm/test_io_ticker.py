"""The bare ticker: its summary, and the process on this host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loadtests.engine.ticker import REPORT, TICK_NS, summarise


def test_quantiles_follow_the_rank_rule() -> None:
    """The value at quantile q is the smallest with count(<= v) >= ceil(q * n)."""
    start_s, ticks, p50_ns, p99_ns, max_ns = REPORT.unpack(summarise(17, list(range(1, 101))))
    assert (start_s, ticks, p50_ns, p99_ns, max_ns) == (17, 100, 50, 99, 100)


def test_one_tick_is_its_own_quantiles() -> None:
    """A window with a single tick reports it thrice."""
    assert REPORT.unpack(summarise(0, [5])) == (0, 1, 5, 5, 5)


class Ticker:
    """A running ticker and its reports."""

    def __init__(self) -> None:
        self.t0_ns, self.t0_unix_ns = time.monotonic_ns(), time.time_ns()
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "loadtests.engine.ticker", "--parent", str(os.getpid()),
                "--t0-ns", str(self.t0_ns), "--t0-unix-ns", str(self.t0_unix_ns),
            ],
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def report(self) -> tuple[int, int, int, int, int]:
        """The next window's report."""
        assert self.process.stdout is not None
        report: tuple[int, int, int, int, int] = REPORT.unpack(
            self.process.stdout.read(REPORT.size)
        )
        return report


@pytest.fixture
def ticker() -> Iterator[Ticker]:
    """A ticker that is ended, whatever happens."""
    ticker = Ticker()
    yield ticker
    ticker.process.kill()
    ticker.process.wait()
    if ticker.process.stdout is not None:
        ticker.process.stdout.close()


@pytest.mark.system
def test_a_window_holds_one_tick_a_millisecond(ticker: Ticker) -> None:
    """Every deadline of a second is counted, however late the host woke the process."""
    first, second = ticker.report(), ticker.report()
    assert second[0] == first[0] + 1
    assert second[1] == 1_000_000_000 // TICK_NS
    assert 0 <= second[2] <= second[3] <= second[4]
    assert abs(second[0] - ticker.t0_unix_ns // 1_000_000_000) < 60


@pytest.mark.system
def test_a_held_up_process_shows_the_whole_hold(ticker: Ticker) -> None:
    """A stop of 300 ms shows as a lateness of at least that, and as hundreds of late ticks."""
    ticker.report()
    ticker.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    ticker.process.send_signal(signal.SIGCONT)
    reports = [ticker.report(), ticker.report()]  # the hold may lie across two windows
    assert max(report[4] for report in reports) >= 290_000_000
    assert max(report[3] for report in reports) >= 100_000_000


@pytest.mark.system
def test_the_ticker_ends_when_nobody_reads(ticker: Ticker) -> None:
    """A closed standard output ends it at its next report."""
    ticker.report()
    assert ticker.process.stdout is not None
    ticker.process.stdout.close()
    assert ticker.process.wait(timeout=10) is not None
