"""A rate ceiling in a real run, by the kernel's own times: ramps, a stall, and what follows it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from stamping_target import stamping_target
from system_rig import Load, fleet, wait_until

from loadtests.clock import NS_PER_MS

pytestmark = [pytest.mark.system, pytest.mark.faults]

CEILING_PER_S = 440
RAMP = """
[[stages]]
name = "ramp"
shape = "ramp"
duration = "3 s"
from = "50 rps"
to = "400 rps"
"""
LOAD = Load(
    seconds=5,
    rate=400,
    connections=64,
    backlog=2000,
    target=f'max_rate = "{CEILING_PER_S} rps"',
    more=RAMP,
)


def most_in(stamps_ns: np.ndarray, interval_ns: int) -> int:
    """The most requests that any interval of this length holds, wherever it begins."""
    ends = np.searchsorted(stamps_ns, stamps_ns + interval_ns, side="left")
    return int((ends - np.arange(stamps_ns.size)).max())


@pytest.mark.parametrize("engines", [1, 2])
def test_no_100_ms_hold_more_than_the_ceiling(tmp_path: Path, engines: int) -> None:
    """Engines stopped for 1.2 s and continued: 480 arrivals are overdue, and leave as allowed."""
    with stamping_target() as stamped, fleet(tmp_path) as started:
        run = started.run(LOAD.write(tmp_path, stamped.url), "--engines", str(engines))
        wait_until(lambda: len(stamped.stamps_ns) > LOAD.rate, "a second of load")
        stopped = run.engines()
        assert len(stopped) == engines
        before = len(stamped.stamps_ns)
        for engine in stopped:
            engine.send_signal(signal.SIGSTOP)
        time.sleep(1.2)  # the stall itself
        for engine in stopped:
            engine.send_signal(signal.SIGCONT)
        run.wait()
        stamps_ns = np.sort(np.array(stamped.stamps_ns))
    assert stamps_ns.size > before + 480, run.text()
    allowed = engines * int(CEILING_PER_S / engines * 0.1)
    assert most_in(stamps_ns, 100 * NS_PER_MS) <= allowed
    # The stall was one, and what it held back came as fast as the ceiling lets it.
    gap = int(np.diff(stamps_ns).argmax())
    assert np.diff(stamps_ns)[gap] > 1000 * NS_PER_MS
    after_ns = stamps_ns[gap + 1 :]
    assert (after_ns < after_ns[0] + 1000 * NS_PER_MS).sum() > LOAD.rate
