"""The kill matrix: who is hit, how, under which loss policy, and what was seen then.

Each of the 18 cells is a run of its own: a counting target, a master, two workers with one
engine each, a signal two seconds into the load, the end. `Matrix` plays the cells that are
asked for, some at a time; `Evidence` is all that may be judged of one.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import pandas as pd
import psutil
from system_rig import (
    Load,
    Started,
    fleet,
    free_port,
    target,
    unix_minus_monotonic_ns,
    wait_for_answers,
    wait_until,
)

from loadtests.clock import NS_PER_S
from loadtests.record.archive import Run, load_run

AT_A_TIME: Final = 5
RATE: Final = 200
LEASE_S: Final = 10
_BEFORE_SIGNAL_S: Final = 2
# Long enough for the loss to be noticed, shares to be taken over after a lease of 10 s and
# one second, and survivors to be seen at the full rate for some seconds.
_ENGINE_RUN_S: Final = 11
_AGENT_RUN_S: Final = 18
_MASTER_RUN_S: Final = 60  # never reached


class Victim(Enum):
    """Who gets the signal."""

    ENGINE = "engine"
    AGENT = "agent"
    MASTER = "master"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the matrix."""

    victim: Victim
    number: signal.Signals
    policy: str

    @property
    def name(self) -> str:
        """Name of its folder and test."""
        return f"{self.number.name}-{self.victim.value}-{self.policy}"

    @property
    def load(self) -> Load:
        """What it runs."""
        seconds = {
            Victim.ENGINE: _ENGINE_RUN_S,
            Victim.AGENT: _AGENT_RUN_S,
            Victim.MASTER: _MASTER_RUN_S,
        }[self.victim]
        return Load(seconds=seconds, rate=RATE, policy=self.policy)


CELLS: Final = tuple(
    Cell(victim=victim, number=number, policy=policy)
    # The longest first, so that the last ones to end are short.
    for victim in (Victim.MASTER, Victim.AGENT, Victim.ENGINE)
    for policy in ("redistribute", "continue", "abort")
    for number in (signal.SIGSTOP, signal.SIGKILL)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a cell left. Times are unix ns by this host's clocks, the target's included."""

    signal_ns: int
    signalled: str  # the victim's name in the archive
    requests: pd.DataFrame  # the target's log, with received_ns as unix time
    run: Run
    master_code: int
    worker_codes: tuple[int, ...]
    survivors: tuple[str, ...]
    text: str


def play(cell: Cell, folder: Path) -> Evidence:
    """Run a cell to its end."""
    port = free_port()
    with target(folder) as counted, fleet(folder) as started:
        scenario = cell.load.write(folder, counted.url)
        words = ("--expect-workers", "2", "--bind", f"127.0.0.1:{port}")
        master = started.run(scenario, *words)
        worker = ("worker", "--master", f"127.0.0.1:{port}", "--engines", "1")
        workers = [started.start(*worker) for _ in range(2)]
        wait_for_answers(counted, RATE * _BEFORE_SIGNAL_S, master)
        victim, name = _victim(cell, master, workers[0])
        offset_ns = unix_minus_monotonic_ns()
        signal_ns = time.time_ns()
        victim.send_signal(cell.number)
        _await_end(cell, master, workers, victim, signal_ns)
        survivors = tuple(str(process.cmdline()) for process in started.survivors())
        requests = counted.end()
        requests["received_ns"] += offset_ns
        (path,) = (started.results / "runs").glob("*Z_*")
        return Evidence(
            signal_ns=signal_ns,
            signalled=name,
            requests=requests,
            run=load_run(path),
            master_code=master.wait(),
            worker_codes=tuple(worker.wait() for worker in workers),
            survivors=survivors,
            text="\n".join(one.text() for one in started.started),
        )


def _victim(cell: Cell, master: Started, worker: Started) -> tuple[psutil.Process, str]:
    match cell.victim:
        case Victim.MASTER:
            return psutil.Process(master.process.pid), "master"
        case Victim.AGENT:
            return psutil.Process(worker.process.pid), f"-{worker.process.pid}"
        case Victim.ENGINE:
            return worker.engine(), f"-{worker.process.pid}/0"


def _await_end(
    cell: Cell, master: Started, workers: list[Started], victim: psutil.Process, signal_ns: int
) -> None:
    """Wait for all that can end; a stopped party is woken when its lease is well over."""
    others = [one for one in (master, *workers) if one.process.pid != victim.pid]
    for one in others:
        one.wait()
    is_stopped = cell.number is signal.SIGSTOP and cell.victim is not Victim.ENGINE
    if is_stopped:
        lease_over_ns = signal_ns + round((LEASE_S + 1.5) * NS_PER_S)
        wait_until(lambda: time.time_ns() > lease_over_ns, "the end of the lease")
        victim.send_signal(signal.SIGCONT)
    for one in (master, *workers):
        one.wait()
    time.sleep(0.2)  # for orphans' last breath: the kernel's, not a timer's
