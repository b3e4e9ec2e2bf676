"""Plays the agent for one engine: spawn, configure, start, collect windows.

    with EngineDriver(plan) as driver:
        driver.configure()
        driver.start()
        outcome = driver.finish()

Bounded in time everywhere; the engine is killed on leaving, whatever happened.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.messages import (
    Configure,
    EngineError,
    FinalReport,
    FromEngine,
    Lease,
    Ready,
    ShareOf,
    Start,
    ToEngine,
    WindowReport,
    agent_side,
    encode_frame,
)
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Plan
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind, Window, histogram_of, merge_windows, unpack_window

LEASE_NS = 10 * NS_PER_S


def configuration(
    plan: Plan, *, index: int = 0, of_engines: int = 1, authorised_hosts: tuple[str, ...] = ()
) -> Configure:
    """What an agent tells one of its engines first."""
    return Configure(
        plan=encode_plan(plan),
        run_id="run-1",
        engine=f"test/{index}",
        index=index,
        of_engines=of_engines,
        share=ShareOf(residue=index, modulus=of_engines, from_ns=0),
        lease_ns=LEASE_NS,
        authorised_hosts=authorised_hosts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """All windows of a run, in order, and the engine's own totals."""

    plan: Plan
    windows: tuple[Window, ...]
    final: FinalReport

    @property
    def merged(self) -> Window:
        """Sum of all windows."""
        return merge_windows(0, self.windows)

    def total(self, count: Count) -> int:
        """Sum of a counter over windows and slots."""
        return self.merged.total(count)

    def histogram(self, kind: Kind) -> Histogram:
        """Histogram of a kind over all slots."""
        return histogram_of(self.merged, kind, range(len(self.plan.slots)))

    def kinds(self) -> dict[str, int]:
        """Error kinds with their counts."""
        found: dict[str, int] = {}
        for (_, kind), count in self.merged.errors.items():
            found[kind] = found.get(kind, 0) + count
        return found

    def check_conservation(self) -> None:
        """Both laws hold, and windows agree with the totals to the request."""
        final = self.final
        assert final.planned == final.sent + final.dropped, final
        done = final.ok + final.client_error + final.failed
        assert final.sent == done + final.in_flight_at_stop, final
        assert self.total(Count.PLANNED) == final.planned
        assert self.total(Count.SENT) == final.sent
        assert self.total(Count.DROPPED) == final.dropped
        assert self.total(Count.OK) == final.ok
        assert self.total(Count.CLIENT_ERROR) == final.client_error
        assert self.total(Count.FAILED) == final.failed
        assert self.histogram(Kind.SEND_LAG).n == final.sent
        assert self.histogram(Kind.RESPONSE).n == final.ok
        assert self.histogram(Kind.SERVICE).n == final.ok
        assert self.histogram(Kind.FAILED_RESPONSE).n == final.client_error + final.failed
        starts = [window.start_s for window in self.windows]
        assert starts == list(range(starts[0], starts[0] + len(starts)))


class EngineDriver:
    """One engine process and the agent's end of its socket pair."""

    def __init__(
        self,
        plan: Plan,
        *,
        index: int = 0,
        of_engines: int = 1,
        prefix: Iterable[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.index, self.of_engines = index, of_engines
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    sys.executable,
                    *("-m", "loadtests.engine.process", "--fd", str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **(environment or {})},
            )
        self._reader = agent_side()
        self._inbox: list[FromEngine] = []
        self.windows: list[Window] = []
        self.renews = True
        self.t0_ns = 0
        self._renew_ns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGCONT) if self.process.poll() is None else None
        self.process.kill()
        self.process.wait(10)
        self.socket.close()

    def send(self, message: ToEngine) -> None:
        """Send one frame."""
        self.socket.sendall(encode_frame(message))

    def receive(self, timeout_s: float) -> FromEngine | None:
        """Return the next message; None at the end of the stream; TimeoutError after a while."""
        deadline = time.monotonic() + timeout_s
        while not self._inbox:
            self._renew()
            readable, _, _ = select.select([self.socket], [], [], 0.05)
            if readable:
                data = self.socket.recv(1 << 20)
                if not data:
                    return None
                self._inbox += [m for m in self._reader.feed(data) if _is_from_engine(m)]  # type: ignore[misc]
            elif time.monotonic() > deadline:
                raise TimeoutError(f"no message within {timeout_s} s")
        return self._inbox.pop(0)

    def _renew(self) -> None:
        now_ns = time.monotonic_ns()
        if self.renews and self.t0_ns and now_ns >= self._renew_ns:
            self._renew_ns = now_ns + NS_PER_S // 2
            try:
                self.send(Lease(until_ns=now_ns + LEASE_NS))
            except OSError:
                self.renews = False

    def configure(
        self, *, authorised_hosts: tuple[str, ...] = (), timeout_s: float = 20.0
    ) -> Ready | EngineError:
        """Configure the engine and wait for its answer."""
        self.send(
            configuration(
                self.plan,
                index=self.index,
                of_engines=self.of_engines,
                authorised_hosts=authorised_hosts,
            )
        )
        answer = self.receive(timeout_s)
        assert isinstance(answer, Ready | EngineError), answer
        return answer

    def start(self, *, lead_ns: int = 50 * NS_PER_MS, lease_ns: int = LEASE_NS) -> None:
        """Start load soon."""
        now_ns, unix_ns = time.monotonic_ns(), time.time_ns()
        self.t0_ns = now_ns + lead_ns
        self.send(
            Start(
                t0_ns=self.t0_ns,
                t0_unix_ns=unix_ns + lead_ns,
                lease_until_ns=now_ns + lease_ns,
            )
        )

    def wait_window(self, timeout_s: float = 5.0) -> Window:
        """Wait for one more window."""
        message = self.receive(timeout_s)
        assert isinstance(message, WindowReport), message
        return self._keep(message)

    def _keep(self, message: WindowReport) -> Window:
        assert message.sequence == len(self.windows) + 1
        self.windows.append(unpack_window(message.window))
        return self.windows[-1]

    def finish(self, timeout_s: float = 30.0) -> RunResult:
        """Collect windows up to the final report, and the exit."""
        while True:
            message = self.receive(timeout_s)
            if isinstance(message, WindowReport):
                self._keep(message)
            else:
                break
        assert isinstance(message, FinalReport), message
        assert self.process.wait(10) == 0
        return RunResult(plan=self.plan, windows=tuple(self.windows), final=message)


def _is_from_engine(message: object) -> bool:
    return isinstance(message, Ready | WindowReport | FinalReport | EngineError)


def run_plan(plan: Plan, *, timeout_s: float = 30.0) -> RunResult:
    """Run a plan on one engine from start to end."""
    with EngineDriver(plan) as driver:
        ready = driver.configure()
        assert isinstance(ready, Ready), ready
        driver.start()
        return driver.finish(timeout_s)
