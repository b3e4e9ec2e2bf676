"""Short real runs with a fault drawn from a seed: who is hit, how, when, and what was seen then.

Loopback, two agents with an engine each, a target that counts. What takes a network of its own
is in tests/fleet, what takes minutes in the kill matrix.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pandas as pd
import psutil
import zmq
from system_rig import (
    Fleet,
    Load,
    Started,
    fleet,
    free_port,
    small_disk,
    target,
    unix_minus_monotonic_ns,
    wait_for_answers,
)
from tap import Tap

from loadtests.record.archive import Run, load_run
from loadtests.record.facts import host_facts, package_versions
from loadtests.swarm.keys import KeyPair, authorise, create_key
from loadtests.swarm.messages import PROTOCOL, Hello, encode_message

RATE: Final = 80
LEASE_S: Final = 10
_SECONDS: Final = 5
_PAST_LEASE_S: Final = 20
_WITHOUT_MASTER_S: Final = 40  # never reached
_DISK_BYTES: Final = 256 * 1024
_NOBODY: Final = "a-stranger"


@dataclass(slots=True, kw_only=True)
class Scene:
    """A run under load."""

    draw: random.Random
    started: Fleet
    port: int
    master: Started
    workers: list[Started]
    tap: Tap | None = None  # on the first worker's wire
    keys: tuple[KeyPair, KeyPair] | None = None  # the master's, and one that it does not know
    marks: dict[str, int] = field(default_factory=dict)

    def worker(self) -> Started:
        """One of the agents."""
        return self.draw.choice(self.workers)

    def engine(self) -> psutil.Process | None:
        """One of the engines, if any lives."""
        with suppress(psutil.Error, ValueError):
            return self.worker().engine()
        return None


def _signal(process: psutil.Process | None, number: signal.Signals) -> None:
    if process is not None:
        with suppress(psutil.Error):
            process.send_signal(number)


def _process(started: Started) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(started.process.pid)
    return None


def _pause(scene: Scene, process: psutil.Process | None, *longer_s: float) -> None:
    _signal(process, signal.SIGSTOP)
    time.sleep(scene.draw.choice((0.05, 0.5, 1.0, 3.5, 6.0, *longer_s)))
    _signal(process, signal.SIGCONT)


def kill_engine(scene: Scene) -> None:
    """SIGKILL of an engine."""
    _signal(scene.engine(), signal.SIGKILL)


def pause_engine(scene: Scene) -> None:
    """SIGSTOP of an engine, and SIGCONT."""
    _pause(scene, scene.engine())


def kill_agent(scene: Scene) -> None:
    """SIGKILL of an agent."""
    scene.marks["lost"] = time.time_ns()
    _signal(_process(scene.worker()), signal.SIGKILL)


def pause_agent(scene: Scene) -> None:
    """SIGSTOP of an agent, and SIGCONT; often its engines' leases end meanwhile."""
    scene.marks["lost"] = time.time_ns()
    _pause(scene, _process(scene.worker()), *[LEASE_S + 3.0] * 5)


def terminate_agent(scene: Scene) -> None:
    """SIGTERM of an agent, once or twice."""
    agent = _process(scene.worker())
    for _ in range(scene.draw.choice((1, 2))):
        _signal(agent, signal.SIGTERM)


def pause_master(scene: Scene) -> None:
    """SIGSTOP of the master, and SIGCONT."""
    _pause(scene, _process(scene.master))


def stop_master(scene: Scene) -> None:
    """SIGTERM of the master, once or twice."""
    for _ in range(scene.draw.choice((1, 2))):
        _signal(_process(scene.master), signal.SIGTERM)
        time.sleep(scene.draw.random() / 2)


def kill_master(scene: Scene) -> None:
    """SIGKILL of the master."""
    scene.marks["killed"] = time.time_ns()
    scene.master.process.kill()
    scene.master.wait()


