"""What can happen to a virtual swarm, and the drawing of a schedule from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
from simulation import VirtualEngine, VirtualHost, Weather, World, plan_and_bytes

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.model import LossPolicy
from loadtests.swarm.messages import Batch, Snapshot, decode_to_master, encode_message

LIMIT_NS = 40 * NS_PER_S

CALM = Weather(drop_ratio=0.0, repeat_ratio=0.0, delay_ns=2 * NS_PER_MS, longest_loss=0)
ROUGH = Weather(drop_ratio=0.25, repeat_ratio=0.2, delay_ns=120 * NS_PER_MS, longest_loss=2)
STORM = Weather(drop_ratio=0.5, repeat_ratio=0.3, delay_ns=900 * NS_PER_MS, longest_loss=9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One drawn scenario after its run."""

    seed: int
    world: World
    faults: tuple[str, ...]
    weather: Weather
    policy: LossPolicy

    @property
    def is_harmless(self) -> bool:
        """Nothing was done to anybody, and messages got through in the end."""
        return not set(self.faults) - HARMLESS and self.weather is not STORM


def _one_engine(world: World) -> VirtualEngine | None:
    return world.random.choice(world.engines) if world.engines else None


def _one_host(world: World) -> VirtualHost | None:
    hosts = [host for host in world.hosts if not host.is_gone]
    return world.random.choice(hosts) if hosts else None


def _kill_engine(world: World) -> None:
    engine = _one_engine(world)
    if engine is not None:
        engine.kill()


def _pause_engine(world: World) -> None:
    engine = _one_engine(world)
    if engine is not None:
        engine.pause()
        world.after(world.random.randrange(3 * NS_PER_S), engine.resume)


def _kill_agent(world: World) -> None:
    host = _one_host(world)
    if host is not None:
        host.kill()


def _restart_agent(world: World) -> None:
    host = _one_host(world)
    if host is not None:
        host.kill()
        world.new_host(host.agent, world.random.randrange(NS_PER_S))


def _pause_agent(world: World) -> None:
    host = _one_host(world)
    if host is not None:
        host.pause()
        world.after(world.random.randrange(5 * NS_PER_S), host.resume)


def _terminate_agent(world: World) -> None:
    host = _one_host(world)
    if host is not None:
        host.run(lambda: host.agency.request_stop("SIGTERM", host.now_ns))


def _kill_master(world: World) -> None:
    world.master.is_dead, world.master.died_ns = True, world.now_ns
    if world.random.random() < 0.5:
        world.master = world.new_master("another-run")


def _resume_master(world: World) -> None:
    """Kill it; another one takes the run up, now or later, perhaps too late."""
    dead = world.master
    if dead.finished is not None or dead.is_dead:
        return
    dead.is_dead, dead.died_ns = True, world.now_ns

    def resume() -> None:
        if dead.checkpoint is not None and world.master is dead:
            world.resume_master(dead)

    world.after(world.random.choice([100, 600, 600, 3000]) * NS_PER_MS, resume)


def _pause_master(world: World) -> None:
    master = world.master

    def resume() -> None:
        master.is_paused = False
        deferred, master.deferred = master.deferred, []
        for what in deferred:
            what()

    master.is_paused = True
    world.after(world.random.randrange(4 * NS_PER_S), resume)


def _cut(world: World) -> None:
    host = _one_host(world)
    if host is None:
        return
    ways = world.random.choice(([True], [False], [True, False]))
    links = {(host.peer, up) for up in ways}
    world.cut |= links
    world.after(world.random.randrange(4 * NS_PER_S), lambda: world.cut.difference_update(links))


def _stop_run(world: World) -> None:
    world.act(world.master, world.master.coordinator.request_stop("SIGINT", world.now_ns))


def _garbage(world: World) -> None:
    host = _one_host(world)
    peer = host.peer if host else "nobody"
    for _ in range(3):
        data = world.random.randbytes(world.random.randrange(40))
        world.at_master(world.master, peer, data)
        if host is not None:
            host.receive(data)


