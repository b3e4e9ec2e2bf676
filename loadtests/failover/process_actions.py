"""Faults of a node's process: killed, stopped, paused, restarted."""

from __future__ import annotations

import shlex
import signal
import time
from contextlib import suppress
from http.client import HTTPException

from loadtests.clock import NS_PER_S
from loadtests.failover.asking import get_status
from loadtests.failover.commands import must_succeed
from loadtests.failover.processes import (
    POLL_S,
    is_running,
    read_pid_file,
    send,
    state_of,
    wait_ended,
)
from loadtests.failover.strike import Identity, Sight, Strike, fault_error

_STOPPED = "tT"
_HEALTH_TIMEOUT_S = 1.0
_SETTLE_S = 2.0  # for a starter that returns before it has written its pid file


def _current(strike: Strike) -> Identity | None:
    return read_pid_file(strike.node.pid_file)


def _before(strike: Strike) -> Identity:
    before = strike.before
    return Identity(pid=int(before["pid"]), start_ticks=int(before["start_ticks"]))


def _found(strike: Strike) -> dict[str, str]:
    one = _current(strike)
    if one is None:
        seen = f"no running process in {strike.node.pid_file}"
        raise fault_error(strike, seen, "a node that runs")
    if state_of(one) in _STOPPED:
        raise fault_error(strike, f"pid {one.pid} is stopped already", "a node that runs")
    return {"pid": str(one.pid), "start_ticks": str(one.start_ticks)}


def _start(strike: Strike) -> None:
    """Start the node, unless it runs."""
    if _current(strike) is not None:
        return
    must_succeed(strike.node.start, strike)
    deadline = time.monotonic() + _SETTLE_S
    while _current(strike) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _health(strike: Strike) -> str:
    """What is wrong with its health check, an empty text when nothing is."""
    if not (strike.health_path and strike.node.url):
        return ""
    try:
        status = get_status(strike.node.url, strike.health_path, _HEALTH_TIMEOUT_S)
    except (OSError, HTTPException) as error:
        return f"{strike.health_path}: {error}"
    is_ok = 200 <= status < 300  # noqa: PLR2004 - 2xx
    return "" if is_ok else f"{strike.health_path} answers {status}"


def _look_running(strike: Strike) -> tuple[bool, str]:
    """Whether the node runs and says that it is well."""
    one = _current(strike)
    if one is None:
        return False, "not running"
    wrong = _health(strike)
    return not wrong, wrong or f"runs as pid {one.pid}"


def _start_by_hand(strike: Strike) -> str:
    return shlex.join(strike.node.start)


class Kill:
    """SIGKILL; undone by starting it again."""

    number = signal.SIGKILL

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Its process, which must run."""
        return _found(strike)

    def apply(self, strike: Strike) -> None:
        """Signal it; its end is for `look` to see."""
        if not send(_before(strike), self.number):
            raise fault_error(strike, "the process had ended by itself", "a node that runs")

    def undo(self, strike: Strike) -> None:
        """Start it, unless it runs; one that has not ended yet is waited for first."""
        one = _before(strike)
        if self.number == signal.SIGTERM and is_running(one):
            wait_ended(one, strike.settings.timeout_ns / NS_PER_S)
        _start(strike)

    def look(self, strike: Strike) -> Sight:
        """In force while the node has no process, gone when it runs and is healthy."""
        if _current(strike) is None:
            return Sight(is_in_force=True, is_gone=False, text="not running")
        is_well, text = _look_running(strike)
        return Sight(is_in_force=False, is_gone=is_well, text=text)

    def repair(self, strike: Strike) -> str:
        """The node's own start command."""
        return _start_by_hand(strike)


class Stop(Kill):
    """SIGTERM: the node may drain before it ends; undone by starting it again."""

    number = signal.SIGTERM


class Pause:
    """SIGSTOP and SIGCONT: a node that hangs, but keeps its connections."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Its process, which must run."""
        return _found(strike)

    def apply(self, strike: Strike) -> None:
        """Stop it."""
        if not send(_before(strike), signal.SIGSTOP):
            raise fault_error(strike, "the process had ended by itself", "a node that runs")

    def undo(self, strike: Strike) -> None:
        """Continue it; one that has ended meanwhile is not stopped either."""
        send(_before(strike), signal.SIGCONT)

    def look(self, strike: Strike) -> Sight:
        """Its state of proc(5)."""
        state = state_of(_before(strike))
        is_stopped = state != "" and state in _STOPPED
        text = f"state {state}" if state else "ended"
        return Sight(is_in_force=is_stopped, is_gone=not is_stopped, text=text)

    def repair(self, strike: Strike) -> str:
        """Continue it by hand."""
        return f"kill -CONT {strike.before['pid']}"


class Restart:
    """SIGTERM, its end, and its start: over when it has been applied."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Its process, which must run."""
        return _found(strike)

    def apply(self, strike: Strike) -> None:
        """Returns when it was started again; FaultError when it does not end."""
        one = _before(strike)
        timeout_s = strike.settings.timeout_ns / NS_PER_S
        send(one, signal.SIGTERM)
        if not wait_ended(one, timeout_s):
            seen = f"pid {one.pid} runs {timeout_s:g} s after SIGTERM"
            raise fault_error(strike, seen, "a node that ends when asked to")
        _start(strike)

    def undo(self, strike: Strike) -> None:
        """Start it if it does not run, once what was asked to end has ended."""
        with suppress(KeyError):
            wait_ended(_before(strike), 0.0)
        _start(strike)

    def look(self, strike: Strike) -> Sight:
        """In force and gone when another process than before runs and is healthy."""
        one = _current(strike)
        if one is not None and one == _before(strike):
            # Never asked to end, or not ended yet: nothing of the fault is left behind.
            return Sight(is_in_force=False, is_gone=True, text=f"still pid {one.pid}")
        is_well, text = _look_running(strike)
        return Sight(is_in_force=one is not None, is_gone=is_well, text=text)

    def repair(self, strike: Strike) -> str:
        """The node's own start command."""
        return _start_by_hand(strike)
