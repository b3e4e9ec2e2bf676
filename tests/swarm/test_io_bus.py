"""The message bus under attack: real ZeroMQ sockets, real Locust runners."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import gevent
import msgspec
import pytest
from channel import Stranger, guarded_master, wait_until
from locust.env import Environment
from locust.rpc import Message
from locust.runners import MasterRunner

from loadtests.swarm import bus, sockets
from loadtests.swarm.refusals import REFUSALS

pytestmark = pytest.mark.system


@pytest.fixture
def master() -> Iterator[MasterRunner]:
    """A guarded master on a free loopback port."""
    REFUSALS.counts.clear()
    with guarded_master() as runner:
        yield runner


def is_listening(master: MasterRunner, port: int, name: bytes) -> bool:
    """True when a well-behaved worker that joins now is answered."""
    worker = Stranger(port, name)
    worker.say("client_ready", "2.47.0")
    answer = worker.hear()
    worker.socket.close()
    return bool(answer[0] == "ack") and name.decode() in master.clients


def test_ten_thousand_garbage_messages_do_not_end_the_listener(master: MasterRunner) -> None:
    """Whatever bytes arrive, the listener lives and every message is counted."""
    rng = random.Random(20261123)
    stranger = Stranger(master.server.port, b"stranger")
    good = msgspec.msgpack.encode(
        ("heartbeat", {"state": "ready", "current_cpu_usage": 1}, "stranger")
    )
    for number in range(10_000):
        if number % 3:
            stranger.socket.send(rng.randbytes(rng.randrange(0, 200)))
        else:
            torn = bytearray(good)
            torn[rng.randrange(len(torn))] ^= 1 << rng.randrange(8)
            stranger.socket.send(bytes(torn[: rng.randrange(1, len(torn) + 1)]))
        if number % 500 == 0:
            gevent.sleep(0)
    wait_until(lambda: sum(REFUSALS.counts.values()) > 9_000, 30)
    assert is_listening(master, master.server.port, b"honest")


@pytest.mark.parametrize("frames", [[], [b"one"], [b"a", b"b", b"c", b"d"]], ids=len)
def test_a_wrong_number_of_frames_is_refused(master: MasterRunner, frames: list[bytes]) -> None:
    """Locust's messages are one frame; more of them, or an empty one, are not Locust's."""
    stranger = Stranger(master.server.port, b"stranger")
    stranger.socket.send_multipart(frames or [b""])
    wait_until(lambda: REFUSALS.counts["not a Locust message"] == 1)
    assert is_listening(master, master.server.port, b"honest")


# Each of these ends an unguarded client_listener greenlet, or makes a handler lie.
MALFORMED: list[tuple[object, object]] = [
    ("heartbeat", None),
    ("heartbeat", {"state": "ready"}),
    ("heartbeat", {"state": ["ready"], "current_cpu_usage": 1}),
    ("heartbeat", {"state": "ready", "current_cpu_usage": "hot"}),
    ("client_ready", 7),
    ("client_ready", ["2.47.0"]),
    ("client_ready", "x" * 1000),
    ("stats", None),
    ("stats", {"user_classes_count": {"A": -1}}),
    ("stats", {"user_classes_count": {"A": True}}),
    ("spawning_complete", {}),
    ("logs", "no dict"),
    ("logs", {"worker_id": 3, "logs": []}),
    ("exception", {"msg": 1}),
    ("locustfile", {"version": None}),
    ("no_such_type", None),
    (["heartbeat"], None),
    (None, None),
    (bus.MESSAGE, {"not": "bytes"}),
    (bus.MESSAGE, "text"),
]


@pytest.mark.parametrize(("message_type", "data"), MALFORMED, ids=repr)
def test_malformed_data_of_every_type_is_refused(
    master: MasterRunner, message_type: object, data: object
) -> None:
    """A message whose data is not what its handler expects is counted and dropped."""
    stranger = Stranger(master.server.port, b"stranger")
    stranger.say("client_ready", "2.47.0")
    wait_until(lambda: "stranger" in master.clients)
    stranger.say(message_type, data)
    wait_until(lambda: sum(REFUSALS.counts.values()) == 1)
    assert is_listening(master, master.server.port, b"honest")


def test_nobody_speaks_in_another_workers_name(master: MasterRunner) -> None:
    """The node id inside a message must be the identity of the socket that it came from."""
    honest = Stranger(master.server.port, b"honest")
    honest.say("client_ready", "2.47.0")
    wait_until(lambda: "honest" in master.clients)
    Stranger(master.server.port, b"thief").say("quit", None, "honest")
    wait_until(lambda: REFUSALS.counts["sent in another worker's name"] == 1)
    assert "honest" in master.clients


def test_a_message_over_the_limit_costs_only_its_sender(master: MasterRunner) -> None:
    """ZeroMQ cuts off who sends more than the limit; everybody else is still served."""
    stranger = Stranger(master.server.port, b"stranger")
    stranger.socket.send(bytes(sockets.MAX_MESSAGE_BYTES + 1))
    gevent.sleep(0.2)
    assert is_listening(master, master.server.port, b"honest")


def test_a_failing_listener_does_not_end_the_loop(master: MasterRunner) -> None:
    """Also a fault of our own handler leaves the bus alive."""

    def fail(**_: object) -> None:
        raise KeyError("ours")

    master.register_message(bus.MESSAGE, fail)
    stranger = Stranger(master.server.port, b"stranger")
    stranger.say(bus.MESSAGE, b"x")
    assert is_listening(master, master.server.port, b"honest")


def test_worker_statistics_cannot_double_the_view(master: MasterRunner) -> None:
    """Requests that a worker reports to Locust are not added: windows already hold them."""
    stranger = Stranger(master.server.port, b"stranger")
    stranger.say("client_ready", "2.47.0")
    stats = {"name": "x", "method": "GET", "num_requests": 1000, "response_times": {1: 1000}}
    stranger.say(
        "stats",
        {"stats": [stats], "stats_total": stats, "errors": {}, "user_classes_count": {"A": 1}},
    )
    wait_until(lambda: "stranger" in master.clients and master.user_count == 1)
    assert master.stats.total.num_requests == 0
    assert not master.stats.entries


def test_a_wall_clock_step_does_not_end_a_worker(
    master: MasterRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 120 s leaves a guarded worker running; its lease is on the monotonic clock."""
    worker = Environment(user_classes=[]).create_worker_runner("127.0.0.1", master.server.port)
    bus.guard_worker(worker)
    heard: list[object] = []
    events: Any = worker.environment.events
    events.heartbeat_received.add_listener(lambda **_: heard.append(1))
    message: Any = Message  # untyped
    worker.handle_message(message("heartbeat", None, "master"))  # as an unguarded master sends
    assert heard
    quits: list[int] = []
    monkeypatch.setattr(worker, "quit", lambda: quits.append(1))
    now = time.time()
    monkeypatch.setattr("locust.runners.time.time", lambda: now + 120)
    gevent.sleep(2.2)
    assert quits == []
    assert len(heard) == 1, "a guarded master answers no heartbeat"
    worker.greenlet.kill(block=True)
    worker.client.socket.close(linger=0)


def test_sending_does_not_swallow_the_signal_that_messages_wait(master: MasterRunner) -> None:
    """A message that arrives while the master sends is read at once, not at the next one.

    ZeroMQ signals arrivals by edge, and a send clears the edge: unless somebody looks again
    after it, a listener sleeps on a full queue (pyzmq then wakes it after 11.6 s).
    """
    worker = Stranger(master.server.port, b"honest")
    worker.say("client_ready", "2.47.0")
    wait_until(lambda: "honest" in master.clients)
    heard: list[bytes] = []
    master.register_message(bus.MESSAGE, lambda msg, **_: heard.append(msg.data))
    for number in range(200):
        worker.say(bus.MESSAGE, b"x")
        # Blocks the hub, so that the arrival is pending when the master sends.
        time.sleep(0.002)
        master.send_message(bus.MESSAGE, client_id="honest")
        wait_until(lambda expected=number + 1: len(heard) == expected, 5.0)
