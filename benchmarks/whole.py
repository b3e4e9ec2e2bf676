"""The whole generator as a contestant: agent, engine and ticker as `headroom run` starts them.

They share the generator's core; the master, of which a swarm has one however many hosts
it drives, is moved to the server's core and counted beside.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine import PlanFor
from benchmarks.generators import Contestant, Running
from benchmarks.machine import GENERATOR_CORE, SERVER_CORE
from benchmarks.process import Child, descendants, spawn
from benchmarks.server import Server
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.record.manifest import Outcome, decode_manifest

_START_S = 60.0
_END_S = 30.0
_STILL_S = 0.5  # the ticker may start after the engine
_ENGINE = "loadtests.engine.process"


def _is_engine(pid: int) -> bool:
    try:
        return _ENGINE in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it ended between listing and looking
        return False


def _wait_family(child: Child) -> tuple[int, ...]:
    """Process ids of agent, engine and ticker, once the engine is there and nobody comes or goes.

    An agent starts short-lived helpers (git, for one): a listing that holds still has none.
    """
    deadline = time.monotonic() + _START_S
    before: list[int] = []
    while not (any(map(_is_engine, found := descendants(child.pid))) and found == before):
        child.require_alive()
        if time.monotonic() > deadline:
            raise HarnessError(
                where=child.name, seen=f"no engine in {_START_S:g} s", expected="a running swarm"
            )
        before = found
        time.sleep(_STILL_S)
    return tuple(found)


def _move(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def _count_ok(output: str) -> int:
    """Requests that the archive says were ok; HarnessError when the run was not complete."""
    folder = Path(output.strip().splitlines()[-1])
    manifest = decode_manifest((folder / "run.json").read_bytes(), str(folder))
    if manifest.outcome is not Outcome.COMPLETE or manifest.total_sums is None:
        raise HarnessError(
            where=folder.name, seen=manifest.outcome_reason, expected="a complete run"
        )
    return manifest.total_sums.ok


def whole_generator(key: str, title: str, plan_for: PlanFor, scratch: Path) -> Contestant:
    """Make a contestant of a plan that depends on the server and the seconds."""

    @contextmanager
    def start(server: Server, seconds: float) -> Iterator[Running]:
        stamp = time.monotonic_ns()
        plan_path = scratch / f"whole-{stamp}.plan"
        plan_path.write_bytes(encode_plan(plan_for(server, seconds)))
        module = [sys.executable, "-m", "benchmarks.whole_run"]
        command = [*module, str(plan_path), str(scratch / f"whole-{stamp}")]
        with spawn(key, command, core=GENERATOR_CORE, scratch=scratch) as child:
            family = _wait_family(child)
            _move(child.pid, SERVER_CORE)
            yield Running(
                child=child,
                pids=family,
                beside=(child.pid,),
                finish=lambda: _count_ok(child.wait_success(seconds + _END_S)),
            )

    return Contestant(key=key, title=title, start=start)
