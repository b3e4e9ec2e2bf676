"""Bins of a simulated target whose outages are known to the nanosecond.

Arrivals come evenly. One that is due in an outage, less the time an answer takes, meets it:
`error` answers at once, `hang` never (a timeout), `drop` breaks off when the outage ends, and
`freeze` answers when it ends, unless the client has given up.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from loadtests.record.bin_rows import COLUMNS
from loadtests.record.bins import BIN_NS, TICK_NS, BinCount

START_NS = 1_790_000_000 * 10**9
MS = 1_000_000
S = 1000 * MS


@dataclass
class Simulated:
    """`outages`: (begin, end) in ns from START_NS."""

    rate: float = 200.0
    seconds: float = 60.0
    latency_ns: int = 5 * MS
    timeout_ns: int = S
    mode: str = "error"
    outages: list[tuple[int, int]] = field(default_factory=list)
    part: float = 1.0  # of the requests that meet an outage
    late_limit_ns: int = 500 * MS
    phase_ns: int = 0  # of T0 within its bin

    def ends(self, due_ns: int) -> tuple[int, str, int]:
        """When and how a request ends, and its response time; at the target half way."""
        there_ns = due_ns + self.latency_ns // 2
        for begin_ns, end_ns in self.outages:
            if not begin_ns <= there_ns < end_ns:
                continue
            if self.mode == "error":
                return due_ns + self.latency_ns, "failed", self.latency_ns
            gives_up_ns = due_ns + self.timeout_ns
            if self.mode == "hang" or gives_up_ns <= end_ns:
                return gives_up_ns, "failed", self.timeout_ns
            if self.mode == "drop":
                return end_ns, "failed", end_ns - due_ns
            return end_ns + self.latency_ns // 2, "ok", end_ns - due_ns
        return due_ns + self.latency_ns, "ok", self.latency_ns

    def frame(self) -> pd.DataFrame:
        """The table of bins."""
        rows: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(len(BinCount), dtype=np.int64))
        gap_ns = 1e9 / self.rate
        whole, met = self.outages, 0.0
        for number in range(int(self.rate * self.seconds)):
            due_ns = self.phase_ns + round(number * gap_ns)
            met += self.part
            self.outages = whole if met >= 1 else []
            met -= met >= 1
            end_ns, how, response_ns = self.ends(due_ns)
            rows[due_ns // BIN_NS * BIN_NS][BinCount.PLANNED] += 1
            rows[due_ns // BIN_NS * BIN_NS][BinCount.SENT] += 1
            row = rows[end_ns // BIN_NS * BIN_NS]
            if how == "ok":
                row[BinCount.OK] += 1
                row[BinCount.LATE_0] += response_ns > self.late_limit_ns
            else:
                row[BinCount.FAILED] += 1
                rows[due_ns // TICK_NS * TICK_NS][BinCount.DUE_FAILED] += 1
        self.outages = whole
        keys = sorted(rows)
        values = np.array([rows[key] for key in keys])
        return pd.DataFrame(
            {
                "window_s": [(START_NS + key) // S for key in keys],
                "at_ms": [(START_NS + key) // MS for key in keys],
                "stage": "load",
                "request": "get",
                "node": "n1",
                **{name: values[:, i] for i, name in enumerate(COLUMNS)},
            }
        )

    @property
    def span_ns(self) -> tuple[int, int]:
        """The whole run."""
        return START_NS, START_NS + int(self.seconds) * S
