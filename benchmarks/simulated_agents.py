"""Many agents in one process, for the master's fan-in: the protocol without the load.

Each has a ZeroMQ DEALER socket of its own and behaves on it as a Locust worker (ready,
heartbeats, spawning, statistics) and as a Headroom agent (hello, preflight, barrier,
snapshots until acknowledged, FINAL, quit). What it hands over every second is a window
of a service under load (`synthetic`), so the master's work is that of a real run.

`python -m benchmarks.simulated_agents PORT FIRST COUNT REQUESTS_PER_ENDPOINT [KEYS]` ends
when the master has sent every agent home, and prints one JSON line. KEYS is a file of
`FleetKeys`: then each agent joins with its own.
"""

from __future__ import annotations

import dataclasses
import secrets
import sys
import time
import zlib
from collections import deque
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import zmq
from zmq.utils import z85

from benchmarks.synthetic import MASTER_ENDPOINTS, synthetic_window
from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.codec import decode_plan
from loadtests.record.facts import code_digests, host_facts, package_versions
from loadtests.record.window import Count, Window, pack_window
from loadtests.swarm.messages import (
    NO_TOTALS,
    PROTOCOL,
    Ack,
    AgentPhase,
    Assign,
    Batch,
    Begin,
    EnginePhase,
    EngineState,
    Hello,
    Lease,
    Ping,
    Pong,
    Prepare,
    Progress,
    Quit,
    Refuse,
    Snapshot,
    Stop,
    ToAgent,
    ToMaster,
    Totals,
    decode_to_agent,
    encode_message,
)
from loadtests.swarm.timing import Timing

_CRC_BYTES: Final = 4
_LABEL_AT: Final = _CRC_BYTES + 2  # after the array's head and the uint 32's
_ANY_LABEL_S: Final = 2**31  # as wide as every label will be
_DISTINCT: Final = 20  # agents' windows that differ
_MESSAGE: Final = "headroom"  # Locust's message type that carries ours
_TIMING: Final = Timing()
_LOCUST_BEAT_NS: Final = 5 * NS_PER_S
_LOCUST_REPORT_NS: Final = 15 * NS_PER_S
_HELLO_NS: Final = NS_PER_S
_TICK_NS: Final = 100 * NS_PER_MS  # a real agent looks at its engines so often
_TURN_S: Final = 0.02  # each look at hundreds of sockets costs milliseconds
_LIFE_S: Final = 4_000.0  # bounded whatever the master does
_USERS: Final = {"user_classes_count": {"EngineUser": 1}, "user_count": 1}


