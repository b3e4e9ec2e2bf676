"""Runs of `headroom` over nodes whose outages are known, and what the nodes say of them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_rig import is_under_load
from system_rig import Fleet, fleet, only_run, unix_minus_monotonic_ns

from loadtests.clock import NS_PER_S
from loadtests.record.archive import Run, verify
from loadtests.record.fault_events import FaultEvent, FaultStep, step_event

RATE: Final = 240
CELLS: Final = ("n1/rest", "n1/grpc", "n2/rest", "n2/grpc")
OBJECTIVES: Final = ("p99 < 500 ms", "error_ratio < 0.1 %", "unavailability < 60 s")
_TARGET: Final = Path(__file__).with_name("outage_target.py")
_SETTLED_S: Final = 2.0  # of load before an outage
_PATIENCE_S: Final = 6.0  # with runs that are slower to start
_PROTO: Final = """
syntax = "proto3";
package outage;
message Nothing {}
service Node { rpc Get(Nothing) returns (Nothing); }
"""
_SCENARIO: Final = """
version = 1
name = "outages"
[target]
nodes = [{nodes}]
[load]
connections = 400
channels = 4
streams = 100
seed = 1
grace = "2 s"
[grpc]
protos = ["outage.proto"]
[[requests]]
name = "get"
path = "/"
timeout = "1 s"
[[requests]]
name = "call"
method = "outage.Node/Get"
message = {{}}
timeout = "1 s"
[[stages]]
name = "steady"
duration = "{seconds} s"
rate = "{rate} rps"
[[stages]]
name = "after"
duration = "1 s"
rate = "{rate} rps"
judged = false
[criteria]
objectives = [{objectives}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the nodes say of one outage, on the clock of the archive's labels."""

    mode: str
    cells: frozenset[str]
    begin_ns: int
    end_ns: int
    stall_ns: int  # of the nodes' own process, around its edges
    met: int  # requests that came meanwhile

    @property
    def length_ns(self) -> int:
        """How long it was."""
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An outage to have; `cells` are node/protocol."""

    mode: str
    length_s: float
    cells: tuple[str, ...]


class OutageTarget:
    """A running `outage_target.py`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_TARGET), "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ports = list(map(int, self.process.stdout.readline().split()))

    def nodes(self) -> str:
        """The scenario's nodes n1 and n2."""
        rest, grpc = self.ports[::2], self.ports[1::2]
        return ", ".join(
            f'{{ name = "n{number}", url = "http://127.0.0.1:{one}", '
            f'grpc = "http://127.0.0.1:{other}" }}'
            for number, (one, other) in enumerate(zip(rest, grpc, strict=True), start=1)
        )

    def outage(self, order: Order) -> Truth:
        """Have an outage; returns when it is over."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        words = (order.mode, order.length_s, ",".join(order.cells))
        print(*words, file=self.process.stdin, flush=True)
        said, *numbers = self.process.stdout.readline().split()
        begin_ns, end_ns, stall_ns, met = map(int, numbers)
        to_unix_ns = unix_minus_monotonic_ns()
        return Truth(
            mode=said,
            cells=frozenset(order.cells),
            begin_ns=begin_ns + to_unix_ns,
            end_ns=end_ns + to_unix_ns,
            stall_ns=stall_ns,
            met=met,
        )

    def still_ns(self) -> int:
        """The longest time that its process stood still since the first outage."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("still", file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def with_faults(run: Run, truths: list[Truth]) -> Run:
    """The run as if its faults had been injected by Headroom: each acknowledged as it began."""
    t0_ns = run.manifest.t0_unix_ns
    assert t0_ns is not None
    events = [
        step_event(
            FaultStep(
                kind=FaultEvent.APPLIED, fault=f"{number} {truth.mode}", action="exec", node="n1",
                zone="", began_ns=truth.begin_ns - t0_ns, at_ns=truth.begin_ns - t0_ns,
            ),
            t0_unix_ns=t0_ns,
            text="an outage",
        )
        for number, truth in enumerate(truths)
    ]  # fmt: skip
    return dataclasses.replace(run, events=(*run.events, *events))


class Together:
    """Runs that wait for each other: what one still has to start would disturb the others."""

    def __init__(self, runs: int) -> None:
        self._barrier = threading.Barrier(runs)

    def wait(self) -> None:
        """Until all are under load, or patience is at its end: then each goes on by itself."""
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(_PATIENCE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A run, and what the nodes say of the outages in it.

    `still_ns`: the longest that their process or an engine stood still from the first one on.
    """

    run: Run
    truths: list[Truth]
    still_ns: int


def observe(
    folder: Path, orders: list[Order], *, pause_s: float, together: Together | None = None
) -> Observed:
    """A run of `headroom` over nodes with outages, each followed by a pause."""
    spare_s = 3 if together is None else 3 + _PATIENCE_S
    seconds = round(_SETTLED_S + sum(order.length_s + pause_s for order in orders) + spare_s)
    target = OutageTarget()
    try:
        with fleet(folder) as started:
            (folder / "outage.proto").write_text(_PROTO)
            path = folder / "outages.toml"
            objectives = ", ".join(f'"{text}"' for text in OBJECTIVES)
            nodes = target.nodes()
            path.write_text(
                _SCENARIO.format(nodes=nodes, seconds=seconds, rate=RATE, objectives=objectives)
            )
            command = started.run(path, "--engines", "1")
            _wait_for_load(started)
            if together is not None:
                together.wait()
            time.sleep(_SETTLED_S)
            truths = []
            for order in orders:
                truths.append(target.outage(order))
                time.sleep(pause_s)
            still_ns = target.still_ns()
            command.wait(seconds + 60)
            run = only_run(started.results)
    finally:
        target.close()
    assert verify(run.path) == ()
    since = run.engines["window_s"] >= truths[0].begin_ns // NS_PER_S
    still_ns = max(still_ns, int(run.engines.loc[since, "stalled_ns"].max()))
    return Observed(run=with_faults(run, truths), truths=truths, still_ns=still_ns)


def _wait_for_load(started: Fleet) -> None:
    """Until T0 is over by a second: the journal begins before it."""
    deadline = time.monotonic() + 60
    while not is_under_load(started.results):
        assert time.monotonic() < deadline, started.started[0].text()
        time.sleep(0.02)
