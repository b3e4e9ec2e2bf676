"""The agent's I/O: feeds its state machine (`agency.py`) and carries out what it asks.

One loop owns the agency. Greenlets (the bus, engines, ticker, preflight) only put what
arrived, with the time it arrived at, into its inbox; so the state machine sees one event
at a time, in order, and pings are stamped before they wait. Law: when this shell ends,
for whatever reason, no engine of it is alive.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import gevent
from gevent.event import Event
from locust.runners import WorkerRunner

from loadtests.engine import messages as engine
from loadtests.plan.authorisation import Configuration, authorised_hosts
from loadtests.plan.model import Plan
from loadtests.record.facts import code_digests, host_facts, package_versions
from loadtests.swarm import actions
from loadtests.swarm.agency import Agency, AgentSetup
from loadtests.swarm.bus import MESSAGE, guard_worker
from loadtests.swarm.engines import EngineProcess, TickerProcess
from loadtests.swarm.messages import MessageError, decode_to_agent, encode_message
from loadtests.swarm.preflight import check_host
from loadtests.swarm.run_log import name_run
from loadtests.swarm.timing import Timing

TICK_S: Final = 0.1
MAX_INBOX: Final = 100_000  # messages repeat themselves: what does not fit is not lost for good
_LOG: Final = logging.getLogger(__name__)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Step = Callable[[], list[actions.AgentAction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """How an agent ended: `is_ok` when a master told it to, after all was handed over."""

    is_ok: bool
    is_refused: bool  # the master would not have it
    reason: str


def boot_id() -> str:
    """Name of this boot of the kernel: processes with the same one share CLOCK_MONOTONIC."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid4().hex  # unknown: equal to nobody's, so clocks are compared by pings


