"""The two ZeroMQ sockets that Locust's runners open, made safe for strangers.

`guard_sockets` replaces the classes that Locust's runners look up when they connect (also
when they reconnect), so it has to run before a runner is made. Whatever arrives, receiving
goes on, and what is refused is counted by reason; sending never waits.

With keys (`keys.py`) both ends speak CURVE: nothing is readable or changeable on the way,
the agent believes one master key, the master lets authorised keys in (`door.py`), and a
message counts only if the name of its key, the identity of its socket and the node it
names are the same. (An identity has a part of chance behind the name, so that no other key
can claim the connection; answers go to the one that was heard last.) Without keys a socket
serves loopback alone, and refuses anything else.

Heartbeats find a peer that is gone without a word, and ROUTER_HANDOVER lets an agent that
reconnects take its own place over from the connection that is dead: after a proxy or NAT
forgot one side, both would wait for TCP, for minutes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import gevent
import zmq as zmq_plain
import zmq.green as zmq
from locust.exception import RPCError
from locust.rpc import Message, zmqrpc
from locust.runners import MasterRunner, WorkerRunner

from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.model import is_loopback
from loadtests.swarm.door import DOMAIN, Door
from loadtests.swarm.keys import AgentKeys, MasterKeys
from loadtests.swarm.messages import MAX_TO_AGENT_BYTES, MAX_TO_MASTER_BYTES
from loadtests.swarm.refusals import REFUSALS

# A longer message costs its sender the connection. Locust wraps ours in some bytes more.
MAX_MESSAGE_BYTES: Final = MAX_TO_MASTER_BYTES + 4096
_MAX_FROM_MASTER_BYTES: Final = MAX_TO_AGENT_BYTES + 4096
LINGER_MS: Final = 1000  # how long a closed socket may still deliver what was queued
# An agent asks; its master answers, and by the third figure takes it for gone on its own.
HEARTBEAT_IVL_MS: Final = 3_000
HEARTBEAT_TIMEOUT_MS: Final = 5_000
HEARTBEAT_TTL_MS: Final = 9_000
_TURN_MESSAGES: Final = 64
_CHANCE: Final = b":"  # in no name of a key

_rpc: Any = zmqrpc  # the module is untyped; through Any its calls are what they are
_message: Any = Message

GetMasterKeys = Callable[[str], MasterKeys | None]
GetAgentKeys = Callable[[str], AgentKeys | None]


def _refuse_open(host: str, keys: MasterKeys | AgentKeys | None) -> None:
    """Whoever comes this far without keys may only speak to its own host."""
    if keys is None and not is_loopback(host):
        expected = "a loopback address, or keys (headroom keys --help)"
        mistake = Mistake(where="control channel", seen=f"{host} without a key", expected=expected)
        raise ScenarioError("control channel", (mistake,))


class GuardedServer(zmqrpc.Server):
    """The master's socket: receives until something well-formed comes, never blocks to send.

    It drains and fills the socket through a plain view of it: pyzmq's gevent socket looks
    at its events after every message, which at 8,000 messages a second (1,000 agents) is a
    fifth of a core. It is looked at once a turn of the hub instead, and only an empty
    socket is waited for. A queue that never gets empty must not keep the hub either, so
    the listener steps aside every `_TURN_MESSAGES`.
    """

    def __init__(self, host: str, port: int, keys: MasterKeys | None = None) -> None:
        _refuse_open(host, keys)
        _rpc.BaseSocket.__init__(self, zmq.ROUTER, self.ipv4_only(host, port))
        self.is_secured = keys is not None
        self._door: Door | None = None
        self._routes: dict[str, bytes] = {}  # with keys: name -> identity it was last heard from
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if keys is not None:
            self._secure(keys)
        address = _address(host)
        try:
            if port == 0:
                self.port = self.socket.bind_to_random_port(address)
            else:
                self.socket.bind(f"{address}:{port}")
                self.port = port
        except zmq.ZMQError as error:
            self.close()
            raise RPCError(f"Socket bind failure: {error}") from error
        self._plain: Any = zmq_plain.Socket.shadow(self.socket.underlying)
        self._received = 0
        self._is_look_due = False

    def _secure(self, keys: MasterKeys) -> None:
        """Let in who has an authorised key; without a door ZeroMQ would let in everybody."""
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        self.socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._door = Door(self.socket.context, keys.agents)

    def close(self, linger: int | None = None) -> None:
        """Close the socket, and the door after it."""
        self.socket.close(linger=linger)
        if self._door is not None:
            self._door.close()

    def recv_from_client(self) -> tuple[str, Any]:
        """Next well-formed message; RPCError when the socket itself is broken."""
        while True:
            frames = self._receive()
            try:
                identity, body = frames
                if not self.is_secured:
                    return identity.decode(), _message.unserialize(body)
                # The name of the key that the connection was let in with; an identity is but said.
                name, identity = body.get("User-Id"), identity.bytes
                if identity.partition(_CHANCE)[0].decode() == name:
                    self._routes[name] = identity
                    return name, _message.unserialize(body.buffer)
                REFUSALS.add("sent in another key's name", f"{identity!r} by {name!r}")
            except Exception as error:  # noqa: BLE001 - a stranger's bytes may fail in any way
                REFUSALS.add("not a Locust message", repr(error))

    def _receive(self) -> list[Any]:
        """Frames of one message: bytes, or with keys what knows its sender's."""
        self._received += 1
        if self._received % _TURN_MESSAGES == 0:
            gevent.sleep(0)
        frames: Any  # zmq's types do not know a choice
        is_copied = not self.is_secured
        try:
            try:
                frames = self._plain.recv_multipart(zmq.NOBLOCK, copy=is_copied)
            except zmq.Again:
                green: Any = self.socket
                frames = green.recv_multipart(copy=is_copied)  # waits in gevent
            return list(frames)
        except zmq.ZMQError as error:
            raise RPCError("ZMQ network broken") from error

    def send_to_client(self, msg: Any) -> None:
        """Queue for one worker; dropped and counted when that worker's queue is full.

        No option of ours leaves with Locust's `spawn`: they may be secrets, and an agent has its
        own. Answers to heartbeats are not sent: a Locust worker starts to watch them with the
        first that comes, ours never does (`guard_worker`), and each message sent costs the
        master 30-50 us, most of them in ZeroMQ's own thread.
        """
        if msg.type == "heartbeat":
            return
        if msg.type == "spawn":
            msg.data = {**msg.data, "parsed_options": {}}
        try:
            to = self._routes.get(msg.node_id) or msg.node_id.encode()
            self._plain.send_multipart([to, msg.serialize()], zmq.NOBLOCK)
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
    """A worker's socket. What cannot be queued is dropped: our messages repeat themselves.

    `identity` is Locust's name for the worker; with keys it is the key's, on all messages.
    """

    def __init__(self, host: str, port: int, identity: str, keys: AgentKeys | None = None) -> None:
        _refuse_open(host, keys)
        _rpc.BaseSocket.__init__(self, zmq.DEALER, self.ipv4_only(host, port))
        self.key_name = None if keys is None else keys.own.name
        self._node_id = self.key_name or identity
        if keys is not None:
            identity = f"{keys.own.name}{_CHANCE.decode()}{secrets.token_hex(16)}"
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, keys.master_public)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TTL_MS)
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
        msg.node_id = self._node_id
        try:
            self.socket.send(msg.serialize(), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            REFUSALS.add("could not be queued for the master", repr(error))


def _address(host: str) -> str:
    return f"tcp://[{host}]" if ":" in host else f"tcp://{host}"


def _no_keys(_host: str) -> None:
    return None


def guard_sockets(
    master_keys: GetMasterKeys = _no_keys, agent_keys: GetAgentKeys = _no_keys
) -> None:
    """Make every runner of this process connect through the guarded sockets.

    The keys are asked for with the address, when a socket is made.
    """
    _rpc.Server = lambda host, port: GuardedServer(host, port, master_keys(host))
    _rpc.Client = lambda host, port, identity: GuardedClient(host, port, identity, agent_keys(host))


def is_secured(runner: MasterRunner) -> bool:
    """Tell whether a master listens with keys."""
    server: Any = runner.server  # one of ours, by Locust's type
    return bool(server.is_secured)


def key_name_of(runner: WorkerRunner) -> str | None:
    """The key that a worker joined with; None without keys."""
    client: Any = runner.client  # one of ours, by Locust's type
    name: str | None = client.key_name
    return name