def resume_master(scene: Scene) -> None:
    """SIGKILL of the master, and another one that takes its run up."""
    kill_master(scene)
    del scene.marks["killed"]  # load goes on
    time.sleep(scene.draw.random())
    words = ("run", "--resume", "latest", "--results", str(scene.started.results))
    # Python's start alone may outlast a lease on a busy machine; the result says if it did.
    scene.master = scene.started.start(*words, before=("chrt", "--rr", "1"))


def out_of_memory(scene: Scene) -> None:
    """SIGKILL of the largest process of an agent's host, as the kernel chooses it."""
    host = _process(scene.worker())
    if host is not None:
        with suppress(psutil.Error):
            processes = (host, *host.children(recursive=True))
            scene.marks["lost"] = time.time_ns()
            max(processes, key=lambda one: one.memory_info().rss).kill()


def no_descriptors(scene: Scene) -> None:
    """Master, agent or engine keeps what it has open, and can open nothing more."""
    of_host = (_process(scene.master), _process(scene.worker()), scene.engine())
    victim = scene.draw.choice(of_host)
    if victim is not None:
        with suppress(psutil.Error):
            victim.rlimit(resource.RLIMIT_NOFILE, (3, 3))


def busy_engine(scene: Scene) -> None:
    """Two busy loops on the one core that an engine may use, for two seconds."""
    engine = scene.engine()
    if engine is None:
        return
    with suppress(psutil.Error):
        core = scene.draw.choice(engine.cpu_affinity())
        engine.cpu_affinity([core])
        on_core = ("taskset", "--cpu-list", str(core))
        loop = (sys.executable, "-c", "while True: pass")
        hogs = [scene.started.start(before=on_core, program=loop) for _ in range(2)]
        time.sleep(2)
        for hog in hogs:
            hog.process.kill()


def fill_disk(scene: Scene) -> None:
    """No room for a further byte, or for so little that it ends in the middle of something."""
    room_bytes = scene.draw.choice((0, 4096, 20_480))
    results = scene.started.results
    if results.is_mount():
        disk = os.statvfs(results)
        taken_bytes = disk.f_bavail * disk.f_frsize - room_bytes
        (results / "filler").write_bytes(bytes(max(0, taken_bytes)))
    elif master := _process(scene.master):
        (journal,) = (results / "runs").glob("*.partial/journal*")
        most_bytes = journal.stat().st_size + room_bytes
        master.rlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def _shout(
    scene: Scene, said: dict[str, list[bytes]], keys: tuple[KeyPair, KeyPair] | None = None
) -> None:
    """Strangers, by name, and what each of them says; with keys, the master's and their own."""
    with zmq.Context() as context:
        for name, messages in said.items():
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 2000)
                if keys is not None:
                    dealer.setsockopt(zmq.CURVE_SERVERKEY, keys[0].public)
                    dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys[1].public)
                    dealer.setsockopt(zmq.CURVE_SECRETKEY, keys[1].secret)
                dealer.setsockopt(zmq.IDENTITY, name.encode())
                dealer.connect(f"tcp://127.0.0.1:{scene.port}")
                for message in messages:
                    dealer.send(message)


def garbage(scene: Scene) -> None:
    """Hundreds of messages that are none."""
    draw = scene.draw
    _shout(scene, {_NOBODY: [draw.randbytes(draw.randrange(200)) for _ in range(500)]})


def type_confusion(scene: Scene) -> None:
    """Well-formed messages of Locust with the wrong things in them."""
    things: list[Any] = [None, -1, "x", [], {}, b"", {"state": 1}, 2**60, ["headroom", b"x"]]
    names = ["heartbeat", "stats", "quit", "client_ready", "headroom", "exception", "", "spawning"]
    words = [
        (
            scene.draw.choice(names),
            scene.draw.choice(things),
            scene.draw.choice(("x", _NOBODY)),
        )
        for _ in range(300)
    ]
    _shout(scene, {_NOBODY: [msgspec.msgpack.encode(word) for word in words]})


