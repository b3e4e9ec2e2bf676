"""Headroom's engine as a contestant: its driver is started, the engine is what is measured.

The driver stays on the server's core, as an agent would on a host that keeps a core for
it; its CPU time is read too and reported apart.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine_driver import read_windows
from benchmarks.generators import Contestant, Running
from benchmarks.process import Child, spawn
from benchmarks.server import Server
from loadtests.engine.messages import FinalReport
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Plan
from loadtests.record.window import Window

_READY_S = 60.0
_END_S = 30.0

PlanFor = Callable[[Server, float], Plan]  # against a server, for so many seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """A driven engine; `t0_unix_s` labels its first window."""

    child: Child
    pid: int
    connections: int
    t0_unix_s: int
    windows_path: Path

    def finish(self, timeout_s: float) -> FinalReport:
        """Wait for its end; HarnessError when it failed or its own sums do not add up."""
        self.child.wait_success(timeout_s)
        final = _event(self.child, "final")
        if final is None:
            raise HarnessError(where=self.child.name, seen="no final report", expected="one")
        del final["event"]
        final["warnings"] = tuple(final["warnings"])
        return FinalReport(**final)

    def windows(self) -> list[Window]:
        """All windows, after the end."""
        return read_windows(self.windows_path)


def _event(child: Child, name: str) -> dict | None:  # type: ignore[type-arg]  # a JSON line
    for line in child.output().splitlines():
        if line.endswith("}") and (event := json.loads(line))["event"] == name:
            return dict(event)
    return None


@contextmanager
def running_engine(
    plan: Plan, *, name: str, core: int, driver_core: int, scratch: Path
) -> Iterator[EngineRun]:
    """Start an engine on `core` and give it back once its start time is fixed."""
    stamp = f"{name.replace(' ', '-')}-{time.monotonic_ns()}"
    plan_path, windows_path = scratch / f"{stamp}.plan", scratch / f"{stamp}.windows"
    plan_path.write_bytes(encode_plan(plan))
    module = [sys.executable, "-m", "benchmarks.engine_driver"]
    command = [*module, str(core), str(plan_path), str(windows_path)]
    with spawn(name, command, core=driver_core, scratch=scratch) as child:
        started = _wait_event(child, "started")
        ready = _wait_event(child, "ready")
        yield EngineRun(
            child=child,
            pid=int(ready["pid"]),
            connections=int(ready["connections"]),
            t0_unix_s=int(started["t0_unix_ns"]) // 10**9,
            windows_path=windows_path,
        )


def _wait_event(child: Child, name: str) -> dict:  # type: ignore[type-arg]  # a JSON line
    deadline = time.monotonic() + _READY_S
    while (event := _event(child, name)) is None:
        child.require_alive()
        if time.monotonic() > deadline:
            raise HarnessError(
                where=child.name,
                seen=f"not {name} after {_READY_S:g} s: {child.output()}{child.complaint()}",
                expected=name,
            )
        time.sleep(0.02)
    return event


def engine(
    key: str,
    title: str,
    plan_for: PlanFor,
    *,
    core: int,
    driver_core: int,
    scratch: Path,
) -> Contestant:
    """Make a contestant of a plan that depends on the server and the seconds."""

    @contextmanager
    def start(server: Server, seconds: float) -> Iterator[Running]:
        plan = plan_for(server, seconds)
        where = {"core": core, "driver_core": driver_core}
        with running_engine(plan, name=key, scratch=scratch, **where) as run:

            def finish() -> int:
                final = run.finish(seconds + _END_S)
                if final.failed or final.client_error:
                    raise HarnessError(where=key, seen=f"{final}", expected="every request ok")
                return final.ok

            yield Running(child=run.child, pids=(run.pid,), beside=(run.child.pid,), finish=finish)

    return Contestant(key=key, title=title, start=start)