def _replay(world: World) -> None:
    """Old messages again, some with a flipped bit, some to the wrong side."""
    for host, up, seen in world.random.sample(world.seen, min(6, len(world.seen))):
        chance, data = world.random.random(), seen
        if chance < 0.3:
            place = world.random.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        if up ^ (chance > 0.9):
            world.at_master(world.master, host.peer, data)
        else:
            host.receive(data)


def _stranger(world: World) -> None:
    """A late or duplicate agent."""
    name = world.random.choice(["agent-0", "agent-late"])
    world.new_host(name, 0)


def _storm(world: World) -> None:
    """A hundred strangers join at once, some with a member's name, some of another version."""
    host = _one_host(world)
    if host is None:
        return
    hello = host.hello
    for number in range(100):
        changes = world.random.choice(
            (
                {"agent": f"storm-{number}"},
                {"version": "0"},
                {"protocol": 0},
                {"boot_id": ""},
            )
        )
        forged = msgspec.structs.replace(hello, incarnation=f"storm-{number}", **changes)
        world.at_master(world.master, f"peer-storm-{number}", encode_message(forged))


def _lie(world: World) -> None:
    """In an agent's own name: a leap of its sequence, another plan, a batch from nowhere."""
    known = [(host, decode_to_master(data)) for host, up, data in world.seen if up]
    told = [(host, m) for host, m in known if isinstance(m, Snapshot) and not host.is_gone]
    if not told:
        return
    host, snapshot = world.random.choice(told)
    batch = Batch(10**6, 1, b"no window", ())
    changes = world.random.choice(
        (
            {"sequence": snapshot.sequence + 10**6},
            {"plan_sha256": "0" * 64},
            {"sequence": 10**7, "batches": (batch,)},
            {"sequence": 10**7, "complete_through_s": 2**40},
        )
    )
    forged = msgspec.structs.replace(snapshot, **changes)
    world.at_master(world.master, host.peer, encode_message(forged))


FAULTS: dict[str, Callable[[World], None]] = {
    "kill engine": _kill_engine,
    "pause engine": _pause_engine,
    "kill agent": _kill_agent,
    "restart agent": _restart_agent,
    "pause agent": _pause_agent,
    "terminate agent": _terminate_agent,
    "kill master": _kill_master,
    "resume master": _resume_master,
    "pause master": _pause_master,
    "cut": _cut,
    "stop run": _stop_run,
    "garbage": _garbage,
    "replay": _replay,
    "stranger": _stranger,
    "storm": _storm,
    "lie": _lie,
}
HARMLESS = frozenset({"garbage", "replay", "stranger"})  # a storm may take a place


def simulate(seed: int) -> Schedule:
    """Draw a schedule from the seed and run it to its end."""
    world = World(seed)
    draw = world.random
    policy = draw.choice(list(LossPolicy))
    agents, engines = draw.choice([(1, 1), (1, 2), (2, 1), (2, 1), (2, 2), (3, 1)])
    # Survivors take over when the lease of a lost agent has ended: that needs a longer run.
    lengths = [2, 3, 7] if policy is LossPolicy.REDISTRIBUTE else [1, 2, 2, 3]
    seconds = draw.choice(lengths)
    weather = draw.choice([CALM, CALM, ROUGH, ROUGH, ROUGH, STORM])
    plan, plan_bytes = plan_and_bytes(seconds * NS_PER_S, policy)
    world.setup(agents=agents, engines=engines, plan=plan, plan_bytes=plan_bytes, weather=weather)
    names = draw.choices(list(FAULTS), k=draw.choice([0, 1, 1, 1, 2, 3]))
    for name in names:
        # Nearly all of them under load; it begins about two seconds after the start.
        at_ns = int(draw.triangular(0, (4 + seconds) * NS_PER_S, 3 * NS_PER_S))
        world.after(at_ns, partial(FAULTS[name], world))

    def is_over() -> bool:
        has_ended = world.master.finished is not None or world.master.is_dead
        return has_ended and all(host.is_gone for host in world.hosts)

    world.run(world.now_ns + LIMIT_NS, is_over)
    return Schedule(seed=seed, world=world, faults=tuple(names), weather=weather, policy=policy)