def oversize(scene: Scene) -> None:
    """A message beyond the limit, and one of 4 MiB within it."""
    _shout(scene, {_NOBODY: [bytes(4 * 1024 * 1024 + 1)], "another": [bytes(70 * 1024 * 1024)]})


def join_storm(scene: Scene) -> None:
    """Two hundred that say they are ready."""
    names = [f"storm-{number}" for number in range(200)]
    ready = {name: [msgspec.msgpack.encode(("client_ready", "2.47.0", name))] for name in names}
    _shout(scene, ready)


def _ask_to_join(scene: Scene, *, version: str, code: dict[str, str]) -> None:
    """An agent that is right but for this."""
    hello = Hello(
        protocol=PROTOCOL,
        agent=_NOBODY,
        incarnation=f"{_NOBODY}-1",
        host=host_facts(),
        boot_id="another",
        engines=1,
        version=version,
        versions={},
        code=code,
    )
    words = (("client_ready", "2.47.0", _NOBODY), ("headroom", encode_message(hello), _NOBODY))
    _shout(scene, {_NOBODY: [msgspec.msgpack.encode(word) for word in words]})


def wrong_version(scene: Scene) -> None:
    """Somebody with another version wants to join."""
    _ask_to_join(scene, version="0.0.1", code={})


def wrong_code(scene: Scene) -> None:
    """Somebody with this version and other code wants to join."""
    code = {"plan": "0" * 64, "engine": "1" * 64}
    _ask_to_join(scene, version=package_versions()["headroom"], code=code)


def wrong_key(scene: Scene) -> None:
    """Somebody whose key nobody authorised says that he is ready, in an agent's name."""
    ready = [msgspec.msgpack.encode(("client_ready", "2.47.0", name)) for name in ("a", _NOBODY)]
    _shout(scene, {"a": ready, _NOBODY: ready}, scene.keys)


def replay(scene: Scene) -> None:
    """All that an agent has said so far, its greeting and its name too, on another connection."""
    assert scene.tap is not None
    said = bytes(scene.tap.said)
    with suppress(OSError), socket.create_connection(("127.0.0.1", scene.port)) as again:
        again.sendall(said)
        time.sleep(scene.draw.choice((0.1, 2.0)))


def second_of_a_name(scene: Scene) -> None:
    """A second socket with an agent's identity, that speaks in its name."""
    assert scene.tap is not None
    name = scene.tap.identity.decode()
    things = ("client_ready", "heartbeat", "client_stopped", "stats")
    words = [(scene.draw.choice(things), "2.47.0", name) for _ in range(20)]
    _shout(scene, {name: [msgspec.msgpack.encode(word) for word in words]})


