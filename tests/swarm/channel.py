"""Keys, and sockets of every kind of peer, for the tests of the control channel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import msgspec
import zmq.green as zmq
from locust.env import Environment
from locust.runners import MasterRunner
from zmq.utils import z85

from loadtests.swarm import bus, sockets
from loadtests.swarm.keys import AgentKeys, KeyPair, MasterKeys


def key_pair(name: str) -> KeyPair:
    """A fresh key."""
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    return KeyPair(name=name, public=public, secret=secret)


def keys_for(*agents: str) -> tuple[MasterKeys, dict[str, AgentKeys]]:
    """Keys of a master that has authorised these agents, and theirs."""
    master, own = key_pair("master"), [key_pair(name) for name in agents]
    by_name = {key.name: AgentKeys(own=key, master_public=master.public) for key in own}
    return MasterKeys(own=master, agents={key.public: key.name for key in own}), by_name


@contextmanager
def guarded_master(keys: MasterKeys | None = None) -> Iterator[MasterRunner]:
    """A guarded master on a free loopback port; its greenlets and sockets are ended."""
    sockets.guard_sockets(master_keys=lambda _host: keys)
    runner = Environment(user_classes=[]).create_master_runner("127.0.0.1", 0)
    bus.guard_master(runner)
    try:
        yield runner
    finally:
        runner.greenlet.kill(block=True)
        server: Any = runner.server
        server.close(linger=0)


class Stranger:
    """A DEALER socket that says whatever it likes, with a key or without."""

    def __init__(self, port: int, identity: bytes, keys: AgentKeys | None = None) -> None:
        self.identity = identity.decode(errors="replace")
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IDENTITY, identity)
        if keys is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, keys.master_public)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def say(self, message_type: object, data: object, node_id: object = None) -> None:
        """Send one Locust message, in its own name unless told otherwise."""
        name = self.identity if node_id is None else node_id
        self.socket.send(msgspec.msgpack.encode((message_type, data, name)))

    def hear(self, seconds: float = 10.0) -> Any:
        """The next Locust message to it; gevent.Timeout when none comes."""
        with gevent.Timeout(seconds):
            return msgspec.msgpack.decode(self.socket.recv())


def wait_until(condition: object, seconds: float = 10.0) -> None:
    """Let greenlets run until a condition holds; fails when it does not in time."""
    assert callable(condition)
    with gevent.Timeout(seconds):
        while not condition():
            gevent.sleep(0.01)
