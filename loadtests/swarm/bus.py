"""Locust's message bus, made safe for strangers.

Owns the ZeroMQ sockets that Locust's runners open and the way received messages reach
them. In Locust 2.47 one malformed message ends the master's listener greenlet, and with
it the run; a full queue makes the sender sleep for nine seconds; a clock step of a minute
makes a worker quit. Law of this module: whatever arrives, the listener lives, and what is
refused is counted by reason.

`guard_sockets` replaces the two socket classes that Locust's runners look up when they
connect (also when they reconnect), so it has to run before a runner is made;
`guard_runner` then wraps the runner's message handling. Our own messages travel as one
bytes value under `MESSAGE`. Both ends stay in one module: they share one list of what a
frame may be.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import locust.runners
import zmq as zmq_plain
import zmq.green as zmq
from locust.exception import RPCError
from locust.rpc import Message, zmqrpc
from locust.runners import MasterRunner, WorkerRunner

from loadtests.swarm.messages import MAX_TO_AGENT_BYTES, MAX_TO_MASTER_BYTES

MESSAGE: Final = "headroom"
# A longer message costs its sender the connection. Locust wraps ours in some bytes more.
MAX_MESSAGE_BYTES: Final = MAX_TO_MASTER_BYTES + 4096
_MAX_FROM_MASTER_BYTES: Final = MAX_TO_AGENT_BYTES + 4096
LINGER_MS: Final = 1000  # how long a closed socket may still deliver what was queued

_CHECK_STOPPED_S: Final = 0.5
# Our own messages tell that a worker lives, and windows what it counts: Locust's heartbeats
# and reports only bring its CPU and users to the web UI. Theirs come every 1 and 3 s.
_LOCUST_BEAT_S: Final = 5
_LOCUST_REPORT_S: Final = 15.0
_TURN_MESSAGES: Final = 64
_MAX_WORD: Final = 64
_MAX_ENTRIES: Final = 1000
_LOG: Final = logging.getLogger(__name__)
_LOGGED_REFUSALS: Final = 5  # of each reason; the counters tell the rest
_STATES: Final = frozenset({"ready", "spawning", "running", "cleanup", "stopping", "stopped"})
# An empty StatsEntry as Locust's reports carry it: a report must have one, ours adds nothing.
_NO_STATS: Final[Mapping[str, object]] = {"name": "Aggregated", "method": ""}

Check = Callable[[Any], bool]

_rpc: Any = zmqrpc  # the module is untyped; through Any its calls are what they are
_message: Any = Message


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
# handler takes for granted. A type that is not here is refused before it is logged.
_FROM_WORKERS: Final[Mapping[str, Check]] = {
    "client_ready": _is_version,
    "locustfile": lambda data: isinstance(data, dict) and isinstance(data.get("version"), str),
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


class Refusals:
    """Counts messages that were not acted on, by reason; logs the first few of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, reason: str, detail: str) -> None:
        """Count one; `detail` comes from outside and is cut short and escaped."""
        self.counts[reason] += 1
        if self.counts[reason] <= _LOGGED_REFUSALS:
            _LOG.warning("refused a message (%s): %.120r", reason, detail)


REFUSALS: Final = Refusals()


class GuardedServer(zmqrpc.Server):
    """The master's socket: receives until something well-formed comes, never blocks to send.

    It drains and fills the socket through a plain view of it: pyzmq's gevent socket looks
    at its events after every message, which at 8,000 messages a second (1,000 agents) is a
    fifth of a core. It is looked at once a turn of the hub instead, and only an empty
    socket is waited for. A queue that never gets empty must not keep the hub either, so
    the listener steps aside every `_TURN_MESSAGES`.
    """

    def __init__(self, host: str, port: int) -> None:
        _rpc.BaseSocket.__init__(self, zmq.ROUTER, self.ipv4_only(host, port))
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        address = _address(host)
        try:
            if port == 0:
                self.port = self.socket.bind_to_random_port(address)
            else:
                self.socket.bind(f"{address}:{port}")
                self.port = port
        except zmq.ZMQError as error:
            raise RPCError(f"Socket bind failure: {error}") from error
        self._plain: Any = zmq_plain.Socket.shadow(self.socket.underlying)
        self._received = 0
        self._is_look_due = False

    def recv_from_client(self) -> tuple[str, Any]:
        """Next well-formed message; RPCError when the socket itself is broken."""
        while True:
            frames = self._receive()
            try:
                address, body = frames
                return address.decode(), _message.unserialize(body)
            except Exception as error:  # noqa: BLE001 - a stranger's bytes may fail in any way
                REFUSALS.add("not a Locust message", repr(error))

    def _receive(self) -> list[bytes]:
        self._received += 1
        if self._received % _TURN_MESSAGES == 0:
            gevent.sleep(0)
        try:
            try:
                return self._plain.recv_multipart(zmq.NOBLOCK)  # type: ignore[no-any-return]  # zmq is untyped here
            except zmq.Again:
                return self.socket.recv_multipart()  # waits in gevent
        except zmq.ZMQError as error:
            raise RPCError("ZMQ network broken") from error

    def send_to_client(self, msg: Any) -> None:
        """Queue for one worker; dropped and counted when that worker's queue is full.

        Answers to heartbeats are not sent: a Locust worker starts to watch them with the
        first that comes, ours never does (`guard_worker`), and each message sent costs the
        master 30-50 us, most of them in ZeroMQ's own thread.
        """
        if msg.type == "heartbeat":
            return
        try:
            self._plain.send_multipart([msg.node_id.encode(), msg.serialize()], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            REFUSALS.add("could not be queued for a worker", repr(error))
        if not self._is_look_due:
            self._is_look_due = True
            gevent.get_hub().loop.run_callback(self._look)

    def _look(self) -> None:
        """Sending may have swallowed the signal that messages wait: look, and wake who waits."""
        self._is_look_due = False
        if not self.socket.closed:
            # `get`, not its alias `getsockopt`: only the former is overridden to wake waiters.
            self.socket.get(zmq.EVENTS)


class GuardedClient(zmqrpc.Client):
    """A worker's socket. What cannot be queued is dropped: our messages repeat themselves."""

    def __init__(self, host: str, port: int, identity: str) -> None:
        _rpc.BaseSocket.__init__(self, zmq.DEALER, self.ipv4_only(host, port))
        self.socket.setsockopt(zmq.MAXMSGSIZE, _MAX_FROM_MASTER_BYTES)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        self.socket.setsockopt(zmq.IDENTITY, identity.encode())
        self.socket.connect(f"{_address(host)}:{port}")

    def recv(self) -> Any:
        """Next well-formed message; RPCError when the socket itself is broken."""
        while True:
            try:
                body = self.socket.recv()
            except zmq.ZMQError as error:
                raise RPCError("ZMQ network broken") from error
            try:
                return _message.unserialize(body)
            except Exception as error:  # noqa: BLE001 - a stranger's bytes may fail in any way
                REFUSALS.add("not a Locust message", repr(error))

    def send(self, msg: Any) -> None:
        """Queue for the master; dropped and counted when the queue is full."""
        try:
            self.socket.send(msg.serialize(), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            REFUSALS.add("could not be queued for the master", repr(error))


def _address(host: str) -> str:
    return f"tcp://[{host}]" if ":" in host else f"tcp://{host}"


def guard_sockets() -> None:
    """Make every runner of this process connect through the guarded sockets."""
    _rpc.Server = GuardedServer
    _rpc.Client = GuardedClient


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