HARMLESS: Final[dict[str, Callable[[Scene], None]]] = {
    "garbage": garbage,
    "type confusion": type_confusion,
    "oversize": oversize,
    "join storm": join_storm,
    "wrong version": wrong_version,
    "wrong code": wrong_code,
    "wrong key": wrong_key,
}
# What the archive then tells of it.
REFUSED: Final = {
    "wrong version": "version 0.0.1",
    "wrong code": "its code differs from the master's",
    "wrong key": "not an authorised key",
}
# Load that is still due when a lease has ended.
_LONG: Final = frozenset(
    {"kill agent", "pause agent", "out of memory", "replay", "second of a name", "full disk"}
)
# Wires that are recorded.
_TAPPED: Final = frozenset({"replay", "second of a name"})
FAULTS: Final[dict[str, Callable[[Scene], None]]] = {
    "kill engine": kill_engine,
    "pause engine": pause_engine,
    "kill agent": kill_agent,
    "pause agent": pause_agent,
    "terminate agent": terminate_agent,
    "pause master": pause_master,
    "stop master": stop_master,
    "kill master": kill_master,
    "resume master": resume_master,
    "out of memory": out_of_memory,
    "no descriptors": no_descriptors,
    "busy engine": busy_engine,
    "full disk": fill_disk,
    "replay": replay,
    "second of a name": second_of_a_name,
    **HARMLESS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run left. Times are unix ns by this host's clocks, the target's included."""

    fault: str
    policy: str
    arrivals: int
    requests: pd.DataFrame  # the target's log, with received_ns as unix time
    run: Run
    marks: dict[str, int]  # ended: when the last master had; lost, killed: when it was done
    master_code: int
    survivors: tuple[str, ...]
    text: str


def _length_s(fault: str) -> int:
    """How long the load of a run with this fault is planned."""
    if fault == "kill master":
        return _WITHOUT_MASTER_S
    if fault == "resume master":
        return _SECONDS + 8  # another master takes seconds to start
    return _PAST_LEASE_S if fault in _LONG else _SECONDS


@contextmanager
def _begun(
    name: str, draw: random.Random, scenario: Path, started: Fleet, port: int
) -> Iterator[Scene]:
    """The run under the fault's own circumstances: a small disk, keys, a wire that is tapped."""
    at = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        before: tuple[str, ...] = ()
        tap, keys, environment = None, None, {}
        if name == "full disk":
            before = stack.enter_context(small_disk(started.results, _DISK_BYTES))
        if name in _TAPPED:
            tap = Tap(port)
            stack.callback(tap.close)
        if name == "wrong key":
            own = started.folder / "keys"
            made = {one: create_key(own, one) for one in ("master", "a", "b", "c")}
            for one in ("master", "a", "b"):
                authorise(own, one, made[one].public.hex())
            keys, environment = (made["master"], made["c"]), {"HEADROOM_KEYS": str(own)}
        words = ("--expect-workers", "2", "--bind", at)
        own_key = ("--key", "master") if keys else ()
        master = started.run(scenario, *words, *own_key, before=before, environment=environment)
        workers = []
        for one, wire in (("a", port if tap is None else tap.port), ("b", port)):
            worker = ("worker", "--master", f"127.0.0.1:{wire}", "--engines", "1")
            own_key = ("--key", one) if keys else ()
            workers.append(started.start(*worker, *own_key, environment=environment))
        yield Scene(draw=draw, started=started, port=port, master=master, workers=workers,
                    tap=tap, keys=keys)  # fmt: skip


def play(seed: int, folder: Path) -> Evidence:
    """Draw a fault and run it to its end."""
    draw = random.Random(seed)
    names = list(FAULTS)
    name = names[seed % len(names)]  # each as often as the others
    policy = draw.choice(("abort", "continue", "redistribute"))
    load = Load(seconds=_length_s(name), rate=RATE, policy=policy, timeout="2 s", grace="1 s")
    port = free_port()
    with (
        target(folder) as counted,
        fleet(folder) as started,
        _begun(name, draw, load.write(folder, counted.url), started, port) as scene,
    ):
        wait_for_answers(counted, draw.randrange(1, 3 * RATE), scene.master)
        FAULTS[name](scene)
        code = scene.master.wait()
        scene.marks["ended"] = time.time_ns()
        for one in scene.workers:
            one.wait()
        time.sleep(0.2)  # for orphans' last breath: the kernel's, not a timer's
        survivors = tuple(str(process.cmdline()) for process in started.survivors())
        offset_ns = unix_minus_monotonic_ns()
        requests = counted.end()
        requests["received_ns"] += offset_ns
        (found,) = (started.results / "runs").glob("*Z_*")
        path = Path(shutil.copytree(found, folder / found.name))  # the disk may be gone then
        return Evidence(
            fault=name,
            policy=policy,
            arrivals=load.arrivals,
            requests=requests,
            run=load_run(path),
            marks=scene.marks,
            master_code=code,
            survivors=survivors,
            text="\n".join(one.text() for one in started.started),
        )
