"""Locust's message bus, made safe for strangers.

Owns the way from the guarded sockets (`sockets.py`) to Locust's runners. In Locust 2.47 one
malformed message ends the master's listener greenlet, and with it the run; a full queue
makes the sender sleep for nine seconds; a clock step of a minute makes a worker quit. Law
of this module: whatever arrives, the listener lives, and what is refused is counted by
reason. Our own messages travel as one bytes value under `MESSAGE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import locust.runners
from locust.rpc import Message
from locust.runners import MasterRunner, WorkerRunner

from loadtests.swarm.refusals import REFUSALS

MESSAGE: Final = "headroom"

_CHECK_STOPPED_S: Final = 0.5
# Our own messages tell that a worker lives, and windows what it counts: Locust's heartbeats
# and reports only bring its CPU and users to the web UI. Theirs come every 1 and 3 s.
_LOCUST_BEAT_S: Final = 5
_LOCUST_REPORT_S: Final = 15.0
_MAX_WORD: Final = 64
_MAX_ENTRIES: Final = 1000
_STATES: Final = frozenset({"ready", "spawning", "running", "cleanup", "stopping", "stopped"})
# An empty StatsEntry as Locust's reports carry it: a report must have one, ours adds nothing.
_NO_STATS: Final[Mapping[str, object]] = {"name": "Aggregated", "method": ""}

Check = Callable[[Any], bool]


def _is_version(data: Any) -> bool:
    return data == -1 or (isinstance(data, str) and 0 < len(data) <= _MAX_WORD)


def _is_counts(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and len(data) <= _MAX_ENTRIES
        and all(isinstance(k, str) and type(v) is int and v >= 0 for k, v in data.items())
    )


def _is_heartbeat(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("state"), str)
        and data["state"] in _STATES
        and isinstance(data.get("current_cpu_usage"), int | float)
        and isinstance(data.get("current_memory_usage", 0), int | float)
    )


def _is_spawning_complete(data: Any) -> bool:
    return isinstance(data, dict) and _is_counts(data.get("user_classes_count"))


def _is_logs(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("worker_id"), str)
        and isinstance(data.get("logs"), list)
        and len(data["logs"]) <= _MAX_ENTRIES
        and all(isinstance(line, str) for line in data["logs"])
    )


def _is_exception(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("msg"), str)
        and isinstance(data.get("traceback"), str)
    )


def _is_ours(data: Any) -> bool:
    return isinstance(data, bytes)  # its size and content are `messages.py`'s to check


def _is_anything(data: Any) -> bool:
    del data
    return True


# Every message type that a worker may send to a master, with the shape that Locust's
# handler takes for granted. A type that is not here is refused before it is logged, as is
# `locustfile`, with which a worker asks for the master's code: it is never sent.
_FROM_WORKERS: Final[Mapping[str, Check]] = {
    "client_ready": _is_version,
    "client_stopped": _is_anything,
    "heartbeat": _is_heartbeat,
    "stats": lambda data: isinstance(data, dict) and _is_counts(data.get("user_classes_count")),
    "spawning": _is_anything,
    "spawning_complete": _is_spawning_complete,
    "logs": _is_logs,
    "quit": _is_anything,
    "exception": _is_exception,
    MESSAGE: _is_ours,
}


def guard_master(runner: MasterRunner) -> None:
    """Let only well-formed messages reach Locust's handler, and survive what it raises.

    Statistics that workers report are emptied: windows feed the view (`view.py`), and a
    second source would double it. The bound port is kept for a reconnect.
    """
    runner.master_bind_port = runner.server.port
    handle = runner.handle_message

    def handle_message(client_id: str, msg: Message) -> None:
        try:
            reason = _reason_to_refuse(client_id, msg)
            if reason is not None:
                REFUSALS.add(reason, f"{msg.type!r} from {client_id!r}")
                return
            if msg.type == MESSAGE:
                _hear(runner, client_id, msg)
                return
            if msg.type == "stats":
                users = msg.data["user_classes_count"]
                msg.data = {
                    "stats": [], "stats_total": _NO_STATS, "errors": {},
                    "user_classes_count": users, "user_count": sum(users.values()),
                }  # fmt: skip
            handle(client_id, msg)
        except Exception as error:  # noqa: BLE001 - the listener must outlive any handler
            REFUSALS.add("handler failed", f"{msg.type}: {error!r}")

    # Locust looks the method up on the instance for each message; it offers no hook.
    runner.handle_message = handle_message  # type: ignore[method-assign]  # see above
    _check_seldom(runner)


def _hear(runner: MasterRunner, client_id: str, msg: Message) -> None:
    """Give our own message to its listener, past Locust's handling; its sender is alive."""
    client = runner.clients.get(client_id)
    if client is not None and client.state != locust.runners.STATE_MISSING:
        client.heartbeat = locust.runners.HEARTBEAT_LIVENESS
    if MESSAGE in runner.custom_messages:  # between runs agents repeat themselves until one begins
        listener, _ = runner.custom_messages[MESSAGE]
        listener(environment=runner.environment, msg=msg)


def _check_seldom(runner: MasterRunner) -> None:
    """Look whether all workers have stopped twice a second, not after every message.

    Locust's check visits every worker: with 1,000 of them and some 4,000 messages a second
    it would take a third of a core. Heartbeats come as long as there are workers, so the
    last look is never missed.
    """
    check = runner.check_stopped
    next_s = 0.0

    def check_stopped() -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _CHECK_STOPPED_S
            check()

    runner.check_stopped = check_stopped  # type: ignore[method-assign]  # Locust has no hook


def _reason_to_refuse(client_id: str, msg: Message) -> str | None:
    if not isinstance(msg.type, str) or msg.type not in _FROM_WORKERS:
        return "unknown type"
    if msg.node_id != client_id:
        return "sent in another worker's name"
    if not _FROM_WORKERS[msg.type](msg.data):
        return "malformed data"
    return None


def guard_worker(runner: WorkerRunner) -> None:
    """Survive malformed messages and steps of the wall clock; beat and report seldom.

    Locust's worker quits when `time.time()` moves 60 s past its last heartbeat. The
    agency's lease, on the monotonic clock, decides that instead.
    """
    # Read by Locust before each pause; this process is a worker and nothing else.
    locust.runners.HEARTBEAT_INTERVAL = _LOCUST_BEAT_S
    locust.runners.WORKER_REPORT_INTERVAL = _LOCUST_REPORT_S
    handle = runner.handle_message

    def handle_message(msg: Message) -> None:
        if not isinstance(msg.type, str) or (msg.type == MESSAGE and not _is_ours(msg.data)):
            REFUSALS.add("malformed data", repr(msg.type))
            return
        try:
            handle(msg)
        except Exception as error:  # noqa: BLE001 - the listener must outlive any handler
            REFUSALS.add("handler failed", f"{msg.type}: {error!r}")
        runner.last_heartbeat_timestamp = None

    # Locust looks the method up on the instance for each message; it offers no hook.
    runner.handle_message = handle_message  # type: ignore[method-assign]  # see above
