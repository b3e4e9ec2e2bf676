"""An attack on the control channel of a real run: a real master, real sockets, CURVE.

The agents are `benchmarks.simulated_agents`: the whole protocol of an agent, without load. The
attacker holds a key that is authorised (the spare's), for without one not a byte gets in. It
has heard every message of the agents, and sends garbage, torn and changed copies, replays,
other types in the place of what is expected, and lies about who it is; and strangers without
a key, or with an unknown one, knock all the while.
"""

from __future__ import annotations

import dataclasses
import random
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import zmq
import zmq.green
from channel import Stranger, guarded_master, key_pair

from benchmarks.plans import build_plan, mix_of_five
from benchmarks.simulated_agents import FleetKeys, SimulatedAgent, of_agent, window_of
from benchmarks.synthetic import MASTER_ENDPOINTS, endpoint_names
from loadtests.clock import NS_PER_S
from loadtests.plan.model import LoadModel, Plan
from loadtests.record.archive import Run, load_run
from loadtests.swarm.bus import MESSAGE
from loadtests.swarm.keys import AgentKeys, KeyPair, MasterKeys
from loadtests.swarm.master import MasterShell, Order
from loadtests.swarm.refusals import REFUSALS
from loadtests.swarm.resumption import RunOutcome
from loadtests.swarm.run_state import EndCause

