"""The counters of every window, by stage and request: the companions of `Blocks`.

Exact sums over nodes and parts. *Answered* are requests with a complete response, whatever
it said: what throughput counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.blocks.loading import Key
from analysis.figures import COUNT_COLUMNS, OVERALL
from loadtests.record.archive import Run
from loadtests.record.error_kinds import Trait, traits_of
from loadtests.record.window import CONNECTION, Count


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCounts:
    """`window_s` (n,) sorted and unique, seconds in which anything was counted.

    `counters` (n, len(Count)); `answered` (n,).
    """

    window_s: NDArray[np.int64]
    counters: NDArray[np.int64]
    answered: NDArray[np.int64]

    def of(self, count: Count) -> NDArray[np.int64]:
        """One counter of each window."""
        return self.counters[:, count]

    @property
    def done(self) -> NDArray[np.int64]:
        """Requests that ended in each window: ok + client_error + failed."""
        return self.of(Count.OK) + self.of(Count.CLIENT_ERROR) + self.of(Count.FAILED)


def load_counts(run: Run, *, judged: bool = True) -> Mapping[Key, WindowCounts]:
    """Counters by stage and request, and of all requests together, of judged or all windows."""
    windows, errors = run.windows, run.errors
    if judged:
        windows, errors = windows[windows["judged"]], errors[errors["judged"]]
    windows = windows[windows["request"] != CONNECTION]
    silent = errors[~errors["kind"].map(_is_answered).astype(bool)]
    found: dict[Key, WindowCounts] = {}
    for stage in run.slots.stages:
        of_stage, no_answer = windows[windows["stage"] == stage], silent[silent["stage"] == stage]
        for request in (*run.slots.requests, OVERALL):
            if request == CONNECTION:
                continue
            counts = _counts(_of(of_stage, request), _of(no_answer, request))
            if counts.window_s.size:
                found[stage, request] = counts
    return found


def _is_answered(kind: str) -> bool:
    return Trait.ANSWERED in traits_of(kind)


def _of(rows: pd.DataFrame, request: str | None) -> pd.DataFrame:
    if request is None:
        return rows[rows["request"] != CONNECTION]
    return rows[rows["request"] == request]


def _counts(rows: pd.DataFrame, silent: pd.DataFrame) -> WindowCounts:
    window_s, places = np.unique(rows["window_s"].to_numpy(dtype=np.int64), return_inverse=True)
    counters = np.zeros((window_s.size, len(Count)), dtype=np.int64)
    np.add.at(counters, places, rows[list(COUNT_COLUMNS)].to_numpy(dtype=np.int64))
    bad = counters[:, [Count.CLIENT_ERROR, Count.FAILED]].sum(axis=1)
    unanswered = np.zeros(window_s.size, dtype=np.int64)
    at = np.searchsorted(window_s, silent["window_s"].to_numpy(dtype=np.int64))
    np.add.at(unanswered, at, silent["count"].to_numpy(dtype=np.int64))
    done = counters[:, Count.OK] + bad
    return WindowCounts(
        window_s=window_s, counters=counters, answered=done - np.minimum(unanswered, bad)
    )
