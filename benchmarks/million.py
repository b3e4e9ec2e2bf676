"""A million requests, and whether all are accounted for and memory stays flat.

Open load of unique transactions at half of saturation, for as many whole seconds as make
exactly the number. Counted four times: by the plan, by the engine's totals, by its windows,
and by the server. Memory is the engine's VmRSS, twice a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.engine import EngineRun, running_engine
from benchmarks.grpc_plans import open_unique
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.process import resident_bytes
from benchmarks.server import Server
from loadtests.record.window import Count, merge_windows

MILLION = 1_000_000
LEVEL = 0.5  # of saturation
_SAMPLE_S = 0.5
_END_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MillionSample:
    """One run; its counts of the same requests."""

    wanted: int
    seconds: float
    planned: int
    sent: int
    ok: int
    failed: int
    windows_ok: int
    server_count: int
    resident_bytes: tuple[int, ...]  # twice a second, from the second second on

    @property
    def is_accounted(self) -> bool:
        """Every count of the engine's is the number that was wanted, and all were ok."""
        counts = {self.planned, self.sent, self.ok, self.windows_ok}
        return counts == {self.wanted} and not self.failed

    @property
    def server_difference_ratio(self) -> float:
        """How far the server's count is from the engine's."""
        return abs(self.server_count - self.ok) / self.ok

    @property
    def growth_bytes(self) -> float:
        """Median of the last quarter of the run less that of the second."""
        quarter = max(1, len(self.resident_bytes) // 4)
        second = self.resident_bytes[quarter : 2 * quarter]
        return median(self.resident_bytes[-quarter:]) - median(second or self.resident_bytes)


def million_sample(
    server: Server, saturation: float, *, wanted: int, scratch: Path
) -> MillionSample:
    """Send that many requests and count them."""
    seconds = math.ceil(wanted / (LEVEL * saturation))
    before = server.status().requests
    with running_engine(
        open_unique(server, seconds, wanted / seconds),
        name="million",
        core=GENERATOR_CORE,
        driver_core=SERVER_CORE,
        scratch=scratch,
    ) as run:
        resident = _watch(run, seconds)
        final = run.finish(seconds + _END_S)
    total = merge_windows(0, run.windows())
    sample = MillionSample(
        wanted=wanted,
        seconds=seconds,
        planned=final.planned,
        sent=final.sent,
        ok=final.ok,
        failed=final.failed + final.client_error + final.dropped + final.in_flight_at_stop,
        windows_ok=total.total(Count.OK),
        server_count=server.status().requests - before,
        resident_bytes=tuple(resident),
    )
    print(
        f"  {wanted:,} requests in {seconds} s: {sample.ok:,} ok, {sample.server_count:,} by the"
        f" server, memory {sample.growth_bytes / 1e6:+.2f} MB",
        flush=True,
    )
    return sample


def _watch(run: EngineRun, seconds: float) -> Sequence[int]:
    """Resident bytes from the second second of load to its last."""
    time.sleep(max(0.0, run.t0_unix_s + 1 - time.time()))
    values = []
    while time.time() < run.t0_unix_s + seconds - _SAMPLE_S:
        run.child.require_alive()
        values.append(resident_bytes(run.pid))
        time.sleep(_SAMPLE_S)
    return values