AGENTS: Final = 3
_PER_ENDPOINT: Final = 20
_SPARE: Final = "spare"
_BURST: Final = 60
_LONGEST_S: Final = 600
_AFTERMATH_S: Final = 2.0
OVER: Final = "the attack is over"
REASONS: Final = (
    "not a Locust message", "unknown type", "malformed data", "not an authorised key",
    "sent in another key's name", "sent in another worker's name",
)  # fmt: skip
_WORTH_KEEPING: Final = 400  # of what the agents have said
_TYPES: Final = (
    "client_ready", "heartbeat", "stats", "spawning", "spawning_complete", "logs", "exception",
    "client_stopped", "locustfile", "ack", "spawn", "stop", "reconnect", MESSAGE, "", "x" * 500,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """A run that was attacked, and what its agents know to be true."""

    outcome: RunOutcome
    run: Run
    agents: tuple[str, ...]
    requests: int
    sent: int  # messages of the attacker, all of which have arrived
    refused: int  # counted as refused, by bus and coordinator
    is_listening: bool  # afterwards


def _plan() -> Plan:
    get = mix_of_five()[0]
    requests = tuple(
        dataclasses.replace(get, name=name, path=f"/{number}", weight=1.0)
        for number, name in enumerate(endpoint_names(MASTER_ENDPOINTS))
    )
    level = _PER_ENDPOINT * len(requests) * AGENTS
    return build_plan(
        port=9,
        model=LoadModel.OPEN,
        requests=requests,
        level=level,
        seconds=_LONGEST_S,
        connections=100,
    )


class Attacker:
    """Makes one hostile message after the other; the seed decides which."""

    def __init__(self, port: int, keys: AgentKeys, seed: int) -> None:
        self._random = random.Random(seed)
        self._own = Stranger(port, f"{_SPARE}:1".encode(), keys)
        self._as_agent = Stranger(port, b"agent-0", keys)
        self._nameless = Stranger(port, b"\xff\x00:", keys)
        unknown = AgentKeys(own=key_pair("x"), master_public=keys.master_public)
        self._strangers = (Stranger(port, b"agent-0"), Stranger(port, b"agent-0", unknown))
        self.heard: list[bytes] = []
        self.sent = 0
        self._ways: tuple[Callable[[], list[bytes]], ...] = (
            self._garbage, self._torn, self._replay, self._renamed, self._confused, self._changed,
            self._foreign, self._frames,
        )  # fmt: skip

    def attack(self, count: int) -> None:
        """Send so many."""
        for _ in range(count):
            who = self._random.choices(
                (self._own, self._as_agent, self._nameless), weights=(8, 1, 1)
            )[0]
            who.socket.send_multipart(self._random.choice(self._ways)())
            self.sent += 1
        for stranger in self._strangers:
            with suppress(zmq.Again):  # it is never let in, so its queue is full one day
                stranger.socket.send(b"knock", zmq.NOBLOCK)

    def _one(self) -> bytes:
        return self._random.choice(self.heard)

    def _garbage(self) -> list[bytes]:
        return [self._random.randbytes(self._random.randrange(300))]

    def _torn(self) -> list[bytes]:
        body = bytearray(self._one())
        body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        return [bytes(body[: self._random.randrange(1, len(body) + 1)])]

    def _replay(self) -> list[bytes]:
        return [self._one()]

    def _renamed(self) -> list[bytes]:
        """An agent's own words, under the attacker's name: bytes and checksum are right."""
        kind, data, _ = msgspec.msgpack.decode(self._one())
        return [self._packed("heartbeat" if kind == "quit" else kind, data)]

    def _packed(self, kind: object, data: object) -> bytes:
        return msgspec.msgpack.encode((kind, data, _SPARE))

    def _value(self, depth: int = 0) -> Any:
        draw = self._random
        simple: tuple[Any, ...] = (
            None, True, -1, 0, 2**63 - 1, -(2**63), 1e308, float("nan"), "", "x" * 5000, b"",
            b"\x00" * 3000, "agent-0", "\x1b[2J", "../../etc/passwd",
        )  # fmt: skip
        if depth > 2 or draw.random() < 0.6:
            return draw.choice(simple)
        if draw.random() < 0.5:
            return [self._value(depth + 1) for _ in range(draw.randrange(4))]
        return {draw.choice(("state", "data", "", "x")): self._value(depth + 1) for _ in range(3)}

    def _confused(self) -> list[bytes]:
        """A type that exists, with data that it never has."""
        return [self._packed(self._random.choice(_TYPES), self._value())]

    def _changed(self) -> list[bytes]:
        """One of our own messages with another value in one field, under a right checksum."""
        for _ in range(20):
            kind, data, _ = msgspec.msgpack.decode(self._one())
            if kind == MESSAGE:
                body = msgspec.msgpack.decode(data[4:])
                body[self._random.choice(sorted(body))] = self._value()
                return [self._packed(MESSAGE, _sealed(msgspec.msgpack.encode(body)))]
        return self._garbage()

    def _foreign(self) -> list[bytes]:
        """An agent's message that names the attacker's agent in one place and not in others."""
        kind, data, name = msgspec.msgpack.decode(self._one())
        if kind == MESSAGE:
            body = msgspec.msgpack.decode(data[4:])
            body["agent"] = self._random.choice((_SPARE, "agent-1", "nobody"))
            body["sequence" if "sequence" in body else "incarnation"] = self._random.choice(
                (0, 2**40, "agent-0-1")
            )
            data = _sealed(msgspec.msgpack.encode(body))
        to = self._random.choice((name, _SPARE, "agent-2"))
        return [msgspec.msgpack.encode(("heartbeat" if kind == "quit" else kind, data, to))]

    def _frames(self) -> list[bytes]:
        """Another number of frames than Locust's one."""
        return [self._one()[:50] for _ in range(self._random.choice((2, 3, 9)))]


def _sealed(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big") + body


class _Overheard(SimulatedAgent):
    """An agent whose every message the attacker knows."""

    heard: list[bytes]

    def _send_locust(self, kind: str, data: object) -> int:
        if len(self.heard) < _WORTH_KEEPING:
            self.heard.append(msgspec.msgpack.encode((kind, data, self.identity)))
        return super()._send_locust(kind, data)


def attack_a_run(folder: Path, *, messages: int, seed: int) -> Attacked:
    """A run with three agents that goes on until so many hostile messages have arrived."""
    fleet, spare = FleetKeys.make(AGENTS), key_pair(_SPARE)
    own = KeyPair(name="master", public=fleet.master_public, secret=fleet.master_secret)
    names = {public: f"agent-{number}" for number, (public, _) in enumerate(fleet.agents)}
    keys = MasterKeys(own=own, agents={**names, spare.public: _SPARE})
    refused_before = sum(REFUSALS.counts.values())
    with guarded_master(keys) as runner:
        order = Order(
            plan=_plan(), results=folder, agents=AGENTS, join_wait_ns=60 * NS_PER_S,
            command=(), on_progress=lambda _: None, start_agents=None, users=AGENTS,
            authorised_hosts=(), bind=("127.0.0.1", 0),
        )  # fmt: skip
        shell = MasterShell(runner, order, lambda *_: None)
        running = gevent.spawn(shell.run)
        port = runner.server.port
        attacker = Attacker(port, AgentKeys(own=spare, master_public=own.public), seed)
        agents = _agents(port, fleet, attacker.heard)
        try:
            _play(shell, running, agents, attacker, messages)
            outcome = running.get()
            honest = Stranger(port, f"{_SPARE}:2".encode(), AgentKeys(
                own=spare, master_public=own.public
            ))  # fmt: skip
            honest.say("client_ready", "2.47.0", _SPARE)
            is_listening = honest.hear()[0] == "ack"
        finally:
            running.kill()
            for agent in agents:
                agent.close()
    run = load_run(outcome.path)
    noise = sum(
        int(text.rsplit(" ", 2)[1])
        for text in run.manifest.warnings
        if text.startswith(("message_", "agent_spare", "agent_refused"))
    )
    return Attacked(
        outcome=outcome,
        run=run,
        agents=tuple(agent.agent for agent in run.manifest.agents),
        requests=sum(agent.totals.sent for agent in agents),
        sent=attacker.sent,
        refused=sum(REFUSALS.counts.values()) - refused_before + noise,
        is_listening=is_listening,
    )


def _agents(port: int, fleet: FleetKeys, heard: list[bytes]) -> list[SimulatedAgent]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    window = window_of(1, _PER_ENDPOINT)
    agents: list[SimulatedAgent] = []
    for number in range(AGENTS):
        made = _Overheard.__new__(_Overheard)
        made.heard = heard
        made.__init__(context, port, number, of_agent(window, number), fleet)  # type: ignore[misc]
        agents.append(made)
    return agents


def _play(
    shell: MasterShell,
    running: Any,
    agents: list[SimulatedAgent],
    attacker: Attacker,
    messages: int,
) -> None:
    """Turn agents and attacker in turns; the attack over, and two seconds after, end the run."""
    end_s = 0.0
    while not running.ready():
        for agent in agents:
            if not agent.is_done:
                agent.turn(time.monotonic_ns())
        # From the first that is under load on: before, a spare could take a free place.
        if attacker.sent < messages and any(agent.totals.sent for agent in agents):
            attacker.attack(min(_BURST, messages - attacker.sent))
        if attacker.sent == messages:
            end_s = end_s or time.monotonic() + _AFTERMATH_S
            if time.monotonic() > end_s:
                shell.request_stop(OVER)
        gevent.sleep(0.004)


def is_unharmed(attacked: Attacked, messages: int) -> None:
    """Master up, run ended by us alone and exact, members unchanged; the attack was one."""
    assert attacked.outcome.cause is EndCause.USER, attacked.outcome.reason
    assert attacked.outcome.reason == OVER
    assert attacked.is_listening
    assert attacked.agents == tuple(f"agent-{number}" for number in range(AGENTS))
    assert all(agent.has_final for agent in attacked.run.manifest.agents)
    assert not [event for event in attacked.run.events if event.kind.endswith("_lost")]
    assert int(attacked.run.windows["ok"].sum()) == attacked.requests > 0
    assert attacked.sent == messages
    assert attacked.refused > messages / 2
    refused = [event.text for event in attacked.run.events if event.kind == "bus_refused"]
    for reason in REASONS:
        assert any(reason in text for text in refused), (reason, refused)
