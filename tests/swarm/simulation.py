"""A whole swarm in virtual time: real Coordinator, real Agency, virtual everything else.

`simulate(seed)` draws a scenario (agents, engines, policy, network, faults) from the seed,
runs it and returns what happened beside the truth that the virtual engines kept. The
network drops, repeats, reorders and delays in both directions; engines, agents and the
master are killed, stopped, resumed and restarted, the master with what it had written down;
garbage and replays are injected. Every message travels as bytes through the real codec.
Nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine import messages as frames
from loadtests.plan.call import SINGLE, Protocol
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import (
    ArrivalProcess,
    Hold,
    LoadModel,
    LossPolicy,
    Node,
    Plan,
    Request,
    Share,
    Stage,
)
from loadtests.record.event import Event
from loadtests.record.manifest import HostFacts
from loadtests.record.window import Count, Window, pack_window
from loadtests.swarm import actions
from loadtests.swarm.agency import Agency, AgentSetup
from loadtests.swarm.coordinator import Coordinator
from loadtests.swarm.messages import (
    PROTOCOL,
    Ack,
    Hello,
    Lease,
    MessageError,
    ToAgent,
    ToMaster,
    decode_to_agent,
    decode_to_master,
    encode_message,
)
from loadtests.swarm.recollection import BatchNote, Checkpoint, decode_frame, encode_frame
from loadtests.swarm.run_state import EndCause, RunSetup
from loadtests.swarm.timing import Timing

TICK_NS = 160 * NS_PER_MS
SOCKET_NS = 1 * NS_PER_MS  # agent to engine and back
DRAIN_NS = 120 * NS_PER_MS
GRACE_NS = 300 * NS_PER_MS
EPOCH_UNIX_NS = 1_700_000_000_000_000_000
# All promises kept, everything four times faster than in production.
TIMING = Timing(
    beat_ns=250 * NS_PER_MS,
    silence_ns=1_600 * NS_PER_MS,
    repeat_ns=300 * NS_PER_MS,
    urgent_ns=250 * NS_PER_MS,
    lease_ns=2_000 * NS_PER_MS,
    renew_ns=300 * NS_PER_MS,  # six chances in a lease, as rough weather loses a quarter
    drift_ns=1_000 * NS_PER_MS,
    lease_margin_ns=500 * NS_PER_MS,
    lead_ns=500 * NS_PER_MS,
    confirm_ns=100 * NS_PER_MS,
    start_ns=6 * NS_PER_S,
    takeover_ns=500 * NS_PER_MS,
    drain_margin_ns=1_500 * NS_PER_MS,
    kill_margin_ns=500 * NS_PER_MS,
    linger_ns=600 * NS_PER_MS,
    stall_ns=500 * NS_PER_MS,
    orphan_ns=4 * NS_PER_S,
    clock_rounds=3,
)
HOST = HostFacts(
    hostname="virtual", cores=4, kernel="Linux 6", cpu_model="virtual", memory_bytes=1, python="3"
)


def good_plan(
    *,
    duration_ns: int = 2 * NS_PER_S,
    loss_policy: LossPolicy = LossPolicy.ABORT,
    load_model: LoadModel = LoadModel.OPEN,
) -> Plan:
    """A valid plan of one stage and one request."""
    return Plan(
        scenario_name="simulated",
        scenario_text="",
        description="",
        scale=1.0,
        seed=1,
        load_model=load_model,
        arrival_process=ArrivalProcess.CONSTANT,
        nodes=(
            Node(
                name="n",
                scheme="http",
                host="127.0.0.1",
                port=1,
                base_path="",
                weight=1.0,
                grpc=None,
            ),
        ),
        tls=None,
        requests=(
            Request(
                name="get",
                method="GET",
                path="/",
                headers=(),
                body=None,
                weight=1.0,
                expected_statuses=(),
                checks=(),
                timeout_ns=NS_PER_S,
                protocol=Protocol.HTTP1,
                call=None,
            ),
        ),
        feeds=(),
        stages=(
            Stage(
                name="hold",
                start_ns=0,
                end_ns=duration_ns,
                profile=Hold(level=20.0),
                is_judged=True,
            ),
        ),
        connections=1,
        in_flight_limit=10,
        backlog_limit=10,
        pipelining=1,
        multiplexing=SINGLE,
        descriptors=b"",
        think_time_ns=0,
        max_rate_per_s=100.0,
        response_limit_bytes=1000,
        connect_timeout_ns=NS_PER_S,
        connects_per_s=100.0,
        grace_ns=GRACE_NS,
        loss_policy=loss_policy,
        objectives=(),
        alerts=(),
        aborts=(),
        version_path=None,
        baselines=(),
        load_percent=None,
    )


@cache
def plan_and_bytes(duration_ns: int, loss_policy: LossPolicy) -> tuple[Plan, bytes]:
    """Plans are drawn from few; encoding each once keeps 10,000 schedules quick."""
    plan = good_plan(duration_ns=duration_ns, loss_policy=loss_policy)
    return plan, encode_plan(plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Arrival k is due at (k + 1/2) * period; `total` of them."""

    period_ns: int
    total: int

    def below(self, offset_ns: int) -> int:
        """Arrivals due before an offset."""
        return min(self.total, max(0, -((self.period_ns // 2 - offset_ns) // self.period_ns)))

    def sequences(self, share: Share, from_ns: int, to_ns: int) -> range:
        """Arrivals of a share due in [from, to)."""
        low, high = self.below(max(from_ns, share.from_ns)), self.below(to_ns)
        first = low + (share.residue - low) % share.modulus
        return range(first, max(first, high), share.modulus)

    def planned(self, share: Share, from_ns: int, to_ns: int) -> int:
        """Count them: what the coordinator is given."""
        return len(self.sequences(share, from_ns, to_ns))


@dataclass(slots=True)
class Held:
    """A share and up to where its arrivals have been sent or dropped."""

    share: Share
    cursor_ns: int


class VirtualEngine:
    """Obeys its lease, its stop and its shares; keeps the truth of what it did."""

    def __init__(self, host: VirtualHost, k: int) -> None:
        self.host, self.k, self.world = host, k, host.world
        self.is_dead = self.is_paused = self.has_ended = False
        self.shares: list[Held] = []
        self.sent_sequences: list[int] = []
        self.last_send_ns: int | None = None  # world time
        self.start: frames.Start | None = None
        self.lease_until_ns = 0
        self.stop_ns: int | None = None
        self.counts = [0] * len(Count)
        self.totals = [0] * len(Count)
        self.in_flight = self.sequence = 0
        self.end_reason = self.run_id = ""
        self.deferred: list[Callable[[], None]] = []

    def run(self, what: Callable[[], None]) -> None:
        """Let something happen to it: to a stopped process, when it is resumed."""
        if self.is_dead or self.has_ended:
            return
        if self.is_paused:
            self.deferred.append(what)
        else:
            what()

    def receive(self, message: frames.ToEngine) -> None:
        """Take a frame of its agent."""
        now_ns = self.host.now_ns
        match message:
            case frames.Configure():
                share, self.run_id = message.share, message.run_id
                self._add_share(Share(residue=share.residue, modulus=share.modulus, from_ns=0))
                self.world.after(20 * NS_PER_MS, lambda: self.run(self._ready))
            case frames.Start():
                self.start, self.lease_until_ns = message, message.lease_until_ns
                self._schedule_edge()
            case frames.Lease():
                if self.lease_until_ns > now_ns:
                    self.lease_until_ns = max(self.lease_until_ns, message.until_ns)
            case frames.TakeOver():
                share = message.share
                self._add_share(
                    Share(residue=share.residue, modulus=share.modulus, from_ns=share.from_ns)
                )
            case frames.Stop():
                self._stop("stopped")

    def _add_share(self, share: Share) -> None:
        self.shares.append(Held(share, share.from_ns))

    def _ready(self) -> None:
        self.host.from_engine(self.k, frames.Ready(1, 1, ()))

    def _schedule_edge(self) -> None:
        assert self.start is not None
        offset_ns = self.host.now_ns - self.start.t0_ns
        edge_ns = max(1, offset_ns // NS_PER_S + 1) * NS_PER_S
        wait_ns = edge_ns - offset_ns
        self.world.after(wait_ns, lambda: self.run(self._edge))

    def _send_due(self) -> None:
        """Send what is due and allowed by now: the truth."""
        if self.start is None:
            return
        now_ns = self.host.now_ns
        limit_ns = min(now_ns, self.lease_until_ns)
        if self.stop_ns is not None:
            limit_ns = min(limit_ns, self.stop_ns)
        upto_ns = min(limit_ns - self.start.t0_ns, self.world.plan.duration_ns)
        for held in self.shares:
            for k in self.world.arithmetic.sequences(held.share, held.cursor_ns, upto_ns):
                self._count(k)
                due_ns = self.start.t0_ns + (2 * k + 1) * self.world.arithmetic.period_ns // 2
                self.note_send(min(now_ns, max(due_ns, self.start.t0_ns)))
            held.cursor_ns = max(held.cursor_ns, upto_ns)

    def note_send(self, at_ns: int) -> None:
        """Note when, on its host's clock, a request left."""
        world_ns = at_ns - self.host.offset_ns
        self.last_send_ns = max(world_ns, self.last_send_ns or world_ns)

    def _count(self, k: int) -> None:
        self.counts[Count.PLANNED] += 1
        if k % 13 == 7:
            self.counts[Count.DROPPED] += 1
        else:
            self.sent_sequences.append(k)
            self.counts[Count.SENT] += 1
            self.in_flight += 1

    def _answer(self, keep: int) -> None:
        done, self.in_flight = max(0, self.in_flight - keep), min(self.in_flight, keep)
        failed = done // 5
        self.counts[Count.FAILED] += failed
        self.counts[Count.OK] += done - failed

    def _edge(self) -> None:
        self._send_due()
        assert self.start is not None
        offset_ns = self.host.now_ns - self.start.t0_ns
        if self.stop_ns is None and self.lease_until_ns <= self.host.now_ns:
            self._stop("lease expired")
        elif self.stop_ns is None and offset_ns >= self.world.plan.duration_ns:
            self._stop("end of plan")
        if self.has_ended:
            return
        self._answer(1)
        self._report((self.start.t0_unix_ns + offset_ns - 1) // NS_PER_S)
        self._schedule_edge()

    def _stop(self, reason: str) -> None:
        if self.stop_ns is not None:
            return
        self._send_due()
        self.stop_ns, self.end_reason = self.host.now_ns, reason
        self.world.after(DRAIN_NS, lambda: self.run(self._finish))

    def _report(self, label: int) -> None:
        self.sequence += 1
        for column, value in enumerate(self.counts):
            self.totals[column] += value
        window = Window.empty(label)
        if any(self.counts):
            window = Window(
                start_s=label,
                slots=np.zeros(1, dtype=np.uint32),
                counters=np.array([self.counts], dtype=np.int64),
                keys=window.keys,
                counts=window.counts,
                errors={},
                messages={},
                health=(),
                hiccups=(),
            )
        self.counts = [0] * len(Count)
        self.host.from_engine(self.k, frames.WindowReport(self.sequence, pack_window(window)))

    def _finish(self) -> None:
        assert self.start is not None
        self._answer(self.world.unanswered)
        label = (self.start.t0_unix_ns + self.host.now_ns - self.start.t0_ns) // NS_PER_S
        self._report(label)
        planned, sent, dropped, ok, client_error, failed = self.totals[: Count.FAILED + 1]
        final = frames.FinalReport(
            planned=planned,
            sent=sent,
            dropped=dropped,
            ok=ok,
            client_error=client_error,
            failed=failed,
            in_flight_at_stop=self.in_flight,
            reason=self.end_reason,
            warnings=(),
        )
        self.host.from_engine(self.k, final)
        self.has_ended = True
        self.host.engine_eof(self.k, "exit 0")

    def kill(self) -> None:
        """SIGKILL: what it had sent by now was sent."""
        if self.is_dead or self.has_ended:
            return
        if not self.is_paused and self.stop_ns is None:
            self._send_due()
        self.is_dead = True
        self.host.engine_eof(self.k, "killed by signal 9")

    def pause(self) -> None:
        """SIGSTOP."""
        self.run(self._send_due)
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT: a late engine looks at its lease before it sends."""
        self.is_paused = False
        deferred, self.deferred = self.deferred, []
        for what in deferred:
            self.run(what)

    @property
    def truth(self) -> list[int]:
        """Counters of everything it ever did, handed over or not."""
        return [a + b for a, b in zip(self.totals, self.counts, strict=True)]


class VirtualHost:
    """An agent process and its engines, on a machine with its own monotonic clock."""

    def __init__(self, world: World, agent: str, incarnation: str, engines: int) -> None:
        self.world, self.agent, self.incarnation = world, agent, incarnation
        self.peer = f"peer-{incarnation}"
        self.offset_ns = world.random.randrange(0, 10**15)
        self.engines: dict[int, VirtualEngine] = {}
        self.is_dead = self.is_paused = False
        self.exit: actions.Exit | None = None
        self.deferred: list[Callable[[], None]] = []
        self.agency = Agency(
            setup=AgentSetup(
                agent=agent,
                incarnation=incarnation,
                engines=engines,
                host=HOST,
                boot_id=incarnation,
                version="1",
                versions={},
                code={},
                authorised_hosts=(),
                unix_minus_monotonic_ns=EPOCH_UNIX_NS - self.offset_ns,
                expects_hiccups=False,
            ),
            timing=world.timing,
            now_ns=self.now_ns,
        )
        self.hello = Hello(
            protocol=PROTOCOL,
            agent=agent,
            incarnation=incarnation,
            host=HOST,
            boot_id=incarnation,
            engines=engines,
            version="1",
            versions={},
        )
        self.tick()

    @property
    def now_ns(self) -> int:
        """Its own CLOCK_MONOTONIC."""
        return self.world.now_ns + self.offset_ns

    @property
    def is_gone(self) -> bool:
        """True when its process is no more."""
        return self.is_dead or self.exit is not None

    def run(self, what: Callable[[], list[actions.AgentAction]]) -> None:
        """Let something happen to it: to a stopped process, when it is resumed."""
        if self.is_gone:
            return
        if self.is_paused:
            self.deferred.append(lambda: self.run(what))
        else:
            self.act(what())

    def tick(self) -> None:
        """Tick, and again after `TICK_NS`."""
        if self.is_gone:
            return
        if not self.is_paused:
            self.act(self.agency.tick(self.now_ns))
        self.world.after(TICK_NS, self.tick)

    def receive(self, data: bytes) -> None:
        """Take bytes from the network."""

        def take() -> list[actions.AgentAction]:
            try:
                message = decode_to_agent(data)
            except MessageError as error:
                return self.agency.malformed(str(error), self.now_ns)
            return self.agency.receive(message, self.now_ns)

        self.run(take)

    def from_engine(self, k: int, frame: frames.FromEngine) -> None:
        """Take what an engine writes: the socket keeps it when the writer dies."""

        def take() -> list[actions.AgentAction]:
            return self.agency.engine_frame(k, frame, self.now_ns)

        self.world.after(SOCKET_NS, lambda: self.run(take))

    def engine_eof(self, k: int, how: str) -> None:
        """Take the end of an engine's socket, after what it wrote."""

        def take() -> list[actions.AgentAction]:
            return self.agency.engine_gone(k, how, self.now_ns)

        self.world.after(SOCKET_NS, lambda: self.run(take))

    def act(self, todo: list[actions.AgentAction]) -> None:
        """Carry out what the agency asks for."""
        for action in todo:
            match action:
                case actions.SendMaster():
                    self.world.to_master(self, action.message)
                case actions.RunPreflight():
                    self.world.after(30 * NS_PER_MS, lambda: self.run(self._checked))
                case actions.SpawnEngine():
                    self.engines[action.k] = VirtualEngine(self, action.k)
                    self.world.engines.append(self.engines[action.k])
                case actions.SendEngine():
                    engine, message = self.engines[action.k], action.message
                    self.world.after(SOCKET_NS, self._deliver(engine, message))
                case actions.KillEngine():
                    self.engines[action.k].kill()
                case actions.Exit():
                    self.exit = action
                    self._kill_engines()

    @staticmethod
    def _deliver(engine: VirtualEngine, message: frames.ToEngine) -> Callable[[], None]:
        return lambda: engine.run(lambda: engine.receive(message))

    def _checked(self) -> list[actions.AgentAction]:
        return self.agency.checked(
            warnings=(), failure=self.world.preflight_failure, now_ns=self.now_ns
        )

    def _kill_engines(self) -> None:
        for engine in self.engines.values():
            engine.kill()

    def kill(self) -> None:
        """SIGKILL; its engines die with it (parent-death signal)."""
        self.is_dead = True
        self._kill_engines()

    def pause(self) -> None:
        """SIGSTOP; its engines go on."""
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT: what came in meanwhile is taken in order."""
        self.is_paused = False
        deferred, self.deferred = self.deferred, []
        for what in deferred:
            what()


@dataclass(slots=True)
class Link:
    """One direction to or from one peer, for one kind of message."""

    drops: int = 0  # in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad the network is."""

    drop_ratio: float
    repeat_ratio: float
    delay_ns: int
    longest_loss: int  # messages lost in a row, at most


@dataclass(slots=True)
class Master:
    """The master process: the coordinator and what its shell would have on disk."""

    coordinator: Coordinator
    run_id: str
    journal: list[tuple[str, Window, BatchNote]] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    journalled: dict[str, int] = field(default_factory=dict)
    journal_sums: list[int] = field(default_factory=lambda: [0] * len(Count))
    released: list[tuple[int, bool]] = field(default_factory=list)
    released_sums: list[int] = field(default_factory=lambda: [0] * len(Count))
    events: list[Event] = field(default_factory=list)
    granted: dict[str, int] = field(default_factory=dict)  # peer -> world time of the lease's end
    finished: actions.Finished | None = None
    barrier: actions.Barrier | None = None
    is_dead: bool = False
    died_ns: int = 0
    is_paused: bool = False
    deferred: list[Callable[[], None]] = field(default_factory=list)


class World:
    """Virtual time, the network and everybody in it."""

    def __init__(self, seed: int, timing: Timing = TIMING) -> None:
        self.timing = timing
        self.random = random.Random(seed)
        self.now_ns = 5 * NS_PER_S + self.random.randrange(NS_PER_S)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.hosts: list[VirtualHost] = []
        self.engines: list[VirtualEngine] = []
        self.links: dict[tuple[str, bool, str], Link] = {}
        self.cut: set[tuple[str, bool]] = set()
        self.seen: list[tuple[VirtualHost, bool, bytes]] = []  # for replays
        self.masters: list[Master] = []
        self.preflight_failure: tuple[str, str] | None = None

    def after(self, wait_ns: int, what: Callable[[], None]) -> None:
        """Let something happen later."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_ns + wait_ns, self._count, what))

    def run(self, until_ns: int, is_over: Callable[[], bool]) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until_ns and not is_over():
            self.now_ns, _, what = heapq.heappop(self._queue)
            what()

    def setup(
        self, *, agents: int, engines: int, plan: Plan, plan_bytes: bytes, weather: Weather
    ) -> None:
        """Start a master and its agents."""
        self.plan, self.plan_bytes, self.weather = plan, plan_bytes, weather
        period_ns = self.random.randrange(20, 90) * NS_PER_MS
        self.arithmetic = Arithmetic(
            period_ns=period_ns,
            total=max(1, (plan.duration_ns + period_ns // 2) // period_ns - 1),
        )
        self.unanswered = self.random.randrange(2)
        self.agents, self.engines_each = agents, engines
        self.master = self.new_master("run")
        for number in range(agents):
            self.new_host(f"agent-{number}", wait_ns=self.random.randrange(300 * NS_PER_MS))

    def new_master(self, run_id: str) -> Master:
        """Start a master process for a run of the same plan."""
        master = Master(self._coordinator(run_id), run_id)
        self._begin(master)
        return master

    def _coordinator(self, run_id: str) -> Coordinator:
        return Coordinator(
            setup=RunSetup(
                run_id=run_id,
                plan=self.plan,
                plan_bytes=self.plan_bytes,
                agents=self.agents,
                version="1",
                code={},
                is_named_by_key=False,
                boot_id="master",
                unix_minus_monotonic_ns=EPOCH_UNIX_NS,
                join_wait_ns=6 * NS_PER_S,
            ),
            timing=self.timing,
            planned=self.arithmetic.planned,
        )

    def _begin(self, master: Master) -> None:
        self.masters.append(master)
        self.after(0, lambda: self.tick_master(master))

    def successor(self, dead: Master, *, now_ns: int) -> Master:
        """A master with what a dead one has left on disk; it does not run yet."""
        assert dead.checkpoint is not None, "without one there was no load"
        master = Master(self._coordinator(dead.run_id), dead.run_id)
        master.checkpoint, master.barrier = dead.checkpoint, dead.barrier
        master.events += dead.events
        until_ns = now_ns + self.timing.lease_ns
        master.coordinator.resume(dead.checkpoint, now_ns=now_ns, granted_until_ns=until_ns)
        for source, window, note in dead.journal:
            self._note_journalled(master, source, window, note)
            self.act(master, master.coordinator.recall(source, window, note))
        return master

    def resume_master(self, dead: Master) -> None:
        """Start a master that takes up the run of a dead one."""
        self.master = self.successor(dead, now_ns=self.now_ns)
        self._begin(self.master)

    def close_books(self, dead: Master) -> Master:
        """What `--resume` makes of a run whose agents are gone, too."""
        master = self.successor(dead, now_ns=dead.died_ns)
        todo = master.coordinator.close_books(EndCause.HARNESS, "all are gone", dead.died_ns)
        self.act(master, todo)
        return master

    def new_host(self, agent: str, wait_ns: int) -> None:
        """Start an agent process, later."""

        def start() -> None:
            name = f"{agent}-{len(self.hosts)}"
            self.hosts.append(VirtualHost(self, agent, name, self.engines_each))

        self.after(wait_ns, start)

    # ---- network --------------------------------------------------------------------

    def _send(
        self,
        host: VirtualHost,
        message: ToMaster | ToAgent,
        arrive: Callable[[bytes], None],
        *,
        up: bool,
    ) -> None:
        data = encode_message(message)
        kind = type(message).__name__ + ("+" if getattr(message, "batches", ()) else "")
        link = self.links.setdefault((host.peer, up, kind), Link())
        draw, weather = self.random.random, self.weather
        if len(self.seen) < 40:
            self.seen.append((host, up, data))
        if (host.peer, up) in self.cut:
            return
        if draw() < weather.drop_ratio and link.drops < weather.longest_loss:
            link.drops += 1
            return
        link.drops = 0
        copies = 2 if draw() < weather.repeat_ratio else 1
        for _ in range(copies):
            self.after(int(draw() * weather.delay_ns) + 1, lambda: arrive(data))

    def to_master(self, host: VirtualHost, message: ToMaster) -> None:
        """Send up."""
        self._send(host, message, lambda d: self.at_master(self.master, host.peer, d), up=True)

    def to_host(self, peer: str, message: ToAgent) -> None:
        """Send down."""
        for host in self.hosts:
            if host.peer == peer:
                self._send(host, message, host.receive, up=False)

    # ---- master ---------------------------------------------------------------------

    def at_master(self, master: Master, peer: str, data: bytes) -> None:
        """Bytes arrive at a master, whatever they are."""
        if master.is_dead:
            return
        if master.is_paused:
            master.deferred.append(lambda: self.at_master(master, peer, data))
            return
        try:
            message = decode_to_master(data)
        except MessageError as error:
            self.act(master, master.coordinator.malformed(peer, str(error), self.now_ns))
            return
        self.act(master, master.coordinator.receive(peer, message, self.now_ns))

    def tick_master(self, master: Master) -> None:
        """Tick, and again after `TICK_NS`."""
        if master.is_dead or master.finished is not None:
            return
        if not master.is_paused:
            self.act(master, master.coordinator.tick(self.now_ns))
        self.after(TICK_NS, lambda: self.tick_master(master))

    def act(self, master: Master, todo: list[actions.MasterAction]) -> None:
        """Carry out what the coordinator asks for: what is to be durable first."""
        for action in todo:
            if isinstance(action, actions.Journal):
                self._note_journalled(master, action.source, action.window, action.note)
            elif isinstance(action, actions.Remember):
                master.checkpoint = decode_frame(encode_frame(action.checkpoint))  # type: ignore[assignment]  # a checkpoint comes back
        for action in todo:
            assert master.finished is None, "an action after Finished"
            match action:
                case actions.Send():
                    self._check_send(master, action)
                    self.to_host(action.peer, action.message)
                case actions.Release():
                    master.released.append((action.window.start_s, action.is_late))
                    _add(master.released_sums, action.window)
                case actions.Record():
                    master.events.append(action.event)
                case actions.Barrier():
                    master.barrier = action
                case actions.Finished():
                    master.finished = action

    def _note_journalled(
        self, master: Master, source: str, window: Window, note: BatchNote
    ) -> None:
        incarnation = source.split("@")[1]
        master.journal.append((source, window, note))
        master.journalled[incarnation] = master.journalled.get(incarnation, 0) + 1
        _add(master.journal_sums, window)

    def _check_send(self, master: Master, action: actions.Send) -> None:
        message = action.message
        if isinstance(message, Ack):
            journalled = master.journalled.get(message.incarnation, 0)
            assert message.batch <= journalled, "acknowledged before it was journalled"
        lease = message.lease if isinstance(message, Ack) else message
        if isinstance(lease, Lease):
            master.granted[action.peer] = lease.sent_ns + self.timing.lease_ns


def _add(sums: list[int], window: Window) -> None:
    for column, value in enumerate(window.counters.sum(axis=0).tolist()):
        sums[column] += value