def agent_name(given: str | None) -> str:
    """A name that the protocol allows, from the host's name when none is given."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", given or socket.gethostname()).lstrip("._-")[:80]
    return name or "agent"


class AgentShell:
    """One agent on a connected Locust worker; `run` blocks until its part is over.

    `user_code`: digests of what it runs besides this package, by name.
    """

    def __init__(
        self,
        runner: WorkerRunner,
        *,
        name: str,
        engines: int,
        configuration: Configuration,
        timing: Timing,
        has_ticker: bool = True,
        user_code: Mapping[str, str] | None = None,
    ) -> None:
        self._runner = runner
        self._name = name
        self._configuration = configuration
        self._inbox: deque[Step] = deque(maxlen=MAX_INBOX)
        self._woken = Event()
        self._engines: dict[int, EngineProcess] = {}
        self._ticker: TickerProcess | None = None
        self._ticker_anchor: tuple[int, int] | None = None
        self._end: AgentEnd | None = None
        self._has_ticker = has_ticker
        versions = package_versions()
        setup = AgentSetup(
            agent=name,
            incarnation=uuid4().hex,
            engines=engines,
            host=host_facts(),
            boot_id=boot_id(),
            version=versions["headroom"],
            versions=versions,
            code={**code_digests(), **(user_code or {})},
            authorised_hosts=authorised_hosts(configuration, datetime.now(UTC)),
            unix_minus_monotonic_ns=time.time_ns() - time.monotonic_ns(),
            expects_hiccups=has_ticker,
        )
        self._agency = Agency(setup=setup, timing=timing, now_ns=time.monotonic_ns())
        guard_worker(runner)
        runner.register_message(MESSAGE, self._on_message)
        runner.quit = self._quit_at_once  # type: ignore[method-assign]  # no hook: see below

    def run(self) -> AgentEnd:
        """Take part in one run; returns when the agency says so, with every child ended."""
        next_tick = time.monotonic()
        try:
            while self._end is None:
                self._woken.wait(timeout=max(0.0, next_tick - time.monotonic()))
                self._woken.clear()
                while self._inbox and self._end is None:
                    self._carry_out(self._inbox.popleft()())
                if self._end is None and time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + TICK_S
                    self._carry_out(self._agency.tick(time.monotonic_ns()))
            return self._end
        finally:
            self._end_children()

    def request_stop(self, reason: str) -> None:
        """Stop this agent's engines, hand everything over, then end."""
        self._put(lambda: self._agency.request_stop(reason, time.monotonic_ns()))

    def stop_at_once(self, reason: str) -> None:
        """End without handing over; engines are killed."""
        self._end = self._end or AgentEnd(is_ok=False, is_refused=False, reason=reason)
        self._woken.set()

    def _quit_at_once(self) -> None:
        """What Locust calls when its master says quit, or is gone.

        Every orderly end goes through our own messages first, so this one is not orderly
        unless the shell has ended before.
        """
        self.stop_at_once("Locust's master quit")

    def _put(self, step: Step) -> None:
        self._inbox.append(step)
        self._woken.set()

    def _on_message(self, environment: Any, msg: Any) -> None:
        del environment
        now_ns = time.monotonic_ns()
        try:
            message = decode_to_agent(msg.data)
        except MessageError as error:
            self._put(partial(self._agency.malformed, str(error), now_ns))
            return
        self._put(partial(self._agency.receive, message, now_ns))

    def _carry_out(self, todo: list[actions.AgentAction]) -> None:
        for action in todo:
            match action:
                case actions.SendMaster(message=message):
                    self._runner.send_message(MESSAGE, encode_message(message))  # type: ignore[arg-type]  # annotated dict, any msgpack value travels
                case actions.RunPreflight(run_id=run_id, plan=plan):
                    name_run(run_id)
                    _LOG.info("agent %s takes part in %s", self._name, plan.scenario_name)
                    gevent.spawn(self._run_preflight, plan)
                case actions.SpawnEngine(k=k):
                    _LOG.info("agent %s starts engine %d", self._name, k)
                    self._spawn(k)
                case actions.SendEngine(k=k, message=frame):
                    self._send_engine(k, frame)
                case actions.KillEngine(k=k):
                    _LOG.warning("agent %s kills engine %d", self._name, k)
                    if k in self._engines:
                        self._engines[k].kill()
                case actions.Exit(is_ok=is_ok, is_refused=is_refused, reason=reason):
                    _LOG.info("agent %s ends: %s", self._name, reason)
                    end = AgentEnd(is_ok=is_ok, is_refused=is_refused, reason=reason)
                    self._end = self._end or end

    def _run_preflight(self, plan: Plan) -> None:
        findings = check_host(plan, self._configuration)
        self._put(
            lambda: self._agency.checked(
                warnings=findings.warnings, failure=findings.failure, now_ns=time.monotonic_ns()
            )
        )

    def _spawn(self, k: int) -> None:
        def gone(how: str) -> None:
            self._put(partial(self._agency.engine_gone, k, how, time.monotonic_ns()))

        def frame(message: engine.FromEngine) -> None:
            self._put(partial(self._agency.engine_frame, k, message, time.monotonic_ns()))

        try:
            self._engines[k] = EngineProcess(on_message=frame, on_end=gone)
        except OSError as error:
            gone(f"could not be started: {error}")

    def _send_engine(self, k: int, frame: engine.ToEngine) -> None:
        if k in self._engines:
            self._engines[k].send(frame)
        if self._has_ticker and isinstance(frame, engine.Start):
            self._start_ticker((frame.t0_ns, frame.t0_unix_ns))

    def _start_ticker(self, anchor: tuple[int, int]) -> None:
        if anchor == self._ticker_anchor:
            return
        self._ticker_anchor = anchor
        if self._ticker is not None:
            self._ticker.stop()
        self._ticker = TickerProcess(
            self._name,
            *anchor,
            lambda start_s, hiccup: self._put(
                partial(self._agency.hiccup, start_s, hiccup, time.monotonic_ns())
            ),
        )

    def _end_children(self) -> None:
        for process in self._engines.values():
            process.end()
        if self._ticker is not None:
            self._ticker.stop()