@cache
def _duration_s(plan: bytes) -> int:
    return -(-decode_plan(plan).duration_ns // NS_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What one process of agents did, as it prints it."""

    agents: int
    sent_home: int  # by the master's Quit, after its FINAL
    refused: tuple[str, ...]
    requests: int
    sent_bytes: int
    snapshot_bytes: int  # median of those with one window


def relabelled(packed: bytes, label_s: int) -> bytes:
    """`pack_window`'s bytes of the same window with another second as its label.

    To pack it anew took the fleets more time than the master needed for all of it, so that
    they were late with their windows. The label is the first field: a msgpack uint 32.
    """
    body = packed[_CRC_BYTES:_LABEL_AT] + label_s.to_bytes(4, "big") + packed[_LABEL_AT + 4 :]
    return zlib.crc32(body).to_bytes(_CRC_BYTES, "big") + body


class FleetKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a benchmark: made for it, of no use afterwards."""

    master_public: bytes
    master_secret: bytes
    agents: tuple[tuple[bytes, bytes], ...]  # public, secret; by number

    @classmethod
    def make(cls, count: int) -> FleetKeys:
        """Fresh keys of a master and so many agents."""
        pairs = [zmq.curve_keypair() for _ in range(count + 1)]
        (public, secret), *agents = [(z85.decode(p), z85.decode(s)) for p, s in pairs]
        return cls(master_public=public, master_secret=secret, agents=tuple(agents))


class SimulatedAgent:
    """One agent with one engine."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        port: int,
        number: int,
        window: Window,
        keys: FleetKeys | None = None,
    ) -> None:
        self._packed = pack_window(window)  # repeated every second
        self._requests = window.total(Count.SENT)
        self.agent = f"agent-{number}"
        self.identity = self.agent if keys is not None else f"{self.agent}_simulated"
        self._incarnation = f"{self.agent}-1"  # unique over all agents
        self.is_done = False
        self.refusal = ""
        self.totals = NO_TOTALS
        self.sent_bytes = 0
        self.snapshot_sizes: list[int] = []
        self._delay_ns = number * 37 % 100 * NS_PER_MS  # agents' ticks are not in step
        self._run_id = self._plan_sha256 = ""
        self._phase = AgentPhase.JOINING
        self._is_accepted = self._is_stopped = False
        self._index = self._attempt = self._sequence = self._last_batch = 0
        self._t0_ns = self._t0_unix_s = self._next_s = self._end_s = self._duration_s = 0
        self._waiting: deque[Batch] = deque()
        self._batches_sent = self._batches_sent_ns = 0
        self._due_ns = {"hello": 0, "beat": 0, "locust": 0, "report": 0}
        self._socket = context.socket(zmq.DEALER)
        # As a real agent's: with keys, a part of chance behind the name.
        of_socket = self.identity if keys is None else f"{self.agent}:{secrets.token_hex(16)}"
        self._socket.setsockopt(zmq.IDENTITY, of_socket.encode())
        self._socket.setsockopt(zmq.LINGER, 1000)
        if keys is not None:
            public, secret = keys.agents[number]
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, keys.master_public)
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._send_locust("client_ready", version("locust"))

    def turn(self, now_ns: int) -> None:
        """Receive all there is, then send what is due."""
        while not self.is_done:
            try:
                body = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            kind, data, _ = msgspec.msgpack.decode(body)
            if kind == _MESSAGE:
                self._receive(data, now_ns)
            elif kind == "spawn":
                self._send_locust("spawning", None)
                self._send_locust("spawning_complete", _USERS)
            elif kind == "quit":
                self.is_done = True
        if not self.is_done:
            self._send_due(now_ns)

    def close(self) -> None:
        """Say good-bye as a Locust worker does."""
        self._send_locust("quit", None)
        self._socket.close()

    def _receive(self, data: bytes, now_ns: int) -> None:
        message = decode_to_agent(data)
        if self._phase <= AgentPhase.ARMED:  # T0 may be moved until the first lease
            self._prepare(message, now_ns)
        match message:
            case Ping(sent_ns=sent_ns) | Lease(sent_ns=sent_ns):
                self._pong(sent_ns, now_ns)
            case Ack(batch=batch):  # the lease that it brings is not needed: no load is sent
                while self._waiting and self._waiting[0].number <= batch:
                    self._waiting.popleft()
            case Stop():
                self._is_stopped = True
            case Quit():
                self.is_done = True
            case Refuse(reason=reason):
                self.refusal, self.is_done = reason, True
        is_lease = isinstance(message, Lease) and message.attempt == self._attempt
        if is_lease and self._phase is AgentPhase.ARMED:
            self._enter(AgentPhase.RUNNING, now_ns)

    def _prepare(self, message: ToAgent, now_ns: int) -> None:
        match message:
            case Prepare() if not self._is_accepted:
                self._is_accepted = True
                self._run_id, self._plan_sha256 = message.run_id, message.plan_sha256
                self._duration_s = _duration_s(message.plan)
                self._enter(AgentPhase.CHECKED, now_ns)
            case Assign() if self._phase is AgentPhase.CHECKED:
                self._index = message.first_index
                self._enter(AgentPhase.READY, now_ns)
            case Begin() if self._phase >= AgentPhase.READY and message.attempt > self._attempt:
                self._attempt, self._t0_ns = message.attempt, message.t0_ns
                self._next_s = self._t0_unix_s = message.t0_unix_ns // NS_PER_S
                self._end_s = self._t0_unix_s + self._duration_s
                self._enter(AgentPhase.ARMED, now_ns)

    def _enter(self, phase: AgentPhase, now_ns: int) -> None:
        self._phase = phase
        self._send_snapshot(now_ns)

    def _pong(self, sent_ns: int, now_ns: int) -> None:
        self._send(
            Pong(
                run_id=self._run_id,
                agent=self.agent,
                incarnation=self._incarnation,
                sent_ns=sent_ns,
                received_ns=now_ns,
                replied_ns=time.monotonic_ns(),
                unix_ns=time.time_ns(),
            )
        )

    def _is_due(self, what: str, every_ns: int, now_ns: int) -> bool:
        if now_ns < self._due_ns[what]:
            return False
        self._due_ns[what] = now_ns + every_ns
        return True

    def _send_due(self, now_ns: int) -> None:
        if self._is_due("locust", _LOCUST_BEAT_NS, now_ns):
            usage = {"current_cpu_usage": 10.0, "current_memory_usage": 0}
            state = "running" if self._phase >= AgentPhase.RUNNING else "ready"
            self._send_locust("heartbeat", {"state": state, **usage})
        if self._phase >= AgentPhase.RUNNING and self._is_due("report", _LOCUST_REPORT_NS, now_ns):
            self._send_locust("stats", {"stats": [], "stats_total": {}, "errors": {}, **_USERS})
        if not self._is_accepted:
            if self._is_due("hello", _HELLO_NS, now_ns):
                self._send(_hello(self.agent))
            return
        if self._phase is AgentPhase.RUNNING:
            self._close_windows(now_ns)
        if now_ns >= self._due_ns["beat"]:
            self._send_snapshot(now_ns)

    def _close_windows(self, now_ns: int) -> None:
        passed_ns = now_ns - self._t0_ns - self._delay_ns
        over_s = min(self._t0_unix_s + passed_ns // NS_PER_S, self._end_s)
        while self._next_s < over_s:
            self._add_batch(self._next_s)
            self._next_s += 1
            self._send_snapshot(now_ns)
        if self._next_s == self._end_s or self._is_stopped:
            self._enter(AgentPhase.FINAL, now_ns)

    def _add_batch(self, label_s: int) -> None:
        self._last_batch += 1
        n = self._requests * self._last_batch
        self.totals = Totals(planned=n, sent=n, dropped=0, ok=n, client_error=0, failed=0)
        progress = Progress(
            index=self._index, windows=self._last_batch, through_s=label_s, totals=self.totals
        )
        window = relabelled(self._packed, label_s)
        batch = Batch(number=self._last_batch, start_s=label_s, window=window, progress=(progress,))
        self._waiting.append(batch)

    def _engine(self) -> EngineState:
        is_final = self._phase is AgentPhase.FINAL
        phase = EnginePhase.READY
        if self._phase >= AgentPhase.RUNNING:
            phase = EnginePhase.FINAL if is_final else EnginePhase.RUNNING
        return EngineState(
            engine=f"{self.agent}/0",
            index=self._index,
            phase=phase,
            final=self.totals if is_final else None,
            in_flight_at_stop=0 if is_final else None,
            ended_offset_ns=(self._next_s - self._t0_unix_s) * NS_PER_S if is_final else None,
            reason="end of plan" if is_final else "",
            warnings=(),
        )

    def _send_snapshot(self, now_ns: int) -> None:
        self._due_ns["beat"] = now_ns + _TIMING.beat_ns
        self._sequence += 1
        # As an agent does: batches go out when there is a new one, and again after a while.
        has_new = self._last_batch > self._batches_sent
        has_batches = has_new or now_ns - self._batches_sent_ns >= _TIMING.repeat_ns
        if self._waiting and has_batches:
            self._batches_sent, self._batches_sent_ns = self._last_batch, now_ns
        size = self._send(
            Snapshot(
                run_id=self._run_id,
                agent=self.agent,
                incarnation=self._incarnation,
                sequence=self._sequence,
                plan_sha256=self._plan_sha256,
                phase=self._phase,
                attempt=self._attempt,
                takeovers=0,
                last_batch=self._last_batch,
                complete_through_s=self._next_s - 1 if self._last_batch else None,
                engines=(self._engine(),) if self._phase >= AgentPhase.READY else (),
                batches=tuple(self._waiting) if has_batches else (),
                dropped_messages=0,
                warnings=(),
                failure_family=None,
                failure=None,
            )
        )
        if has_batches and len(self._waiting) == 1:
            self.snapshot_sizes.append(size)

    def _send(self, message: ToMaster) -> int:
        return self._send_locust(_MESSAGE, encode_message(message))

    def _send_locust(self, kind: str, data: object) -> int:
        body = msgspec.msgpack.encode((kind, data, self.identity))
        self._socket.send(body)
        self.sent_bytes += len(body)
        return len(body)


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


_HOST: Final = host_facts()
_VERSIONS: Final = package_versions()
_CODE: Final = code_digests()


def _hello(agent: str) -> Hello:
    return Hello(
        protocol=PROTOCOL,
        agent=agent,
        incarnation=f"{agent}-1",
        host=_HOST,
        boot_id=_boot_id(),
        engines=1,
        version=version("headroom"),
        versions=_VERSIONS,
        code=_CODE,
    )


def window_of(seed: int, requests_per_endpoint: int) -> Window:
    """A second of some agent's service."""
    return synthetic_window(
        start_s=_ANY_LABEL_S,
        requests_per_endpoint=requests_per_endpoint,
        engine="agent/0",
        seed=seed,
        has_hiccup=True,
        endpoints=MASTER_ENDPOINTS,
    )


def of_agent(window: Window, number: int) -> Window:
    """The same as a certain agent's."""
    health = msgspec.structs.replace(window.health[0], engine=f"agent-{number}/0")
    hiccup = msgspec.structs.replace(window.hiccups[0], agent=f"agent-{number}")
    return dataclasses.replace(window, health=(health,), hiccups=(hiccup,))


def run_fleet(
    port: int, first: int, count: int, requests_per_endpoint: int, keys: FleetKeys | None = None
) -> Fleet:
    """Run so many agents until the master has sent them all home."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 64)
    numbers = range(first, first + count)
    # Before anybody connects: an agent that is busy making windows would count as silent.
    windows = [window_of(seed, requests_per_endpoint) for seed in range(_DISTINCT)]
    agents = [
        SimulatedAgent(context, port, number, of_agent(windows[number % _DISTINCT], number), keys)
        for number in numbers
    ]
    living = list(agents)
    end = time.monotonic() + _LIFE_S
    while living and time.monotonic() < end:
        for agent in living:
            agent.turn(time.monotonic_ns())
        living = [agent for agent in living if not agent.is_done]
        time.sleep(_TURN_S)
    for agent in agents:
        agent.close()
    context.destroy(linger=1000)
    sizes = [size for agent in agents for size in agent.snapshot_sizes]
    return Fleet(
        agents=count,
        sent_home=sum(agent.is_done and not agent.refusal for agent in agents),
        refused=tuple(sorted({agent.refusal for agent in agents if agent.refusal})),
        requests=sum(agent.totals.sent for agent in agents),
        sent_bytes=sum(agent.sent_bytes for agent in agents),
        snapshot_bytes=int(median(sizes)) if sizes else 0,
    )


if __name__ == "__main__":
    first, agents, each = map(int, sys.argv[2:5])
    file = sys.argv[5:]
    found = msgspec.json.decode(Path(file[0]).read_bytes(), type=FleetKeys) if file else None
    print(msgspec.json.encode(run_fleet(int(sys.argv[1]), first, agents, each, found)).decode())
